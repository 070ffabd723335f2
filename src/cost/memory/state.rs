//! The memory that outlives one simulated step.

use super::StepSetting;
use super::ledger::{Allocation, Ledger, Owner};
use crate::tiling::Backend;
use std::cell::RefCell;
use std::collections::BTreeMap;

const F32: u64 = 4;

/// What a step leaves for the next one: parameters, their velocities, the tiles of each thread.
pub(super) struct StepState {
    pub setting: StepSetting,
    pub ledger: Ledger,
    held: RefCell<Vec<Allocation>>,
    weights: RefCell<BTreeMap<String, usize>>,
    /// Bytes of each tile of one thread, in the order in which kernels take them.
    tiles: RefCell<Vec<u64>>,
}

impl StepState {
    pub(super) fn new(setting: StepSetting) -> Self {
        let (held, weights, tiles) = Default::default();
        Self { setting, ledger: Ledger::default(), held, weights, tiles }
    }

    fn keep(&self, owner: Owner, bytes: u64) {
        self.held.borrow_mut().push(self.ledger.hold(owner, bytes));
    }

    /// The index of a parameter of `bytes`, which is allocated at its first use.
    pub(super) fn weight(&self, name: String, bytes: u64) -> usize {
        let mut weights = self.weights.borrow_mut();
        let next = weights.len();
        *weights.entry(name).or_insert_with(|| {
            for owner in [Owner::Weights, Owner::Optimizer] {
                self.keep(owner, bytes);
            }
            next
        })
    }

    /// Running statistics of `bytes`, which are allocated at their first use.
    pub(super) fn statistics(&self, name: String, bytes: u64) {
        let mut weights = self.weights.borrow_mut();
        let next = weights.len();
        weights.entry(name).or_insert_with(|| {
            self.keep(Owner::Weights, bytes);
            next
        });
    }

    /// Grows the tiles of each thread to at least these numbers of f32 values. GPUs have none.
    pub(super) fn tiles(&self, numbers: &[usize]) {
        if self.setting.backend != Backend::Cpu {
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
