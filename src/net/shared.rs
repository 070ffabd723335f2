//! Weights that all networks of a space share. A subnetwork is extracted from the weights of the
//! supernet, trained or scored on its own, and written back.
//!
//! The supernet with one-hot gates equals the extracted subnetwork (tests check logits and
//! gradients), so that the other options need not run. A subnetwork has the first channels of every
//! tensor, as under the channel masks.

use super::{Network, NetworkPlan};
use crate::nn::Params;
use crate::ops::slice;
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

    /// The weights that were saved under these names, as [`Params::named`] gives them.
    ///
    /// # Errors
    /// When they are of another space, or the device runs out of memory.
    pub fn restored(
        space: &SearchSpace,
        device: &Device,
        tensors: &[(String, Tensor)],
    ) -> Result<Self> {
        let mut params = Params::zeros(device);
        Network::new(&mut params, &NetworkPlan::supernet(space))?;
        if params.named().count() != tensors.len() {
            candle_core::bail!("{} tensors are not the weights of {}", tensors.len(), space.name);
        }
        for (name, tensor) in tensors {
            params.set(name, tensor)?;
        }
        Ok(Self::of(space, params))
    }

    /// To replace weights, not to add any.
    pub fn params_mut(&mut self) -> &mut Params {
        &mut self.params
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
        parts.map(|(&source, dims)| slice::first(&whole[source], dims)).collect()
    }

    /// The inverse of [`Subnetwork::slices_of`]: writes the slices into the whole tensors.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn write_into(&self, whole: &mut [Tensor], parts: &[Tensor]) -> Result<()> {
        for (&source, part) in self.sources.iter().zip(parts) {
            whole[source] = slice::with_first(&whole[source], part)?;
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
