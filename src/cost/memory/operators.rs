//! The memory of each operator of `crate::ops` in bytes: its output, what it keeps for its backward
//! pass, and what it uses while it runs. Values are f32, sums over a batch f64.

use super::ledger::{Allocation, Owner};
use super::state::{F32, F64, StepState};
use super::tape::{GradientPart, GradientTarget, SizeTape, SizedMap};
use crate::tiling::{self, COVARIANCE_ROWS, LANES, MATMUL_ROWS};
use std::rc::Rc;

/// A convolution with batch norm: the name and the sizes of its parameters.
pub(super) struct LayerShape<'n> {
    pub name: &'n str,
    pub kernel: usize,
    pub stride: usize,
    pub channels: usize,
}

/// Which gates a pass has, and which gradients its backward pass computes.
#[derive(Clone, Copy)]
pub(super) struct PassKind {
    pub gates: SupernetGates,
    pub weights_wanted: bool,
    pub gates_wanted: bool,
}

/// Which supernet has the gates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SupernetGates {
    /// None: it is one network.
    Absent,
    Masked,
    Explicit,
}

impl PassKind {
    /// A pass that trains weights.
    pub(super) const fn training(gates: SupernetGates) -> Self {
        Self { gates, weights_wanted: true, gates_wanted: false }
    }
}

/// One forward pass.
pub(super) struct SimulatedPass<'a> {
    pub state: Rc<StepState>,
    pub kind: PassKind,
    pub tape: SizeTape<'a>,
    /// The beginning of all parameter names.
    pub prefix: String,
    /// Those of dropout, or of blocks on a GPU.
    pub factors: Option<Rc<Allocation>>,
}

/// Working memory of a depthwise convolution: of the forward pass, and while gradients exist up to that of the
/// filter, the final one of the input, and those of the expansion.
pub(super) struct DepthwiseScratch {
    pub forward: u64,
    pub of_filter: u64,
    pub of_input: u64,
    pub of_weights: u64,
}

/// The covariance of an input, shared by all expansions that read it.
pub(super) type SharedCovariance = Option<Rc<Allocation>>;

fn packed(rows: usize, columns: usize) -> u64 {
    F32 * tiling::packed_len(rows, columns) as u64
}

fn numbers(count: usize) -> u64 {
    F32 * count as u64
}

/// Scratch of a sum over `parts` partial sums of `len` values: the partial sums, and the total in f64.
fn summed(parts: usize, len: usize) -> u64 {
    numbers(parts * len) + F64 * len as u64
}

pub(super) fn made(to: GradientTarget, bytes: u64, scratch: u64) -> GradientPart {
    GradientPart::Made { to, bytes, scratch }
}

