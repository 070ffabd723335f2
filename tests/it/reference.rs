//! The networks in plain f64 loops, channels-last: what the tape's answers are compared with.
//!
//! Nothing here shares code with the operators. A network is read off its [`Plan`] and the names of
//! its parameters, one formula after the other.

use repro::net::NetGates;
use repro::recipe::MaskPlace;
use repro::space::{
    Activation, BlockPlan, BlockType, Branch, Expansion, Head, Plan, SearchSpace, squeeze_width,
};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Parameters and buffers by name.
pub type Weights = BTreeMap<String, Vec<f64>>;

/// An activation `[n, h, w, c]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub data: Vec<f64>,
}

/// The factors of one block; what is absent counts as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockGates {
    pub branches: Option<Vec<f64>>,
    pub identity: Option<f64>,
    pub mid: Option<Vec<f64>>,
    pub squeeze: Option<Vec<f64>>,
    pub width: Option<Vec<f64>>,
    /// Between the convolutions of a residual block.
    pub inner: Option<Vec<f64>>,
    /// Masks in front of the depthwise convolution's batch norm and of the last one.
    pub mid_before_norm: Option<Vec<f64>>,
    pub width_before_norm: Option<Vec<f64>>,
}

/// The factors of a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    /// Sides of the image with their gates; none for the image as it is.
    pub resolutions: Vec<(usize, f64)>,
    /// Blocks beyond the list have none.
    pub blocks: Vec<BlockGates>,
}

/// Where batch norm takes its statistics from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    Batch,
    Running,
}

/// Mean, biased variance and number of values per channel.
#[derive(Clone, Debug)]
pub struct Moments {
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
    pub count: usize,
}

impl Map {
    pub fn new((n, h, w, c): (usize, usize, usize, usize), data: Vec<f64>) -> Self {
        assert_eq!(data.len(), n * h * w * c);
        Self { n, h, w, c, data }
    }

    pub fn zeros(n: usize, h: usize, w: usize, c: usize) -> Self {
        Self { n, h, w, c, data: vec![0.0; n * h * w * c] }
    }

    fn index(&self, i: usize, y: usize, x: usize, j: usize) -> usize {
        ((i * self.h + y) * self.w + x) * self.c + j
    }

    /// Zero outside the image.
    fn padded(&self, i: usize, y: isize, x: isize, j: usize) -> f64 {
        let inside = y >= 0 && x >= 0 && y < self.h as isize && x < self.w as isize;
        if inside { self.data[self.index(i, y as usize, x as usize, j)] } else { 0.0 }
    }

    /// Every value from its channel and itself.
    pub fn by_channel(&self, f: impl Fn(usize, f64) -> f64) -> Self {
        let data = self.data.iter().enumerate().map(|(at, v)| f(at % self.c, *v)).collect();
        Self { data, ..*self }
    }

    /// The first `width` channels.
    pub fn cut(&self, width: usize) -> Self {
        let data = self.data.chunks(self.c).flat_map(|pixel| pixel[..width].to_vec()).collect();
        Self { c: width, data, ..*self }
    }

    /// Zeros up to `width` channels.
    pub fn padded_to(&self, width: usize) -> Self {
        let mut out = Self::zeros(self.n, self.h, self.w, width);
        for (to, from) in out.data.chunks_mut(width).zip(self.data.chunks(self.c)) {
            to[..self.c].copy_from_slice(from);
        }
        out
    }

