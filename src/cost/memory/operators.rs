//! What each operator of `crate::ops` holds: its output, what it keeps for the way back, and what is
//! in use while it works. Bytes; numbers are f32, sums over the batch f64.

use super::StepSetting;
use super::ledger::{Held, Ledger, Owner};
use super::tape::{Map, Part, Tape, To};
use crate::tiling::{self, COVARIANCE_ROWS, LANES, MATMUL_ROWS};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const F32: u64 = 4;
const F64: u64 = 8;
/// What a tensor is besides its numbers: shape, layout, counts and a lock.
const TENSOR: u64 = 256;

/// What outlives a step: parameters, their velocities, the tiles of each thread.
pub(super) struct Context {
    pub setting: StepSetting,
    pub ledger: Ledger,
    held: RefCell<Vec<Held>>,
    weights: RefCell<BTreeMap<String, usize>>,
    /// Of one thread: kernels take them from the first on.
    tiles: RefCell<Vec<u64>>,
}

impl Context {
    pub(super) fn new(setting: StepSetting) -> Self {
        let (held, weights, tiles) = Default::default();
        Self { setting, ledger: Ledger::default(), held, weights, tiles }
    }

    fn keep(&self, owner: Owner, bytes: u64) {
        self.held.borrow_mut().push(self.ledger.hold(owner, bytes));
    }

    /// The position of a parameter of `bytes`, which is there from now on.
    fn weight(&self, name: String, bytes: u64) -> usize {
        let mut weights = self.weights.borrow_mut();
        let next = weights.len();
        *weights.entry(name).or_insert_with(|| {
            for owner in [Owner::Weights, Owner::Optimizer] {
                self.keep(owner, bytes);
            }
            next
        })
    }

    /// Each thread has tiles of at least so many numbers from now on.
    fn tiles(&self, numbers: &[usize]) {
        let mut tiles = self.tiles.borrow_mut();
        for (i, numbers) in numbers.iter().enumerate() {
            let bytes = F32 * *numbers as u64;
            if i == tiles.len() {
                tiles.push(0);
            }
            if bytes > tiles[i] {
                self.keep(Owner::Scratch, self.setting.threads as u64 * (bytes - tiles[i]));
                tiles[i] = bytes;
            }
        }
    }
}

/// A convolution with batch norm: its parameters' name and sizes.
pub(super) struct Layer<'n> {
    pub name: &'n str,
    pub kernel: usize,
    pub stride: usize,
    pub channels: usize,
}

/// One forward pass.
pub(super) struct Pass<'a> {
    pub cx: Rc<Context>,
    pub tape: Tape<'a>,
    /// What names of parameters begin with.
    pub prefix: String,
}

/// A covariance that the expansions of one input share.
pub(super) type Gram = Option<Rc<Held>>;

fn packed(rows: usize, columns: usize) -> u64 {
    F32 * tiling::packed_len(rows, columns) as u64
}

fn numbers(count: usize) -> u64 {
    F32 * count as u64
}

/// What a sum of `parts` of `len` numbers holds beside its result: the parts, and the sum in f64.
fn summed(parts: usize, len: usize) -> u64 {
    numbers(parts * len) + F64 * len as u64
}

/// Bytes of `count` tensors with so many numbers together.
fn tensors(count: usize, len: usize) -> u64 {
    TENSOR * count as u64 + numbers(len)
}

fn made(to: To, bytes: u64, scratch: u64) -> Part {
    Part::Made { to, bytes, scratch }
}

