//! The weights of a derived network under the names and in the layout of the published networks' state
//! dicts (facebookresearch/mobile-vision), in both directions. [`super::layer_names`] has the names.
//!
//! Filters `[k², c_in, c_out]`, `[c_in, c_out]` and `[k², c]` become `[c_out, c_in, k, k]`, `[c_out, c_in, 1, 1]`
//! and `[c, 1, k, k]`. Where channels are shuffled there, the hidden channels keep their places here; see
//! [`crate::ops::groups`].

use super::Network;
use super::layer_names::{LayerName, LayerNames, unshuffled};
use crate::nn::Params;
use crate::ops::gpu;
use crate::space::{ArchSpec, NetworkPlan};
use crate::text::printable_name;
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
        let turned = entry.places()?.into_iter().map(|place| values[place]).collect();
        all.push((entry.name, Tensor::from_vec(turned, entry.dims, &Device::Cpu)?));
    }
    Ok(all)
}

/// Names and shapes of the network's state dict.
///
/// # Errors
/// When the network cannot be built.
pub fn state_dict_shapes(arch: &ArchSpec) -> Result<Vec<(String, Vec<usize>)>> {
    let mut params = Params::shapes(&Device::Cpu);
    Network::new(&mut params, &NetworkPlan::derived(arch))?;
    let entries = entries(arch, &params)?;
    Ok(entries.into_iter().map(|entry| (entry.name, entry.dims)).collect())
}

/// Sets the weights of a derived network to those of a state dict. Biases of convolutions before a batch norm
/// are taken into its running means. Returns what is wrong with the state dict; no weights are set then, and
/// no memory is taken for them.
///
/// # Errors
/// When the weights are not those of the network, or memory runs out.
pub fn load_state_dict(
    arch: &ArchSpec,
    params: &mut Params,
    state: &BTreeMap<String, Tensor>,
) -> Result<Mismatch> {
    let entries = entries(arch, params)?;
    let mismatch = Mismatch::of(&entries, state);
    if !mismatch.is_empty() {
        return Ok(mismatch);
    }
    let mut values: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.own.is_some()) {
        let given = host_values(&state[&entry.name])?;
        let (mut turned, places) = (vec![0_f32; given.len()], entry.places()?);
        for (value, place) in given.iter().zip(&places) {
            turned[*place] = *value;
        }
        // The mean of x + b is that of x, plus b.
        if let Some(bias) = entry.folded_bias().and_then(|bias| state.get(&bias)) {
            for (value, place) in host_values(bias)?.iter().zip(&places) {
                turned[*place] -= *value;
            }
        }
        values.push((entry.own_name.clone(), entry.own_dims.clone(), turned));
    }
    let device = params.device().clone();
    for (name, dims, turned) in values {
        params.set(&name, &gpu::upload(turned, dims, &device)?)?;
    }
    Ok(mismatch)
}

/// How a state dict differs from that of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// One sentence for each tensor that has another shape.
    pub reshaped: Vec<String>,
    /// Those that are missing, with their shapes.
    pub missing: Vec<String>,
    /// The printable names of those that the network does not have.
    pub unexpected: Vec<String>,
}

impl Mismatch {
    fn of(entries: &[Entry<'_>], state: &BTreeMap<String, Tensor>) -> Self {
        let mut mismatch = Self::default();
        let mut left: BTreeMap<&str, &Tensor> =
            state.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        left.retain(|name, _| !name.ends_with(".num_batches_tracked"));
        // Where the network has no tensor, its state dict has a bias of zeros, which may be missing.
        for entry in entries.iter().filter(|entry| entry.own.is_some()) {
            let Entry { name, dims, .. } = entry;
            match left.remove(name.as_str()) {
                None => mismatch.missing.push(format!("{name} {dims:?}")),
                Some(given) if given.dims() != dims => {
                    mismatch.reshaped.push(format!("{name} is {:?}, not {dims:?}", given.dims()));
                }
                Some(_) => {}
            }
            if let Some(bias) = entry.folded_bias()
                && let Some(given) = left.remove(bias.as_str())
                && given.elem_count() != dims[0]
            {
                mismatch.reshaped.push(format!("{bias} is {:?}, not {dims:?}", given.dims()));
            }
        }
        mismatch.unexpected = left.keys().map(|name| printable_name(name)).collect();
        mismatch
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tensors that differ.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reshaped.len() + self.missing.len() + self.unexpected.len()
    }
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
    own_name: String,
    own_dims: Vec<usize>,
    layer: LayerName,
}

impl Entry<'_> {
    /// For each of its values, the place of the value here.
    fn places(&self) -> Result<Vec<usize>> {
        match self.own_dims[..] {
            [outputs] => Ok((0..outputs).map(|o| self.layer.output(o, outputs)).collect()),
            _ => filter_places(&self.own_dims, &self.layer),
        }
    }

