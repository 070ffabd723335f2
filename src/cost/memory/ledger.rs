//! How many bytes each owner holds, now and at the peak.

use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;

/// The bytes of a training step, by owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Parameters and running statistics, and their average if there is one.
    pub weights: u64,
    /// Velocities, and the mean squares of RMSProp.
    pub optimizer: u64,
    /// Images, and what the forward pass keeps for the backward pass.
    pub activations: u64,
    pub gradients: u64,
    /// What operators use while they run, and the tiles of each thread.
    pub scratch: u64,
}

impl Footprint {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.optimizer + self.activations + self.gradients + self.scratch
    }

    fn of(&mut self, owner: Owner) -> &mut u64 {
        match owner {
            Owner::Weights => &mut self.weights,
            Owner::Optimizer => &mut self.optimizer,
            Owner::Activations => &mut self.activations,
            Owner::Gradients => &mut self.gradients,
            Owner::Scratch => &mut self.scratch,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Weights,
    Optimizer,
    Activations,
    Gradients,
    Scratch,
}

/// The bytes that are held now, and those at the peak.
#[derive(Clone, Default)]
pub(super) struct Ledger(Rc<RefCell<(Footprint, Footprint)>>);

/// Bytes that are freed when this is dropped.
pub(super) struct Allocation {
    ledger: Ledger,
    owner: Owner,
    bytes: u64,
}

impl Ledger {
    pub(super) fn hold(&self, owner: Owner, bytes: u64) -> Allocation {
        let (now, peak) = &mut *self.0.borrow_mut();
        *now.of(owner) += bytes;
        if now.total() > peak.total() {
            *peak = *now;
        }
        Allocation { ledger: self.clone(), owner, bytes }
    }

    pub(super) fn now(&self) -> Footprint {
        self.0.borrow().0
    }

    pub(super) fn peak(&self) -> Footprint {
        self.0.borrow().1
    }

    /// Starts the peak again at what is held now.
    pub(super) fn reset_peak(&self) {
        let (now, peak) = &mut *self.0.borrow_mut();
        *peak = *now;
    }
}

impl Allocation {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        *self.ledger.0.borrow_mut().0.of(self.owner) -= self.bytes;
    }
}
