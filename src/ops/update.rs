//! In-place arithmetic: sums of gradients and the optimizer's step.

use super::host::Host;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

/// `total += part`, in place.
///
/// # Errors
/// When the shapes differ or the device has no kernel.
pub fn accumulate(total: &Tensor, part: &Tensor) -> Result<()> {
    total.inplace_op2(part, &Axpby { a: 1.0, b: 1.0 })
}

/// One step of SGD with momentum, in place: v ← μ v + s g + λ w, w ← w - η v.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// η
    pub learning_rate: f64,
    /// μ
    pub momentum: f64,
    /// λ
    pub weight_decay: f64,
    /// s: below one where the gradient is clipped.
    pub gradient_scale: f64,
}

impl SgdStep {
    /// Moves `weight` and `velocity` along `gradient`.
    ///
    /// # Errors
    /// When the shapes differ or the device has no kernel.
    pub fn apply(&self, weight: &Tensor, velocity: &Tensor, gradient: &Tensor) -> Result<()> {
        velocity.inplace_op2(gradient, &Axpby { a: self.momentum, b: self.gradient_scale })?;
        if self.weight_decay != 0.0 {
            velocity.inplace_op2(weight, &Axpby { a: 1.0, b: self.weight_decay })?;
        }
        weight.inplace_op2(velocity, &Axpby { a: 1.0, b: -self.learning_rate })
    }
}

/// Σ x², in f64.
///
/// # Errors
/// When the tensor is not on the CPU.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    Ok(Host::of(x)?.iter().map(|v| f64::from(*v).powi(2)).sum())
}

/// x ← a x + b y.
struct Axpby {
    a: f64,
    b: f64,
}

impl InplaceOp2 for Axpby {
    fn name(&self) -> &'static str {
        "axpby"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(x), CpuStorage::F32(y)) = (x, y) else { bail!("axpby works on f32") };
        match (x_layout.contiguous_offsets(), y_layout.contiguous_offsets()) {
            (Some((x0, x1)), Some((y0, y1))) if x1 - x0 == y1 - y0 => {
                let (a, b) = (self.a as f32, self.b as f32);
                for (x, y) in x[x0..x1].iter_mut().zip(&y[y0..y1]) {
                    *x = a * *x + b * y;
                }
                Ok(())
            }
            _ => bail!("axpby: {x_layout:?} and {y_layout:?} do not match"),
        }
    }
}
