//! The layers of mobile networks, channels-last.

use super::params::{BufferId, Init, ParamId, Params, Pass};
use crate::ops::Moments;
use crate::ops::depthwise::Expand;
use crate::ops::groups::{self, Groups};
use crate::ops::inference::{InferenceConv, InferenceLayer};
use crate::ops::norm::{self, Norm, PreActivation, Running};
use crate::ops::project::SqueezeExciteWeights;
use crate::space::Activation;
use crate::tape::Value;
use candle_core::{Result, Tensor};

/// 1x1 convolution without bias.
#[derive(Clone, Debug)]
pub struct Conv1x1 {
    weight: ParamId,
    /// `None`: every output reads all inputs.
    groups: Option<Groups>,
}

impl Conv1x1 {
    /// Kaiming-normal by fan-out.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(params: &mut Params, name: &str, c_in: usize, c_out: usize) -> Result<Self> {
        Self::grouped(params, name, (c_in, c_out), None)
    }

    /// The same with groups of channels.
    ///
    /// # Errors
    /// As [`Conv1x1::new`].
    pub fn grouped(
        params: &mut Params,
        name: &str,
        (c_in, c_out): (usize, usize),
        groups: Option<Groups>,
    ) -> Result<Self> {
        let number = groups.map_or(1, |groups| groups.number);
        let init = Init::Normal((2.0 / (c_out / number) as f64).sqrt());
        let weight = params.add(format!("{name}.weight"), &[c_in / number, c_out], init)?;
        Ok(Self { weight, groups })
    }

    /// x `[n, h, w, c_in]` → `[n, h, w, c_out]`.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Value) -> Result<Value> {
        let weight = self.weight(pass)?;
        pass.tape.matmul(x, &weight)
    }

    /// The layer for inference, with `norm` and `activation` behind it, on every `stride`-th pixel.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn freeze(
        &self,
        params: &Params,
        norm: &BatchNorm,
        activation: Activation,
        stride: usize,
    ) -> Result<InferenceLayer> {
        let (w, norm) = (self.value(params)?, norm.freeze(params, activation)?);
        Ok(InferenceLayer::Conv1x1 { w, stride, norm })
    }

    /// The weights `[c_in, c_out]`, in this pass.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn weight(&self, pass: &mut Pass<'_>) -> Result<Value> {
        let weight = pass.param(self.weight);
        match self.groups {
            Some(groups) => pass.tape.dense_of_groups(&weight, groups),
            None => Ok(weight),
        }
    }

    /// The weights `[c_in, c_out]`.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn value(&self, params: &Params) -> Result<Tensor> {
        let weight = params.value(self.weight);
        match self.groups {
            Some(groups) => groups::dense(weight, groups),
            None => Ok(weight.clone()),
        }
    }

    /// [`Conv1x1::weight`] with the filters multiplied by a mask `[c_out]`.
    ///
    /// # Errors
    /// When the mask has another size.
    pub fn masked_weight(&self, pass: &mut Pass<'_>, mask: Option<&Value>) -> Result<Value> {
        let weight = self.weight(pass)?;
        masked(pass, weight, mask)
    }
}

/// Filters `[…, c]` times a mask `[c]`. Their output is the masked output of the unmasked filters.
fn masked(pass: &mut Pass<'_>, filters: Value, mask: Option<&Value>) -> Result<Value> {
    match mask {
        Some(mask) => pass.tape.scale_columns(&filters, mask),
        None => Ok(filters),
    }
}

/// Dense k x k convolution without bias.
#[derive(Clone, Debug)]
pub struct Conv {
    weight: ParamId,
    kernel: usize,
    stride: usize,
}

