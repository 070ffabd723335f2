//! The layers of a network as nodes: convolutions with their batch norm, activations, squeeze-excites.

use super::graph::{Graph, to_i64};
use super::proto::AttributeProto;
use crate::net::{LayerName, LayerNames};
use crate::ops::norm::EPSILON;
use crate::space::{Activation, SqueezeFunctions};
use candle_core::{Device, Result, Tensor, bail};
use std::collections::BTreeMap;

/// The shape of a convolution.
#[derive(Clone, Copy)]
pub(super) struct ConvShape {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) groups: usize,
}

impl ConvShape {
    pub(super) const POINTWISE: Self = Self { kernel: 1, stride: 1, groups: 1 };

    /// Padding of k / 2 before the map, and behind it so that h pixels become ⌈h / stride⌉.
    fn attributes(self) -> Vec<AttributeProto> {
        let Self { kernel, stride, groups } = self;
        let (kernel, stride) = (to_i64(kernel), to_i64(stride));
        let (before, behind) = (kernel / 2, (kernel - 1) / 2);
        vec![
            AttributeProto::ints("kernel_shape", &[kernel, kernel]),
            AttributeProto::ints("strides", &[stride, stride]),
            AttributeProto::ints("pads", &[before, before, behind, behind]),
            AttributeProto::int("group", to_i64(groups)),
        ]
    }
}

/// Adds layers with the weights of a state dict.
pub(super) struct Layers<'a> {
    pub(super) graph: Graph,
    names: LayerNames<'a>,
    weights: BTreeMap<&'a str, &'a Tensor>,
    /// Whether batch norm is folded into the convolutions.
    fold: bool,
}

impl<'a> Layers<'a> {
    pub(super) fn new(names: LayerNames<'a>, state: &'a [(String, Tensor)], fold: bool) -> Self {
        let weights = state.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        Self { graph: Graph::default(), names, weights, fold }
    }

