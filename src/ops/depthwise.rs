//! Depthwise convolution: every channel with its own k x k filter, padding k / 2.
//!
//! x `[n, h, w, c]`, w `[k·k, c]` (tap by tap), y `[n, ⌈h/s⌉, ⌈w/s⌉, c]`. All three products run
//! image by image and channel block by channel block with the sums in registers; columns whose
//! whole window lies inside the image take a path without bounds.

use super::host::{Host, nhwc, ordered_sum, tensor};
use super::lanes::{LaneKernel, load, multiply_add, over_channels, store};
use super::no_kernel;
use crate::space::conv_out;
use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// `y = x * w`.
///
/// # Errors
/// When the shapes do not fit, the kernel is neither 3 nor 5, or the device has no kernel.
pub fn forward(x: &Tensor, w: &Tensor, stride: usize) -> Result<Tensor> {
    let (n, geometry) = Geometry::of(x, w, stride)?;
    let g = &geometry;
    match x.device() {
        Device::Cpu => {
            let (xs, ws) = (Host::of(x)?, Host::of(w)?);
            let mut y = vec![0f32; n * g.out_len()];
            y.par_chunks_mut(g.out_len()).zip(xs.par_chunks(g.in_len())).for_each(
                |(y, x)| match g.k {
                    3 => over_channels(g.c, &mut Forward::<3> { g, x, w: &ws, y }),
                    _ => over_channels(g.c, &mut Forward::<5> { g, x, w: &ws, y }),
                },
            );
            tensor(y, (n, g.oh, g.ow, g.c))
        }
        device => no_kernel("depthwise", device),
    }
}

/// dx of the input size `(h, w)`.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(x: &Tensor, w: &Tensor, dy: &Tensor, stride: usize) -> Result<Tensor> {
    let (n, geometry) = Geometry::of(x, w, stride)?;
    let g = &geometry;
    match dy.device() {
        Device::Cpu => {
            let (ws, dys) = (Host::of(w)?, Host::of(dy)?);
            let mut dx = vec![0f32; n * g.in_len()];
            dx.par_chunks_mut(g.in_len()).zip(dys.par_chunks(g.out_len())).for_each(|(dx, dy)| {
                match g.k {
                    3 => over_channels(g.c, &mut BackwardInput::<3> { g, w: &ws, dy, dx }),
                    _ => over_channels(g.c, &mut BackwardInput::<5> { g, w: &ws, dy, dx }),
                }
            });
            tensor(dx, (n, g.h, g.w, g.c))
        }
        device => no_kernel("depthwise", device),
    }
}

/// dw `[k·k, c]`.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(x: &Tensor, w: &Tensor, dy: &Tensor, stride: usize) -> Result<Tensor> {
    let (n, geometry) = Geometry::of(x, w, stride)?;
    let g = &geometry;
    match dy.device() {
        Device::Cpu => {
            let (xs, dys) = (Host::of(x)?, Host::of(dy)?);
            // Sixteen pieces whatever the number of threads, so that the sum has one order.
            let images = n.div_ceil(16);
            let parts: Vec<Vec<f32>> = xs
                .par_chunks(images * g.in_len())
                .zip(dys.par_chunks(images * g.out_len()))
                .map(|(xs, dys)| {
                    let mut dw = vec![0f32; g.k * g.k * g.c];
                    for (x, dy) in xs.chunks(g.in_len()).zip(dys.chunks(g.out_len())) {
                        let dw = &mut dw;
                        match g.k {
                            3 => over_channels(g.c, &mut BackwardWeight::<3> { g, x, dy, dw }),
                            _ => over_channels(g.c, &mut BackwardWeight::<5> { g, x, dy, dw }),
                        }
                    }
                    dw
                })
                .collect();
            let dw = ordered_sum(&parts).into_iter().map(|v| v as f32).collect();
            tensor(dw, (g.k * g.k, g.c))
        }
        device => no_kernel("depthwise", device),
    }
}

struct Geometry {
    h: usize,
    w: usize,
    c: usize,
    k: usize,
    stride: usize,
    oh: usize,
    ow: usize,
}

impl Geometry {
    fn of(x: &Tensor, weight: &Tensor, stride: usize) -> Result<(usize, Self)> {
        let (n, h, w, c) = nhwc(x)?;
        let (taps, channels) = weight.dims2()?;
        let k = match taps {
            9 => 3,
            25 => 5,
            _ => bail!("depthwise: kernels are 3x3 or 5x5, got {taps} taps"),
        };
        if c != channels {
            bail!("depthwise: x has {c} channels, w has {channels}");
        }
        let (oh, ow) = (conv_out(h, k, stride), conv_out(w, k, stride));
        Ok((n, Self { h, w, c, k, stride, oh, ow }))
    }

    fn in_len(&self) -> usize {
        self.h * self.w * self.c
    }

    fn out_len(&self) -> usize {
        self.oh * self.ow * self.c
    }

