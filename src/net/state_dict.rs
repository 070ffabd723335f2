//! The weights of a derived network under the names and in the layout of the published networks' state
//! dicts (facebookresearch/mobile-vision), in both directions. [`super::layer_names`] has the names.
//!
//! Filters `[k², c_in, c_out]`, `[c_in, c_out]` and `[k², c]` become `[c_out, c_in, k, k]`, `[c_out, c_in, 1, 1]`
//! and `[c, 1, k, k]`. Where channels are shuffled there, the hidden channels keep their places here; see
//! [`crate::ops::groups`].

use super::layer_names::{LayerName, LayerNames, unshuffled};
use crate::nn::Params;
use crate::ops::gpu;
use crate::space::ArchSpec;
use candle_core::{DType, Device, Result, Tensor, bail};
use std::collections::BTreeMap;

/// Names and tensors of a derived network with these weights, on the CPU.
///
/// # Errors
/// When the weights are not those of the network, or cannot be read from the device.
pub fn state_dict(arch: &ArchSpec, params: &Params) -> Result<Vec<(String, Tensor)>> {
    let mut all = Vec::new();
    for entry in entries(arch, params)? {
        let Some(own) = entry.own else {
            let zeros = vec![0_f32; entry.dims[0]];
            all.push((entry.name, Tensor::from_vec(zeros, entry.dims, &Device::Cpu)?));
            continue;
        };
        let values = gpu::download(own)?;
        let turned = entry.places.iter().map(|place| values[*place]).collect();
        all.push((entry.name, Tensor::from_vec(turned, entry.dims, &Device::Cpu)?));
    }
    Ok(all)
}

/// Sets the weights of a derived network to those of a state dict. Biases of convolutions before a batch norm
/// are taken into its running means. Returns what is wrong with the state dict, one sentence each; the
/// weights are then not all set.
///
/// # Errors
/// When the weights are not those of the network, or memory runs out.
pub fn load_state_dict(
    arch: &ArchSpec,
    params: &mut Params,
    state: &BTreeMap<String, Tensor>,
) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut values: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut left: BTreeMap<&str, &Tensor> =
        state.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    left.retain(|name, _| !name.ends_with(".num_batches_tracked"));
    for entry in entries(arch, params)? {
        let Entry { own_name: Some(own), dims, places, .. } = &entry else { continue };
        let Some(given) = left.remove(entry.name.as_str()) else {
            problems.push(format!("{} {dims:?} is missing", entry.name));
            continue;
        };
        if given.dims() != dims {
            problems.push(format!("{} is {:?}, not {dims:?}", entry.name, given.dims()));
            continue;
        }
        let given = host_values(given)?;
        let mut turned = vec![0_f32; given.len()];
        for (value, place) in given.iter().zip(places) {
            turned[*place] = *value;
        }
        // The mean of x + b is that of x, plus b.
        let bias = entry.name.strip_suffix(".bn.running_mean");
        let bias = bias.and_then(|layer| left.remove(format!("{layer}.conv.bias").as_str()));
        if let Some(bias) = bias.filter(|bias| bias.elem_count() == turned.len()) {
            for (value, place) in host_values(bias)?.iter().zip(places) {
                turned[*place] -= *value;
            }
        }
        values.push((own.clone(), entry.own_dims.clone(), turned));
    }
    problems.extend(left.keys().map(|name| format!("{name} is of no layer of the network")));
    let device = params.device().clone();
    for (name, dims, turned) in values {
        params.set(&name, &gpu::upload(turned, dims, &device)?)?;
    }
    Ok(problems)
}

fn host_values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// A tensor of a state dict.
struct Entry<'a> {
    name: String,
    dims: Vec<usize>,
    /// The tensor here; `None`: zeros.
    own: Option<&'a Tensor>,
    own_name: Option<String>,
    own_dims: Vec<usize>,
    /// For each of its values, the place of the value here.
    places: Vec<usize>,
}

