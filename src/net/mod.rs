//! Networks: one builder for the supernets and for what is derived from them.

mod block;
mod ends;
mod explicit;
mod freeze;
mod gated;
mod gates;
mod masked_norm;
mod residual;
mod resolution;
mod shared;
mod supernet;

pub use block::{Block, BlockGates, FilterMasks};
pub use explicit::{ExplicitSupernet, ExplicitTapeGates};
pub use freeze::FrozenNetwork;
pub use gated::GatedNetwork;
pub use gates::{GateGradients, GateValues, NetGates};
pub use resolution::ResolutionPath;
pub use shared::{SharedWeights, Subnetwork};
pub use supernet::{Supernet, SupernetTapeGates};

use crate::nn::{Params, Pass};
use crate::rng::Seed;
use crate::space::{ArchSpec, NetworkPlan};
use crate::tape::Value;
use candle_core::{Device, Result, Tensor};
use ends::{Classifier, HeadLayers, Stem};
use resolution::StageMaps;
use std::rc::Rc;

/// A network's layers; its numbers live in [`Params`].
#[derive(Debug)]
pub struct Network {
    /// Pixels a side of the images that it sees.
    resolution: usize,
    stem: Rc<Stem>,
    blocks: Vec<Rc<Block>>,
    head: Rc<HeadLayers>,
    classifier: Classifier,
}

impl Network {
    /// Adds the plan's parameters to `params`.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(params: &mut Params, plan: &NetworkPlan) -> Result<Self> {
        let stem = Rc::new(Stem::new(params, plan)?);
        let blocks = plan.blocks.iter().map(|block| Block::new(params, block).map(Rc::new));
        let blocks = blocks.collect::<Result<_>>()?;
        let (head, classifier) = HeadLayers::new(params, plan)?;
        Ok(Self { resolution: plan.resolution, stem, blocks, head: Rc::new(head), classifier })
    }

    /// The derived network with fresh weights.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn of_arch(arch: &ArchSpec, seed: Seed, device: &Device) -> Result<(Self, Params)> {
        let mut params = Params::new(seed, device);
        let net = Self::new(&mut params, &NetworkPlan::derived(arch))?;
        Ok((net, params))
    }

    /// Images `[n, h, w, c]` → logits `[n, classes]`. Of larger images it sees the pixels of the
    /// uniform grid that the supernet chose its resolution on: a network is trained and tested on
    /// what it was chosen for, however good another way of resizing may be.
    ///
    /// # Errors
    /// When an operator fails, or the images are too small.
    pub fn forward(&self, pass: &mut Pass<'_>, images: &Tensor) -> Result<Value> {
        let only = [Rc::new(ResolutionPath::only(Vec::new()))];
        self.forward_gated(pass, &resolution::seen(images, self.resolution)?, &only)
    }

    /// [`Network::forward`] with the gates of each resolution, the largest first; images are of the
    /// size that the first one sees.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward_gated(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        paths: &[Rc<ResolutionPath>],
    ) -> Result<Value> {
        let mut flow = StageMaps::of(images, paths)?;
        let stem = self.stem.clone();
        flow.stage(pass, false, move |pass, x, path| stem.forward(pass, x, path.stem.clone()))?;
        for (i, block) in self.blocks.iter().enumerate() {
            let block = block.clone();
            flow.stage(pass, true, move |pass, x, path| block.forward(pass, x, &path.block(i)))?;
        }
        let head = self.head.clone();
        let features =
            flow.pool(pass, move |pass, x, path| head.forward(pass, x, path.head.clone()))?;
        self.classifier.forward(pass, features)
    }
}
