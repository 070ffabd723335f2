//! The reverse pass.
//!
//! A [`Tape`] records operator calls. Each record owns what its backward needs and nothing else, is
//! consumed by running it, and so gives its activations back as the pass proceeds. A gradient is
//! moved into its place the first time and added in place afterwards; what nobody asked for is
//! not computed: a value without a slot is a constant, and records exist only downstream of a
//! watched value.

use crate::ops::gram::Gram;
use crate::ops::{self, Moments, depthwise, norm, project};
use crate::space::Activation;
use candle_core::{Result, Tensor};
use std::rc::Rc;

/// A tensor on the tape. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Value {
    tensor: Tensor,
    slot: Option<usize>,
}

/// How a raw convolution output is read, see [`norm::Norm`].
#[derive(Clone)]
pub struct Norm {
    pub mean: Tensor,
    pub inverse: Tensor,
    pub gamma: Value,
    pub beta: Value,
    pub activation: Activation,
}

/// A raw convolution output and how it is read: an activation that has not been computed.
#[derive(Clone)]
pub struct Candidate {
    pub z: Value,
    pub norm: Norm,
}

/// The 1x1 convolution in front of a depthwise one, see [`depthwise::Expand`].
#[derive(Clone)]
pub struct Expand {
    pub w: Value,
    pub norm: Norm,
    /// Describes the input of the convolution; the way back needs it.
    pub gram: Option<Rc<Gram>>,
}

/// The layers of a squeeze-excite, see [`project::SqueezeExcite`].
#[derive(Clone)]
pub struct SqueezeExcite {
    pub squeeze: Value,
    pub squeeze_bias: Value,
    pub excite: Value,
    pub excite_bias: Value,
    pub mask: Option<Value>,
    pub activation: Activation,
}

/// What [`Tape::norm`] sums, see [`norm::Sum`].
#[derive(Default)]
pub struct Sum {
    pub candidates: Vec<Candidate>,
    pub gates: Option<Value>,
    pub identity: Option<(Value, Value)>,
    pub mask: Option<Value>,
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
pub struct Mark {
    records: usize,
    slots: usize,
}

/// Gradients of the watched values.
pub struct Gradients {
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
}

impl Gradients {
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
    pub fn watch(&mut self, tensor: &Tensor) -> Value {
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
        if inputs.iter().all(Option::is_none) {
            return Value::constant(tensor);
        }
        let output = self.slot();
        self.records.push(Record::Call { output, backward: Box::new(backward) });
        Value { tensor, slot: Some(output) }
    }

    /// Where the tape stands, for [`Tape::forget`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { records: self.records.len(), slots: self.slots }
    }

    /// Drops what was recorded since `mark`, with all that it keeps; the way back calls `replay` to
    /// record it anew. `replay` must make the same calls on the same values.
    pub fn forget(&mut self, mark: Mark, replay: impl FnOnce(Self) -> Result<Self> + 'static) {
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
    pub fn backward(self, of: &Value, gradient: Tensor) -> Result<Gradients> {
        let mut slots: Vec<Option<Tensor>> = vec![None; self.slots];
        let Some(start) = of.slot else { return Ok(Gradients { slots }) };
        slots[start] = Some(gradient);
        run_back(self.records, &mut slots)?;
        Ok(Gradients { slots })
    }

    /// [`ops::matmul`]: x `[…, c_in]` · w `[c_in, c_out]`.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn matmul(&mut self, x: &Value, w: &Value) -> Result<Value> {
        let y = ops::matmul::forward(&x.tensor, &w.tensor)?;
        let (xs, ws) = (x.tensor.clone(), w.tensor.clone());
        Ok(self.push(y, [x, w], move |[x, w], dy| {
            let mut parts = Vec::with_capacity(2);
            if w.is_some() {
                parts.push((w, ops::matmul::backward_weight(&xs, &dy)?));
            }
            if x.is_some() {
                parts.push((x, ops::matmul::backward_input(&ws, &dy)?));
            }
            Ok(parts)
        }))
    }

