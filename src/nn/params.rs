//! Parameters and buffers in the order of their creation, and the forward pass that uses them.

use crate::hex::hex;
use crate::ops::gpu::{copy, download, ones, upload, upload_rows};
use crate::ops::update;
use crate::recipe::Recompute;
use crate::rng::Seed;
use crate::tape::{LeafGradients, Tape, Value};
use candle_core::{DType, Device, Result, Tensor};
use sha2::{Digest, Sha256};
use std::rc::Rc;

/// Identifies a parameter of [`Params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamId(usize);

/// Identifies a buffer of [`Params`]: a tensor that is kept but not trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(usize);

/// The initial values of a parameter.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// Normal with mean zero and this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
    Constant(f32),
}

impl Init {
    /// `count` numbers from the random stream of the parameter's name.
    fn draw(self, seed: Seed, name: &str, count: usize) -> Vec<f32> {
        let mut stream = seed.stream(&format!("weights/{name}"), 0);
        match self {
            Self::Normal(sd) => (0..count).map(|_| (stream.normal() * sd) as f32).collect(),
            Self::Uniform(b) => {
                (0..count).map(|_| ((stream.uniform() * 2.0 - 1.0) * b) as f32).collect()
            }
            Self::Constant(value) => vec![value; count],
        }
    }
}

#[derive(Clone)]
struct Param {
    name: String,
    tensor: Tensor,
    /// Whether weight decay applies: to filters, not to batch norm and biases.
    decays: bool,
}

/// The trainable tensors of a network and its running statistics. A clone shares the tensors: changing
/// them in place changes both.
#[derive(Clone)]
pub struct Params {
    /// `None`: all parameters are initially zero.
    seed: Option<Seed>,
    /// Whether what is added takes no memory until it is set.
    only_shapes: bool,
    device: Device,
    /// Prefix of the names of what is added next.
    prefix: String,
    params: Vec<Param>,
    buffers: Vec<(String, Tensor)>,
}

impl Params {
    /// No parameters yet; those added later are drawn from `seed`, each from the stream of its name.
    #[must_use]
    pub fn new(seed: Seed, device: &Device) -> Self {
        Self { seed: Some(seed), ..Self::zeros(device) }
    }

    /// No parameters yet; those added later are zero until they are set.
    #[must_use]
    pub fn zeros(device: &Device) -> Self {
        let (prefix, params, buffers) = Default::default();
        Self { seed: None, only_shapes: false, device: device.clone(), prefix, params, buffers }
    }

    /// No parameters yet; those added later have a shape, but take no memory until they are set.
    #[must_use]
    pub fn shapes(device: &Device) -> Self {
        Self { only_shapes: true, ..Self::zeros(device) }
    }

    /// From now on, names of added parameters and buffers begin with `prefix`.
    pub fn set_name_prefix(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn add(&mut self, mut name: String, shape: &[usize], init: Init) -> Result<ParamId> {
        name.insert_str(0, &self.prefix);
        let tensor = if self.only_shapes {
            placeholder(shape)?
        } else {
            let count = shape.iter().product();
            let data =
                self.seed.map_or_else(|| vec![0.0; count], |seed| init.draw(seed, &name, count));
            upload(data, shape, &self.device)?
        };
        self.params.push(Param { name, tensor, decays: !matches!(init, Init::Constant(_)) });
        Ok(ParamId(self.params.len() - 1))
    }

    /// Adds a buffer.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn add_buffer(&mut self, mut name: String, len: usize, value: f32) -> Result<BufferId> {
        let tensor = if self.only_shapes {
            placeholder(&[len])?
        } else {
            upload(vec![value; len], len, &self.device)?
        };
        name.insert_str(0, &self.prefix);
        self.buffers.push((name, tensor));
        Ok(BufferId(self.buffers.len() - 1))
    }

