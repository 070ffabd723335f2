//! Vectorisation over channels.
//!
//! A kernel is written once, over blocks of adjacent channels in registers. [`dispatch`] compiles it
//! for every instruction set and chooses one at run time, so a plain `cargo build` is fast on any
//! x86-64 and on aarch64.

mod instructions;

pub(super) use instructions::{Instructions, Kernel, dispatch};
pub use instructions::{instruction_set, limit_instruction_set};

use crate::tiling;

/// Channels in a full block: one AVX-512 register, two AVX2 registers, four NEON registers.
pub(super) const L: usize = tiling::LANES;

/// One block of channels.
pub(super) type Lanes = [f32; L];

/// A barrier for the compiler in loops over rows whose body works on one block of channels. Without it
/// the compiler interchanges the loops to vectorise over rows, which gathers and scatters. It emits no
/// instruction.
#[inline(always)]
pub(super) fn one_row_at_a_time() {
    // SAFETY: it is empty.
    #[allow(unsafe_code)]
    unsafe {
        std::arch::asm!("", options(nomem, nostack, preserves_flags));
    }
}

/// `a · b + c`, rounded once where it is one instruction.
#[inline(always)]
pub(super) fn multiply_add<I: Instructions>(a: f32, b: f32, c: f32) -> f32 {
    if I::FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
pub(super) fn load(from: &[f32], at: usize) -> Lanes {
    let mut lanes = [0.0; L];
    lanes.copy_from_slice(&from[at..at + L]);
    lanes
}

#[inline(always)]
pub(super) fn store(lanes: &Lanes, to: &mut [f32], at: usize) {
    to[at..at + L].copy_from_slice(lanes);
}

/// A block of which the first `valid` lanes are channels; the other lanes are zero. `FULL` means that
/// all lanes are channels: a const parameter, so that it is decided outside the loop over rows.
#[inline(always)]
pub(super) fn load_some<const FULL: bool>(from: &[f32], at: usize, valid: usize) -> Lanes {
    if FULL {
        return load(from, at);
    }
    let mut lanes = [0.0; L];
    copy_some(&from[at..at + valid], &mut lanes);
    lanes
}

/// Writes the first `valid` channels of a block, all of them when `FULL`.
#[inline(always)]
pub(super) fn store_some<const FULL: bool>(lanes: &Lanes, to: &mut [f32], at: usize, valid: usize) {
    if FULL {
        return store(lanes, to, at);
    }
    copy_some(&lanes[..valid], &mut to[at..at + valid]);
}

/// Adds a block to the first `valid` channels at `at`.
#[inline(always)]
pub(super) fn add_some(lanes: &Lanes, to: &mut [f32], at: usize, valid: usize) {
    if valid == L {
        let mut sum = load(to, at);
        for l in 0..L {
            sum[l] += lanes[l];
        }
        return store(&sum, to, at);
    }
    for (to, lane) in to[at..at + valid].iter_mut().zip(lanes) {
        *to += lane;
    }
}

/// Copies four values at a time: most channel counts are multiples of four.
#[inline(always)]
fn copy_some(from: &[f32], to: &mut [f32]) {
    let fours = from.len() / 4 * 4;
    for at in (0..fours).step_by(4) {
        to[at..at + 4].copy_from_slice(&from[at..at + 4]);
    }
    for at in fours..from.len() {
        to[at] = from[at];
    }
}

/// The blocks of `channels` channels: where each begins and how many of its lanes are channels.
#[inline(always)]
pub(super) fn blocks(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..channels).step_by(L).map(move |at| (at, L.min(channels - at)))
}

/// Packs a row-major matrix: its columns are padded with zeros to full blocks and stored block by
/// block. Block b holds columns 16 b to 16 b + 15, row by row.
pub(super) fn pack(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut packed = vec![0f32; tiling::packed_len(rows, columns)];
    for (b, (at, valid)) in blocks(columns).enumerate() {
        for row in 0..rows {
            let to = (b * rows + row) * L;
            packed[to..to + valid].copy_from_slice(&matrix[row * columns + at..][..valid]);
        }
    }
    packed
}

/// [`pack`] for the transpose of `matrix`.
pub(super) fn pack_transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    pack(&transpose(matrix, rows, columns), columns, rows)
}

/// The transpose of `matrix` `[rows, columns]`.
pub(super) fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut transposed = vec![0f32; rows * columns];
    for row in 0..rows {
        for column in 0..columns {
            transposed[column * rows + row] = matrix[row * columns + column];
        }
    }
    transposed
}