impl Conv {
    /// Kaiming-normal by fan-out.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(
        params: &mut Params,
        name: &str,
        (c_in, c_out): (usize, usize),
        (kernel, stride): (usize, usize),
    ) -> Result<Self> {
        let taps = kernel * kernel;
        let init = Init::Normal((2.0 / (taps * c_out) as f64).sqrt());
        let weight = params.add(format!("{name}.weight"), &[taps, c_in, c_out], init)?;
        Ok(Self { weight, kernel, stride })
    }

    /// x `[n, h, w, c_in]` → `[n, ⌈h/s⌉, ⌈w/s⌉, c_out]`, and its moments if the pass uses batch
    /// statistics. `mask` `[c_out]` multiplies the filters.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        mask: Option<&Value>,
    ) -> Result<(Value, Option<Moments>)> {
        let weight = masked(pass, pass.param(self.weight), mask)?;
        let statistics = pass.uses_batch_statistics();
        pass.tape.conv(x, &weight, (self.kernel, self.stride), statistics)
    }

    /// The layer for inference, with `norm` and `activation` behind it.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn freeze(
        &self,
        params: &Params,
        norm: &BatchNorm,
        activation: Activation,
    ) -> Result<InferenceConv> {
        let (w, norm) = (params.value(self.weight).clone(), norm.freeze(params, activation)?);
        Ok(InferenceConv { w, kernel: self.kernel, stride: self.stride, norm })
    }
}

/// Depthwise k x k convolution without bias.
#[derive(Clone, Debug)]
pub struct Depthwise {
    pub(crate) weight: ParamId,
    pub(crate) stride: usize,
}

impl Depthwise {
    /// Kaiming-normal by fan-in, the k·k inputs of a channel.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(
        params: &mut Params,
        name: &str,
        channels: usize,
        (kernel, stride): (usize, usize),
    ) -> Result<Self> {
        let taps = kernel * kernel;
        let init = Init::Normal((2.0 / taps as f64).sqrt());
        Ok(Self { weight: params.add(format!("{name}.weight"), &[taps, channels], init)?, stride })
    }

    /// x `[n, h, w, c_in]`, expanded if there is an expansion → `[n, ⌈h/s⌉, ⌈w/s⌉, c]`, and its moments
    /// if the pass uses batch statistics. `mask` `[c]` multiplies the filters.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        expand: Option<&Expand<Value>>,
        mask: Option<&Value>,
    ) -> Result<(Value, Option<Moments>)> {
        let filter = masked(pass, pass.param(self.weight), mask)?;
        let statistics = pass.uses_batch_statistics();
        pass.tape.depthwise(x, expand, &filter, self.stride, statistics)
    }
}

/// Batch norm, which the operator that reads its output applies.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    gamma: ParamId,
    beta: ParamId,
    running_mean: BufferId,
    running_var: BufferId,
}

impl BatchNorm {
    /// γ = 1, β = 0.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(params: &mut Params, name: &str, channels: usize) -> Result<Self> {
        Ok(Self {
            gamma: params.add(format!("{name}.gamma"), &[channels], Init::Constant(1.0))?,
            beta: params.add(format!("{name}.beta"), &[channels], Init::Constant(0.0))?,
            running_mean: params.add_buffer(format!("{name}.running_mean"), channels, 0.0)?,
            running_var: params.add_buffer(format!("{name}.running_var"), channels, 1.0)?,
        })
    }

    /// The normalisation of z: by its `moments`, if given (training, where the running statistics follow
    /// them), otherwise by the running statistics.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn norm(
        &self,
        pass: &mut Pass<'_>,
        activation: Activation,
        moments: Option<Moments>,
    ) -> Result<Norm<Value>> {
        let running = pass.buffer(self.running_mean).zip(pass.buffer(self.running_var));
        let running = running.map(|(mean, variance)| Running { mean, variance });
        let (mean, inverse) = match (moments, running) {
            (Some(batch), Some(running)) => {
                let (inverse, moved) = norm::follow(&batch, running, pass.momentum())?;
                pass.set_buffer(self.running_mean, moved.mean);
                pass.set_buffer(self.running_var, moved.variance);
                (batch.mean, inverse)
            }
            (Some(Moments { mean, variance, .. }), None) => {
                (mean, norm::inverse_deviation(&variance)?)
            }
            (None, Some(Running { mean, variance })) => {
                (mean.clone(), norm::inverse_deviation(variance)?)
            }
            (None, None) => candle_core::bail!("batch norm: neither batch nor running statistics"),
        };
        let (gamma, beta) = (pass.param(self.gamma), pass.param(self.beta));
        Ok(Norm { mean, inverse, gamma, beta, activation })
    }

    /// The normalisation of z for inference.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn freeze(&self, params: &Params, activation: Activation) -> Result<Norm> {
        Ok(Norm {
            mean: params.buffer(self.running_mean).clone(),
            inverse: norm::inverse_deviation(params.buffer(self.running_var))?,
            gamma: params.value(self.gamma).clone(),
            beta: params.value(self.beta).clone(),
            activation,
        })
    }

    /// z with its normalisation; the moments are taken from z itself.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn pre_activation(
        &self,
        pass: &mut Pass<'_>,
        z: Value,
        activation: Activation,
    ) -> Result<PreActivation<Value>> {
        let batch = pass.uses_batch_statistics();
        let moments = batch.then(|| norm::moments(z.tensor())).transpose()?;
        let norm = self.norm(pass, activation, moments)?;
        Ok(PreActivation { z, norm })
    }
}