    /// Convolution and activation, without batch norm. `layer` is the name in [`crate::net`].
    pub(super) fn conv(
        &mut self,
        x: &str,
        layer: &str,
        shape: ConvShape,
        activation: Activation,
    ) -> Result<String> {
        let name = self.name(layer)?.conv;
        let mut inputs = vec![x.to_owned()];
        for part in ["weight", "bias"].map(|part| format!("{name}.{part}")) {
            if let Some(tensor) = self.weights.get(part.as_str()) {
                self.graph.weights(&part, tensor)?;
                inputs.push(part);
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let y = self.graph.node("Conv", &name, &inputs, shape.attributes());
        Ok(self.activation(&y, &name, activation))
    }

    /// Convolution, batch norm and activation.
    pub(super) fn conv_norm(
        &mut self,
        x: &str,
        layer: &str,
        shape: ConvShape,
        activation: Activation,
    ) -> Result<String> {
        if self.fold {
            return self.folded(x, layer, shape, activation);
        }
        let y = self.conv(x, layer, shape, Activation::Identity)?;
        let name = self.name(layer)?.norm;
        let parts = ["weight", "bias", "running_mean", "running_var"];
        let parts = parts.map(|part| format!("{name}.{part}"));
        for part in &parts {
            self.graph.weights(part, self.weight(part)?)?;
        }
        let [scale, shift, mean, variance] = parts.each_ref().map(String::as_str);
        let inputs = [y.as_str(), scale, shift, mean, variance];
        let epsilon = AttributeProto::float("epsilon", EPSILON as f32);
        let y = self.graph.node("BatchNormalization", &name, &inputs, vec![epsilon]);
        Ok(self.activation(&y, &name, activation))
    }

    /// [`Layers::conv_norm`] as one convolution with a bias.
    fn folded(
        &mut self,
        x: &str,
        layer: &str,
        shape: ConvShape,
        activation: Activation,
    ) -> Result<String> {
        let LayerName { conv, norm, .. } = self.name(layer)?;
        let (weight, bias) = self.fold(&conv, &norm)?;
        let names = [format!("{conv}.weight"), format!("{conv}.bias")];
        self.graph.weights(&names[0], &weight)?;
        self.graph.weights(&names[1], &bias)?;
        let inputs = [x, &names[0], &names[1]];
        let y = self.graph.node("Conv", &conv, &inputs, shape.attributes());
        Ok(self.activation(&y, &conv, activation))
    }

    /// The filters `[c_out, …]` of a convolution times γ / √(σ² + ε), and its bias `[c_out]`.
    fn fold(&self, conv: &str, norm: &str) -> Result<(Tensor, Tensor)> {
        let row = |name: String| self.weight(&name)?.to_vec1::<f32>();
        let filters = self.weight(&format!("{conv}.weight"))?;
        let mut values = filters.flatten_all()?.to_vec1::<f32>()?;
        let scale = row(format!("{norm}.weight"))?;
        let shift = row(format!("{norm}.bias"))?;
        let mean = row(format!("{norm}.running_mean"))?;
        let variance = row(format!("{norm}.running_var"))?;
        let bias = format!("{conv}.bias");
        let bias = if self.weights.contains_key(bias.as_str()) { row(bias)? } else { Vec::new() };
        let each = values.len() / scale.len().max(1);
        let mut shifts = Vec::with_capacity(scale.len());
        for (o, filter) in values.chunks_exact_mut(each.max(1)).enumerate() {
            let factor = f64::from(scale[o]) / (f64::from(variance[o]) + EPSILON).sqrt();
            for w in filter {
                *w = (f64::from(*w) * factor) as f32;
            }
            let bias = bias.get(o).copied().map_or(0.0, f64::from);
            shifts.push((f64::from(shift[o]) + (bias - f64::from(mean[o])) * factor) as f32);
        }
        let outputs = shifts.len();
        Ok((
            Tensor::from_vec(values, filters.shape(), &Device::Cpu)?,
            Tensor::from_vec(shifts, outputs, &Device::Cpu)?,
        ))
    }

    /// x times the gates of its pooled channels (Hu et al. 2018). `activation` is that of the squeezed
    /// channels.
    pub(super) fn squeeze_excite(
        &mut self,
        x: &str,
        layer: &str,
        (activation, gate): (Activation, Activation),
    ) -> Result<String> {
        let (squeeze, excite) = (format!("{layer}.squeeze"), format!("{layer}.excite"));
        let base = self.name(&excite)?.conv;
        let pooled = self.pool(x, &format!("{base}.pool"));
        let squeezed = self.conv(&pooled, &squeeze, ConvShape::POINTWISE, activation)?;
        let gates = self.conv(&squeezed, &excite, ConvShape::POINTWISE, gate)?;
        Ok(self.graph.node("Mul", &format!("{base}.mul"), &[x, &gates], vec![]))
    }

    /// The mean of each channel `[n, c, 1, 1]`.
    pub(super) fn pool(&mut self, x: &str, name: &str) -> String {
        self.graph.node("GlobalAveragePool", name, &[x], vec![])
    }

    fn activation(&mut self, x: &str, layer: &str, activation: Activation) -> String {
        let name = format!("{layer}.{activation}");
        let operator = match activation {
            Activation::Identity => return x.to_owned(),
            Activation::Relu => "Relu",
            Activation::Hswish => "HardSwish",
            Activation::Sigmoid => "Sigmoid",
            Activation::Hsigmoid => {
                let alpha = AttributeProto::float("alpha", 1.0 / 6.0);
                let beta = AttributeProto::float("beta", 0.5);
                return self.graph.node("HardSigmoid", &name, &[x], vec![alpha, beta]);
            }
            Activation::Swish => {
                let gate = self.graph.node("Sigmoid", &format!("{layer}.sigmoid"), &[x], vec![]);
                return self.graph.node("Mul", &name, &[x, &gate], vec![]);
            }
        };
        self.graph.node(operator, &name, &[x], vec![])
    }

    pub(super) fn name(&self, layer: &str) -> Result<LayerName> {
        let Some(name) = self.names.get(layer) else {
            bail!("{layer:?} is no layer of a derived network")
        };
        Ok(name)
    }

    fn weight(&self, name: &str) -> Result<&'a Tensor> {
        let Some(weight) = self.weights.get(name) else { bail!("there is no weight {name:?}") };
        Ok(weight)
    }
}

/// The activation of the squeezed channels and that of the gates, in a block with this activation.
pub(super) fn squeeze_functions(
    functions: SqueezeFunctions,
    block: Activation,
) -> (Activation, Activation) {
    (functions.activation.unwrap_or(block), functions.gate)
}