/// All tensors of the network's state dict.
fn entries<'a>(arch: &ArchSpec, params: &'a Params) -> Result<Vec<Entry<'a>>> {
    let named: Vec<(&str, &Tensor)> = params.named().collect();
    let names = LayerNames::of(arch);
    let mut entries = Vec::with_capacity(named.len() + 2);
    for (name, tensor) in named {
        let (layer, last) = name.rsplit_once('.').unwrap_or(("", name));
        let Some(layer) = names.get(layer) else {
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
        let own_dims = tensor.dims().to_vec();
        let (dims, places) = match last {
            "weight" => filter(&own_dims, &layer)?,
            _ => {
                (own_dims.clone(), (0..own_dims[0]).map(|o| layer.output(o, own_dims[0])).collect())
            }
        };
        let outputs = dims[0];
        let (own, own_name) = (Some(tensor), Some(name.to_owned()));
        entries.push(Entry {
            name: format!("{part}.{kind}"),
            dims,
            own,
            own_name,
            own_dims,
            places,
        });
        if last == "weight" && layer.has_zero_bias {
            entries.push(Entry {
                name: format!("{part}.bias"),
                dims: vec![outputs],
                own: None,
                own_name: None,
                own_dims: Vec::new(),
                places: Vec::new(),
            });
        }
    }
    Ok(entries)
}

/// The shape of a filter there, and for each of its values the place here.
fn filter(dims: &[usize], layer: &LayerName) -> Result<(Vec<usize>, Vec<usize>)> {
    let (taps, c_in, c_out) = match (dims, layer.is_depthwise) {
        (&[taps, c], true) => (taps, 1, c),
        (&[c_in, c_out], false) => (1, c_in, c_out),
        (&[taps, c_in, c_out], false) => (taps, c_in, c_out),
        (dims, _) => bail!("{dims:?} is no filter"),
    };
    let kernel = taps.isqrt();
    let mut places = Vec::with_capacity(taps * c_in * c_out);
    for o in 0..c_out {
        let output = layer.output(o, c_out);
        for i in 0..c_in {
            let input = unshuffled(i, c_in, layer.shuffled.0);
            places.extend((0..taps).map(|tap| (tap * c_in + input) * c_out + output));
        }
    }
    Ok((vec![c_out, c_in, kernel, kernel], places))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Network;
    use crate::rng::Seed;
    use crate::zoo;

    fn built(name: &str) -> (ArchSpec, Params) {
        let arch = zoo::network(name).unwrap().arch;
        let (_, params) = Network::of_arch(&arch, Seed(3), &Device::Cpu).unwrap();
        (arch, params)
    }

    #[test]
    fn weights_are_read_back_to_the_bit() {
        // With squeeze-excites, groups, and both heads.
        for name in ["FBNetV2_F1", "fbnet_a", "mnv3_small"] {
            let (arch, params) = built(name);
            let state: BTreeMap<String, Tensor> =
                state_dict(&arch, &params).unwrap().into_iter().collect();
            let (_, mut other) = Network::of_arch(&arch, Seed(4), &Device::Cpu).unwrap();
            assert_ne!(other.sha256().unwrap(), params.sha256().unwrap());
            assert_eq!(load_state_dict(&arch, &mut other, &state).unwrap(), Vec::<String>::new());
            assert_eq!(other.sha256().unwrap(), params.sha256().unwrap(), "{name}");
        }
    }

    #[test]
    fn a_state_dict_that_does_not_fit_is_described() {
        let (arch, mut params) = built("FBNetV2_F1");
        let mut state: BTreeMap<String, Tensor> =
            state_dict(&arch, &params).unwrap().into_iter().collect();
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        state.remove("head.conv.bias");
        state.insert("head.conv.weight".into(), zeros(&[10, 1600, 1, 1]));
        state.insert("head.fc.weight".into(), zeros(&[1]));
        state.insert("backbone.stages.xif0_0.bn.num_batches_tracked".into(), zeros(&[1]));
        let problems = load_state_dict(&arch, &mut params, &state).unwrap();
        let expected = [
            "head.conv.weight is [10, 1600, 1, 1], not [1000, 1600, 1, 1]",
            "head.conv.bias [1000] is missing",
            "head.fc.weight is of no layer of the network",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_bias_before_a_batch_norm_moves_its_mean() {
        let (arch, mut params) = built("FBNetV2_F1");
        let mut state: BTreeMap<String, Tensor> =
            state_dict(&arch, &params).unwrap().into_iter().collect();
        let bias = Tensor::arange(0_f32, 8.0, &Device::Cpu).unwrap();
        state.insert("backbone.stages.xif0_0.conv.bias".into(), bias);
        assert_eq!(load_state_dict(&arch, &mut params, &state).unwrap(), Vec::<String>::new());
        let mean = params.named().find(|(name, _)| *name == "stem.running_mean").unwrap().1;
        let expected: Vec<f32> = (0..8).map(|i| -(i as f32)).collect();
        assert_eq!(mean.to_vec1::<f32>().unwrap(), expected);
    }
}
