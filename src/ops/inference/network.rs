//! The layers in host memory.
//!
//! A few images at a time pass through a few layers, so that their maps stay in the cache. The smaller
//! the maps, the more images at a time, so that weights are read less often: a fully connected layer
//! reads its weights once per batch. Threads have different images, or share the work on the same
//! images if there are too few.

use super::conv::{HostConv, HostResidual};
use super::inverted_residual::HostInvertedResidual;
use super::map::{HostMap, Threads, blocks_of_rows, rows_of_blocks};
use super::matrix::{HostConv1x1, Matrix};
use super::squeeze_excite::{HostPool, InferenceSqueezeExcite};
use super::{InferenceLayer, MapShape};
use crate::ops::host::{Host, Scratch, tensor, to_fill};
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// A layer in host memory.
pub(super) trait HostLayer: Send + Sync {
    /// Runs on a map; writes every channel of `y`, which is a [`HostMap`].
    fn run(&self, x: HostMap<'_>, y: &mut [f32], threads: Threads);

    /// [`Self::run`] on images `[n, h, w, c]`.
    fn run_rows(&self, shape: MapShape, x: &[f32], y: &mut [f32], threads: Threads) {
        let images = x.len() / shape.len();
        let mut values = Scratch::new(shape.map_len(images));
        blocks_of_rows(shape.c, x, &mut values);
        self.run(HostMap { shape, images, values: &values }, y, threads);
    }

    /// Values of its largest inner map of one image.
    fn inner_len(&self, _shape: MapShape) -> usize {
        0
    }
}

/// The most bytes that the maps of a task should take, so that they stay in a core's cache.
const CACHE: usize = 1 << 19;

pub(super) struct HostNetwork {
    layers: Vec<Box<dyn HostLayer>>,
}

/// Adjacent layers that the same images pass through together.
struct Segment {
    layers: Range<usize>,
    /// Images at a time.
    images: usize,
}

impl HostNetwork {
    pub(super) fn new(layers: &[InferenceLayer]) -> Result<Self> {
        Ok(Self { layers: layers.iter().map(host_layer).collect::<Result<_>>()? })
    }

    /// The output for images of the first of `shapes`; the others are the shapes behind each layer.
    pub(super) fn forward(&self, shapes: &[MapShape], images: &Tensor) -> Result<Tensor> {
        if self.layers.is_empty() {
            return Ok(images.clone());
        }
        let n = images.dim(0)?;
        let last = shapes[shapes.len() - 1];
        let xs = Host::of(images)?;
        // SAFETY: every row is written.
        #[allow(unsafe_code)]
        let mut y = unsafe { to_fill(n * last.len()) };
        if !y.is_empty() {
            // On a thread of the pool, so that the others start at once.
            rayon::scope(|_| self.run(shapes, &xs, n, &mut y));
        }
        tensor(y, (n, last.h, last.w, last.c))
    }

    /// Between two segments every image has a map of its own.
    fn run(&self, shapes: &[MapShape], rows: &[f32], n: usize, y: &mut [f32]) {
        let mut maps = Vec::new();
        for segment in self.segments(shapes, n) {
            let shapes = &shapes[segment.layers.start..=segment.layers.end];
            let (first, last) = (shapes[0], shapes[shapes.len() - 1].map_len(1));
            // SAFETY: `pass` writes the maps of all images. A thread would keep scratch of that size forever.
            #[allow(unsafe_code)]
            let mut outputs = unsafe { to_fill(n * last) };
            let tasks: Vec<_> = outputs.chunks_mut(segment.images * last).enumerate().collect();
            let few = tasks.len() < rayon::current_num_threads();
            let [tasks_by, layers_by] =
                if few { [Threads::One, Threads::All] } else { [Threads::All, Threads::One] };
            tasks_by.each(tasks, |(i, y)| {
                let (at, images) = (i * segment.images, y.len() / last);
                let layers = &self.layers[segment.layers.clone()];
                let x = match segment.layers.start {
                    0 => Images::Rows(&rows[at * first.len()..][..images * first.len()]),
                    _ => Images::Maps(&maps[at * first.map_len(1)..][..images * first.map_len(1)]),
                };
                pass(layers, shapes, (x, images), y, layers_by);
            });
            maps = outputs;
        }
        let last = shapes[shapes.len() - 1];
        let images = maps.par_chunks(last.map_len(1)).zip(y.par_chunks_mut(last.len()));
        images.for_each(|(map, y)| rows_of_blocks(last.c, map, y));
    }

