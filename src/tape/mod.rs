//! Reverse-mode differentiation.
//!
//! A [`Tape`] records operator calls. Each record owns only what its backward pass needs and is
//! consumed by running it, so activations are freed as the backward pass proceeds. A gradient is moved
//! into its slot the first time and accumulated in place afterwards. Gradients that nobody asks for
//! are not computed: a value without a slot is a constant, and only calls that depend on a watched
//! value are recorded.

mod operators;
mod slots;
mod sums;

use crate::memory;
use crate::ops;
use crate::ops::gpu::{self, Deferred};
use candle_core::{Result, Tensor};
use std::collections::BTreeMap;

/// A tensor on the tape. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Value {
    tensor: Tensor,
    slot: Option<usize>,
}

type Contributions = Vec<(Option<usize>, Tensor)>;

enum Record {
    /// One operator call.
    Call { output: usize, backward: Box<dyn FnOnce(Tensor) -> Result<Contributions>> },
    /// Calls whose records were dropped. `replay` records them again, on a tape that has as many slots as
    /// there were before them; `slots` counts the slots before and after them.
    Recompute { slots: (usize, usize), replay: Box<dyn FnOnce(Tape) -> Result<Tape>> },
}

/// The records of one forward pass.
#[derive(Default)]
pub struct Tape {
    records: Vec<Record>,
    slots: usize,
    /// Set while the first output that is not finite is searched for.
    search: Option<FaultSearch>,
}

/// See [`Tape::searching_fault`].
#[derive(Default)]
struct FaultSearch {
    found: Option<Fault>,
}

/// An operator with an output that is not finite, though its inputs were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub operator: &'static str,
    /// The slots of its inputs, in the order of [`Tape::watch`] for watched values.
    pub inputs: Vec<usize>,
}

/// A position on the tape, see [`Tape::mark`].
#[derive(Clone, Copy, Debug)]
pub struct TapeMark {
    records: usize,
    slots: usize,
}

/// Gradients of the watched values.
pub struct LeafGradients {
    slots: Vec<Option<Tensor>>,
    /// By slot, those that were read from the device.
    read: BTreeMap<usize, Vec<f32>>,
}

impl Value {
    /// A value that needs no gradient.
    #[must_use]
    pub fn constant(tensor: Tensor) -> Self {
        Self { tensor, slot: None }
    }

    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    fn to_tensor(&self) -> Tensor {
        self.tensor.clone()
    }
}

impl LeafGradients {
    /// Takes the gradient of a watched value; `None` if the result does not depend on it.
    pub fn take(&mut self, value: &Value) -> Option<Tensor> {
        value.slot.and_then(|slot| self.slots[slot].take())
    }

    /// Reads all gradients that are left from the device, and `numbers` with them: one download.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&mut self, numbers: &[&Deferred]) -> Result<Vec<Vec<f64>>> {
        let left: Vec<(usize, Tensor)> = (self.slots.iter_mut().enumerate())
            .filter_map(|(slot, gradient)| Some((slot, gradient.take()?)))
            .collect();
        let tensors: Vec<&Tensor> = left.iter().map(|(_, gradient)| gradient).collect();
        let (numbers, values) = gpu::read(numbers, &tensors)?;
        self.read.extend(left.iter().map(|(slot, _)| *slot).zip(values));
        Ok(numbers)
    }

    /// Takes the gradient of a watched value as numbers; reads all that are left where it was not yet.
    ///
    /// # Errors
    /// When the device fails.
    pub fn take_values(&mut self, value: &Value) -> Result<Option<Vec<f32>>> {
        let Some(slot) = value.slot else { return Ok(None) };
        if self.slots[slot].is_some() {
            self.read(&[])?;
        }
        Ok(self.read.remove(&slot))
    }
}

impl Tape {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A tape that checks the output of every operator, which is slow.
    #[must_use]
    pub fn searching_fault() -> Self {
        Self { search: Some(FaultSearch::default()), ..Self::default() }
    }

