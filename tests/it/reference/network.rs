//! Layers, blocks and whole networks.

use super::{
    BlockGates, Gates, Map, Moments, Weights, activate, convolve, depthwise, moments, normalise,
    pool,
};
use repro::space::{Activation, BlockPlan, Branch, Head, NetworkPlan};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The statistics that batch norm uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    Batch,
    Running,
}

/// The layers of a network with their weights.
pub struct Reference<'a> {
    pub weights: &'a Weights,
    pub statistics: Statistics,
    /// The statistics of every batch norm that ran, by its name.
    pub seen: RefCell<BTreeMap<String, Moments>>,
}

impl<'a> Reference<'a> {
    pub fn new(weights: &'a Weights, statistics: Statistics) -> Self {
        Self { weights, statistics, seen: RefCell::default() }
    }

    fn weight(&self, name: &str) -> &[f64] {
        self.weights.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn norm(&self, name: &str, z: &Map) -> Map {
        let of = |part: &str| self.weight(&format!("{name}.{part}"));
        let affine = (of("gamma"), of("beta"));
        match self.statistics {
            Statistics::Batch => {
                let m = moments(z);
                let y = normalise(z, &m.mean, &m.variance, affine);
                self.seen.borrow_mut().insert(name.to_owned(), m);
                y
            }
            Statistics::Running => normalise(z, of("running_mean"), of("running_var"), affine),
        }
    }

    /// k x k convolution, batch norm, activation.
    pub fn conv_norm(
        &self,
        name: &str,
        x: &Map,
        (k, stride, width): (usize, usize, usize),
        activation: Activation,
    ) -> Map {
        self.conv_mask_norm(name, x, (k, stride, width), activation, None)
    }

    /// [`Self::conv_norm`] with a mask in front of the batch norm.
    fn conv_mask_norm(
        &self,
        name: &str,
        x: &Map,
        (k, stride, width): (usize, usize, usize),
        activation: Activation,
        mask: Option<&[f64]>,
    ) -> Map {
        let z = convolve(x, self.weight(&format!("{name}.weight")), k, stride, width);
        self.norm(name, &masked(&z, mask)).by_channel(|_, u| activate(activation, u))
    }

    /// act(x w + b), x a map of one pixel.
    fn dense(&self, name: &str, x: &Map, activation: Activation) -> Map {
        let bias = self.weight(&format!("{name}.bias"));
        let y = convolve(x, self.weight(&format!("{name}.weight")), 1, 1, bias.len());
        y.by_channel(|j, v| activate(activation, v + bias[j]))
    }

    /// The hidden activation of an inverted residual, before mask and squeeze-excite.
    pub fn hidden(&self, name: &str, x: &Map, branch: &Branch, stride: usize) -> Map {
        self.hidden_masked(name, x, branch, stride, None)
    }

    /// [`Self::hidden`] with a mask in front of the last batch norm.
    fn hidden_masked(
        &self,
        name: &str,
        x: &Map,
        branch: &Branch,
        stride: usize,
        mask: Option<&[f64]>,
    ) -> Map {
        let Branch::MbConv { kernel, activation, mid, expand, groups, .. } = branch else {
            panic!("{name} is no inverted residual")
        };
        let mut h = x.clone();
        if *expand {
            let at = format!("{name}.expand");
            let z = grouped(&h, self.weight(&format!("{at}.weight")), *groups, *mid);
            h = self.norm(&at, &z).by_channel(|_, u| activate(*activation, u));
        }
        let at = format!("{name}.depthwise");
        let z = depthwise(&h, self.weight(&format!("{at}.weight")), *kernel, stride);
        self.norm(&at, &masked(&z, mask)).by_channel(|_, u| activate(*activation, u))
    }

    fn branch(
        &self,
        name: &str,
        x: &Map,
        branch: &Branch,
        plan: &BlockPlan,
        gates: &BlockGates,
    ) -> Map {
        let mask = gates.width_before_norm.as_deref();
        let (activation, squeeze, groups, functions) = match branch {
            Branch::MbConv { activation, squeeze, groups, functions, .. } => {
                (activation, squeeze, *groups, functions)
            }
            Branch::Projection => {
                let shape = (1, plan.stride, plan.width);
                return self.conv_mask_norm(name, x, shape, Activation::Relu, mask);
            }
            Branch::Residual { mid } => {
                let (first, second) = (format!("{name}.first"), format!("{name}.second"));
                let shape = (3, plan.stride, *mid);
                let inner = self.conv_mask_norm(&first, x, shape, Activation::Relu, mask);
                let inner = masked(&inner, gates.inner.as_deref());
                let shape = (3, 1, plan.width);
                return self.conv_mask_norm(&second, &inner, shape, Activation::Identity, mask);
            }
        };
        let mask = gates.mid_before_norm.as_deref();
        let hidden = self.hidden_masked(name, x, branch, plan.stride, mask);
        let mut h = masked(&hidden, gates.mid.as_deref());
        if squeeze.is_some() {
            let inner = functions.activation.unwrap_or(*activation);
            let squeezed = self.dense(&format!("{name}.se.squeeze"), &pool(&h), inner);
            let squeezed = masked(&squeezed, gates.squeeze.as_deref());
            let factors = self.dense(&format!("{name}.se.excite"), &squeezed, functions.gate);
            let pixels = h.h * h.w;
            for (at, v) in h.data.iter_mut().enumerate() {
                *v *= factors.data[at / (pixels * h.c) * h.c + at % h.c];
            }
        }
        let mask = gates.width_before_norm.as_deref();
        let name = format!("{name}.project");
        let weight = self.weight(&format!("{name}.weight"));
        let z = grouped(&shuffled(&h, groups), weight, groups, plan.width);
        self.norm(&name, &masked(&z, mask))
    }

    /// y = (Σ_t g_t · branch_t(x) + ρ x) ∘ M.
    pub fn block(&self, plan: &BlockPlan, x: &Map, gates: &BlockGates) -> Map {
        let side = |s: usize| s.div_ceil(plan.stride);
        let mut y = Map::zeros(x.n, side(x.h), side(x.w), plan.width);
        for (t, (name, branch)) in plan.branches.iter().enumerate() {
            let name = format!("blocks.{}.{name}", plan.label);
            let gate = gates.branches.as_ref().map_or(1.0, |g| g[t]);
            y.add(gate, &self.branch(&name, x, branch, plan, gates));
        }
        if plan.identity {
            let kept = x.sampled((plan.stride, 1), (y.h, y.w)).cut(plan.width.min(x.c));
            y.add(gates.identity.unwrap_or(1.0), &kept.padded_to(plan.width));
        }
        masked(&y, gates.width.as_deref())
    }

    /// Σ_r g_r · intersperse(stage(subsample(x))), where `sides` are those that the image has at
    /// each resolution r, and the stage divides by `stride`.
    fn at_each_resolution(
        x: &Map,
        resolutions: &[(usize, f64)],
        sides: &mut [usize],
        stride: usize,
        stage: impl Fn(&Map) -> Map,
    ) -> Map {
        if resolutions.is_empty() {
            return stage(x);
        }
        let largest = resolutions.iter().map(|(side, _)| *side).max().unwrap();
        let out = (x.h.div_ceil(stride), x.w.div_ceil(stride));
        let mut sum: Option<Map> = None;
        for ((resolution, gate), side) in resolutions.iter().zip(sides) {
            let grid = (largest, *resolution);
            let y = stage(&x.sampled(grid, (*side, *side)));
            *side = side.div_ceil(stride);
            assert_eq!((y.h, y.w), (*side, *side));
            let whole = y.interspersed(grid, out);
            sum.get_or_insert_with(|| Map::zeros(x.n, out.0, out.1, y.c)).add(*gate, &whole);
        }
        sum.unwrap()
    }

    /// Images → logits `[n, classes]`.
    pub fn net(&self, plan: &NetworkPlan, images: &Map, gates: &Gates) -> Vec<f64> {
        let none = BlockGates::default();
        self.net_of(plan, images, &gates.resolutions, |i, x| {
            self.block(&plan.blocks[i], x, gates.blocks.get(i).unwrap_or(&none))
        })
    }

    /// [`Reference::net`] whose i-th block is `block(i, x)` at each of the `resolutions`.
    pub fn net_of(
        &self,
        plan: &NetworkPlan,
        images: &Map,
        resolutions: &[(usize, f64)],
        block: impl Fn(usize, &Map) -> Map,
    ) -> Vec<f64> {
        let mut sides: Vec<usize> = resolutions.iter().map(|(side, _)| *side).collect();
        let stem = &plan.stem;
        let shape = (stem.kernel, stem.stride, stem.width);
        let mut x = Self::at_each_resolution(images, resolutions, &mut sides, stem.stride, |x| {
            self.conv_norm("stem", x, shape, stem.activation)
        });
        for (i, plan) in plan.blocks.iter().enumerate() {
            let stage = |x: &Map| block(i, x);
            x = Self::at_each_resolution(&x, resolutions, &mut sides, plan.stride, stage);
        }
        let (width, activation) = match plan.head {
            Head::Conv { width, activation } => (width, activation),
            Head::IrPool { mid, activation, .. } => (mid, activation),
        };
        let head = |x: &Map| pool(&self.conv_norm("head", x, (1, 1, width), activation));
        // Pooled maps have one pixel, whatever the resolution.
        let mut features = Map::zeros(x.n, 1, 1, width);
        if resolutions.is_empty() {
            features = head(&x);
        }
        let largest = resolutions.iter().map(|(side, _)| *side).max().unwrap_or(0);
        for ((resolution, gate), side) in resolutions.iter().zip(&sides) {
            features.add(*gate, &head(&x.sampled((largest, *resolution), (*side, *side))));
        }
        if let Head::IrPool { activation, squeeze: Some(squeeze), .. } = plan.head {
            let functions = squeeze.functions;
            let inner = functions.activation.unwrap_or(activation);
            let squeezed = self.dense("head.se.squeeze", &features, inner);
            let factors = self.dense("head.se.excite", &squeezed, functions.gate);
            features.data.iter_mut().zip(&factors.data).for_each(|(v, factor)| *v *= factor);
        }
        if let Head::IrPool { width, activation, .. } = plan.head {
            features = convolve(&features, self.weight("head.after_pool.weight"), 1, 1, width)
                .by_channel(|_, u| activate(activation, u));
        }
        self.dense("classifier", &features, Activation::Identity).data
    }
}

/// A grouped 1x1 convolution, weight `[c_in / groups, c_out]`.
fn grouped(x: &Map, weight: &[f64], groups: usize, c_out: usize) -> Map {
    let (inputs, outputs) = (x.c / groups, c_out / groups);
    let mut y = Map::zeros(x.n, x.h, x.w, c_out);
    for (x, y) in x.data.chunks_exact(x.c).zip(y.data.chunks_exact_mut(c_out)) {
        for (o, y) in y.iter_mut().enumerate() {
            let first = o / outputs * inputs;
            *y = (0..inputs).map(|i| x[first + i] * weight[i * c_out + o]).sum();
        }
    }
    y
}

/// The channel shuffle: `[groups, c / groups]` becomes `[c / groups, groups]`.
fn shuffled(x: &Map, groups: usize) -> Map {
    let each = x.c / groups;
    let mut y = x.clone();
    for (x, y) in x.data.chunks_exact(x.c).zip(y.data.chunks_exact_mut(x.c)) {
        for (at, v) in x.iter().enumerate() {
            y[at % each * groups + at / each] = *v;
        }
    }
    y
}

fn masked(x: &Map, mask: Option<&[f64]>) -> Map {
    match mask {
        Some(mask) => x.by_channel(|j, v| v * mask[j]),
        None => x.clone(),
    }
}