    /// The map of `(h, w)` whose pixel i is pixel ⌊i · from / to⌋ of this one.
    pub fn sampled(&self, (from, to): (usize, usize), (h, w): (usize, usize)) -> Self {
        let mut out = Self::zeros(self.n, h, w, self.c);
        for i in 0..self.n {
            for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                for j in 0..self.c {
                    let at = out.index(i, y, x, j);
                    out.data[at] = self.data[self.index(i, y * from / to, x * from / to, j)];
                }
            }
        }
        out
    }

    /// The map of `(h, w)` that has these pixels where [`Map::sampled`] reads, and zeros elsewhere.
    pub fn interspersed(&self, (from, to): (usize, usize), (h, w): (usize, usize)) -> Self {
        let mut out = Self::zeros(self.n, h, w, self.c);
        for i in 0..self.n {
            for (y, x) in (0..self.h).flat_map(|y| (0..self.w).map(move |x| (y, x))) {
                for j in 0..self.c {
                    let at = out.index(i, y * from / to, x * from / to, j);
                    out.data[at] = self.data[self.index(i, y, x, j)];
                }
            }
        }
        out
    }

    /// `self += factor · other`.
    pub fn add(&mut self, factor: f64, other: &Self) {
        assert_eq!((self.n, self.h, self.w, self.c), (other.n, other.h, other.w, other.c));
        for (a, b) in self.data.iter_mut().zip(&other.data) {
            *a += factor * b;
        }
    }

    /// Σ self · other: a loss to differentiate.
    pub fn dot(&self, other: &[f64]) -> f64 {
        assert_eq!(self.data.len(), other.len());
        self.data.iter().zip(other).map(|(a, b)| a * b).sum()
    }
}

/// Outputs of a convolution of `side` pixels, padded by k / 2 on both sides.
fn outputs(side: usize, k: usize, stride: usize) -> usize {
    (side + 2 * (k / 2) - k) / stride + 1
}

/// Dense convolution, weight `[k, k, c_in, c_out]`.
pub fn convolve(x: &Map, weight: &[f64], k: usize, stride: usize, c_out: usize) -> Map {
    assert_eq!(weight.len(), k * k * x.c * c_out);
    let mut y = Map::zeros(x.n, outputs(x.h, k, stride), outputs(x.w, k, stride), c_out);
    for i in 0..y.n {
        for (oy, ox) in (0..y.h).flat_map(|oy| (0..y.w).map(move |ox| (oy, ox))) {
            for (ky, kx) in (0..k).flat_map(|ky| (0..k).map(move |kx| (ky, kx))) {
                let iy = (oy * stride + ky) as isize - (k / 2) as isize;
                let ix = (ox * stride + kx) as isize - (k / 2) as isize;
                for c_in in 0..x.c {
                    let value = x.padded(i, iy, ix, c_in);
                    for o in 0..c_out {
                        let at = y.index(i, oy, ox, o);
                        y.data[at] += value * weight[((ky * k + kx) * x.c + c_in) * c_out + o];
                    }
                }
            }
        }
    }
    y
}

/// Depthwise convolution, weight `[k, k, c]`.
pub fn depthwise(x: &Map, weight: &[f64], k: usize, stride: usize) -> Map {
    assert_eq!(weight.len(), k * k * x.c);
    let mut y = Map::zeros(x.n, outputs(x.h, k, stride), outputs(x.w, k, stride), x.c);
    for i in 0..y.n {
        for (oy, ox) in (0..y.h).flat_map(|oy| (0..y.w).map(move |ox| (oy, ox))) {
            for (ky, kx) in (0..k).flat_map(|ky| (0..k).map(move |kx| (ky, kx))) {
                let iy = (oy * stride + ky) as isize - (k / 2) as isize;
                let ix = (ox * stride + kx) as isize - (k / 2) as isize;
                for j in 0..x.c {
                    let at = y.index(i, oy, ox, j);
                    y.data[at] += x.padded(i, iy, ix, j) * weight[(ky * k + kx) * x.c + j];
                }
            }
        }
    }
    y
}

pub fn activate(activation: Activation, u: f64) -> f64 {
    let hard_sigmoid = (u + 3.0).clamp(0.0, 6.0) / 6.0;
    match activation {
        Activation::Identity => u,
        Activation::Relu => u.max(0.0),
        Activation::Hswish => u * hard_sigmoid,
        Activation::Hsigmoid => hard_sigmoid,
    }
}

