//! In-place arithmetic: sums of gradients and the step of SGD.

use super::host::Host;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};

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
    /// s, less than one if the gradient is clipped.
    pub gradient_scale: f64,
}

impl SgdStep {
    /// Moves `weight` and `velocity` along `gradient`.
    ///
    /// # Errors
    /// When the shapes differ or the device has no kernel.
    pub fn apply(&self, weight: &Tensor, velocity: &Tensor, gradient: &Tensor) -> Result<()> {
        velocity.inplace_op3(gradient, weight, self)?;
        weight.inplace_op2(velocity, &Axpby { a: 1.0, b: -self.learning_rate })
    }
}

/// v ← μ v + s g + λ w.
impl InplaceOp3 for SgdStep {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn cpu_fwd(
        &self,
        v: &mut CpuStorage,
        v_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<()> {
        let (v, g, w) = (slice_mut(v, v_layout)?, slice(g, g_layout)?, slice(w, w_layout)?);
        if v.len() != g.len() || v.len() != w.len() {
            bail!("sgd: {v_layout:?}, {g_layout:?} and {w_layout:?} do not match");
        }
        let (momentum, scale) = (self.momentum as f32, self.gradient_scale as f32);
        let decay = self.weight_decay as f32;
        for ((v, g), w) in v.iter_mut().zip(g).zip(w) {
            *v = momentum * *v + scale * g + decay * w;
        }
        Ok(())
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((from, to))) => Ok(&data[from..to]),
        _ => bail!("updates need contiguous f32 tensors, got {:?}", layout),
    }
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((from, to))) => Ok(&mut data[from..to]),
        _ => bail!("updates need contiguous f32 tensors, got {:?}", layout),
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
        let (x, y) = (slice_mut(x, x_layout)?, slice(y, y_layout)?);
        if x.len() != y.len() {
            bail!("axpby: {x_layout:?} and {y_layout:?} do not match");
        }
        let (a, b) = (self.a as f32, self.b as f32);
        for (x, y) in x.iter_mut().zip(y) {
            *x = a * *x + b * y;
        }
        Ok(())
    }
}
