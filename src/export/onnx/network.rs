//! A network as a graph of ONNX, layer by layer as in [`crate::net::Network`].

use super::graph::to_i64;
use super::layers::{ConvShape, Layers, squeeze_functions};
use super::proto::{DimensionValue, GraphProto, ValueInfoProto};
use crate::net::{LayerNames, unshuffled};
use crate::space::{Activation, ArchSpec, BlockKind, BlockSpec, ConvSpec, Head};
use candle_core::{Result, Tensor, bail};

/// The graph of a network for images of `side` pixels: `input` `[batch, channels, side, side]` → `logits`
/// `[batch, classes]`.
///
/// # Errors
/// When `state` is no state dict of the network.
pub(super) fn graph(
    arch: &ArchSpec,
    side: usize,
    state: &[(String, Tensor)],
    fold: bool,
) -> Result<GraphProto> {
    let mut layers = Layers::new(LayerNames::of(arch), state, fold);
    let mut x = subsampled(&mut layers, "input", side, arch.resolution);
    let ConvSpec { kernel, stride, width, activation } = arch.stem;
    x = layers.conv_norm(&x, "stem", ConvShape { kernel, stride, groups: 1 }, activation)?;
    let mut input = width;
    for spec in &arch.blocks {
        x = block(&mut layers, &x, input, spec)?;
        input = spec.width;
    }
    x = head(&mut layers, &x, &arch.head)?;
    x = layers.conv(&x, "classifier", ConvShape::POINTWISE, Activation::Identity)?;
    layers.graph.node("Flatten", "logits", &[&x], vec![]);
    let size = |n: usize| DimensionValue::Size(to_i64(n));
    let batch = || DimensionValue::Named("batch".to_owned());
    let images = vec![batch(), size(arch.image_channels), size(side), size(side)];
    let mut graph = layers.graph.finish("network");
    graph.input = vec![ValueInfoProto::float("input", images)];
    graph.output = vec![ValueInfoProto::float("logits", vec![batch(), size(arch.classes)])];
    Ok(graph)
}

/// The pixels ⌊i · side / resolution⌋ of both axes, as [`crate::net::Network::forward`] reads them.
fn subsampled(layers: &mut Layers<'_>, x: &str, side: usize, resolution: usize) -> String {
    if side == resolution {
        return x.to_owned();
    }
    let pixels: Vec<usize> = (0..resolution).map(|i| i * side / resolution).collect();
    let rows = layers.graph.gather("input.rows", x, 2, &pixels);
    layers.graph.gather("input.columns", &rows, 3, &pixels)
}

/// A block with `input` input channels.
fn block(layers: &mut Layers<'_>, x: &str, input: usize, spec: &BlockSpec) -> Result<String> {
    let BlockSpec { label, stride, kind, .. } = spec;
    let base = format!("blocks.{label}");
    let (y, shortcut) = match kind {
        BlockKind::Identity => return Ok(shortcut(layers, &base, x, input, spec)),
        BlockKind::Projection => {
            let shape = ConvShape { stride: *stride, ..ConvShape::POINTWISE };
            return layers.conv_norm(x, &format!("{base}.skip"), shape, Activation::Relu);
        }
        BlockKind::Residual => {
            let (first, second) =
                (format!("{base}.residual.first"), format!("{base}.residual.second"));
            let shape = ConvShape { kernel: 3, stride: *stride, groups: 1 };
            let y = layers.conv_norm(x, &first, shape, Activation::Relu)?;
            let shape = ConvShape { stride: 1, ..shape };
            let y = layers.conv_norm(&y, &second, shape, Activation::Identity)?;
            (y, shortcut(layers, &base, x, input, spec))
        }
        BlockKind::MbConv { residual, .. } => {
            let y = inverted_residual(layers, x, spec)?;
            if !residual {
                return Ok(y);
            }
            (y, x.to_owned())
        }
    };
    Ok(layers.graph.node("Add", &format!("{base}.add"), &[&y, &shortcut], vec![]))
}

/// Every `stride`-th pixel of x, cut or zero-padded to the width of the block.
fn shortcut(
    layers: &mut Layers<'_>,
    base: &str,
    x: &str,
    input: usize,
    spec: &BlockSpec,
) -> String {
    let BlockSpec { stride, width, .. } = *spec;
    let mut x = x.to_owned();
    if stride > 1 || width < input {
        x = layers.graph.slice(&format!("{base}.slice"), &x, width.min(input), stride);
    }
    if width > input {
        x = layers.graph.pad_channels(&format!("{base}.pad"), &x, width - input);
    }
    x
}

/// Expansion, depthwise convolution, squeeze-excite and projection.
fn inverted_residual(layers: &mut Layers<'_>, x: &str, spec: &BlockSpec) -> Result<String> {
    let BlockSpec { label, stride, kind, .. } = spec;
    let BlockKind::MbConv {
        kernel,
        activation,
        mid,
        expand,
        squeeze,
        groups,
        squeeze_functions: functions,
        ..
    } = kind
    else {
        bail!("block {label} is no inverted residual")
    };
    let at = |part: &str| format!("blocks.{label}.mbconv.{part}");
    let pointwise = ConvShape { groups: *groups, ..ConvShape::POINTWISE };
    let mut x = x.to_owned();
    if *expand {
        x = layers.conv_norm(&x, &at("expand"), pointwise, *activation)?;
    }
    if *groups > 1 {
        let places: Vec<usize> = (0..*mid).map(|place| unshuffled(place, *mid, *groups)).collect();
        x = layers.graph.gather(&format!("blocks.{label}.shuffle"), &x, 1, &places);
    }
    let shape = ConvShape { kernel: *kernel, stride: *stride, groups: *mid };
    x = layers.conv_norm(&x, &at("depthwise"), shape, *activation)?;
    if squeeze.is_some() {
        let functions = squeeze_functions(*functions, *activation);
        x = layers.squeeze_excite(&x, &at("se"), functions)?;
    }
    layers.conv_norm(&x, &at("project"), pointwise, Activation::Identity)
}

/// The layers between the last block and the classifier, to features `[n, c, 1, 1]`.
fn head(layers: &mut Layers<'_>, x: &str, head: &Head) -> Result<String> {
    let (Head::Conv { activation, .. } | Head::IrPool { activation, .. }) = *head;
    let x = layers.conv_norm(x, "head", ConvShape::POINTWISE, activation)?;
    let mut x = layers.pool(&x, "head.pool");
    if let Head::IrPool { squeeze, .. } = head {
        if let Some(squeeze) = squeeze {
            let functions = squeeze_functions(squeeze.functions, activation);
            x = layers.squeeze_excite(&x, "head.se", functions)?;
        }
        x = layers.conv(&x, "head.after_pool", ConvShape::POINTWISE, activation)?;
    }
    Ok(x)
}
