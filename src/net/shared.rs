//! Weights that all networks of a space share. A subnetwork is extracted from the weights of the
//! supernet, trained or scored on its own, and written back.
//!
//! The supernet with one-hot gates equals the extracted subnetwork (tests check logits and
//! gradients), so that the other options need not run. A subnetwork has the first channels of every
//! tensor, as under the channel masks.

use super::{Network, NetworkPlan};
use crate::nn::Params;
use crate::rng::Seed;
use crate::space::{BlockDecision, Decisions, SearchSpace};
use candle_core::{Device, Result, Tensor};
use std::collections::BTreeMap;

/// The weights of the supernet. The running statistics of its batch norms mix all networks and are not
/// used.
pub struct SharedWeights {
    space: SearchSpace,
    params: Params,
    /// The index of each parameter in `params`.
    positions: BTreeMap<String, usize>,
}

/// One network with its own copy of the weights, and where they come from.
pub struct Subnetwork {
    pub net: Network,
    pub params: Params,
    /// The index of each parameter among the shared weights.
    sources: Vec<usize>,
}

impl SharedWeights {
    /// Initial weights.
    ///
    /// # Errors
    /// When the device runs out of memory.
    pub fn new(space: &SearchSpace, seed: Seed, device: &Device) -> Result<Self> {
        let mut params = Params::new(seed, device);
        Network::new(&mut params, &NetworkPlan::supernet(space))?;
        Ok(Self::of(space, params))
    }

    /// The weights of a supernet of `space`.
    #[must_use]
    pub fn of(space: &SearchSpace, params: Params) -> Self {
        let weights = params.tensors().count();
        let names = params.named().take(weights).map(|(name, _)| name.to_owned());
        let positions = names.enumerate().map(|(i, name)| (name, i)).collect();
        Self { space: space.clone(), params, positions }
    }

    #[must_use]
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The network that `decisions` name, with copies of its weights.
    ///
    /// # Errors
    /// When the device runs out of memory.
    pub fn extract(&self, decisions: &Decisions) -> Result<Subnetwork> {
        let mut params = Params::zeros(self.params.device());
        let net = Network::new(&mut params, &NetworkPlan::derived(&self.space.decide(decisions)))?;
        let mut sources = Vec::new();
        for (name, _) in params.named().take(params.tensors().count()) {
            let from = source_name(&self.space, &decisions.blocks, name);
            let Some(&source) = self.positions.get(&from) else {
                candle_core::bail!("the supernet has no {from:?} for {name:?}")
            };
            sources.push(source);
        }
        let mut subnetwork = Subnetwork { net, params, sources };
        let whole: Vec<Tensor> = self.tensors().cloned().collect();
        for (position, tensor) in subnetwork.slices_of(&whole)?.into_iter().enumerate() {
            subnetwork.params.replace(position, tensor)?;
        }
        Ok(subnetwork)
    }

    /// Replaces the shared weights with those of the subnetwork.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn write_back(&mut self, subnetwork: &Subnetwork) -> Result<()> {
        let mut whole: Vec<Tensor> = self.tensors().cloned().collect();
        let parts: Vec<Tensor> =
            subnetwork.params.tensors().map(|(part, _)| part.clone()).collect();
        subnetwork.write_into(&mut whole, &parts)?;
        for &source in &subnetwork.sources {
            self.params.replace(source, whole[source].clone())?;
        }
        Ok(())
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.params.tensors().map(|(tensor, _)| tensor)
    }
}

impl Subnetwork {
    /// The slices of this subnetwork, copied from tensors in the order and shape of the shared weights.
    ///
    /// # Errors
    /// When the device runs out of memory.
    pub fn slices_of(&self, whole: &[Tensor]) -> Result<Vec<Tensor>> {
        let shapes = self.params.tensors().map(|(like, _)| like.dims());
        let parts = self.sources.iter().zip(shapes);
        parts.map(|(&source, dims)| first(&whole[source], dims)).collect()
    }

    /// The inverse of [`Subnetwork::slices_of`]: writes the slices into the whole tensors.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn write_into(&self, whole: &mut [Tensor], parts: &[Tensor]) -> Result<()> {
        for (&source, part) in self.sources.iter().zip(parts) {
            whole[source] = with_first(&whole[source], part, 0)?;
        }
        Ok(())
    }
}

/// The name in the supernet of a tensor of the derived network: the branch has the name of its type.
fn source_name(space: &SearchSpace, decisions: &[BlockDecision], name: &str) -> String {
    for (choices, decision) in space.blocks.iter().zip(decisions) {
        for branch in ["mbconv", "skip", "residual"] {
            let prefix = format!("blocks.{}.{branch}.", choices.label());
            if let Some(rest) = name.strip_prefix(&prefix) {
                let chosen = choices.types[decision.block_type];
                return format!("blocks.{}.{chosen}.{rest}", choices.label());
            }
        }
    }
    name.to_owned()
}

/// A copy of the first `dims` entries along every axis.
fn first(whole: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let mut sizes = whole.dims().iter().zip(dims);
    if whole.rank() != dims.len() || sizes.any(|(all, part)| part > all) {
        candle_core::bail!("the supernet has no {dims:?} in {:?}", whole.dims());
    }
    let mut part = whole.clone();
    for (axis, size) in dims.iter().enumerate() {
        part = part.narrow(axis, 0, *size)?;
    }
    part.force_contiguous()
}

/// `whole`, whose first entries along `axis` and all later axes are replaced with `part`.
fn with_first(whole: &Tensor, part: &Tensor, axis: usize) -> Result<Tensor> {
    if axis == whole.rank() {
        return Ok(part.clone());
    }
    let (size, all) = (part.dim(axis)?, whole.dim(axis)?);
    let begin = with_first(&whole.narrow(axis, 0, size)?, part, axis + 1)?;
    if size == all {
        return Ok(begin);
    }
    Tensor::cat(&[&begin, &whole.narrow(axis, size, all - size)?], axis)?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_written_back_in_place() {
        let whole = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
        let part = first(&whole, &[2, 3]).unwrap();
        assert_eq!(part.to_vec2::<f32>().unwrap(), [[0.0, 1.0, 2.0], [4.0, 5.0, 6.0]]);
        let back = with_first(&whole, &(part * -1.0).unwrap(), 0).unwrap();
        let expected = [[0.0, -1.0, -2.0, 3.0], [-4.0, -5.0, -6.0, 7.0], [8.0, 9.0, 10.0, 11.0]];
        assert_eq!(back.to_vec2::<f32>().unwrap(), expected);
    }
}
