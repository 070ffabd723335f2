//! Maps in host memory at inference, and how threads share the work on them.

use super::MapShape;
use crate::ops::lanes::L;
use rayon::prelude::*;

/// Blocks of channels that a kernel computes at once.
pub(super) const PANEL: usize = 2;

/// Rows of one part of a product: few enough that they stay in the cache, and a multiple of 7 and 8.
pub(super) const PART_ROWS: usize = 112;

/// Fewer values are not worth being shared by threads.
const SHARED_VALUES: usize = 1 << 14;

/// A map of some images, block by block: `[⌈c/16⌉, images·h·w, 16]`. Lanes beyond the channels have
/// arbitrary values.
#[derive(Clone, Copy)]
pub(super) struct HostMap<'a> {
    pub shape: MapShape,
    pub images: usize,
    pub values: &'a [f32],
}

impl<'a> HostMap<'a> {
    /// The pixels of all images.
    pub(super) fn rows(&self) -> usize {
        self.images * self.shape.pixels()
    }

    /// One block of the channels of all pixels.
    pub(super) fn block(&self, block: usize) -> &'a [f32] {
        &self.values[block * self.block_len()..][..self.block_len()]
    }

    /// Values in a block.
    pub(super) fn block_len(&self) -> usize {
        self.rows() * L
    }
}

impl MapShape {
    /// Blocks of channels.
    pub(super) fn blocks(self) -> usize {
        self.c.div_ceil(L)
    }

    /// Values in a [`HostMap`] of this shape.
    pub(super) fn map_len(self, images: usize) -> usize {
        images * self.pixels() * self.blocks() * L
    }
}

/// Images `[n, h, w, c]` as one map.
pub(super) fn blocks_of_rows(c: usize, rows: &[f32], map: &mut [f32]) {
    let block_len = rows.len() / c * L;
    for (row, values) in rows.chunks_exact(c).enumerate() {
        for (block, values) in values.chunks(L).enumerate() {
            map[block * block_len + row * L..][..values.len()].copy_from_slice(values);
        }
    }
}

/// The inverse of [`blocks_of_rows`].
pub(super) fn rows_of_blocks(c: usize, map: &[f32], rows: &mut [f32]) {
    let block_len = rows.len() / c * L;
    for (row, values) in rows.chunks_exact_mut(c).enumerate() {
        for (block, values) in values.chunks_mut(L).enumerate() {
            values.copy_from_slice(&map[block * block_len + row * L..][..values.len()]);
        }
    }
}

/// Some rows of the outputs of a panel: of [`PANEL`] adjacent blocks, or of the last one.
pub(super) struct Part<'a> {
    /// The first of the blocks.
    pub block: usize,
    /// The first of the rows.
    pub row: usize,
    /// `[rows, 16]` each; the second is empty where there is one block.
    pub blocks: [&'a mut [f32]; PANEL],
}

/// Cuts a map into parts of at most `part_rows` of its rows, panel by panel.
pub(super) fn parts(map: &mut [f32], rows: usize, part_rows: usize) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    if map.is_empty() {
        return parts;
    }
    let mut blocks = map.chunks_exact_mut(rows * L).enumerate();
    while let Some((block, first)) = blocks.next() {
        let second = blocks.next().map_or(&mut [][..], |(_, second)| second);
        let mut seconds = second.chunks_mut(part_rows * L);
        for (i, first) in first.chunks_mut(part_rows * L).enumerate() {
            let blocks = [first, seconds.next().unwrap_or_default()];
            parts.push(Part { block, row: i * part_rows, blocks });
        }
    }
    parts
}

/// Which threads compute the parts of a layer. Both give the same bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The calling thread: the others have other images.
    One,
    All,
}

impl Threads {
    /// For work on this many values.
    pub(super) fn on(self, values: usize) -> Self {
        if values < SHARED_VALUES { Self::One } else { self }
    }

    pub(super) fn each<T: Send>(self, parts: Vec<T>, work: impl Fn(T) + Send + Sync) {
        match self {
            Self::One => parts.into_iter().for_each(work),
            Self::All => parts.into_par_iter().for_each(work),
        }
    }
}