    /// [`ops::depthwise`]: x `[n, h, w, c_in]`, filter `[k·k, c]`, an expansion between. Gives the
    /// moments of the output, too, if `statistics` are asked for.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn depthwise(
        &mut self,
        x: &Value,
        expand: Option<&Expand>,
        filter: &Value,
        stride: usize,
        statistics: bool,
    ) -> Result<(Value, Option<Moments>)> {
        let plain = expand.map(|e| (e.plain(), e.gram.clone()));
        let in_front = plain.as_ref().map(|(e, _)| e);
        let (y, moments) =
            depthwise::forward(&x.tensor, in_front, &filter.tensor, stride, statistics)?;
        let none = [None; 3];
        let front = expand.map_or(none, |e| [e.w.slot, e.norm.gamma.slot, e.norm.beta.slot]);
        let slots = [x.slot, filter.slot, front[0], front[1], front[2]];
        let (xs, filters) = (x.tensor.clone(), filter.tensor.clone());
        let y = self.record(y, &slots, move |dy| {
            let wanted = depthwise::Wanted {
                input: slots[0].is_some(),
                weights: slots[1..].iter().any(Option::is_some),
            };
            let front = plain.as_ref().map(|(e, gram)| (e, gram.as_deref()));
            let g = depthwise::backward(&xs, front, &filters, stride, &dy, wanted)?;
            let mut parts = Vec::with_capacity(5);
            parts.extend(g.dx.map(|d| (slots[0], d)));
            parts.extend(g.dfilter.map(|d| (slots[1], d)));
            if let Some(e) = g.expand {
                parts.extend([(slots[2], e.dw), (slots[3], e.dgamma), (slots[4], e.dbeta)]);
            }
            Ok(parts)
        });
        Ok((y, moments))
    }

    /// [`ops::project`]: read, mask and gate the hidden channels, then a 1x1 convolution. Gives the
    /// moments of the output, too, if `statistics` are asked for.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn project(
        &mut self,
        input: &Candidate,
        mask: Option<&Value>,
        squeeze_excite: Option<&SqueezeExcite>,
        w: &Value,
        statistics: bool,
    ) -> Result<(Value, Option<Moments>)> {
        let plain = input.plain();
        let mask_row = mask.map(|m| m.tensor.clone());
        let layers = squeeze_excite.map(SqueezeExcite::plain);
        let (y, moments) =
            project::forward(&plain, mask_row.as_ref(), layers.as_ref(), &w.tensor, statistics)?;
        let own = [input.z.slot, input.norm.gamma.slot, input.norm.beta.slot, w.slot];
        let mask_slot = mask.and_then(|m| m.slot);
        let gate_slots = squeeze_excite.map_or([None; 5], SqueezeExcite::slots);
        let slots: Vec<_> = own.into_iter().chain([mask_slot]).chain(gate_slots).collect();
        let ws = w.tensor.clone();
        let y = self.record(y, &slots, move |dy| {
            let (mask, layers) = (mask_row.as_ref(), layers.as_ref());
            let g = project::backward(&plain, mask, layers, &ws, &dy, own[3].is_some())?;
            let mut parts = vec![(own[0], g.dz), (own[1], g.dgamma), (own[2], g.dbeta)];
            parts.extend(g.dw.map(|d| (own[3], d)));
            parts.push((mask_slot, g.dmask));
            if let Some(g) = g.squeeze_excite {
                let all = [g.squeeze, g.squeeze_bias, g.excite, g.excite_bias, g.mask];
                parts.extend(gate_slots.into_iter().zip(all));
            }
            Ok(parts)
        });
        Ok((y, moments))
    }

    /// [`project::infer`]: the projection with the norm behind it and the sum with `x`, for values
    /// that need no gradient.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn infer(
        input: &Candidate,
        squeeze_excite: Option<&SqueezeExcite>,
        w: &Value,
        norm: &Norm,
        x: Option<&Value>,
    ) -> Result<Value> {
        let own = [input.z.slot, input.norm.gamma.slot, input.norm.beta.slot, w.slot];
        let rest = [norm.gamma.slot, norm.beta.slot, x.and_then(|x| x.slot)];
        let gates = squeeze_excite.map_or([None; 5], SqueezeExcite::slots);
        if own.iter().chain(&rest).chain(&gates).any(Option::is_some) {
            candle_core::bail!("inference keeps nothing for gradients, and one is watched");
        }
        let layers = squeeze_excite.map(SqueezeExcite::plain);
        let (plain, x) = (input.plain(), x.map(Value::tensor));
        let y = project::infer(&plain, layers.as_ref(), &w.tensor, &norm.plain(), x)?;
        Ok(Value::constant(y))
    }

    /// [`ops::norm`]: normalise, activate, weigh, add and mask.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn norm(&mut self, sum: &Sum) -> Result<Value> {
        let plain = norm::Sum {
            candidates: sum.candidates.iter().map(Candidate::plain).collect(),
            gates: sum.gates.as_ref().map(|v| v.tensor.clone()),
            identity: sum.identity.as_ref().map(|(x, r)| (x.tensor.clone(), r.tensor.clone())),
            mask: sum.mask.as_ref().map(|v| v.tensor.clone()),
        };
        let y = norm::forward(&plain)?;
        let slots = SumSlots::of(sum);
        Ok(self.record(y, &slots.all(), move |dy| {
            let gradients = norm::backward(&plain, &dy, &slots.wanted())?;
            Ok(slots.contributions(gradients))
        }))
    }

    /// [`ops::dense`]: x `[n, h, w, c_in]`, w `[k·k·c_in, c_out]`. Gives the moments of the output,
    /// too, if `statistics` are asked for.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn dense(
        &mut self,
        x: &Value,
        w: &Value,
        shape: (usize, usize),
        statistics: bool,
    ) -> Result<(Value, Option<Moments>)> {
        let (y, moments) = ops::dense::forward(&x.tensor, &w.tensor, shape, statistics)?;
        let (xs, ws) = (x.tensor.clone(), w.tensor.clone());
        let y = self.push(y, [x, w], move |[x, w], dy| {
            let g = ops::dense::backward(&xs, &ws, shape, &dy, (x.is_some(), w.is_some()))?;
            Ok([(x, g.dx), (w, g.dw)].into_iter().filter_map(|(s, d)| Some((s, d?))).collect())
        });
        Ok((y, moments))
    }

    /// [`ops::subsample`]: every `stride`-th pixel.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn subsample(&mut self, x: &Value, stride: usize) -> Result<Value> {
        if stride == 1 {
            return Ok(x.clone());
        }
        let (_, h, w, _) = x.tensor.dims4()?;
        let y = ops::subsample::forward(&x.tensor, stride)?;
        Ok(self.push(y, [x], move |[x], dy| {
            Ok(vec![(x, ops::subsample::backward(&dy, stride, (h, w))?)])
        }))
    }

    /// [`ops::pool`]: the mean over pixels.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn pool(&mut self, x: &Value) -> Result<Value> {
        let (_, h, w, _) = x.tensor.dims4()?;
        let y = ops::pool::forward(&x.tensor)?;
        Ok(self.push(y, [x], move |[x], dy| Ok(vec![(x, ops::pool::backward(&dy, (h, w))?)])))
    }

    /// [`ops::rows`]: bias, activation and mask on a matrix.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn rows(
        &mut self,
        x: &Value,
        bias: &Value,
        activation: Activation,
        mask: Option<&Value>,
    ) -> Result<Value> {
        let mask_row = mask.map(|m| m.tensor.clone());
        let y = ops::rows::forward(&x.tensor, &bias.tensor, activation, mask_row.as_ref())?;
        let none = Value::constant(bias.tensor.clone());
        let (xs, biases) = (x.tensor.clone(), bias.tensor.clone());
        Ok(self.push(y, [x, bias, mask.unwrap_or(&none)], move |[x, bias, mask], dy| {
            let g = ops::rows::backward(&xs, &biases, activation, mask_row.as_ref(), &dy)?;
            let mut parts = vec![(x, g.dx), (bias, g.dbias)];
            parts.extend(g.dmask.map(|dmask| (mask, dmask)));
            Ok(parts)
        }))
    }

    /// The first `width` channels of x `[n, h, w, c]`.
    ///
    /// # Errors
    /// When x has fewer channels.
    pub fn cut(&mut self, x: &Value, width: usize) -> Result<Value> {
        let c = x.tensor.dim(3)?;
        if width == c {
            return Ok(x.clone());
        }
        let y = x.tensor.narrow(3, 0, width)?.contiguous()?;
        Ok(self.push(y, [x], move |[x], dy| {
            Ok(vec![(x, dy.pad_with_zeros(3, 0, c - width)?.contiguous()?)])
        }))
    }
}