    /// The first operator with an output that is not finite, if the tape searched for one.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.search.as_ref()?.found.as_ref()
    }

    /// A leaf whose gradient is asked for.
    pub fn watch(&mut self, tensor: &Tensor) -> Value {
        Value { tensor: tensor.clone(), slot: Some(self.slot()) }
    }

    fn slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    /// Wraps the output of an operator; records `backward` if any of its inputs has a slot.
    fn record(
        &mut self,
        operator: &'static str,
        tensor: Tensor,
        inputs: &[Option<usize>],
        backward: impl FnOnce(Tensor) -> Result<Contributions> + 'static,
    ) -> Value {
        memory::map_made(|| bytes(&tensor));
        if let Some(search) = &mut self.search
            && search.found.is_none()
            && !is_finite(&tensor)
        {
            let inputs = inputs.iter().copied().flatten().collect();
            search.found = Some(Fault { operator, inputs });
        }
        if inputs.iter().all(Option::is_none) {
            return Value::constant(tensor);
        }
        let output = self.slot();
        self.records.push(Record::Call { output, backward: Box::new(backward) });
        Value { tensor, slot: Some(output) }
    }

    /// The current position, for [`Tape::forget`].
    #[must_use]
    pub fn mark(&self) -> TapeMark {
        TapeMark { records: self.records.len(), slots: self.slots }
    }

    /// Drops the records since `mark`, with everything that they keep. The backward pass calls `replay`
    /// to record them again; it must make the same calls on the same values.
    pub fn forget(&mut self, mark: TapeMark, replay: impl FnOnce(Self) -> Result<Self> + 'static) {
        if self.records.len() > mark.records {
            self.records.truncate(mark.records);
            let slots = (mark.slots, self.slots);
            let record = Record::Recompute { slots, replay: Box::new(replay) };
            self.records.push(record);
        }
    }

    /// [`Tape::record`] for a fixed number of inputs.
    fn push<const N: usize>(
        &mut self,
        operator: &'static str,
        tensor: Tensor,
        inputs: [&Value; N],
        backward: impl FnOnce([Option<usize>; N], Tensor) -> Result<Contributions> + 'static,
    ) -> Value {
        let slots = inputs.map(|value| value.slot);
        self.record(operator, tensor, &slots, move |dy| backward(slots, dy))
    }

    /// Runs the backward pass from `of`, whose gradient is given, and returns the gradients of the
    /// watched leaves.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn backward(self, of: &Value, gradient: Tensor) -> Result<LeafGradients> {
        let mut slots: Vec<Option<Tensor>> = vec![None; self.slots];
        let read = BTreeMap::new();
        let Some(start) = of.slot else { return Ok(LeafGradients { slots, read }) };
        slots[start] = Some(gradient);
        memory::gradients_made(0, || held_bytes(&slots));
        run_backward(self.records, &mut slots)?;
        Ok(LeafGradients { slots, read })
    }
}

/// Whether all values are finite; also where they cannot be read.
fn is_finite(tensor: &Tensor) -> bool {
    gpu::download(tensor).map_or(true, |values| values.iter().all(|value| value.is_finite()))
}

fn bytes(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}

fn held_bytes(slots: &[Option<Tensor>]) -> u64 {
    slots.iter().flatten().map(bytes).sum()
}

/// Runs the records in reverse. The gradient of an operator's output is dropped after its use.
fn run_backward(records: Vec<Record>, slots: &mut [Option<Tensor>]) -> Result<()> {
    for record in records.into_iter().rev() {
        match record {
            Record::Call { output, backward } => {
                let Some(dy) = slots[output].take() else { continue };
                let parts = backward(dy)?;
                let made = parts.iter().map(|(_, part)| bytes(part)).sum();
                for (slot, part) in parts {
                    let Some(slot) = slot else { continue };
                    match &slots[slot] {
                        Some(total) => ops::update::accumulate(total, &part)?,
                        None => slots[slot] = Some(part),
                    }
                }
                memory::gradients_made(made, || held_bytes(slots));
            }
            Record::Recompute { slots: (before, after), replay } => {
                let replayed = replay(Tape { slots: before, ..Tape::default() })?;
                if replayed.slots != after {
                    candle_core::bail!(
                        "a recomputed block made other calls than in the forward pass"
                    );
                }
                run_backward(replayed.records, slots)?;
            }
        }
    }
    Ok(())
}
