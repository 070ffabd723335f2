//! Networks: one builder for the supernets and for what is derived from them.

mod block;
mod ends;
mod explicit;
mod freeze;
mod gated;
mod plan;
mod shared;
mod supernet;

pub use block::{Block, BlockGates};
pub use explicit::{BoundOptions, ExplicitSupernet, option_plans};
pub use gated::Gated;
pub use plan::{BlockPlan, Branch, Plan};
pub use shared::{Cut, SharedWeights};
pub use supernet::{BoundGates, GateGradients, GateValues, Supernet, inherited};

use crate::nn::{Params, Pass};
use crate::rng::Seed;
use crate::space::ArchSpec;
use crate::tape::Value;
use candle_core::{Device, Result, Tensor};
use ends::{HeadLayers, Stem};
use std::rc::Rc;

/// A network's layers; its numbers live in [`Params`].
#[derive(Debug)]
pub struct Net {
    stem: Stem,
    blocks: Vec<Rc<Block>>,
    head: HeadLayers,
}

impl Net {
    /// Adds the plan's parameters to `params`.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(params: &mut Params, plan: &Plan) -> Result<Self> {
        Ok(Self {
            stem: Stem::new(params, plan)?,
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
        let mut x = self.stem.forward(pass, images)?;
        let none = BlockGates::default();
        for (i, block) in self.blocks.iter().enumerate() {
            let (block, gates) = (block.clone(), gates.get(i).unwrap_or(&none).clone());
            x = pass.block(move |pass| block.forward(pass, &x, &gates))?;
        }
        self.head.forward(pass, x)
    }
}
