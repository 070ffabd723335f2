//! The reverse pass.
//!
//! A [`Tape`] records operator calls. Each record owns what its backward needs and nothing else, is
//! consumed by running it, and so gives its activations back as the pass proceeds. A gradient is
//! moved into its place the first time and added in place afterwards; what nobody asked for is
//! not computed: a value without a slot is a constant, and records exist only downstream of a
//! watched value.

use crate::ops::{self, norm};
use crate::space::Activation;
use candle_core::{Result, Tensor};

/// A tensor on the tape. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Value {
    tensor: Tensor,
    slot: Option<usize>,
}

/// One summand of [`Tape::norm`], see [`norm::Candidate`].
pub struct Candidate {
    pub z: Value,
    pub mean: Tensor,
    pub inverse: Tensor,
    pub gamma: Value,
    pub beta: Value,
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

struct Record {
    output: usize,
    backward: Box<dyn FnOnce(Tensor) -> Result<Contributions>>,
}

/// The records of one forward pass.
#[derive(Default)]
pub struct Tape {
    records: Vec<Record>,
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

    /// Wraps an operator's output; records `backward` if any input is watched.
    fn push<const N: usize>(
        &mut self,
        tensor: Tensor,
        inputs: [&Value; N],
        backward: impl FnOnce([Option<usize>; N], Tensor) -> Result<Contributions> + 'static,
    ) -> Value {
        let slots = inputs.map(|value| value.slot);
        if slots.iter().all(Option::is_none) {
            return Value::constant(tensor);
        }
        let output = self.slot();
        self.records.push(Record { output, backward: Box::new(move |dy| backward(slots, dy)) });
        Value { tensor, slot: Some(output) }
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
        for record in self.records.into_iter().rev() {
            let Some(dy) = slots[record.output].take() else { continue };
            for (slot, part) in (record.backward)(dy)? {
                let Some(slot) = slot else { continue };
                match &slots[slot] {
                    Some(total) => ops::update::accumulate(total, &part)?,
                    None => slots[slot] = Some(part),
                }
            }
        }
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

    /// [`ops::depthwise`]: x `[n, h, w, c]`, w `[k·k, c]`.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn depthwise(&mut self, x: &Value, w: &Value, stride: usize) -> Result<Value> {
        let y = ops::depthwise::forward(&x.tensor, &w.tensor, stride)?;
        let (xs, ws) = (x.tensor.clone(), w.tensor.clone());
        Ok(self.push(y, [x, w], move |[x, w], dy| {
            let mut parts = Vec::with_capacity(2);
            if w.is_some() {
                parts.push((w, ops::depthwise::backward_weight(&xs, &ws, &dy, stride)?));
            }
            if x.is_some() {
                parts.push((x, ops::depthwise::backward_input(&xs, &ws, &dy, stride)?));
            }
            Ok(parts)
        }))
    }

    /// [`ops::norm`]: normalise, activate, weigh, add and mask.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn norm(&mut self, sum: Sum) -> Result<Value> {
        let plain = norm::Sum {
            candidates: sum.candidates.iter().map(Candidate::plain).collect(),
            gates: sum.gates.as_ref().map(|v| v.tensor.clone()),
            identity: sum.identity.as_ref().map(|(x, r)| (x.tensor.clone(), r.tensor.clone())),
            mask: sum.mask.as_ref().map(|v| v.tensor.clone()),
        };
        let y = norm::forward(&plain)?;
        let slots = SumSlots::of(&sum);
        if !slots.any() {
            return Ok(Value::constant(y));
        }
        let output = self.slot();
        let backward = Box::new(move |dy| Ok(slots.contributions(norm::backward(&plain, &dy)?)));
        self.records.push(Record { output, backward });
        Ok(Value { tensor: y, slot: Some(output) })
    }

    /// [`ops::patches`]: the windows of a dense convolution as rows.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn patches(&mut self, x: &Value, k: usize, stride: usize) -> Result<Value> {
        let (_, h, w, c) = x.tensor.dims4()?;
        let y = ops::patches::forward(&x.tensor, k, stride)?;
        Ok(self.push(y, [x], move |[x], dy| {
            Ok(vec![(x, ops::patches::backward(&dy, k, stride, (h, w, c))?)])
        }))
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

    /// [`ops::gate`]: x `[n, h, w, c]` times s `[n, c]`.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn gate(&mut self, x: &Value, s: &Value) -> Result<Value> {
        let y = ops::gate::forward(&x.tensor, &s.tensor)?;
        let (xs, ss) = (x.tensor.clone(), s.tensor.clone());
        Ok(self.push(y, [x, s], move |[x, s], dy| {
            let (dx, ds) = ops::gate::backward(&xs, &ss, &dy)?;
            Ok(vec![(x, dx), (s, ds)])
        }))
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

impl Candidate {
    fn plain(&self) -> norm::Candidate {
        norm::Candidate {
            z: self.z.tensor.clone(),
            mean: self.mean.clone(),
            inverse: self.inverse.clone(),
            gamma: self.gamma.tensor.clone(),
            beta: self.beta.tensor.clone(),
            activation: self.activation,
        }
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
        Self {
            candidates: sum
                .candidates
                .iter()
                .map(|c| [c.z.slot, c.gamma.slot, c.beta.slot])
                .collect(),
            gates: slot(&sum.gates),
            identity: sum.identity.as_ref().map_or([None; 2], |(x, rho)| [x.slot, rho.slot]),
            mask: slot(&sum.mask),
        }
    }

    fn any(&self) -> bool {
        let identity = self.identity.iter().chain([&self.gates, &self.mask]);
        self.candidates.iter().flatten().chain(identity).any(Option::is_some)
    }

    fn contributions(self, gradients: norm::Gradients) -> Contributions {
        let mut parts = Vec::new();
        for (slots, (dz, dgamma, dbeta)) in self.candidates.into_iter().zip(gradients.candidates) {
            parts.extend(slots.into_iter().zip([dz, dgamma, dbeta]));
        }
        parts.extend(gradients.gates.map(|d| (self.gates, d)));
        if let Some((dx, drho)) = gradients.identity {
            parts.extend(self.identity.into_iter().zip([dx, drho]));
        }
        parts.extend(gradients.mask.map(|d| (self.mask, d)));
        parts
    }
}