    /// Taps whose source row (or column) of output `o` lies inside `0..side`.
    #[inline(always)]
    fn taps(&self, o: usize, side: usize) -> Range<usize> {
        let (at, pad) = (o * self.stride, self.k / 2);
        pad.saturating_sub(at)..self.k.min(side + pad - at)
    }
}

struct Forward<'a, const K: usize> {
    g: &'a Geometry,
    x: &'a [f32],
    w: &'a [f32],
    y: &'a mut [f32],
}

impl<const K: usize> LaneKernel for Forward<'_, K> {
    #[inline(always)]
    fn run<const L: usize>(&mut self, channel: usize) {
        let g = self.g;
        for oh in 0..g.oh {
            let rows = g.taps(oh, g.h);
            for ow in 0..g.ow {
                let columns = g.taps(ow, g.w);
                let mut acc = [0f32; L];
                for kh in rows.clone() {
                    let ih = oh * g.stride + kh - K / 2;
                    let x_row = &self.x[ih * g.w * g.c..][..g.w * g.c];
                    let w_row = &self.w[kh * K * g.c..][..K * g.c];
                    if columns.len() == K {
                        let first = (ow * g.stride - K / 2) * g.c + channel;
                        for kw in 0..K {
                            let x = load::<L>(x_row, first + kw * g.c);
                            multiply_add(&mut acc, &x, &load(w_row, kw * g.c + channel));
                        }
                    } else {
                        for kw in columns.clone() {
                            let iw = ow * g.stride + kw - K / 2;
                            let x = load::<L>(x_row, iw * g.c + channel);
                            multiply_add(&mut acc, &x, &load(w_row, kw * g.c + channel));
                        }
                    }
                }
                store(&acc, self.y, (oh * g.ow + ow) * g.c + channel);
            }
        }
    }
}

struct BackwardInput<'a, const K: usize> {
    g: &'a Geometry,
    w: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl<const K: usize> BackwardInput<'_, K> {
    /// The (tap, output) pairs that read input `i`.
    #[inline(always)]
    fn readers(&self, i: usize, outputs: usize) -> impl Iterator<Item = (usize, usize)> + use<K> {
        let (at, stride) = (i + K / 2, self.g.stride);
        (at % stride..K.min(at + 1))
            .step_by(stride)
            .map(move |tap| (tap, (at - tap) / stride))
            .filter(move |(_, o)| *o < outputs)
    }
}

impl<const K: usize> LaneKernel for BackwardInput<'_, K> {
    #[inline(always)]
    fn run<const L: usize>(&mut self, channel: usize) {
        let g = self.g;
        for ih in 0..g.h {
            for iw in 0..g.w {
                let mut acc = [0f32; L];
                for (kh, oh) in self.readers(ih, g.oh) {
                    let dy_row = &self.dy[oh * g.ow * g.c..][..g.ow * g.c];
                    let w_row = &self.w[kh * K * g.c..][..K * g.c];
                    for (kw, ow) in self.readers(iw, g.ow) {
                        let dy = load::<L>(dy_row, ow * g.c + channel);
                        multiply_add(&mut acc, &dy, &load(w_row, kw * g.c + channel));
                    }
                }
                store(&acc, self.dx, (ih * g.w + iw) * g.c + channel);
            }
        }
    }
}

struct BackwardWeight<'a, const K: usize> {
    g: &'a Geometry,
    x: &'a [f32],
    dy: &'a [f32],
    dw: &'a mut [f32],
}

impl<const K: usize> LaneKernel for BackwardWeight<'_, K> {
    #[inline(always)]
    fn run<const L: usize>(&mut self, channel: usize) {
        let g = self.g;
        for kh in 0..K {
            let mut acc = [[0f32; L]; K];
            for oh in (0..g.oh).filter(|oh| g.taps(*oh, g.h).contains(&kh)) {
                let ih = oh * g.stride + kh - K / 2;
                let x_row = &self.x[ih * g.w * g.c..][..g.w * g.c];
                let dy_row = &self.dy[oh * g.ow * g.c..][..g.ow * g.c];
                for ow in 0..g.ow {
                    let dy = load::<L>(dy_row, ow * g.c + channel);
                    let columns = g.taps(ow, g.w);
                    if columns.len() == K {
                        let first = (ow * g.stride - K / 2) * g.c + channel;
                        for (kw, acc) in acc.iter_mut().enumerate() {
                            multiply_add(acc, &load(x_row, first + kw * g.c), &dy);
                        }
                    } else {
                        for kw in columns {
                            let iw = ow * g.stride + kw - K / 2;
                            multiply_add(&mut acc[kw], &load(x_row, iw * g.c + channel), &dy);
                        }
                    }
                }
            }
            for (kw, acc) in acc.iter().enumerate() {
                let at = (kh * K + kw) * g.c + channel;
                let mut sum = load::<L>(self.dw, at);
                for l in 0..L {
                    sum[l] += acc[l];
                }
                store(&sum, self.dw, at);
            }
        }
    }
}