/// Two passes: first the mean, then the mean square distance from it.
pub fn moments(x: &Map) -> Moments {
    let count = x.n * x.h * x.w;
    let mut mean = vec![0.0; x.c];
    for (at, v) in x.data.iter().enumerate() {
        mean[at % x.c] += v / count as f64;
    }
    let mut variance = vec![0.0; x.c];
    for (at, v) in x.data.iter().enumerate() {
        variance[at % x.c] += (v - mean[at % x.c]).powi(2) / count as f64;
    }
    Moments { mean, variance, count }
}

/// γ (z - μ) / √(σ² + 1e-5) + β.
pub fn normalise(z: &Map, mean: &[f64], variance: &[f64], (gamma, beta): (&[f64], &[f64])) -> Map {
    z.by_channel(|j, v| gamma[j] * (v - mean[j]) / (variance[j] + 1e-5).sqrt() + beta[j])
}

/// The mean over pixels, a map of one pixel.
pub fn pool(x: &Map) -> Map {
    let mut y = Map::zeros(x.n, 1, 1, x.c);
    for i in 0..x.n {
        for pixel in x.data[i * x.h * x.w * x.c..][..x.h * x.w * x.c].chunks(x.c) {
            for (j, v) in pixel.iter().enumerate() {
                y.data[i * x.c + j] += v / (x.h * x.w) as f64;
            }
        }
    }
    y
}

/// Mean cross-entropy of logits `[n, classes]` with smoothed labels.
pub fn cross_entropy(logits: &[f64], labels: &[u32], smoothing: f64) -> f64 {
    let classes = logits.len() / labels.len();
    let mut loss = 0.0;
    for (row, label) in logits.chunks(classes).zip(labels) {
        let total: f64 = row.iter().map(|v| v.exp()).sum();
        for (k, v) in row.iter().enumerate() {
            let hit = if k == *label as usize { 1.0 - smoothing } else { 0.0 };
            loss -= (hit + smoothing / classes as f64) * (v.exp() / total).ln();
        }
    }
    loss / labels.len() as f64
}