impl SimulatedPass<'_> {
    pub(super) fn batch(&self) -> usize {
        self.state.setting.batch
    }

    pub(super) fn is_on_gpu(&self) -> bool {
        self.state.is_on_gpu()
    }

    /// Bytes of tensors with so many values each.
    pub(super) fn tensors(&self, lens: &[usize]) -> u64 {
        self.state.tensors(lens)
    }

    fn threads(&self) -> usize {
        self.state.setting.threads
    }

    /// The number of chunks of the batch.
    fn chunks(&self) -> usize {
        self.batch().div_ceil(tiling::chunk_images(self.batch()))
    }

    /// Threads that work on a chunk of the batch.
    fn at_work(&self) -> usize {
        self.threads().min(self.chunks())
    }

    pub(super) fn rows(&self, side: usize) -> usize {
        self.batch() * side * side
    }

    pub(super) fn bytes(&self, side: usize, channels: usize) -> u64 {
        self.tensors(&[self.rows(side) * channels])
    }

    /// Where the gradient of a parameter goes; of several tensors with so many values each.
    fn weight(&self, name: &str, part: &str, lens: &[usize]) -> GradientTarget {
        let index = self.state.weight(format!("{}{name}.{part}", self.prefix), lens);
        if self.kind.weights_wanted {
            GradientTarget::Weight(index)
        } else {
            GradientTarget::Nothing
        }
    }

    /// γ and β, and the running statistics, which have neither gradient nor velocity.
    fn norm_weight(&self, name: &str, channels: usize) -> GradientTarget {
        let rows = [channels; 2];
        let weight = self.weight(name, "norm", &rows);
        self.state.statistics(format!("{}{name}.running", self.prefix), &rows);
        weight
    }

    /// Where the gradients of gates and masks go, if the pass has them.
    pub(super) fn gates_target(&self, are_there: bool) -> GradientTarget {
        if are_there && self.kind.gates_wanted {
            GradientTarget::Gates
        } else {
            GradientTarget::Nothing
        }
    }

    /// Mean and inverse deviation, which every operator behind a batch norm keeps.
    fn statistics(&self, channels: usize) -> Rc<Allocation> {
        Rc::new(self.state.ledger.hold(Owner::Activations, self.tensors(&[channels; 2])))
    }

    /// Holds bytes for a moment.
    pub(super) fn use_scratch(&self, bytes: u64) {
        drop(self.state.ledger.hold(Owner::Scratch, bytes));
    }

    /// A batch. On a GPU its labels are in the same tensor.
    pub(super) fn images(&self, side: usize, channels: usize) -> SizedMap {
        let labels = if self.is_on_gpu() { self.batch() } else { 0 };
        let len = self.rows(side) * channels + labels;
        self.state.uploaded(len);
        let held = self.state.ledger.hold(Owner::Activations, self.tensors(&[len]));
        SizedMap::new(side, channels, held, None)
    }

    fn call(
        &mut self,
        (side, channels): (usize, usize),
        scratch: u64,
        keeps: &[&SizedMap],
        parts: Vec<GradientPart>,
    ) -> SizedMap {
        let keeps = keeps.iter().map(|map| map.held.clone()).collect();
        self.call_keeping((side, channels), scratch, keeps, parts)
    }

    fn call_keeping(
        &mut self,
        (side, channels): (usize, usize),
        scratch: u64,
        keeps: Vec<Rc<Allocation>>,
        parts: Vec<GradientPart>,
    ) -> SizedMap {
        let _scratch = self.state.ledger.hold(Owner::Scratch, scratch);
        let y = self.state.ledger.hold(Owner::Activations, self.bytes(side, channels));
        if !parts.iter().any(GradientPart::is_wanted) {
            return SizedMap::new(side, channels, y, None);
        }
        let slot = self.tape.slot();
        self.tape.record(slot, keeps, parts);
        SizedMap::new(side, channels, y, Some(slot))
    }

    /// `ops::matmul`.
    pub(super) fn matmul(&mut self, x: &SizedMap, name: &str, channels: usize) -> SizedMap {
        let (c, rows) = (x.channels, self.rows(x.side));
        let weight = self.weight(name, "weight", &[c * channels]);
        let chunk_rows = tiling::outer_chunk_rows(rows);
        let chunks = rows.div_ceil(chunk_rows);
        let packing = self.threads().min(chunks) as u64 * packed(MATMUL_ROWS.min(rows), channels);
        let outer = summed(chunks, c * channels).max(numbers(chunks * c * channels) + packing);
        let [forward, outer, back] = if self.is_on_gpu() {
            [0; 3]
        } else {
            [packed(c, channels), outer, packed(channels, c)]
        };
        let mut parts = Vec::new();
        if self.kind.weights_wanted {
            parts.push(made(weight, self.tensors(&[c * channels]), outer));
        }
        if x.slot().is_some() {
            let bytes = self.bytes(x.side, c);
            parts.push(made(GradientTarget::Map(x.slot()), bytes, back));
        }
        self.call((x.side, channels), forward, &[x], parts)
    }

    /// `ops::dense`.
    pub(super) fn dense(&mut self, x: &SizedMap, layer: &LayerShape<'_>) -> SizedMap {
        let side = x.side.div_ceil(layer.stride);
        let (window, pixels) = (layer.kernel * layer.kernel * x.channels, side * side);
        let len = window * layer.channels;
        let weight = self.weight(layer.name, "weight", &[len]);
        self.state.tiles(&[pixels * window]);
        let packing = self.at_work() as u64 * packed(pixels, layer.channels);
        let scratch = summed(self.chunks(), len).max(numbers(self.chunks() * len) + packing);
        let [forward, scratch, back] = if self.is_on_gpu() {
            self.gpu_dense(x, layer)
        } else {
            [packed(window, layer.channels), scratch, packed(layer.channels, window)]
        };
        let mut parts = Vec::new();
        if self.kind.weights_wanted {
            parts.push(made(weight, self.tensors(&[len]), scratch));
        }
        if x.slot().is_some() {
            let bytes = self.bytes(x.side, x.channels);
            parts.push(made(GradientTarget::Map(x.slot()), bytes, back));
        }
        self.call((side, layer.channels), forward, &[x], parts)
    }

    /// `ops::gram`.
    fn gram(&self, x: &SizedMap) -> Rc<Allocation> {
        let c = x.channels;
        if self.is_on_gpu() {
            self.use_scratch(self.gpu_moments(x.side, c));
            let _parts = self.state.ledger.hold(Owner::Scratch, self.gpu_covariance(x));
            let kept = self.tensors(&[c * c, c]);
            return Rc::new(self.state.ledger.hold(Owner::Activations, kept));
        }
        self.state.tiles(&[COVARIANCE_ROWS * LANES]);
        let rows = self.rows(x.side);
        let chunks = rows.div_ceil(tiling::covariance_chunk_rows(rows));
        let sums = F64 * ((c + 1) * c) as u64;
        let _parts = self.state.ledger.hold(Owner::Scratch, (chunks as u64 + 1) * sums);
        Rc::new(self.state.ledger.hold(Owner::Activations, F64 * (c * c) as u64))
    }

    /// `ops::depthwise`, with an expansion in front where `gram` is given.
    pub(super) fn depthwise(
        &mut self,
        x: &SizedMap,
        layer: &LayerShape<'_>,
        gram: Option<&mut SharedCovariance>,
    ) -> SizedMap {
        let (c_in, c) = (x.channels, layer.channels);
        let side = x.side.div_ceil(layer.stride);
        let taps = layer.kernel * layer.kernel * c;
        let expansion = gram.map(|gram| {
            let gram = gram.get_or_insert_with(|| self.gram(x)).clone();
            let expand = format!("{}.expand", layer.name);
            // Covariance · W, for the statistics of the expansion.
            self.use_scratch(if self.is_on_gpu() {
                self.gpu_moments_behind(c_in, c)
            } else {
                F64 * (c_in * c) as u64
            });
            let weight = self.weight(&expand, "weight", &[c_in * c]);
            (gram, weight, self.norm_weight(&expand, c))
        });
        let filter = self.weight(layer.name, "filter", &[taps]);
        let (inside, padded) = (x.side * x.side, c_in.next_multiple_of(LANES));
        let in_tile = tiling::tile_len(x.side, x.side, layer.kernel);
        let out_tile = tiling::tile_len(side, side, layer.kernel);
        self.state.tiles(&[in_tile, inside * LANES]);
        self.state.tiles(&[in_tile, out_tile, inside * LANES, inside * LANES, inside * padded]);

        let products = if expansion.is_some() { c_in * c } else { 0 };
        let forward = if expansion.is_some() { packed(c_in, c) } else { 0 };
        let blocks = c.div_ceil(LANES);
        let back = if expansion.is_some() { blocks as u64 * packed(LANES, c_in) } else { 0 };
        let sums = summed(self.chunks(), taps) + summed(self.chunks(), products);
        let scratch = forward + back + sums;
        let of_weights = forward + back + numbers(products) + F64 * products as u64;
        let DepthwiseScratch { forward, of_filter, of_input, of_weights } = if self.is_on_gpu() {
            self.gpu_depthwise(x, layer, expansion.is_some())
        } else {
            DepthwiseScratch { forward, of_filter: scratch, of_input: 0, of_weights }
        };
        let mut parts = Vec::new();
        if x.slot().is_some() {
            parts.push(made(GradientTarget::Map(x.slot()), self.bytes(x.side, c_in), of_filter));
        }
        if self.kind.weights_wanted {
            parts.push(made(filter, self.tensors(&[taps]), of_filter));
        }
        parts.push(made(GradientTarget::Nothing, 0, of_input));
        let mut keeps = vec![x.held.clone()];
        if let Some((gram, weight, norm)) = expansion {
            if self.kind.weights_wanted {
                parts.push(made(weight, self.tensors(&[products]), of_weights));
                let of_norm = if self.is_on_gpu() { of_weights } else { 0 };
                parts.push(made(norm, self.tensors(&[c; 2]), of_norm));
            }
            keeps.extend([gram, self.statistics(c)]);
        }
        self.call_keeping((side, c), forward, keeps, parts)
    }

    /// `ops::project`, behind a depthwise convolution of the same name; a mask may multiply the hidden channels.
    pub(super) fn project(
        &mut self,
        z: &SizedMap,
        name: &str,
        (squeeze, is_masked): (Option<usize>, bool),
        channels: usize,
    ) -> SizedMap {
        let (c, pixels) = (z.channels, z.side * z.side);
        let norm = self.norm_weight(name, c);
        let len = c * channels;
        let weight = self.weight(name, "project", &[len]);
        let se = squeeze.map(|s| [c * s, s, s * c, c]);
        let se = se.map(|lens| (self.weight(name, "se", &lens), self.tensors(&lens)));
        if self.is_on_gpu() {
            return self.gpu_project(z, (norm, weight, se), (squeeze, is_masked), channels);
        }
        let group = tiling::projection_rows(pixels);
        self.state.tiles(&[group * c]);
        let packing = self.at_work() as u64 * packed(group, channels);
        let layers = squeeze.map_or(0, |s| 2 * c * s);
        // Copies of the two layers and of their transposes; per image the factors of their gradients.
        let of_images = squeeze.map_or(0, |s| numbers(2 * self.batch() * (2 * c + 2 * s)));
        let sums = summed(self.chunks(), len).max(numbers(self.chunks() * len) + packing);
        let scratch = packed(channels, c) + sums + numbers(2 * layers) + of_images;
        let forward = packed(c, channels) + numbers(layers);
        let mut parts = vec![
            made(GradientTarget::Map(z.slot()), self.bytes(z.side, c), scratch),
            made(norm, self.tensors(&[c; 2]), 0),
            made(weight, self.tensors(&[len]), 0),
            made(self.gates_target(is_masked), 0, 0),
        ];
        if let (Some((weight, bytes)), Some(squeezed)) = (se, squeeze) {
            parts.push(made(weight, bytes, summed(1, layers + c + squeezed)));
        }
        self.call_behind_norm(z, channels, forward, parts)
    }

    /// A call that keeps z and its statistics.
    pub(super) fn call_behind_norm(
        &mut self,
        z: &SizedMap,
        channels: usize,
        scratch: u64,
        parts: Vec<GradientPart>,
    ) -> SizedMap {
        let keeps = vec![z.held.clone(), self.statistics(z.channels)];
        self.call_keeping((z.side, channels), scratch, keeps, parts)
    }

    /// `ops::norm` on branches with named norms, and the input where it is added. At the end of a block it has
    /// gates.
    pub(super) fn norm(
        &mut self,
        candidates: &[(SizedMap, &str)],
        identity: Option<&SizedMap>,
        ends_block: bool,
    ) -> SizedMap {
        let like = candidates.first().map(|(z, _)| z).or(identity);
        let (side, c) = like.map_or((0, 0), |map| (map.side, map.channels));
        let bytes = self.bytes(side, c);
        let (mut norms, mut keeps) = (Vec::new(), Vec::new());
        for (z, name) in candidates {
            norms.push((self.norm_weight(name, c), z.slot()));
            keeps.extend([z.held.clone(), self.statistics(c)]);
        }
        keeps.extend(identity.map(|x| x.held.clone()));
        let identity = identity.map(|x| GradientTarget::Map(x.slot()));
        if self.is_on_gpu() {
            let parts = self.gpu_norm_gradients(&norms, identity, ends_block, (side, c));
            if identity.is_some() && self.kind.gates == SupernetGates::Absent {
                // ρ = 1
                let rho = self.state.ledger.hold(Owner::Activations, self.tensors(&[1]));
                keeps.push(Rc::new(rho));
            }
            return self.call_keeping((side, c), 0, keeps, parts);
        }
        let chunks = self.rows(side).div_ceil(tiling::elementwise_rows(c)) as u64;
        let sums = chunks * F64 * 4 * c as u64;
        let mut parts = vec![made(self.gates_target(ends_block), 0, 0)];
        for (norm, slot) in norms {
            if slot.is_some() {
                // The sums are freed before dz is allocated.
                parts.push(made(GradientTarget::Map(slot), bytes, sums.saturating_sub(bytes)));
            }
            parts.push(made(norm, self.tensors(&[c; 2]), 0));
        }
        if let Some(to) = identity {
            parts.push(made(to, bytes, sums / 2));
        }
        self.call_keeping((side, c), 0, keeps, parts)
    }

    /// `ops::pool`: features `[batch, channels]`.
    pub(super) fn pool(&mut self, x: &SizedMap) -> SizedMap {
        let parts = vec![made(GradientTarget::Map(x.slot()), x.held.bytes(), 0)];
        let scratch = if self.is_on_gpu() { self.gpu_pool(x) } else { 0 };
        self.call((1, x.channels), scratch, &[], parts)
    }

    /// `ops::bias`.
    pub(super) fn bias(&mut self, x: &SizedMap, name: &str) -> SizedMap {
        let bytes = self.tensors(&[x.channels]);
        let weight = self.weight(name, "bias", &[x.channels]);
        let parts =
            vec![made(GradientTarget::Map(x.slot()), x.held.bytes(), 0), made(weight, bytes, 0)];
        self.call((1, x.channels), 0, &[x], parts)
    }

    /// `ops::pad`.
    pub(super) fn sum_padded(&mut self, parts: &[SizedMap], width: usize) -> SizedMap {
        let side = parts.first().map_or(0, |part| part.side);
        let back = |part: &SizedMap| made(GradientTarget::Map(part.slot()), part.held.bytes(), 0);
        let wanted = parts.iter().filter(|part| part.slot().is_some());
        self.call((side, width), 0, &[], wanted.map(back).collect())
    }

    /// `ops::pad`: the first `width` channels.
    pub(super) fn cut(&mut self, x: &SizedMap, width: usize) -> SizedMap {
        if width == x.channels {
            return x.clone();
        }
        let missing = if self.is_on_gpu() { 0 } else { self.bytes(x.side, x.channels - width) };
        let back = made(GradientTarget::Map(x.slot()), x.held.bytes(), missing);
        self.call((x.side, width), 0, &[], vec![back])
    }

    /// `ops::subsample`: the pixels of a grid of `side`.
    pub(super) fn subsample(&mut self, x: &SizedMap, side: usize) -> SizedMap {
        if side == x.side {
            return x.clone();
        }
        let back = made(GradientTarget::Map(x.slot()), x.held.bytes(), 0);
        let parts = x.slot().map_or(vec![], |_| vec![back]);
        self.call((side, x.channels), 0, &[], parts)
    }

    /// `ops::subsample::merge`: the first map, which has the full size, plus the others between zeros.
    pub(super) fn merge(&mut self, parts: &[SizedMap]) -> SizedMap {
        let [first, others @ ..] = parts else { unreachable!("a stage has a resolution") };
        if others.is_empty() {
            return first.clone();
        }
        let back = |part: &SizedMap| made(GradientTarget::Map(part.slot()), part.held.bytes(), 0);
        let mut back: Vec<GradientPart> = others.iter().map(back).collect();
        back.push(GradientPart::Passed { to: GradientTarget::Map(first.slot()) });
        self.call((first.side, first.channels), 0, &[], back)
    }

    /// `ops::scale`: the features before the classifier times the factors of dropout, whose gradient is
    /// computed too.
    pub(super) fn multiply(&mut self, x: &SizedMap, factors: &Rc<Allocation>) -> SizedMap {
        let to = [GradientTarget::Map(x.slot()), GradientTarget::Nothing];
        let parts = to.map(|to| made(to, x.held.bytes(), 0)).into();
        let keeps = vec![x.held.clone(), factors.clone()];
        self.call_keeping((x.side, x.channels), 0, keeps, parts)
    }

    /// `ops::scale`: each image times a factor.
    pub(super) fn scale_rows(&mut self, x: &SizedMap) -> SizedMap {
        let parts = vec![made(GradientTarget::Map(x.slot()), x.held.bytes(), 0)];
        self.call((x.side, x.channels), 0, &[], parts)
    }

    /// The sum of two maps, or of two feature rows.
    pub(super) fn add(&mut self, a: &SizedMap, b: &SizedMap) -> SizedMap {
        let copied = made(GradientTarget::Map(a.slot()), a.held.bytes(), 0);
        let parts = vec![copied, GradientPart::Passed { to: GradientTarget::Map(b.slot()) }];
        self.call((a.side, a.channels), 0, &[], parts)
    }
}
