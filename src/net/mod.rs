//! Networks on the tape: one builder for the supernets and the derived network.

mod block;
mod drops;
mod ends;
mod explicit;
mod freeze;
mod gated;
mod gates;
mod layer_names;
mod masked_norm;
mod pth;
mod residual;
mod resolution;
mod shared;
mod state_dict;
mod state_file;
mod supernet;

pub use block::{Block, BlockGates, FilterMasks};
pub use drops::DropNoise;
pub use explicit::{ExplicitSupernet, ExplicitTapeGates};
pub use freeze::FrozenNetwork;
pub use gated::GatedNetwork;
pub use gates::{GateGradients, GateValues, NetGates};
pub use layer_names::{LayerName, LayerNames, unshuffled};
pub use resolution::ResolutionPath;
pub use shared::{SharedWeights, Subnetwork};
pub use state_dict::{Mismatch, load_state_dict, state_dict, state_dict_shapes};
pub use state_file::{StateFile, read_state_file};
pub use supernet::{Supernet, SupernetTapeGates};

use crate::nn::{Params, Pass};
use crate::rng::Seed;
use crate::space::{ArchSpec, NetworkPlan};
use crate::tape::Value;
use candle_core::{Device, Result, Tensor};
use drops::Drops;
use ends::{Classifier, HeadLayers, Stem};
use resolution::StageMaps;
use std::rc::Rc;

/// The layers of a network. Their weights are in [`Params`].
#[derive(Debug)]
pub struct Network {
    /// Side of the input images, in pixels.
    resolution: usize,
    stem: Rc<Stem>,
    blocks: Vec<Rc<Block>>,
    head: Rc<HeadLayers>,
    classifier: Classifier,
}

impl Network {
    /// Adds the parameters of the plan to `params`.
    ///
    /// # Errors
    /// When the device runs out of memory.
    pub fn new(params: &mut Params, plan: &NetworkPlan) -> Result<Self> {
        let stem = Rc::new(Stem::new(params, plan)?);
        let blocks = plan.blocks.iter().map(|block| Block::new(params, block).map(Rc::new));
        let blocks = blocks.collect::<Result<_>>()?;
        let (head, classifier) = HeadLayers::new(params, plan)?;
        Ok(Self { resolution: plan.resolution, stem, blocks, head: Rc::new(head), classifier })
    }

    /// Takes images of another side, in pixels.
    pub fn set_resolution(&mut self, side: usize) {
        self.resolution = side;
    }

    /// The derived network with initial weights.
    ///
    /// # Errors
    /// When the device runs out of memory.
    pub fn of_arch(arch: &ArchSpec, seed: Seed, device: &Device) -> Result<(Self, Params)> {
        let mut params = Params::new(seed, device);
        let net = Self::new(&mut params, &NetworkPlan::derived(arch))?;
        Ok((net, params))
    }

    /// Images `[n, h, w, c]` → logits `[n, classes]`. Larger images are subsampled on the same uniform
    /// grid as in the supernet, so that a network is trained and tested on the images that it was
    /// searched with.
    ///
    /// # Errors
    /// When an operator fails, or the images are too small.
    pub fn forward(&self, pass: &mut Pass<'_>, images: &Tensor) -> Result<Value> {
        let only = [Rc::new(ResolutionPath::only(Vec::new()))];
        self.forward_gated(pass, &resolution::subsampled(images, self.resolution)?, &only)
    }

    /// [`Network::forward`] of a training step that leaves out parts of the network.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_dropping(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        noise: &DropNoise<'_>,
    ) -> Result<Value> {
        let Drops { blocks, features } = Drops::draw(noise, self, pass, images.dim(0)?)?;
        let only = [Rc::new(ResolutionPath::only(blocks))];
        let images = resolution::subsampled(images, self.resolution)?;
        let pooled = self.pooled(pass, &images, &only)?;
        self.classifier.forward(pass, pooled, features.as_ref())
    }

    /// [`Network::forward`] with the gates of each resolution, the largest first. The images have the
    /// size of the first resolution.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward_gated(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        paths: &[Rc<ResolutionPath>],
    ) -> Result<Value> {
        let features = self.pooled(pass, images, paths)?;
        self.classifier.forward(pass, features, None)
    }

    /// The features behind the pooling `[n, mid]`.
    fn pooled(
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
        flow.pool(pass, move |pass, x, path| head.forward(pass, x, path.head.clone()))
    }
}