/// Runs records backwards; gradients that nobody asks for any more are dropped as they are used.
fn run_back(records: Vec<Record>, slots: &mut [Option<Tensor>]) -> Result<()> {
    for record in records.into_iter().rev() {
        match record {
            Record::Call { output, backward } => {
                let Some(dy) = slots[output].take() else { continue };
                for (slot, part) in backward(dy)? {
                    let Some(slot) = slot else { continue };
                    match &slots[slot] {
                        Some(total) => ops::update::accumulate(total, &part)?,
                        None => slots[slot] = Some(part),
                    }
                }
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

impl Norm {
    fn plain(&self) -> norm::Norm {
        norm::Norm {
            mean: self.mean.clone(),
            inverse: self.inverse.clone(),
            gamma: self.gamma.tensor.clone(),
            beta: self.beta.tensor.clone(),
            activation: self.activation,
        }
    }
}

impl Candidate {
    fn plain(&self) -> norm::Candidate {
        norm::Candidate { z: self.z.tensor.clone(), norm: self.norm.plain() }
    }
}

impl Expand {
    fn plain(&self) -> depthwise::Expand {
        depthwise::Expand { w: self.w.tensor.clone(), norm: self.norm.plain() }
    }
}

impl SqueezeExcite {
    fn plain(&self) -> project::SqueezeExcite {
        project::SqueezeExcite {
            squeeze: self.squeeze.tensor.clone(),
            squeeze_bias: self.squeeze_bias.tensor.clone(),
            excite: self.excite.tensor.clone(),
            excite_bias: self.excite_bias.tensor.clone(),
            mask: self.mask.as_ref().map(|m| m.tensor.clone()),
            activation: self.activation,
        }
    }

    fn slots(&self) -> [Option<usize>; 5] {
        let mask = self.mask.as_ref().and_then(|m| m.slot);
        [self.squeeze.slot, self.squeeze_bias.slot, self.excite.slot, self.excite_bias.slot, mask]
    }
}

/// Where the gradients of a [`Sum`] go.
struct SumSlots {
    candidates: Vec<[Option<usize>; 3]>,
    gates: Option<usize>,
    identity: [Option<usize>; 2],
    mask: Option<usize>,
}

impl SumSlots {
    fn of(sum: &Sum) -> Self {
        let slot = |value: &Option<Value>| value.as_ref().and_then(|v| v.slot);
        let candidates = sum.candidates.iter();
        Self {
            candidates: candidates
                .map(|c| [c.z.slot, c.norm.gamma.slot, c.norm.beta.slot])
                .collect(),
            gates: slot(&sum.gates),
            identity: sum.identity.as_ref().map_or([None; 2], |(x, rho)| [x.slot, rho.slot]),
            mask: slot(&sum.mask),
        }
    }

    fn all(&self) -> Vec<Option<usize>> {
        let rest = self.identity.iter().chain([&self.gates, &self.mask]);
        self.candidates.iter().flatten().chain(rest).copied().collect()
    }

    fn wanted(&self) -> norm::Wanted {
        norm::Wanted {
            candidates: self.candidates.iter().map(|slots| slots[0].is_some()).collect(),
            identity: self.identity[0].is_some(),
        }
    }

    fn contributions(self, gradients: norm::Gradients) -> Contributions {
        let mut parts = Vec::new();
        for ([z, gamma, beta], found) in self.candidates.into_iter().zip(gradients.candidates) {
            parts.extend(found.dz.map(|d| (z, d)));
            parts.extend([(gamma, found.dgamma), (beta, found.dbeta)]);
        }
        let rest = [
            (self.gates, gradients.gates),
            (self.identity[0], gradients.dx),
            (self.identity[1], gradients.drho),
            (self.mask, gradients.mask),
        ];
        parts.extend(rest.into_iter().filter_map(|(slot, d)| d.map(|d| (slot, d))));
        parts
    }
}