    /// A copy whose parameters are moved by `factor` · `along`. `along` has one entry per parameter, in
    /// their order; `None` leaves a parameter unchanged.
    ///
    /// # Errors
    /// When counts or shapes differ, or the device has no memory left.
    pub fn moved(&self, along: &[Option<Tensor>], factor: f64) -> Result<Self> {
        if along.len() != self.params.len() {
            candle_core::bail!("{} directions for {} parameters", along.len(), self.params.len());
        }
        let pairs: Vec<_> =
            self.params.iter().map(|p| &p.tensor).zip(along.iter().map(Option::as_ref)).collect();
        let moved = self.params.iter().zip(update::moved(&pairs, factor)?);
        let params = moved.map(|(Param { name, decays, .. }, tensor)| Param {
            name: name.clone(),
            tensor,
            decays: *decays,
        });
        let params = params.collect();
        // Buffers can be shared: they are replaced, never changed in place.
        let buffers = self.buffers.clone();
        let (prefix, device) = (self.prefix.clone(), self.device.clone());
        let (seed, only_shapes) = (self.seed, self.only_shapes);
        Ok(Self { seed, only_shapes, device, prefix, params, buffers })
    }

    /// A copy that shares no tensor.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn copied(&self) -> Result<Self> {
        let mut copied = self.clone();
        let params = copied.params.iter_mut().map(|param| &mut param.tensor);
        for tensor in params.chain(copied.buffers.iter_mut().map(|(_, tensor)| tensor)) {
            *tensor = copy(tensor)?;
        }
        Ok(copied)
    }

    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The trainable tensors with their weight-decay flags, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (&Tensor, bool)> {
        self.params.iter().map(|p| (&p.tensor, p.decays))
    }

    /// A parameter.
    #[must_use]
    pub fn value(&self, id: ParamId) -> &Tensor {
        &self.params[id.0].tensor
    }

    /// A buffer.
    #[must_use]
    pub fn buffer(&self, id: BufferId) -> &Tensor {
        &self.buffers[id.0].1
    }

    /// Names and tensors of parameters, then of buffers.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let params = self.params.iter().map(|p| (p.name.as_str(), &p.tensor));
        params.chain(self.buffers.iter().map(|(name, tensor)| (name.as_str(), tensor)))
    }

    /// The number of trained values.
    #[must_use]
    pub fn count(&self) -> usize {
        self.params.iter().map(|p| p.tensor.elem_count()).sum()
    }

    /// Bytes of parameters and buffers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.named().map(|(_, t)| (t.elem_count() * t.dtype().size_in_bytes()) as u64).sum()
    }

    /// Replaces the value of the parameter or buffer of that name.
    ///
    /// # Errors
    /// When there is none, or its shape differs.
    pub fn set(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let params = self.params.iter_mut().map(|p| (p.name.as_str(), &mut p.tensor));
        let buffers = self.buffers.iter_mut().map(|(name, tensor)| (name.as_str(), tensor));
        match params.chain(buffers).find(|(found, _)| *found == name) {
            Some((_, tensor)) if tensor.dims() == value.dims() => {
                *tensor = copy(value)?;
                Ok(())
            }
            Some((_, tensor)) => {
                candle_core::bail!("{name}: {tensor:?} cannot be set to {value:?}")
            }
            None => candle_core::bail!("no parameter or buffer {name:?}"),
        }
    }

    /// Replaces the parameter at `position` in the order of [`Params::tensors`] by `tensor` itself, not
    /// by a copy.
    ///
    /// # Errors
    /// When there is none, or its shape differs.
    pub fn replace(&mut self, position: usize, tensor: Tensor) -> Result<()> {
        match self.params.get_mut(position) {
            Some(param) if param.tensor.dims() == tensor.dims() => param.tensor = tensor,
            Some(param) => candle_core::bail!("{}: not the shape of {tensor:?}", param.name),
            None => candle_core::bail!("no parameter {position}"),
        }
        Ok(())
    }

    /// The name of the first parameter with a value that is not finite.
    ///
    /// # Errors
    /// When the values cannot be read from the device.
    pub fn first_not_finite(&self) -> Result<Option<&str>> {
        for Param { name, tensor, .. } in &self.params {
            if download(tensor)?.iter().any(|value| !value.is_finite()) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// SHA-256 over names and little-endian values of all parameters and buffers, in hex.
    ///
    /// # Errors
    /// When the values cannot be read from the device.
    pub fn sha256(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for (name, tensor) in self.named() {
            hash.update(name.as_bytes());
            for value in download(tensor)? {
                hash.update(value.to_le_bytes());
            }
        }
        Ok(hex(&hash.finalize()))
    }
}

/// A tensor of this shape whose values are all one zero in memory.
fn placeholder(shape: &[usize]) -> Result<Tensor> {
    Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)
}

