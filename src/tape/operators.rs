//! Operator calls on the tape: each runs the forward pass and records what the backward pass needs.

use super::slots::{GatedSumSlots, squeeze_excite_slots};
use super::{Tape, Value};
use crate::ops::depthwise::{self, Expand};
use crate::ops::norm::{self, GatedSum, PreActivation};
use crate::ops::project::{self, SqueezeExciteWeights};
use crate::ops::{self, Moments};
use crate::space::Activation;
use candle_core::Result;

impl Tape {
    /// [`ops::matmul`]: x `[…, c_in]` · w `[c_in, c_out]`.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn matmul(&mut self, x: &Value, w: &Value) -> Result<Value> {
        let y = ops::matmul::forward(&x.tensor, &w.tensor)?;
        let (xs, ws) = (x.tensor.clone(), w.tensor.clone());
        Ok(self.push("matmul", y, [x, w], move |[x, w], dy| {
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

    /// [`ops::depthwise`]: x `[n, h, w, c_in]`, an optional expansion, filter `[k·k, c]`. Also returns
    /// the moments of the output if `statistics` are asked for.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn depthwise(
        &mut self,
        x: &Value,
        expand: Option<&Expand<Value>>,
        filter: &Value,
        stride: usize,
        statistics: bool,
    ) -> Result<(Value, Option<Moments>)> {
        let plain = expand.map(|expand| expand.map(Value::to_tensor));
        let (y, moments) =
            depthwise::forward(&x.tensor, plain.as_ref(), &filter.tensor, stride, statistics)?;
        let none = [None; 3];
        let front = expand.map_or(none, |e| [e.w.slot, e.norm.gamma.slot, e.norm.beta.slot]);
        let slots = [x.slot, filter.slot, front[0], front[1], front[2]];
        let (xs, filters) = (x.tensor.clone(), filter.tensor.clone());
        let y = self.record("depthwise", y, &slots, move |dy| {
            let wanted = depthwise::DepthwiseWanted {
                input: slots[0].is_some(),
                weights: slots[1..].iter().any(Option::is_some),
            };
            let g = depthwise::backward(&xs, plain.as_ref(), &filters, stride, &dy, wanted)?;
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

    /// [`ops::project`]: batch norm, activation, mask and squeeze-excite of the hidden channels, then a
    /// 1x1 convolution. Also returns the moments of the output if `statistics` are asked for.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn project(
        &mut self,
        input: &PreActivation<Value>,
        mask: Option<&Value>,
        squeeze_excite: Option<&SqueezeExciteWeights<Value>>,
        w: &Value,
        statistics: bool,
    ) -> Result<(Value, Option<Moments>)> {
        let plain = input.map(Value::to_tensor);
        let mask_row = mask.map(|m| m.tensor.clone());
        let layers = squeeze_excite.map(|weights| weights.map(Value::to_tensor));
        let (y, moments) =
            project::forward(&plain, mask_row.as_ref(), layers.as_ref(), &w.tensor, statistics)?;
        let own = [input.z.slot, input.norm.gamma.slot, input.norm.beta.slot, w.slot];
        let mask_slot = mask.and_then(|m| m.slot);
        let gate_slots = squeeze_excite.map_or([None; 5], squeeze_excite_slots);
        let slots: Vec<_> = own.into_iter().chain([mask_slot]).chain(gate_slots).collect();
        let ws = w.tensor.clone();
        let y = self.record("project", y, &slots, move |dy| {
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

    /// [`ops::norm`]: batch norm and activation of each branch, their gated sum, residual and mask.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn gated_sum(&mut self, sum: &GatedSum<Value>) -> Result<Value> {
        let plain = sum.map(Value::to_tensor);
        let y = norm::forward(&plain)?;
        let slots = GatedSumSlots::of(sum);
        Ok(self.record("gated sum", y, &slots.all(), move |dy| {
            let gradients = norm::backward(&plain, &dy, &slots.wanted())?;
            Ok(slots.contributions(gradients))
        }))
    }

    /// [`ops::conv`]: x `[n, h, w, c_in]`, w `[k·k, c_in, c_out]`, `shape` the kernel size and stride.
    /// Also returns the moments of the output if `statistics` are asked for.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn conv(
        &mut self,
        x: &Value,
        w: &Value,
        shape: (usize, usize),
        statistics: bool,
    ) -> Result<(Value, Option<Moments>)> {
        let (y, moments) = ops::conv::forward(&x.tensor, &w.tensor, shape, statistics)?;
        let (xs, ws) = (x.tensor.clone(), w.tensor.clone());
        let y = self.push("conv", y, [x, w], move |[x, w], dy| {
            let g = ops::conv::backward(&xs, &ws, shape, &dy, (x.is_some(), w.is_some()))?;
            Ok([(x, g.dx), (w, g.dw)].into_iter().filter_map(|(s, d)| Some((s, d?))).collect())
        });
        Ok((y, moments))
    }

    /// [`ops::pool`]: the mean over pixels.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn pool(&mut self, x: &Value) -> Result<Value> {
        let (_, h, w, _) = x.tensor.dims4()?;
        let y = ops::pool::forward(&x.tensor)?;
        Ok(self
            .push("pool", y, [x], move |[x], dy| Ok(vec![(x, ops::pool::backward(&dy, (h, w))?)])))
    }

    /// [`ops::bias`]: bias and activation on a matrix.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn bias(
        &mut self,
        x: &Value,
        bias: Option<&Value>,
        activation: Activation,
    ) -> Result<Value> {
        let bias_row = bias.map(|bias| bias.tensor.clone());
        let y = ops::bias::forward(&x.tensor, bias_row.as_ref(), activation)?;
        let slots = [x.slot, bias.and_then(|bias| bias.slot)];
        let xs = x.tensor.clone();
        Ok(self.record("bias", y, &slots, move |dy| {
            let g = ops::bias::backward(&xs, bias_row.as_ref(), activation, &dy)?;
            let mut parts = vec![(slots[0], g.dx)];
            parts.extend(g.dbias.map(|dbias| (slots[1], dbias)));
            Ok(parts)
        }))
    }

    /// [`ops::pad`]: the sum of values `[n, h, w, c_i]`, each padded with zeros to `width` channels.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn sum_padded(&mut self, parts: &[Value], width: usize) -> Result<Value> {
        let tensors: Vec<_> = parts.iter().map(Value::tensor).collect();
        let y = ops::pad::sum(&tensors, width)?;
        let slots: Vec<_> = parts.iter().map(|part| part.slot).collect();
        let widths = tensors.iter().map(|x| x.dim(3)).collect::<Result<Vec<_>>>()?;
        Ok(self.record("padded sum", y, &slots.clone(), move |dy| {
            let parts = slots.into_iter().zip(widths).filter(|(slot, _)| slot.is_some());
            parts.map(|(slot, width)| Ok((slot, ops::pad::backward(&dy, width)?))).collect()
        }))
    }

    /// [`ops::pad::cut`]: the first `width` channels of x `[n, h, w, c]`.
    ///
    /// # Errors
    /// When x has fewer channels.
    pub fn cut(&mut self, x: &Value, width: usize) -> Result<Value> {
        let c = x.tensor.dim(3)?;
        if width == c {
            return Ok(x.clone());
        }
        let y = ops::pad::cut(&x.tensor, width)?;
        Ok(self.push("cut", y, [x], move |[x], dy| Ok(vec![(x, ops::pad::cut_backward(&dy, c)?)])))
    }
}
