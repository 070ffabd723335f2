//! The gradients of a depthwise convolution and of the expansion in front of it for one tile: one image
//! and one block of channels.

use crate::ops::activation::{ActivationFn, by_activation};
use crate::ops::lanes::{
    Instructions, L, Lanes, Layout, add_some, in_groups, load, load_some, multiply_add,
    one_row_at_a_time, product, store, store_some,
};
use crate::ops::norm::HostNorm;
use crate::ops::sums::ChannelSums;
use crate::ops::tile::{TileGeometry, TileTaps};

/// Copies one block of channels of an output map into its padded tile.
#[inline(always)]
pub(super) fn spread(g: &TileGeometry, dy: &[f32], block: (usize, usize), tile: &mut [f32]) {
    match block.1 {
        L => spread_block::<true>(g, dy, block, tile),
        _ => spread_block::<false>(g, dy, block, tile),
    }
}

#[inline(always)]
fn spread_block<const FULL: bool>(
    g: &TileGeometry,
    dy: &[f32],
    (at, valid): (usize, usize),
    tile: &mut [f32],
) {
    for row in 0..g.oh {
        for column in 0..g.ow {
            one_row_at_a_time();
            let pixel = load_some::<FULL>(dy, (row * g.ow + column) * g.c + at, valid);
            store(&pixel, tile, g.out_at(row, column));
        }
    }
}

/// Adds Σ dy · tile to the gradient of every tap.
#[inline(always)]
pub(super) fn filter<I: Instructions>(
    g: &TileGeometry,
    tile: &[f32],
    dy_tile: &[f32],
    sums: &mut [f32],
    block: (usize, usize),
) {
    match g.k {
        3 => filter_of::<I, 3>(g, tile, dy_tile, sums, block),
        _ => filter_of::<I, 5>(g, tile, dy_tile, sums, block),
    }
}

#[inline(always)]
fn filter_of<I: Instructions, const K: usize>(
    g: &TileGeometry,
    tile: &[f32],
    dy_tile: &[f32],
    total: &mut [f32],
    (at, valid): (usize, usize),
) {
    for kh in 0..K {
        let sums = filter_row::<I, K>(g, tile, dy_tile, kh);
        for kw in 0..K {
            add_some(&sums[kw], total, (kh * K + kw) * g.c + at, valid);
        }
    }
}

/// Σ dy · tile for the taps of one row of the filter.
#[inline(always)]
fn filter_row<I: Instructions, const K: usize>(
    g: &TileGeometry,
    tile: &[f32],
    dy_tile: &[f32],
    kh: usize,
) -> [Lanes; K] {
    let mut sums = [[0f32; L]; K];
    for row in 0..g.oh {
        let tile = &tile[(row * g.stride + kh) * g.in_pitch()..][..g.in_pitch()];
        let dy_row = &dy_tile[g.out_at(row, 0)..][..g.ow * L];
        for (column, dy) in dy_row.chunks_exact(L).enumerate() {
            one_row_at_a_time();
            let dy = load(dy, 0);
            let window = &tile[column * g.stride * L..][..K * L];
            for kw in 0..K {
                let x = load(window, kw * L);
                for l in 0..L {
                    sums[kw][l] = multiply_add::<I>(x[l], dy[l], sums[kw][l]);
                }
            }
        }
    }
    sums
}

/// dx for the inputs of one phase, without an expansion.
#[inline(always)]
pub(super) fn plain<I: Instructions>(
    g: &TileGeometry,
    taps: &TileTaps,
    phase: (usize, usize),
    dy_tile: &[f32],
    dx: &mut [f32],
    (at, valid): (usize, usize),
) {
    for (i, row) in (phase.0..g.h).step_by(g.stride).enumerate() {
        for (j, column) in (phase.1..g.w).step_by(g.stride).enumerate() {
            let [d] = taps.correlate::<I, 1>(dy_tile, i * g.out_pitch() + j * L, L);
            store_some::<false>(&d, dx, (row * g.w + column) * g.c + at, valid);
        }
    }
}

/// dL/da for the hidden inputs of one phase, pixel by pixel.
#[inline(always)]
pub(super) fn hidden<I: Instructions>(
    g: &TileGeometry,
    taps: &TileTaps,
    phase: (usize, usize),
    dy_tile: &[f32],
    da: &mut [f32],
) {
    let s = g.stride;
    let columns = g.w.saturating_sub(phase.1).div_ceil(s);
    for (i, row) in (phase.0..g.h).step_by(s).enumerate() {
        let base = i * g.out_pitch();
        let first = row * g.w + phase.1;
        in_groups!(I, columns, (j, M) => {
            let d = taps.correlate::<I, M>(dy_tile, base + j * L, L);
            for (m, d) in d.iter().enumerate() {
                store(d, da, (first + (j + m) * s) * L);
            }
        });
    }
}

/// Turns the raw x W in `q` into q = dL/da · act'(u), and adds to the sums Σq and Σq(z - μ).
#[inline(always)]
pub(super) fn through_norm<I: Instructions>(
    norm: &HostNorm,
    (at, valid): (usize, usize),
    da: &[f32],
    q: &mut [f32],
    sums: &mut ChannelSums,
) {
    let (sum, sum_z) =
        by_activation!(norm.activation, A => through_norm_of::<I, A>(norm, at, da, q));
    sums.add(at, valid, &sum, &sum_z);
}

#[inline(always)]
fn through_norm_of<I: Instructions, A: ActivationFn>(
    norm: &HostNorm,
    at: usize,
    da: &[f32],
    q: &mut [f32],
) -> (Lanes, Lanes) {
    let (scale, shift) = norm.affine(at);
    let mean = load(&norm.mean, at);
    let (mut sum, mut sum_z) = ([0f32; L], [0f32; L]);
    for (d, q) in da.chunks_exact(L).zip(q.chunks_exact_mut(L)) {
        one_row_at_a_time();
        let (d, z) = (load(d, 0), load(q, 0));
        let mut slope = [0f32; L];
        for l in 0..L {
            slope[l] = d[l] * A::derivative(multiply_add::<I>(z[l], scale[l], shift[l]));
            sum[l] += slope[l];
            sum_z[l] = multiply_add::<I>(slope[l], z[l] - mean[l], sum_z[l]);
        }
        store(&slope, q, 0);
    }
    (sum, sum_z)
}

/// Adds xᵀq for one block of channels to `products`.
#[inline(always)]
pub(super) fn outer<I: Instructions>(
    x: &[f32],
    c_in: usize,
    q: &[f32],
    products: &mut [f32],
    c: usize,
    (at, valid): (usize, usize),
) {
    let pixels = q.len() / L;
    in_groups!(I, c_in, (i, M) => {
        let sums = product::<I, M>(pixels, &x[i..], Layout::Columns(c_in), q);
        for (m, sum) in sums.iter().enumerate() {
            add_some(sum, products, (i + m) * c + at, valid);
        }
    });
}