/// Hands out the rows of a pass, see [`Pass::rows`].
pub struct Rows {
    /// What was asked for, in order.
    collected: Vec<Vec<f32>>,
    /// The same on the device, once all are known.
    values: Option<std::vec::IntoIter<Value>>,
    /// Stands for a row that is not on the device yet.
    empty: Value,
}

impl Rows {
    /// A row of numbers: gates or a mask.
    pub fn row(&mut self, row: &[f64]) -> Value {
        let value = if let Some(values) = &mut self.values {
            values.next()
        } else {
            self.collected.push(row.iter().map(|v| *v as f32).collect());
            None
        };
        value.unwrap_or_else(|| self.empty.clone())
    }
}

/// One forward pass: the tape, the parameters as values on it, and the behaviour of batch norm.
pub struct Pass<'a> {
    pub tape: Tape,
    values: Rc<Vec<Value>>,
    /// Absent while a block is recomputed: its running statistics have moved already.
    params: Option<&'a mut Params>,
    device: Device,
    training: bool,
    /// The weight of the batch's statistics in the new running statistics.
    momentum: f64,
    /// See [`Pass::share_statistics`].
    share: f64,
    recompute: Recompute,
}

/// The momentum of running statistics in the released networks.
const MOMENTUM: f64 = 0.1;

impl<'a> Pass<'a> {
    /// A pass for training the weights: batch statistics are used, running statistics updated.
    pub fn training(params: &'a mut Params) -> Self {
        let mut tape = Tape::new();
        let values = params.params.iter().map(|p| tape.watch(&p.tensor)).collect();
        Self::over(params, tape, values, true)
    }

    /// A training pass that is only run to find the first operator with an output that is not finite.
    pub fn searching_fault(params: &'a mut Params) -> Self {
        let mut tape = Tape::searching_fault();
        let values = params.params.iter().map(|p| tape.watch(&p.tensor)).collect();
        Self::over(params, tape, values, true)
    }

