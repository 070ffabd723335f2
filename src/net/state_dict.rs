//! The weights of a derived network under the names and in the layout of the published networks' state
//! dicts (facebookresearch/mobile-vision), so that other programs can load them.
//!
//! | here | there |
//! |---|---|
//! | `stem` | `backbone.stages.xif0_0`, with a `conv.bias` of zeros |
//! | `blocks.S.B.mbconv` `.expand` `.depthwise` `.project` | `backbone.stages.xifS_(B-1)` `.pw` `.dw` `.pwl` |
//! | `.se.squeeze`, `.se.excite` | `.se.se.0.conv`, `.se.se.1` |
//! | `blocks.S.B.skip` | the stage's `conv` and `bn` |
//! | `blocks.S.B.residual` `.first` `.second` | the stage's `conv1` `conv2`, names of our own |
//! | `head` | the stage behind the last one, as `pw` where a 1x1 convolution follows the pooling |
//! | `classifier` | `head.conv` |
//!
//! Filters `[k², c_in, c_out]`, `[c_in, c_out]` and `[k², c]` become `[c_out, c_in, k, k]`, `[c_out, c_in, 1, 1]`
//! and `[c, 1, k, k]`.

use crate::nn::Params;
use crate::ops::gpu;
use candle_core::{Device, Result, Tensor, bail};

/// Names and tensors of a derived network with these weights, on the CPU.
///
/// # Errors
/// When the weights are not those of a derived network, or cannot be read from the device.
pub fn state_dict(params: &Params) -> Result<Vec<(String, Tensor)>> {
    let named: Vec<(&str, &Tensor)> = params.named().collect();
    let last_stage = named.iter().filter_map(|(name, _)| stage_of(name)).max().unwrap_or(0);
    let pools_first = named.iter().any(|(name, _)| name.starts_with("head.after_pool."));
    let mut entries = Vec::with_capacity(named.len() + 2);
    for (name, tensor) in named {
        let (layer, last) = name.rsplit_once('.').unwrap_or(("", name));
        let Some(layer) = layer_name(layer, last_stage + 1, pools_first) else {
            bail!("{name:?} is no weight of a derived network")
        };
        let (part, kind) = match last {
            "weight" => (&layer.conv[..], "weight"),
            "bias" => (&layer.conv[..], "bias"),
            "gamma" => (&layer.norm[..], "weight"),
            "beta" => (&layer.norm[..], "bias"),
            "running_mean" | "running_var" => (&layer.norm[..], last),
            _ => bail!("{name:?} is no weight of a derived network"),
        };
        if last == "weight" {
            let filter = filter(tensor, layer.is_depthwise)?;
            let c_out = filter.dim(0)?;
            entries.push((format!("{part}.{kind}"), filter));
            if layer.has_zero_bias {
                let zeros = Tensor::from_vec(vec![0_f32; c_out], c_out, &Device::Cpu)?;
                entries.push((format!("{part}.bias"), zeros));
            }
        } else {
            let tensor = Tensor::from_vec(gpu::download(tensor)?, tensor.dims(), &Device::Cpu)?;
            entries.push((format!("{part}.{kind}"), tensor));
        }
    }
    Ok(entries)
}

/// The number in `blocks.S.B.…`.
fn stage_of(name: &str) -> Option<usize> {
    name.strip_prefix("blocks.")?.split('.').next()?.parse().ok()
}

/// What a layer is called there.
struct LayerName {
    conv: String,
    norm: String,
    is_depthwise: bool,
    /// Whether the convolution there has a bias, which batch norm makes useless.
    has_zero_bias: bool,
}

fn layer_name(layer: &str, head: usize, pools_first: bool) -> Option<LayerName> {
    let stage = |stage: usize, block: usize| format!("backbone.stages.xif{stage}_{block}");
    let named = |base: String| LayerName {
        conv: format!("{base}.conv"),
        norm: format!("{base}.bn"),
        is_depthwise: false,
        has_zero_bias: false,
    };
    match layer {
        "stem" => return Some(LayerName { has_zero_bias: true, ..named(stage(0, 0)) }),
        "head" if pools_first => return Some(named(format!("{}.pw", stage(head, 0)))),
        "head" => return Some(LayerName { has_zero_bias: true, ..named(stage(head, 0)) }),
        "head.after_pool" => return Some(named(format!("{}.pwl", stage(head, 0)))),
        "classifier" => return Some(named("head".to_owned())),
        _ => {}
    }
    let mut parts = layer.strip_prefix("blocks.")?.splitn(3, '.');
    let (s, b): (usize, usize) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let base = stage(s, b.checked_sub(1)?);
    let se = |part: &str| LayerName { conv: format!("{base}.se.se.{part}"), ..named(base.clone()) };
    Some(match parts.next()? {
        "mbconv.expand" => named(format!("{base}.pw")),
        "mbconv.depthwise" => LayerName { is_depthwise: true, ..named(format!("{base}.dw")) },
        "mbconv.project" => named(format!("{base}.pwl")),
        "mbconv.se.squeeze" => se("0.conv"),
        "mbconv.se.excite" => se("1"),
        "skip" => named(base),
        "residual.first" => named(format!("{base}.conv1")),
        "residual.second" => named(format!("{base}.conv2")),
        _ => return None,
    })
}