/// Fully connected layer with bias.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: ParamId,
    bias: ParamId,
}

impl Linear {
    /// Uniform in ±1/√c_in, the default of the common frameworks; the bias is zero.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(params: &mut Params, name: &str, c_in: usize, c_out: usize) -> Result<Self> {
        let init = Init::Uniform(1.0 / (c_in as f64).sqrt());
        Ok(Self {
            weight: params.add(format!("{name}.weight"), &[c_in, c_out], init)?,
            bias: params.add(format!("{name}.bias"), &[c_out], Init::Constant(0.0))?,
        })
    }

    /// act(x w + b), x `[n, c_in]`.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Value, activation: Activation) -> Result<Value> {
        let (weight, bias) = (pass.param(self.weight), pass.param(self.bias));
        let y = pass.tape.matmul(x, &weight)?;
        pass.tape.bias(&y, Some(&bias), activation)
    }

    /// The layer for inference.
    #[must_use]
    pub fn freeze(&self, params: &Params, activation: Activation) -> InferenceLayer {
        let bias = Some(params.value(self.bias).clone());
        InferenceLayer::Linear { w: params.value(self.weight).clone(), bias, activation }
    }
}

/// Squeeze-excite (Hu et al. 2018).
#[derive(Clone, Debug)]
pub struct SqueezeExcite {
    squeeze: Linear,
    excite: Linear,
    /// Of the squeezed channels.
    activation: Activation,
    /// Of the gates: a sigmoid, hard or not.
    gate: Activation,
}

impl SqueezeExcite {
    /// # Errors
    /// When the device has no memory left.
    pub fn new(
        params: &mut Params,
        name: &str,
        channels: usize,
        squeezed: usize,
        (activation, gate): (Activation, Activation),
    ) -> Result<Self> {
        Ok(Self {
            squeeze: Linear::new(params, &format!("{name}.squeeze"), channels, squeezed)?,
            excite: Linear::new(params, &format!("{name}.excite"), squeezed, channels)?,
            activation,
            gate,
        })
    }

    /// The weights in this pass; `mask` `[squeezed]` multiplies the squeezed channels.
    #[must_use]
    pub fn weights(&self, pass: &Pass<'_>, mask: Option<Value>) -> SqueezeExciteWeights<Value> {
        SqueezeExciteWeights {
            squeeze: pass.param(self.squeeze.weight),
            squeeze_bias: pass.param(self.squeeze.bias),
            excite: pass.param(self.excite.weight),
            excite_bias: pass.param(self.excite.bias),
            mask,
            activation: self.activation,
            gate: self.gate,
        }
    }

    /// Pooled features x `[n, c]` times their gates.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Value) -> Result<Value> {
        let squeezed = self.squeeze.forward(pass, x, self.activation)?;
        let gates = self.excite.forward(pass, &squeezed, self.gate)?;
        pass.tape.multiply(x, &gates)
    }

    /// The weights for inference.
    #[must_use]
    pub fn freeze(&self, params: &Params) -> SqueezeExciteWeights {
        SqueezeExciteWeights {
            squeeze: params.value(self.squeeze.weight).clone(),
            squeeze_bias: params.value(self.squeeze.bias).clone(),
            excite: params.value(self.excite.weight).clone(),
            excite_bias: params.value(self.excite.bias).clone(),
            mask: None,
            activation: self.activation,
            gate: self.gate,
        }
    }
}