impl Pass<'_> {
    fn batch(&self) -> usize {
        self.cx.setting.batch
    }

    fn threads(&self) -> usize {
        self.cx.setting.threads
    }

    /// Pieces that the batch is cut into.
    fn pieces(&self) -> usize {
        self.batch().div_ceil(tiling::chunk_images(self.batch()))
    }

    /// Threads that have a piece of the batch.
    fn at_work(&self) -> usize {
        self.threads().min(self.pieces())
    }

    fn rows(&self, side: usize) -> usize {
        self.batch() * side * side
    }

    fn bytes(&self, side: usize, channels: usize) -> u64 {
        tensors(1, self.rows(side) * channels)
    }

    fn weight(&self, name: &str, part: &str, bytes: u64) -> To {
        To::Weight(self.cx.weight(format!("{}{name}.{part}", self.prefix), bytes))
    }

    /// γ and β, and the running statistics.
    fn norm_weight(&self, name: &str, channels: usize) -> To {
        let weight = self.weight(name, "norm", tensors(2, 2 * channels));
        // Running statistics have neither gradient nor velocity.
        let running = format!("{}{name}.running", self.prefix);
        if !self.cx.weights.borrow().contains_key(&running) {
            let next = self.cx.weights.borrow().len();
            self.cx.weights.borrow_mut().insert(running, next);
            self.cx.keep(Owner::Weights, tensors(2, 2 * channels));
        }
        weight
    }

    /// Mean and inverse deviation, which whoever reads through a batch norm keeps.
    fn statistics(&self, channels: usize) -> Rc<Held> {
        Rc::new(self.cx.ledger.hold(Owner::Activations, tensors(2, 2 * channels)))
    }

    pub(super) fn images(&self, side: usize, channels: usize) -> Map {
        let held = self.cx.ledger.hold(Owner::Activations, self.bytes(side, channels));
        Map::new(side, channels, held, None)
    }

    fn call(
        &mut self,
        (side, channels): (usize, usize),
        scratch: u64,
        keeps: &[&Map],
        parts: Vec<Part>,
    ) -> Map {
        let keeps = keeps.iter().map(|map| map.held.clone()).collect();
        self.call_keeping((side, channels), scratch, keeps, parts)
    }

    fn call_keeping(
        &mut self,
        (side, channels): (usize, usize),
        scratch: u64,
        keeps: Vec<Rc<Held>>,
        parts: Vec<Part>,
    ) -> Map {
        let _scratch = self.cx.ledger.hold(Owner::Scratch, scratch);
        let y = self.cx.ledger.hold(Owner::Activations, self.bytes(side, channels));
        if parts.is_empty() {
            return Map::new(side, channels, y, None);
        }
        let slot = self.tape.slot();
        self.tape.record(slot, keeps, parts);
        Map::new(side, channels, y, Some(slot))
    }

    /// `ops::matmul`.
    pub(super) fn matmul(&mut self, x: &Map, name: &str, channels: usize) -> Map {
        let (c, rows) = (x.channels, self.rows(x.side));
        let weight = self.weight(name, "weight", tensors(1, c * channels));
        let piece = tiling::outer_chunk_rows(rows);
        let pieces = rows.div_ceil(piece);
        let packing = self.threads().min(pieces) as u64 * packed(MATMUL_ROWS.min(rows), channels);
        let outer = summed(pieces, c * channels).max(numbers(pieces * c * channels) + packing);
        let mut parts = vec![made(weight, tensors(1, c * channels), outer)];
        if x.slot().is_some() {
            let bytes = self.bytes(x.side, c);
            parts.push(made(To::Map(x.slot()), bytes, packed(channels, c)));
        }
        self.call((x.side, channels), packed(c, channels), &[x], parts)
    }

    /// `ops::dense`.
    pub(super) fn dense(&mut self, x: &Map, layer: &Layer<'_>) -> Map {
        let side = x.side.div_ceil(layer.stride);
        let (window, pixels) = (layer.kernel * layer.kernel * x.channels, side * side);
        let len = window * layer.channels;
        let weight = self.weight(layer.name, "weight", tensors(1, len));
        self.cx.tiles(&[pixels * window]);
        let packing = self.at_work() as u64 * packed(pixels, layer.channels);
        let scratch = summed(self.pieces(), len).max(numbers(self.pieces() * len) + packing);
        let mut parts = vec![made(weight, tensors(1, len), scratch)];
        if x.slot().is_some() {
            let bytes = self.bytes(x.side, x.channels);
            parts.push(made(To::Map(x.slot()), bytes, packed(layer.channels, window)));
        }
        self.call((side, layer.channels), packed(window, layer.channels), &[x], parts)
    }

    /// `ops::gram`.
    fn gram(&self, x: &Map) -> Rc<Held> {
        let c = x.channels;
        self.cx.tiles(&[COVARIANCE_ROWS * LANES]);
        let rows = self.rows(x.side);
        let pieces = rows.div_ceil(tiling::covariance_chunk_rows(rows));
        let sums = F64 * ((c + 1) * c) as u64;
        let _parts = self.cx.ledger.hold(Owner::Scratch, (pieces as u64 + 1) * sums);
        Rc::new(self.cx.ledger.hold(Owner::Activations, F64 * (c * c) as u64))
    }

    /// `ops::depthwise`, with an expansion in front where `gram` is given.
    pub(super) fn depthwise(&mut self, x: &Map, layer: &Layer<'_>, gram: Option<&mut Gram>) -> Map {
        let (c_in, c) = (x.channels, layer.channels);
        let side = x.side.div_ceil(layer.stride);
        let taps = layer.kernel * layer.kernel * c;
        let expansion = gram.map(|gram| {
            let gram = gram.get_or_insert_with(|| self.gram(x)).clone();
            let expand = format!("{}.expand", layer.name);
            // Σ W, for the statistics behind the expansion.
            drop(self.cx.ledger.hold(Owner::Scratch, F64 * (c_in * c) as u64));
            let weight = self.weight(&expand, "weight", tensors(1, c_in * c));
            (gram, weight, self.norm_weight(&expand, c))
        });
        let filter = self.weight(layer.name, "filter", tensors(1, taps));
        let (inside, padded) = (x.side * x.side, c_in.next_multiple_of(LANES));
        let in_tile = tiling::tile_len(x.side, x.side, layer.kernel);
        let out_tile = tiling::tile_len(side, side, layer.kernel);
        self.cx.tiles(&[in_tile, inside * LANES]);
        self.cx.tiles(&[in_tile, out_tile, inside * LANES, inside * LANES, inside * padded]);

        let products = if expansion.is_some() { c_in * c } else { 0 };
        let forward = if expansion.is_some() { packed(c_in, c) } else { 0 };
        let blocks = c.div_ceil(LANES);
        let back = if expansion.is_some() { blocks as u64 * packed(LANES, c_in) } else { 0 };
        let sums = summed(self.pieces(), taps) + summed(self.pieces(), products);
        let scratch = forward + back + sums;
        let mut parts = Vec::new();
        if x.slot().is_some() {
            parts.push(made(To::Map(x.slot()), self.bytes(x.side, c_in), scratch));
        }
        parts.push(made(filter, tensors(1, taps), scratch));
        let mut keeps = vec![x.held.clone()];
        if let Some((gram, weight, norm)) = expansion {
            let scratch = forward + back + numbers(products) + F64 * products as u64;
            parts.push(made(weight, tensors(1, products), scratch));
            parts.push(made(norm, tensors(2, 2 * c), 0));
            keeps.extend([gram, self.statistics(c)]);
        }
        self.call_keeping((side, c), forward, keeps, parts)
    }

    /// `ops::project` behind a depthwise convolution of the same name.
    pub(super) fn project(
        &mut self,
        z: &Map,
        name: &str,
        squeeze: Option<usize>,
        channels: usize,
    ) -> Map {
        let (c, pixels) = (z.channels, z.side * z.side);
        let norm = self.norm_weight(name, c);
        let len = c * channels;
        let weight = self.weight(name, "project", tensors(1, len));
        let group = tiling::projection_rows(pixels);
        self.cx.tiles(&[group * c]);
        let packing = self.at_work() as u64 * packed(group, channels);
        let layers = squeeze.map_or(0, |s| 2 * c * s);
        // Copies of the layers, and transposed; of every image what their gradients are products of.
        let of_images = squeeze.map_or(0, |s| numbers(2 * self.batch() * (2 * c + 2 * s)));
        let sums = summed(self.pieces(), len).max(numbers(self.pieces() * len) + packing);
        let scratch = packed(channels, c) + sums + numbers(2 * layers) + of_images;
        let mut parts = vec![
            made(To::Map(z.slot()), self.bytes(z.side, c), scratch),
            made(norm, tensors(2, 2 * c), 0),
            made(weight, tensors(1, len), 0),
        ];
        if let Some(squeezed) = squeeze {
            let layers = layers + c + squeezed;
            let weight = self.weight(name, "se", tensors(4, layers));
            parts.push(made(weight, tensors(4, layers), summed(1, layers)));
        }
        let scratch = packed(c, channels) + numbers(layers);
        let keeps = vec![z.held.clone(), self.statistics(c)];
        self.call_keeping((z.side, channels), scratch, keeps, parts)
    }

    /// `ops::norm` on convolutions whose norms are named, and the input where it is added.
    pub(super) fn norm(&mut self, candidates: &[(Map, &str)], identity: Option<&Map>) -> Map {
        let like = candidates.first().map(|(z, _)| z).or(identity);
        let (side, c) = like.map_or((0, 0), |map| (map.side, map.channels));
        let bytes = self.bytes(side, c);
        let piece = tiling::elementwise_rows(c);
        let sums = self.rows(side).div_ceil(piece) as u64 * F64 * 4 * c as u64;
        let (mut parts, mut keeps) = (Vec::new(), Vec::new());
        for (z, name) in candidates {
            let norm = self.norm_weight(name, c);
            // The sums are gone when dz is made.
            parts.push(made(To::Map(z.slot()), bytes, sums.saturating_sub(bytes)));
            parts.push(made(norm, tensors(2, 2 * c), 0));
            keeps.extend([z.held.clone(), self.statistics(c)]);
        }
        if let Some(x) = identity {
            parts.push(made(To::Map(x.slot()), bytes, sums / 2));
            keeps.push(x.held.clone());
        }
        self.call_keeping((side, c), 0, keeps, parts)
    }

    /// `ops::pool`, features `[batch, channels]`.
    pub(super) fn pool(&mut self, x: &Map) -> Map {
        let parts = vec![made(To::Map(x.slot()), x.held.bytes(), 0)];
        self.call((1, x.channels), 0, &[], parts)
    }

    /// `ops::rows`.
    pub(super) fn bias(&mut self, x: &Map, name: &str) -> Map {
        let bytes = tensors(1, x.channels);
        let weight = self.weight(name, "bias", bytes);
        let parts = vec![made(To::Map(x.slot()), x.held.bytes(), 0), made(weight, bytes, 0)];
        self.call((1, x.channels), 0, &[x], parts)
    }

    /// `ops::pad`.
    pub(super) fn sum_padded(&mut self, parts: &[Map], width: usize) -> Map {
        let side = parts.first().map_or(0, |part| part.side);
        let back = |part: &Map| made(To::Map(part.slot()), part.held.bytes(), 0);
        self.call((side, width), 0, &[], parts.iter().map(back).collect())
    }

    /// The first `width` channels.
    pub(super) fn cut(&mut self, x: &Map, width: usize) -> Map {
        if width == x.channels {
            return x.clone();
        }
        let missing = self.bytes(x.side, x.channels - width);
        let back = made(To::Map(x.slot()), x.held.bytes(), missing);
        self.call((x.side, width), 0, &[], vec![back])
    }

    /// `ops::subsample`: the pixels of a grid of `side`.
    pub(super) fn subsample(&mut self, x: &Map, side: usize) -> Map {
        if side == x.side {
            return x.clone();
        }
        let back = made(To::Map(x.slot()), x.held.bytes(), 0);
        let parts = x.slot().map_or(vec![], |_| vec![back]);
        self.call((side, x.channels), 0, &[], parts)
    }

    /// `ops::subsample::merge`: the first map, which is of full size, and the others among zeros.
    pub(super) fn merge(&mut self, parts: &[Map]) -> Map {
        let [first, others @ ..] = parts else { unreachable!("a stage has a resolution") };
        if others.is_empty() {
            return first.clone();
        }
        let back = |part: &Map| made(To::Map(part.slot()), part.held.bytes(), 0);
        let mut back: Vec<Part> = others.iter().map(back).collect();
        back.push(Part::Passed { to: To::Map(first.slot()) });
        self.call((first.side, first.channels), 0, &[], back)
    }

    /// a + b, of features.
    pub(super) fn add(&mut self, a: &Map, b: &Map) -> Map {
        let copied = made(To::Map(a.slot()), a.held.bytes(), 0);
        let parts = vec![copied, Part::Passed { to: To::Map(b.slot()) }];
        self.call((1, a.channels), 0, &[], parts)
    }
}