    /// The operator that a pass of [`Pass::searching_fault`] has found, with the first parameter that it
    /// reads.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let fault = self.tape.fault()?;
        let params = self.params.as_ref().map(|params| &params.params)?;
        let first = fault.inputs.iter().find_map(|slot| params.get(*slot));
        let with = first.map(|param| format!(" with {}", param.name)).unwrap_or_default();
        Some(format!("{}{with}", fault.operator))
    }

    /// A pass with batch statistics and constant weights, for training architecture parameters.
    pub fn frozen(params: &'a mut Params) -> Self {
        let values = Self::constants(params);
        Self::over(params, Tape::new(), values, true)
    }

    /// A pass with running statistics and constant weights, for evaluation.
    pub fn inference(params: &'a mut Params) -> Self {
        let values = Self::constants(params);
        Self::over(params, Tape::new(), values, false)
    }

    /// A pass that recalibrates the running statistics: after passes with `seen` = 0, 1, 2, … they are the
    /// means over the batches.
    pub fn calibrating(params: &'a mut Params, seen: usize) -> Self {
        let momentum = 1.0 / (seen + 1) as f64;
        Self { momentum, ..Self::frozen(params) }
    }

    fn over(params: &'a mut Params, tape: Tape, values: Vec<Value>, training: bool) -> Self {
        Self {
            tape,
            values: Rc::new(values),
            device: params.device.clone(),
            params: Some(params),
            training,
            momentum: MOMENTUM,
            share: 1.0,
            recompute: Recompute::None,
        }
    }

    /// Sets what is recomputed in the backward pass instead of kept.
    #[must_use]
    pub fn recomputing(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
    }

    /// Runs one block of a network; it is [`Pass::recomputed`] if blocks are.
    ///
    /// # Errors
    /// Those of `block`.
    pub fn block(
        &mut self,
        block: impl Fn(&mut Pass<'_>) -> Result<Value> + 'static,
    ) -> Result<Value> {
        match self.recompute {
            Recompute::None => block(self),
            Recompute::Block => self.recomputed(block),
        }
    }

    /// Runs a part of a network without keeping its records: the backward pass runs it once more.
    ///
    /// # Errors
    /// Those of `part`.
    pub fn recomputed(
        &mut self,
        part: impl Fn(&mut Pass<'_>) -> Result<Value> + 'static,
    ) -> Result<Value> {
        let mark = self.tape.mark();
        let y = part(self)?;
        let (values, device, training) = (self.values.clone(), self.device.clone(), self.training);
        self.tape.forget(mark, move |tape| {
            let (params, recompute) = (None, Recompute::None);
            let (momentum, share) = (MOMENTUM, 1.0);
            let mut pass =
                Pass { tape, values, params, device, training, momentum, share, recompute };
            part(&mut pass)?;
            Ok(pass.tape)
        });
        Ok(y)
    }

    /// Multiplies the momentum of running statistics by `share` until the next call. Where a network runs
    /// several times in one pass, the shares should sum to one.
    pub fn share_statistics(&mut self, share: f64) {
        self.share = share;
    }

    fn constants(params: &Params) -> Vec<Value> {
        params.params.iter().map(|p| Value::constant(p.tensor.clone())).collect()
    }

    #[must_use]
    pub fn param(&self, id: ParamId) -> Value {
        self.values[id.0].clone()
    }

    /// Whether batch norm uses the statistics of the batch.
    #[must_use]
    pub fn uses_batch_statistics(&self) -> bool {
        self.training
    }

    /// A buffer; `None` while a block is recomputed.
    pub(super) fn buffer(&self, id: BufferId) -> Option<&Tensor> {
        self.params.as_ref().map(|params| &params.buffers[id.0].1)
    }

    pub(super) fn momentum(&self) -> f64 {
        self.momentum * self.share
    }

    pub(super) fn set_buffer(&mut self, id: BufferId, value: Tensor) {
        if let Some(params) = &mut self.params {
            params.buffers[id.0].1 = value;
        }
    }

    /// What `bind` makes of rows of numbers: gates and masks. `wanted` asks for their gradients. All rows
    /// come to the device in one upload, so `bind` runs twice: first to collect the rows, and then to
    /// use them. It must ask for the same rows each time.
    ///
    /// # Errors
    /// When the device has no memory left, or gradients are asked for in an inference pass: the backward
    /// passes of the operators take the statistics for functions of the batch.
    pub fn rows<T>(&mut self, wanted: bool, bind: impl Fn(&mut Rows) -> T) -> Result<T> {
        if wanted && !self.training {
            candle_core::bail!("an inference pass has no gradients");
        }
        let empty = Value::constant(Tensor::zeros(0, DType::F32, &Device::Cpu)?);
        let mut rows = Rows { collected: Vec::new(), values: None, empty };
        bind(&mut rows);
        let tensors = upload_rows(std::mem::take(&mut rows.collected), &self.device)?.into_iter();
        let mut value = |t: Tensor| if wanted { self.tape.watch(&t) } else { Value::constant(t) };
        let values: Vec<Value> = tensors.map(&mut value).collect();
        rows.values = Some(values.into_iter());
        let bound = bind(&mut rows);
        if rows.values.is_none_or(|mut values| values.next().is_some()) {
            candle_core::bail!("the second time, fewer rows were asked for");
        }
        Ok(bound)
    }

    /// A constant row of ones.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn ones(&self, len: usize) -> Result<Value> {
        Ok(Value::constant(ones(len, &self.device)?))
    }

    /// Runs the backward pass. Returns the gradients of the parameters in their order, `None` for those
    /// that the result does not depend on, and the gradients of all other watched values.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn backward(
        self,
        of: &Value,
        gradient: Tensor,
    ) -> Result<(Vec<Option<Tensor>>, LeafGradients)> {
        let mut gradients = self.tape.backward(of, gradient)?;
        let of_params = self.values.iter().map(|v| gradients.take(v)).collect();
        Ok((of_params, gradients))
    }
}
