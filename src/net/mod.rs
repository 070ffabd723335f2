//! Networks: one builder for the supernet and for what is derived from it.

mod block;
mod freeze;
mod plan;
mod supernet;

pub use block::{Block, BlockGates};
pub use plan::{BlockPlan, Branch, Plan};
pub use supernet::{BoundGates, GateGradients, GateValues, Supernet, inherited};

use crate::nn::{BatchNorm, Conv, Conv1x1, Dense, Params, Pass};
use crate::rng::Seed;
use crate::space::{Activation, ArchSpec, Head};
use crate::tape::{Candidate, Value};
use block::single;
use candle_core::{Device, Result, Tensor};
use std::rc::Rc;

/// A network's layers; its numbers live in [`Params`].
#[derive(Debug)]
pub struct Net {
    stem: Conv,
    stem_norm: BatchNorm,
    stem_activation: Activation,
    blocks: Vec<Rc<Block>>,
    head: HeadLayers,
}

#[derive(Debug)]
struct HeadLayers {
    conv: Conv1x1,
    norm: BatchNorm,
    activation: Activation,
    /// The released networks' 1x1 convolution behind the pooling.
    after_pool: Option<Conv1x1>,
    classifier: Dense,
}

impl Net {
    /// Adds the plan's parameters to `params`.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(params: &mut Params, plan: &Plan) -> Result<Self> {
        let stem = &plan.stem;
        let channels = (plan.image_channels, stem.width);
        Ok(Self {
            stem: Conv::new(params, "stem", channels, (stem.kernel, stem.stride))?,
            stem_norm: BatchNorm::new(params, "stem", stem.width)?,
            stem_activation: stem.activation,
            blocks: plan
                .blocks
                .iter()
                .map(|block| Block::new(params, block).map(Rc::new))
                .collect::<Result<_>>()?,
            head: HeadLayers::new(params, plan)?,
        })
    }

    /// The derived network with fresh weights.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn of_arch(arch: &ArchSpec, seed: Seed, device: &Device) -> Result<(Self, Params)> {
        let mut params = Params::new(seed, device);
        let net = Self::new(&mut params, &Plan::network(arch))?;
        Ok((net, params))
    }

    /// Images `[n, h, w, c]` → logits `[n, classes]`.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward(&self, pass: &mut Pass<'_>, images: &Tensor) -> Result<Value> {
        self.forward_gated(pass, images, &[])
    }

    /// [`Net::forward`] with the gates of each block; blocks beyond the list have none.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward_gated(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        gates: &[BlockGates],
    ) -> Result<Value> {
        let images = Value::constant(images.clone());
        let (z, moments) = self.stem.forward(pass, &images)?;
        let norm = self.stem_norm.norm(pass, self.stem_activation, moments)?;
        let candidate = Candidate { z, norm };
        let mut x = single(pass, candidate, None)?;
        let none = BlockGates::default();
        for (i, block) in self.blocks.iter().enumerate() {
            let (block, gates) = (block.clone(), gates.get(i).unwrap_or(&none).clone());
            x = pass.block(move |pass| block.forward(pass, &x, &gates))?;
        }
        self.head.forward(pass, x)
    }
}

impl HeadLayers {
    fn new(params: &mut Params, plan: &Plan) -> Result<Self> {
        let input = plan.blocks.last().map_or(plan.stem.width, |block| block.width);
        let (mid, width, activation) = match plan.head {
            Head::Conv { width, activation } => (width, None, activation),
            Head::IrPool { mid, width, activation } => (mid, Some(width), activation),
        };
        let after_pool = match width {
            Some(width) => Some(Conv1x1::new(params, "head.after_pool", mid, width)?),
            None => None,
        };
        Ok(Self {
            conv: Conv1x1::new(params, "head", input, mid)?,
            norm: BatchNorm::new(params, "head", mid)?,
            activation,
            after_pool,
            classifier: Dense::new(params, "classifier", width.unwrap_or(mid), plan.classes)?,
        })
    }

    fn forward(&self, pass: &mut Pass<'_>, x: Value) -> Result<Value> {
        let z = self.conv.forward(pass, &x)?;
        drop(x);
        let candidate = self.norm.candidate(pass, z, self.activation)?;
        let x = single(pass, candidate, None)?;
        let mut x = pass.tape.pool(&x)?; // [n, c]
        if let Some(conv) = &self.after_pool {
            let z = conv.forward(pass, &x)?;
            let zero = pass.row(&vec![0.0; z.tensor().dim(1)?], false)?;
            x = pass.tape.rows(&z, &zero, self.activation, None)?;
        }
        self.classifier.forward(pass, &x, Activation::Identity, None)
    }
}
