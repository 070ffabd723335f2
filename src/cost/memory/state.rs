//! The memory that outlives one simulated step.

use super::StepSetting;
use super::ledger::{Allocation, Ledger, Owner};
use crate::tiling::{
    Backend, GPU_LARGE_SLOTS, GPU_POOL_UNIT, GPU_SMALL_SLOTS, GPU_SMALL_UPLOAD, GPU_TENSOR_VALUES,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

pub(super) const F32: u64 = 4;
pub(super) const F64: u64 = 8;
/// The overhead of a tensor on the CPU: shape, layout, reference counts and a lock.
const TENSOR: u64 = 256;

/// What a step leaves for the next one: parameters, the states of their optimizer, the tiles of each thread, or the buffers
/// of a GPU's uploads.
pub(super) struct StepState {
    pub setting: StepSetting,
    pub ledger: Ledger,
    held: RefCell<Vec<Allocation>>,
    weights: RefCell<BTreeMap<String, usize>>,
    /// Blocks of a GPU's update of all parameters.
    update_blocks: Cell<usize>,
    /// Bytes of each tile of one thread, in the order in which kernels take them.
    tiles: RefCell<Vec<u64>>,
    /// Bytes of the buffers that uploads go through.
    slots: Cell<u64>,
}

/// Bytes of the buffers on a GPU that uploads of at most `largest` bytes go through. Those for large uploads
/// can be smaller where one tensor is larger than a batch.
#[must_use]
pub fn upload_slots(largest: u64) -> u64 {
    let small = F32 * GPU_SMALL_UPLOAD as u64;
    let large = if largest > small { largest.next_multiple_of(GPU_POOL_UNIT as u64) } else { 0 };
    GPU_SMALL_SLOTS as u64 * small + GPU_LARGE_SLOTS as u64 * large
}

impl StepState {
    pub(super) fn new(setting: StepSetting) -> Self {
        let (held, weights, update_blocks, tiles, slots) = Default::default();
        Self { setting, ledger: Ledger::default(), held, weights, update_blocks, tiles, slots }
    }

    pub(super) fn is_on_gpu(&self) -> bool {
        self.setting.backend != Backend::Cpu
    }

    /// Bytes of tensors with so many values each.
    pub(super) fn tensors(&self, lens: &[usize]) -> u64 {
        let bytes = lens.iter().map(|len| F32 * *len as u64);
        if self.is_on_gpu() {
            bytes.map(|bytes| bytes.next_multiple_of(GPU_POOL_UNIT as u64)).sum()
        } else {
            TENSOR * lens.len() as u64 + bytes.sum::<u64>()
        }
    }

    fn keep(&self, owner: Owner, bytes: u64) {
        self.held.borrow_mut().push(self.ledger.hold(owner, bytes));
    }

    /// The index of a parameter, which is allocated at its first use; of several tensors that are always used
    /// together.
    pub(super) fn weight(&self, name: String, lens: &[usize]) -> usize {
        let mut weights = self.weights.borrow_mut();
        let next = weights.len();
        *weights.entry(name).or_insert_with(|| {
            let extras = self.setting.extras;
            let squares = extras.squares.then_some(Owner::Optimizer);
            let average = extras.average.then_some(Owner::Weights);
            let owners = [Owner::Weights, Owner::Optimizer].into_iter();
            for owner in owners.chain(squares).chain(average) {
                self.keep(owner, self.tensors(lens));
            }
            let blocks = lens.iter().map(|len| len.div_ceil(GPU_TENSOR_VALUES)).sum::<usize>();
            self.update_blocks.set(self.update_blocks.get() + blocks);
            for len in lens {
                self.uploaded(*len);
            }
            next
        })
    }

    /// Running statistics, which are allocated at their first use.
    pub(super) fn statistics(&self, name: String, lens: &[usize]) {
        let mut weights = self.weights.borrow_mut();
        let next = weights.len();
        weights.entry(name).or_insert_with(|| {
            let copies = 1 + u64::from(self.setting.extras.average);
            self.keep(Owner::Weights, copies * self.tensors(lens));
            next
        });
    }

    /// Grows the buffers of a GPU's uploads to those for `len` values.
    pub(super) fn uploaded(&self, len: usize) {
        let slots = upload_slots(F32 * len as u64);
        if self.is_on_gpu() && slots > self.slots.get() {
            self.keep(Owner::Scratch, slots - self.slots.get());
            self.slots.set(slots);
        }
    }

    /// What a GPU's update of all parameters uses: the partial sums of the gradients' norm, and its factor.
    pub(super) fn update_scratch(&self) -> u64 {
        if self.is_on_gpu() { self.tensors(&[2 * self.update_blocks.get(), 1]) } else { 0 }
    }

    /// Grows the tiles of each thread to at least these numbers of f32 values. GPUs have none.
    pub(super) fn tiles(&self, numbers: &[usize]) {
        if self.is_on_gpu() {
            return;
        }
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