    /// Layers whose maps allow about as many of `n` images at a time are together.
    fn segments(&self, shapes: &[MapShape], n: usize) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let (from, to) = (shapes[i], shapes[i + 1]);
            let values = from.map_len(1) + to.map_len(1) + layer.inner_len(from);
            let images = match from.pixels() {
                1 => n,
                _ => (CACHE / (size_of::<f32>() * values)).clamp(1, n),
            };
            match segments.last_mut() {
                Some(last) if last.images.ilog2() == images.ilog2() => {
                    last.layers.end = i + 1;
                    last.images = last.images.min(images);
                }
                _ => segments.push(Segment { layers: i..i + 1, images }),
            }
        }
        segments
    }
}

/// Images `[n, h, w, c]`, or a map of each.
enum Images<'a> {
    Rows(&'a [f32]),
    Maps(&'a [f32]),
}

/// Passes some images through some layers. Writes a map of each.
fn pass(
    layers: &[Box<dyn HostLayer>],
    shapes: &[MapShape],
    (x, images): (Images<'_>, usize),
    y: &mut [f32],
    threads: Threads,
) {
    let len = shapes.iter().map(|shape| shape.map_len(images)).fold(0, usize::max);
    let [mut from, mut to] = [Scratch::new(len), Scratch::new(len)];
    let mut rows = None;
    match x {
        Images::Rows(x) => rows = Some(x),
        Images::Maps(x) => swap_axes(x, (images, shapes[0].blocks()), &mut from),
    }
    for (layer, pair) in layers.iter().zip(shapes.windows(2)) {
        let [shape, behind] = [pair[0], pair[1]];
        let y = &mut to[..behind.map_len(images)];
        if let Some(rows) = rows.take() {
            layer.run_rows(shape, rows, y, threads);
        } else {
            let values = &from[..shape.map_len(images)];
            layer.run(HostMap { shape, images, values }, y, threads);
        }
        std::mem::swap(&mut from, &mut to);
    }
    let last = shapes[shapes.len() - 1];
    swap_axes(&from[..y.len()], (last.blocks(), images), y);
}

/// x `[a, b, c]` → y `[b, a, c]`
fn swap_axes(x: &[f32], (a, b): (usize, usize), y: &mut [f32]) {
    let c = x.len() / (a * b);
    for (i, x) in x.chunks_exact(b * c).enumerate() {
        for (j, x) in x.chunks_exact(c).enumerate() {
            y[(j * a + i) * c..][..c].copy_from_slice(x);
        }
    }
}

fn host_layer(layer: &InferenceLayer) -> Result<Box<dyn HostLayer>> {
    Ok(match layer {
        InferenceLayer::Conv(conv) => Box::new(HostConv::new(conv)?),
        InferenceLayer::Conv1x1 { w, stride, norm } => {
            Box::new(HostConv1x1 { matrix: Matrix::folded(w, norm)?, stride: *stride })
        }
        InferenceLayer::InvertedResidual(block) => Box::new(HostInvertedResidual::new(block)?),
        InferenceLayer::Residual(block) => Box::new(HostResidual::new(block)?),
        InferenceLayer::Cut { .. } => Box::new(HostCut),
        InferenceLayer::Pool => Box::new(HostPool),
        InferenceLayer::SqueezeExcite(layers) => Box::new(InferenceSqueezeExcite::new(layers)?),
        InferenceLayer::Linear { w, bias, activation } => {
            let matrix = Matrix::with_bias(w, bias.as_ref(), *activation)?;
            Box::new(HostConv1x1 { matrix, stride: 1 })
        }
    })
}

struct HostCut;

impl HostLayer for HostCut {
    fn run(&self, x: HostMap<'_>, y: &mut [f32], _: Threads) {
        y.copy_from_slice(&x.values[..y.len()]);
    }
}
