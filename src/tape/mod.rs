//! The reverse pass.
//!
//! A [`Tape`] records operator calls. Each record owns what its backward needs and nothing else, is
//! consumed by running it, and so gives its activations back as the pass proceeds. A gradient is
//! moved into its place the first time and added in place afterwards; what nobody asked for is
//! not computed: a value without a slot is a constant, and records exist only downstream of a
//! watched value.

mod operators;
mod slots;
mod sums;

use crate::memory;
use crate::ops;
use candle_core::{Result, Tensor};

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
    /// Calls that were forgotten and are made again: given a tape with the slots that there were
    /// before them, it gives that tape with the same calls recorded.
    Again { slots: (usize, usize), replay: Box<dyn FnOnce(Tape) -> Result<Tape>> },
}

/// The records of one forward pass.
#[derive(Default)]
pub struct Tape {
    records: Vec<Record>,
    slots: usize,
}

/// See [`Tape::mark`].
#[derive(Clone, Copy, Debug)]
pub struct TapeMark {
    records: usize,
    slots: usize,
}

/// Gradients of the watched values.
pub struct LeafGradients {
    slots: Vec<Option<Tensor>>,
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
    /// Takes the gradient of a watched value; `None` where the result does not depend on it.
    pub fn take(&mut self, value: &Value) -> Option<Tensor> {
        value.slot.and_then(|slot| self.slots[slot].take())
    }
}

impl Tape {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A leaf whose gradient is wanted.
    pub fn monitor(&mut self, tensor: &Tensor) -> Value {
        Value { tensor: tensor.clone(), slot: Some(self.slot()) }
    }

    fn slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    /// Wraps an operator's output; records `backward` if any of its inputs has a slot.
    fn record(
        &mut self,
        tensor: Tensor,
        inputs: &[Option<usize>],
        backward: impl FnOnce(Tensor) -> Result<Contributions> + 'static,
    ) -> Value {
        memory::map_made(|| bytes(&tensor));
        if inputs.iter().all(Option::is_none) {
            return Value::constant(tensor);
        }
        let output = self.slot();
        self.records.push(Record::Call { output, backward: Box::new(backward) });
        Value { tensor, slot: Some(output) }
    }

    /// Where the tape stands, for [`Tape::forget`].
    #[must_use]
    pub fn mark(&self) -> TapeMark {
        TapeMark { records: self.records.len(), slots: self.slots }
    }

    /// Drops what was recorded since `mark`, with all that it keeps; the way back calls `replay` to
    /// record it anew. `replay` must make the same calls on the same values.
    pub fn forget(&mut self, mark: TapeMark, replay: impl FnOnce(Self) -> Result<Self> + 'static) {
        if self.records.len() > mark.records {
            self.records.truncate(mark.records);
            let slots = (mark.slots, self.slots);
            let again = Record::Again { slots, replay: Box::new(replay) };
            self.records.push(again);
        }
    }

    /// [`Tape::record`] for a fixed number of inputs.
    fn push<const N: usize>(
        &mut self,
        tensor: Tensor,
        inputs: [&Value; N],
        backward: impl FnOnce([Option<usize>; N], Tensor) -> Result<Contributions> + 'static,
    ) -> Value {
        let slots = inputs.map(|value| value.slot);
        self.record(tensor, &slots, move |dy| backward(slots, dy))
    }

    /// Runs the records backwards from `of`, whose gradient is given, and returns the gradients of
    /// the watched leaves.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn backward(self, of: &Value, gradient: Tensor) -> Result<LeafGradients> {
        let mut slots: Vec<Option<Tensor>> = vec![None; self.slots];
        let Some(start) = of.slot else { return Ok(LeafGradients { slots }) };
        slots[start] = Some(gradient);
        memory::gradients_made(0, || held_bytes(&slots));
        run_back(self.records, &mut slots)?;
        Ok(LeafGradients { slots })
    }
}

fn bytes(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}

fn held_bytes(slots: &[Option<Tensor>]) -> u64 {
    slots.iter().flatten().map(bytes).sum()
}

/// Runs records backwards; gradients that nobody asks for any more are dropped as they are used.
fn run_back(records: Vec<Record>, slots: &mut [Option<Tensor>]) -> Result<()> {
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
            Record::Again { slots: (before, after), replay } => {
                let again = replay(Tape { records: Vec::new(), slots: before })?;
                if again.slots != after {
                    candle_core::bail!("a block that was recomputed made other calls than before");
                }
                run_back(again.records, slots)?;
            }
        }
    }
    Ok(())
}