/// A filter in the layout of PyTorch.
fn filter(weight: &Tensor, is_depthwise: bool) -> Result<Tensor> {
    let (taps, c_in, c_out) = match (weight.dims(), is_depthwise) {
        (&[taps, c], true) => (taps, 1, c),
        (&[c_in, c_out], false) => (1, c_in, c_out),
        (&[taps, c_in, c_out], false) => (taps, c_in, c_out),
        (dims, _) => bail!("{dims:?} is no filter"),
    };
    let kernel = taps.isqrt();
    let values = gpu::download(weight)?;
    let at = |o: usize, i: usize, tap: usize| values[(tap * c_in + i) * c_out + o];
    let mut turned = Vec::with_capacity(values.len());
    for o in 0..c_out {
        for i in 0..c_in {
            turned.extend((0..taps).map(|tap| at(o, i, tap)));
        }
    }
    Tensor::from_vec(turned, (c_out, c_in, kernel, kernel), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(names: &[(&str, &[usize])]) -> Params {
        let mut params = Params::zeros(&Device::Cpu);
        for (name, shape) in names {
            params.add((*name).to_owned(), shape, crate::nn::Init::Constant(0.0)).unwrap();
        }
        params
    }

    fn shapes(params: &Params) -> Vec<(String, Vec<usize>)> {
        let entries = state_dict(params).unwrap().into_iter();
        entries.map(|(name, tensor)| (name, tensor.dims().to_vec())).collect()
    }

    #[test]
    fn names_and_shapes_are_those_of_the_published_networks() {
        // Layers of FBNetV2-F1; shapes as in its published state dict.
        let params = params(&[
            ("stem.weight", &[9, 3, 8]),
            ("stem.gamma", &[8]),
            ("blocks.2.1.mbconv.expand.weight", &[8, 48]),
            ("blocks.2.1.mbconv.depthwise.weight", &[25, 48]),
            ("blocks.3.1.mbconv.se.squeeze.weight", &[128, 32]),
            ("blocks.3.1.mbconv.se.squeeze.bias", &[32]),
            ("blocks.3.1.mbconv.se.excite.weight", &[32, 128]),
            ("blocks.5.4.mbconv.project.weight", &[640, 224]),
            ("blocks.5.4.mbconv.project.beta", &[224]),
            ("head.weight", &[224, 1344]),
            ("head.gamma", &[1344]),
            ("head.after_pool.weight", &[1344, 1600]),
            ("classifier.weight", &[1600, 1000]),
            ("classifier.bias", &[1000]),
        ]);
        let expected: [(&str, &[usize]); 15] = [
            ("backbone.stages.xif0_0.conv.weight", &[8, 3, 3, 3]),
            ("backbone.stages.xif0_0.conv.bias", &[8]),
            ("backbone.stages.xif0_0.bn.weight", &[8]),
            ("backbone.stages.xif2_0.pw.conv.weight", &[48, 8, 1, 1]),
            ("backbone.stages.xif2_0.dw.conv.weight", &[48, 1, 5, 5]),
            ("backbone.stages.xif3_0.se.se.0.conv.weight", &[32, 128, 1, 1]),
            ("backbone.stages.xif3_0.se.se.0.conv.bias", &[32]),
            ("backbone.stages.xif3_0.se.se.1.weight", &[128, 32, 1, 1]),
            ("backbone.stages.xif5_3.pwl.conv.weight", &[224, 640, 1, 1]),
            ("backbone.stages.xif5_3.pwl.bn.bias", &[224]),
            ("backbone.stages.xif6_0.pw.conv.weight", &[1344, 224, 1, 1]),
            ("backbone.stages.xif6_0.pw.bn.weight", &[1344]),
            ("backbone.stages.xif6_0.pwl.conv.weight", &[1600, 1344, 1, 1]),
            ("head.conv.weight", &[1000, 1600, 1, 1]),
            ("head.conv.bias", &[1000]),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(name, dims)| ((*name).to_owned(), dims.to_vec())).collect();
        assert_eq!(shapes(&params), expected);
    }

    #[test]
    fn filters_are_turned() {
        let weight = Tensor::arange(0_f32, 9.0 * 2.0 * 3.0, &Device::Cpu).unwrap();
        let weight = weight.reshape((9, 2, 3)).unwrap();
        let turned = filter(&weight, false).unwrap();
        let expected = weight.permute((2, 1, 0)).unwrap().reshape((3, 2, 3, 3)).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((turned.dims(), values(&turned)), (expected.dims(), values(&expected)));
        let depthwise = Tensor::arange(0_f32, 18.0, &Device::Cpu).unwrap().reshape((9, 2)).unwrap();
        let turned = filter(&depthwise, true).unwrap();
        let expected = depthwise.t().unwrap().reshape((2, 1, 3, 3)).unwrap();
        assert_eq!((turned.dims(), values(&turned)), (expected.dims(), values(&expected)));
    }
}
