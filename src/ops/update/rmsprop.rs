//! The step of RMSProp, in the form of [`crate::recipe::RmsProp`].

use super::{Axpby, SgdOperands, SgdStep, gpu, slice, slice_mut};
use crate::ops::gpu::Gpu;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

/// One step of RMSProp, in place: g ← s g + λ w, q ← ρ q + (1 - ρ) g², v ← μ v + η g / √(q + ε),
/// w ← w - v. The factor s clips the norm of all gradients together.
#[derive(Clone, Copy, Debug)]
pub struct RmsPropStep {
    /// η, μ, λ and the largest norm.
    pub sgd: SgdStep,
    /// ρ
    pub rho: f64,
    /// ε
    pub epsilon: f64,
}

/// A parameter with its velocity, gradient and mean square q.
#[derive(Clone, Copy, Debug)]
pub struct RmsPropOperands<'a> {
    pub sgd: SgdOperands<'a>,
    pub square: &'a Tensor,
}

impl RmsPropStep {
    /// Moves all weights, velocities and mean squares. Overwrites the gradients.
    ///
    /// # Errors
    /// When the shapes differ or the device has no kernel.
    pub fn apply(&self, parameters: &[RmsPropOperands<'_>]) -> Result<()> {
        let Some(first) = parameters.first() else { return Ok(()) };
        if let Some(gpu) = Gpu::of(first.sgd.weight.device())? {
            return gpu::rmsprop(&gpu, self, parameters);
        }
        let Self { sgd, rho, epsilon } = *self;
        let gradients = parameters.iter().map(|parameter| parameter.sgd.gradient);
        let scale = sgd.gradient_scale(gradients)?;
        for RmsPropOperands { sgd: SgdOperands { weight, velocity, gradient, decays }, square } in
            parameters
        {
            let decay = if *decays { sgd.weight_decay } else { 0.0 };
            gradient.inplace_op2(weight, &Axpby { a: scale, b: decay })?;
            square.inplace_op2(gradient, &FollowSquare { share: 1.0 - rho })?;
            gradient.inplace_op2(square, &DivideByRoot { epsilon })?;
            velocity.inplace_op2(gradient, &Axpby { a: sgd.momentum, b: sgd.learning_rate })?;
            weight.inplace_op2(velocity, &Axpby { a: 1.0, b: -1.0 })?;
        }
        Ok(())
    }
}

/// q ← q + `share` · (g² - q).
struct FollowSquare {
    share: f64,
}

impl InplaceOp2 for FollowSquare {
    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn cpu_fwd(
        &self,
        q: &mut CpuStorage,
        q_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<()> {
        let share = self.share as f32;
        pairs((q, q_layout), (g, g_layout), |q, g| *q += share * (g * g - *q))
    }
}

/// g ← g / √(q + ε).
struct DivideByRoot {
    epsilon: f64,
}

impl InplaceOp2 for DivideByRoot {
    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn cpu_fwd(
        &self,
        g: &mut CpuStorage,
        g_layout: &Layout,
        q: &CpuStorage,
        q_layout: &Layout,
    ) -> Result<()> {
        let epsilon = self.epsilon as f32;
        pairs((g, g_layout), (q, q_layout), |g, q| *g /= (q + epsilon).sqrt())
    }
}

/// Calls `update` with every value of the first tensor and that of the second at the same place.
pub(super) fn pairs(
    (to, to_layout): (&mut CpuStorage, &Layout),
    (from, from_layout): (&CpuStorage, &Layout),
    update: impl Fn(&mut f32, f32),
) -> Result<()> {
    let (to, from) = (slice_mut(to, to_layout)?, slice(from, from_layout)?);
    if to.len() != from.len() {
        bail!("{to_layout:?} and {from_layout:?} do not match");
    }
    to.iter_mut().zip(from).for_each(|(to, from)| update(to, *from));
    Ok(())
}
