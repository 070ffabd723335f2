//! The reverse pass without numbers: it keeps, gives back and adds up sizes as `crate::tape` does
//! tensors.

use super::ledger::{Held, Ledger, Owner};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A map `[batch, side, side, channels]`, or features where the side is one.
#[derive(Clone)]
pub(super) struct Map {
    pub side: usize,
    pub channels: usize,
    pub(super) held: Rc<Held>,
    /// `None` for what needs no gradient.
    slot: Option<usize>,
}

impl Map {
    pub(super) fn new(side: usize, channels: usize, held: Held, slot: Option<usize>) -> Self {
        Self { side, channels, held: Rc::new(held), slot }
    }

    pub(super) fn slot(&self) -> Option<usize> {
        self.slot
    }
}

/// Where a gradient goes.
#[derive(Clone, Copy)]
pub(super) enum To {
    Map(Option<usize>),
    /// A parameter, by its position.
    Weight(usize),
}

/// One gradient that an operator gives.
pub(super) enum Part {
    /// Made new, with so many bytes in use besides while it is made.
    Made { to: To, bytes: u64, scratch: u64 },
    /// The one that came in.
    Passed { to: To },
}

/// The parts of an operator's way back are made in their order; all are there when it ends.
type Calls<'a> = Vec<Record<'a>>;

enum Record<'a> {
    Call { output: usize, keeps: Vec<Rc<Held>>, parts: Vec<Part> },
    Again { slots: (usize, usize), replay: Box<dyn FnOnce(Tape<'a>) -> Tape<'a> + 'a> },
}

pub(super) struct Tape<'a> {
    ledger: Ledger,
    records: Calls<'a>,
    slots: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Mark {
    records: usize,
    slots: usize,
}

/// Gradients that are there.
#[derive(Default)]
struct Gradients {
    maps: BTreeMap<usize, Rc<Held>>,
    weights: BTreeMap<usize, Rc<Held>>,
}

impl<'a> Tape<'a> {
    pub(super) fn new(ledger: &Ledger) -> Self {
        Self { ledger: ledger.clone(), records: Vec::new(), slots: 0 }
    }

    pub(super) fn slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    /// Records a call.
    pub(super) fn record(&mut self, output: usize, keeps: Vec<Rc<Held>>, parts: Vec<Part>) {
        self.records.push(Record::Call { output, keeps, parts });
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { records: self.records.len(), slots: self.slots }
    }

    pub(super) fn forget(&mut self, mark: Mark, replay: impl FnOnce(Tape<'a>) -> Tape<'a> + 'a) {
        self.records.truncate(mark.records);
        let slots = (mark.slots, self.slots);
        self.records.push(Record::Again { slots, replay: Box::new(replay) });
    }

    /// Runs back from `of`.
    pub(super) fn backward(self, of: &Map) {
        let Some(start) = of.slot else { return };
        let mut gradients = Gradients::default();
        let first = self.ledger.hold(Owner::Gradients, of.held.bytes());
        gradients.maps.insert(start, Rc::new(first));
        run_back(&self.ledger, self.records, &mut gradients);
    }
}

fn run_back(ledger: &Ledger, records: Calls<'_>, gradients: &mut Gradients) {
    for record in records.into_iter().rev() {
        match record {
            Record::Call { output, keeps, parts } => {
                let Some(dy) = gradients.maps.remove(&output) else { continue };
                let parts: Vec<(To, Rc<Held>)> = parts
                    .into_iter()
                    .map(|part| match part {
                        Part::Passed { to } => (to, dy.clone()),
                        Part::Made { to, bytes, scratch } => {
                            let _scratch = ledger.hold(Owner::Scratch, scratch);
                            (to, Rc::new(ledger.hold(Owner::Gradients, bytes)))
                        }
                    })
                    .collect();
                drop((keeps, dy));
                for (to, part) in parts {
                    // What is there already is added to in place.
                    match to {
                        To::Map(None) => {}
                        To::Map(Some(slot)) => {
                            gradients.maps.entry(slot).or_insert(part);
                        }
                        To::Weight(at) => {
                            gradients.weights.entry(at).or_insert(part);
                        }
                    }
                }
            }
            Record::Again { slots: (before, after), replay } => {
                let empty = Tape { ledger: ledger.clone(), records: Vec::new(), slots: before };
                let again = replay(empty);
                debug_assert_eq!(again.slots, after);
                run_back(ledger, again.records, gradients);
            }
        }
    }
}