    /// The name of a bias that a state dict may have, and that is part of these running means here.
    fn folded_bias(&self) -> Option<String> {
        let layer = self.name.strip_suffix(".bn.running_mean")?;
        Some(format!("{layer}.conv.bias"))
    }
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
        let dims =
            if last == "weight" { filter_dims(&own_dims, &layer)? } else { own_dims.clone() };
        let (name_there, own_name) = (format!("{part}.{kind}"), name.to_owned());
        let zero_bias = (last == "weight" && layer.has_zero_bias).then(|| Entry {
            name: format!("{part}.bias"),
            dims: vec![dims[0]],
            own: None,
            own_name: String::new(),
            own_dims: Vec::new(),
            layer: layer.clone(),
        });
        let own = Some(tensor);
        entries.push(Entry { name: name_there, dims, own, own_name, own_dims, layer });
        entries.extend(zero_bias);
    }
    Ok(entries)
}

/// Taps, inputs and outputs of a filter.
fn filter_sizes(dims: &[usize], layer: &LayerName) -> Result<(usize, usize, usize)> {
    Ok(match (dims, layer.is_depthwise) {
        (&[taps, c], true) => (taps, 1, c),
        (&[c_in, c_out], false) => (1, c_in, c_out),
        (&[taps, c_in, c_out], false) => (taps, c_in, c_out),
        (dims, _) => bail!("{dims:?} is no filter"),
    })
}

/// The shape of a filter there.
fn filter_dims(dims: &[usize], layer: &LayerName) -> Result<Vec<usize>> {
    let (taps, c_in, c_out) = filter_sizes(dims, layer)?;
    let kernel = taps.isqrt();
    Ok(vec![c_out, c_in, kernel, kernel])
}

/// For each value of a filter there, the place here.
fn filter_places(dims: &[usize], layer: &LayerName) -> Result<Vec<usize>> {
    let (taps, c_in, c_out) = filter_sizes(dims, layer)?;
    let mut places = Vec::with_capacity(taps * c_in * c_out);
    for o in 0..c_out {
        let output = layer.output(o, c_out);
        for i in 0..c_in {
            let input = unshuffled(i, c_in, layer.shuffled.0);
            places.extend((0..taps).map(|tap| (tap * c_in + input) * c_out + output));
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
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
            assert!(load_state_dict(&arch, &mut other, &state).unwrap().is_empty());
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
        let before = params.sha256().unwrap();
        let mismatch = load_state_dict(&arch, &mut params, &state).unwrap();
        assert_eq!(
            mismatch.reshaped,
            ["head.conv.weight is [10, 1600, 1, 1], not [1000, 1600, 1, 1]"]
        );
        assert_eq!(mismatch.missing, ["head.conv.bias [1000]"]);
        assert_eq!(mismatch.unexpected, ["head.fc.weight"]);
        assert_eq!(params.sha256().unwrap(), before);
    }

    #[test]
    fn a_bias_before_a_batch_norm_moves_its_mean() {
        let (arch, mut params) = built("FBNetV2_F1");
        let mut state: BTreeMap<String, Tensor> =
            state_dict(&arch, &params).unwrap().into_iter().collect();
        let bias = Tensor::arange(0_f32, 8.0, &Device::Cpu).unwrap();
        state.insert("backbone.stages.xif0_0.conv.bias".into(), bias);
        assert!(load_state_dict(&arch, &mut params, &state).unwrap().is_empty());
        let mean = params.named().find(|(name, _)| *name == "stem.running_mean").unwrap().1;
        let expected: Vec<f32> = (0..8).map(|i| -(i as f32)).collect();
        assert_eq!(mean.to_vec1::<f32>().unwrap(), expected);
    }
}