/// How a matrix is stored.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    /// Row-major, with this many values from one row to the next.
    Rows(usize),
    /// Column-major, with this many values from one column to the next.
    Columns(usize),
}

impl Layout {
    /// Where row `row` begins.
    #[inline(always)]
    fn row(self, row: usize) -> usize {
        match self {
            Self::Rows(pitch) => row * pitch,
            Self::Columns(_) => row,
        }
    }
}

/// Σ_k a(m, k) · b(k): `M` rows of a product and one block of its columns. b(k) begins at `k · L`.
#[inline(always)]
pub(super) fn product<I: Instructions, const M: usize>(
    depth: usize,
    a: &[f32],
    layout: Layout,
    b: &[f32],
) -> [Lanes; M] {
    let mut sums = [I::splat(0.0); M];
    let b = b[..depth * L].chunks_exact(L);
    match layout {
        Layout::Rows(pitch) => {
            let mut rows = [&a[..0]; M];
            for (m, row) in rows.iter_mut().enumerate() {
                *row = &a[m * pitch..][..depth];
            }
            for (k, b) in b.enumerate() {
                let b = I::load(b, 0);
                for m in 0..M {
                    sums[m] = I::multiply_add(I::splat(rows[m][k]), b, sums[m]);
                }
            }
        }
        Layout::Columns(pitch) => {
            for (k, b) in b.enumerate() {
                let column = &a[k * pitch..][..M];
                let b = I::load(b, 0);
                for m in 0..M {
                    sums[m] = I::multiply_add(I::splat(column[m]), b, sums[m]);
                }
            }
        }
    }
    I::lanes(sums)
}

/// Rows that [`product`] takes at once where there are enough. With 4 there are fewer loads than
/// multiplications, and the sums fit the registers of every instruction set.
pub(super) const ROWS: usize = 4;

/// The same where registers are [`WIDE`](Instructions::WIDE). Such a processor starts two multiply-adds
/// in a cycle and each takes four cycles, so eight independent sums keep it busy.
pub(super) const WIDE_ROWS: usize = 8;

/// Runs `$body` for groups of adjacent rows: `$M` of them from `$row` on, as many as the registers of the
/// instruction set `$I` hold, then fewer.
macro_rules! in_groups {
    ($I:ident, $rows:expr, ($row:ident, $M:ident) => $body:expr) => {{
        let (rows, mut $row) = ($rows, 0);
        while $I::WIDE && $row + $crate::ops::lanes::WIDE_ROWS <= rows {
            const $M: usize = $crate::ops::lanes::WIDE_ROWS;
            $body;
            $row += $M;
        }
        while $row + $crate::ops::lanes::ROWS <= rows {
            const $M: usize = $crate::ops::lanes::ROWS;
            $body;
            $row += $M;
        }
        while $row < rows {
            const $M: usize = 1;
            $body;
            $row += $M;
        }
    }};
}

pub(super) use in_groups;

/// What [`multiply`] does with its result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Store,
    Add,
}

/// c\[rows, columns\] = a · b, or += with [`Mode::Add`]; b is packed ([`pack`]), c row-major.
#[inline(always)]
pub(super) fn multiply<I: Instructions>(
    (rows, depth, columns): (usize, usize, usize),
    a: &[f32],
    layout: Layout,
    b: &[f32],
    c: &mut [f32],
    how: Mode,
) {
    for (i, (at, valid)) in blocks(columns).enumerate() {
        let b = &b[i * depth * L..];
        let (shape, block) = ((depth, columns), (at, valid));
        in_groups!(I, rows, (row, M) => {
            write::<I, M>(c, row, shape, a, layout, b, block, how);
        });
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn write<I: Instructions, const M: usize>(
    c: &mut [f32],
    row: usize,
    (depth, columns): (usize, usize),
    a: &[f32],
    layout: Layout,
    b: &[f32],
    (at, valid): (usize, usize),
    how: Mode,
) {
    let sums = product::<I, M>(depth, &a[layout.row(row)..], layout, b);
    for m in 0..M {
        let (sum, to) = (&sums[m], (row + m) * columns + at);
        match how {
            Mode::Store if valid == L => store(sum, c, to),
            Mode::Store => store_some::<false>(sum, c, to, valid),
            Mode::Add => add_some(sum, c, to, valid),
        }
    }
}