/// Layers with their weights.
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

    /// The same with a mask in front of the batch norm.
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

    /// The same with a mask in front of the last batch norm.
    fn hidden_masked(
        &self,
        name: &str,
        x: &Map,
        branch: &Branch,
        stride: usize,
        mask: Option<&[f64]>,
    ) -> Map {
        let Branch::MbConv { kernel, activation, mid, expand, .. } = branch else {
            panic!("{name} is no inverted residual")
        };
        let mut h = x.clone();
        if *expand {
            h = self.conv_norm(&format!("{name}.expand"), &h, (1, 1, *mid), *activation);
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
        let (activation, squeeze) = match branch {
            Branch::MbConv { activation, squeeze, .. } => (activation, squeeze),
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
            let squeezed = self.dense(&format!("{name}.se.squeeze"), &pool(&h), *activation);
            let squeezed = masked(&squeezed, gates.squeeze.as_deref());
            let factors = self.dense(&format!("{name}.se.excite"), &squeezed, Activation::Hsigmoid);
            let pixels = h.h * h.w;
            for (at, v) in h.data.iter_mut().enumerate() {
                *v *= factors.data[at / (pixels * h.c) * h.c + at % h.c];
            }
        }
        let project = (1, 1, plan.width);
        let mask = gates.width_before_norm.as_deref();
        let name = format!("{name}.project");
        self.conv_mask_norm(&name, &h, project, Activation::Identity, mask)
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
    pub fn net(&self, plan: &Plan, images: &Map, gates: &Gates) -> Vec<f64> {
        let none = BlockGates::default();
        self.net_of(plan, images, &gates.resolutions, |i, x| {
            self.block(&plan.blocks[i], x, gates.blocks.get(i).unwrap_or(&none))
        })
    }

    /// [`Reference::net`] whose i-th block is `block(i, x)` at each of the `resolutions`.
    pub fn net_of(
        &self,
        plan: &Plan,
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
        if let Head::IrPool { width, activation, .. } = plan.head {
            features = convolve(&features, self.weight("head.after_pool.weight"), 1, 1, width)
                .by_channel(|_, u| activate(activation, u));
        }
        self.dense("classifier", &features, Activation::Identity).data
    }
}

fn masked(x: &Map, mask: Option<&[f64]>) -> Map {
    match mask {
        Some(mask) => x.by_channel(|j, v| v * mask[j]),
        None => x.clone(),
    }
}

/// Σ_i g_i 1_i, written as it is defined; a single option is no choice and leaves no mask.
pub fn mask(options: &[usize], gates: &[f64]) -> Option<Vec<f64>> {
    let mut mask = vec![0.0; *options.iter().max()?];
    for (option, gate) in options.iter().zip(gates) {
        for entry in &mut mask[..*option] {
            *entry += gate;
        }
    }
    (options.len() > 1).then_some(mask)
}

/// What the gates of a space mean for each block. The hidden channels of a block without expansion
/// are those that reach it: what was chosen before, or less where a skip passed on less.
pub fn network_gates(space: &SearchSpace, gates: &NetGates, place: MaskPlace) -> Gates {
    let several = space.resolutions.len() > 1;
    let resolutions = space.resolutions.iter().copied().zip(gates.resolutions.iter().copied());
    Gates {
        resolutions: if several { resolutions.collect() } else { vec![] },
        blocks: block_gates(space, gates, place),
    }
}

pub fn block_gates(space: &SearchSpace, gates: &NetGates, place: MaskPlace) -> Vec<BlockGates> {
    let mut arriving = vec![(space.stem.width, 1.0)];
    let after = |mask| if place == MaskPlace::AfterNorm { mask } else { None };
    let before = |mask| if place == MaskPlace::BeforeNorm { mask } else { None };
    let of_block = space.blocks.iter().zip(&gates.blocks).map(|(choices, values)| {
        let keeps = choices.stride == 1 && choices.in_max == choices.width_max();
        let residual = choices.types.contains(&BlockType::Residual);
        let passes = |t: &BlockType| keeps && *t == BlockType::Skip;
        let typed = || choices.types.iter().zip(&values.types);
        let layered: Vec<f64> = typed().filter(|(t, _)| !passes(t)).map(|(_, g)| *g).collect();
        let (mids, shares): (Vec<usize>, Vec<f64>) = match &choices.expansion {
            Expansion::None => arriving.iter().copied().unzip(),
            Expansion::Options { mids, .. } => (mids.clone(), values.expansions.clone()),
        };
        let squeezes: Vec<usize> =
            mids.iter().map(|m| squeeze_width(*m, space.channel_divisor)).collect();
        let mut leaving = vec![];
        for (width, g) in choices.widths.iter().zip(&values.widths) {
            leaving.push((*width, g * layered.iter().sum::<f64>()));
            for (_, skip) in typed().filter(|(t, _)| passes(t)) {
                leaving.extend(arriving.iter().map(|(c, p)| (*c.min(width), p * g * skip)));
            }
        }
        arriving = leaving;
        BlockGates {
            branches: (choices.types.len() > 1).then_some(layered),
            identity: (keeps || residual).then_some(values.identity),
            mid: after(mask(&mids, &shares)),
            squeeze: mask(&squeezes, &shares),
            width: after(mask(&choices.widths, &values.widths)),
            inner: after(mask(&choices.widths, &values.widths)).filter(|_| residual),
            mid_before_norm: before(mask(&mids, &shares)),
            width_before_norm: before(mask(&choices.widths, &values.widths)),
        }
    });
    of_block.collect()
}
