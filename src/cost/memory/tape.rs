//! The reverse pass without numbers: it allocates and frees sizes as `crate::tape` does tensors.

use super::ledger::{Allocation, Ledger, Owner};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A map `[batch, side, side, channels]`, or features where the side is one.
#[derive(Clone)]
pub(super) struct SizedMap {
    pub side: usize,
    pub channels: usize,
    pub(super) held: Rc<Allocation>,
    /// Where the gradient goes; `None` where none is needed.
    slot: Option<usize>,
}

impl SizedMap {
    pub(super) fn new(side: usize, channels: usize, held: Allocation, slot: Option<usize>) -> Self {
        Self { side, channels, held: Rc::new(held), slot }
    }

    pub(super) fn slot(&self) -> Option<usize> {
        self.slot
    }
}

/// What a gradient belongs to.
#[derive(Clone, Copy)]
pub(super) enum GradientTarget {
    Map(Option<usize>),
    /// A parameter, by its index.
    Weight(usize),
    /// Gates or a mask.
    Gates,
    /// Nothing: the gradient is freed at the end of the operator.
    Nothing,
}

impl GradientTarget {
    pub(super) fn is_wanted(self) -> bool {
        !matches!(self, Self::Map(None) | Self::Nothing)
    }
}

/// One gradient that the backward pass of an operator returns.
pub(super) enum GradientPart {
    /// A new tensor of `bytes`, with `scratch` more bytes in use while it is computed.
    Made { to: GradientTarget, bytes: u64, scratch: u64 },
    /// The incoming gradient itself.
    Passed { to: GradientTarget },
}

impl GradientPart {
    pub(super) fn is_wanted(&self) -> bool {
        match self {
            Self::Made { to, .. } | Self::Passed { to } => to.is_wanted(),
        }
    }
}

/// An operator call, or a part of the network to recompute. The gradients of a call are computed in
/// order, and all exist at its end.
enum TapeRecord<'a> {
    Call { output: usize, keeps: Vec<Rc<Allocation>>, parts: Vec<GradientPart> },
    Again { slots: (usize, usize), replay: Box<dyn FnOnce(SizeTape<'a>) -> SizeTape<'a> + 'a> },
}

/// The calls of a forward pass.
pub(super) struct SizeTape<'a> {
    ledger: Ledger,
    records: Vec<TapeRecord<'a>>,
    slots: usize,
}

/// A position on the tape, to forget what follows it.
#[derive(Clone, Copy)]
pub(super) struct TapePosition {
    records: usize,
    slots: usize,
}

/// The gradients that exist at a moment.
#[derive(Default)]
pub(super) struct LiveGradients {
    maps: BTreeMap<usize, Rc<Allocation>>,
    weights: BTreeMap<usize, Rc<Allocation>>,
    gates: Vec<Rc<Allocation>>,
}

impl<'a> SizeTape<'a> {
    pub(super) fn new(ledger: &Ledger) -> Self {
        Self { ledger: ledger.clone(), records: Vec::new(), slots: 0 }
    }

    pub(super) fn slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    /// Records an operator call that keeps some allocations for its backward pass.
    pub(super) fn record(
        &mut self,
        output: usize,
        keeps: Vec<Rc<Allocation>>,
        parts: Vec<GradientPart>,
    ) {
        self.records.push(TapeRecord::Call { output, keeps, parts });
    }

    pub(super) fn mark(&self) -> TapePosition {
        TapePosition { records: self.records.len(), slots: self.slots }
    }

    /// Forgets the calls since `mark`; `replay` records them again in the reverse pass.
    pub(super) fn forget(
        &mut self,
        mark: TapePosition,
        replay: impl FnOnce(SizeTape<'a>) -> SizeTape<'a> + 'a,
    ) {
        if self.records.len() > mark.records {
            self.records.truncate(mark.records);
            let slots = (mark.slots, self.slots);
            self.records.push(TapeRecord::Again { slots, replay: Box::new(replay) });
        }
    }

    /// Runs the reverse pass from `of`, whose gradient is given. Returns the gradients of parameters and gates.
    pub(super) fn backward(self, of: &SizedMap, gradient: Rc<Allocation>) -> LiveGradients {
        let mut gradients = LiveGradients::default();
        if let Some(start) = of.slot {
            gradients.maps.insert(start, gradient);
            run_back(&self.ledger, self.records, &mut gradients);
        }
        gradients
    }
}

fn run_back(ledger: &Ledger, records: Vec<TapeRecord<'_>>, gradients: &mut LiveGradients) {
    for record in records.into_iter().rev() {
        match record {
            TapeRecord::Call { output, keeps, parts } => {
                let Some(dy) = gradients.maps.remove(&output) else { continue };
                let parts: Vec<(GradientTarget, Rc<Allocation>)> = parts
                    .into_iter()
                    .map(|part| match part {
                        GradientPart::Passed { to } => (to, dy.clone()),
                        GradientPart::Made { to, bytes, scratch } => {
                            let _scratch = ledger.hold(Owner::Scratch, scratch);
                            (to, Rc::new(ledger.hold(Owner::Gradients, bytes)))
                        }
                    })
                    .collect();
                drop((keeps, dy));
                for (to, part) in parts {
                    // A gradient that already exists is added to in place.
                    match to {
                        GradientTarget::Map(None) | GradientTarget::Nothing => {}
                        GradientTarget::Gates => gradients.gates.push(part),
                        GradientTarget::Map(Some(slot)) => {
                            gradients.maps.entry(slot).or_insert(part);
                        }
                        GradientTarget::Weight(at) => {
                            gradients.weights.entry(at).or_insert(part);
                        }
                    }
                }
            }
            TapeRecord::Again { slots: (before, after), replay } => {
                let empty = SizeTape { ledger: ledger.clone(), records: Vec::new(), slots: before };
                let again = replay(empty);
                debug_assert_eq!(again.slots, after);
                run_back(ledger, again.records, gradients);
            }
        }
    }
}
