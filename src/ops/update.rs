//! In-place arithmetic: sums of gradients, the steps of SGD and RMSProp, running averages.

mod gpu;

use super::gpu::{Deferred, Gpu};
use super::host::{Host, expect};
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};

/// `total += part`, in place.
///
/// # Errors
/// When the shapes differ or the device has no kernel.
pub fn accumulate(total: &Tensor, part: &Tensor) -> Result<()> {
    if let Some(gpu) = Gpu::of(total.device())? {
        return gpu::accumulate(&gpu, total, part);
    }
    total.inplace_op2(part, &Axpby { a: 1.0, b: 1.0 })
}

/// a + b, in a new tensor.
///
/// # Errors
/// When the shapes differ or the device has no kernel.
pub fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let Some(gpu) = Gpu::of(a.device())? else { return a + b };
    expect("sum", "b", b, a.dims())?;
    gpu::sum(&gpu, a, b)
}

/// One step of SGD with momentum, in place: v ← μ v + s g + λ w, w ← w - η v. The factor s clips the
/// norm of all gradients together.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// η
    pub learning_rate: f64,
    /// μ
    pub momentum: f64,
    /// λ, zero for parameters that do not decay.
    pub weight_decay: f64,
    /// The largest norm of the gradients; s = 1 without one.
    pub clip_norm: Option<f64>,
}

/// A parameter with its velocity and gradient.
#[derive(Clone, Copy, Debug)]
pub struct SgdOperands<'a> {
    pub weight: &'a Tensor,
    pub velocity: &'a Tensor,
    pub gradient: &'a Tensor,
    pub decays: bool,
}

impl SgdStep {
    /// Moves all weights and velocities along the gradients.
    ///
    /// # Errors
    /// When the shapes differ or the device has no kernel.
    pub fn apply(&self, parameters: &[SgdOperands<'_>]) -> Result<()> {
        let Some(first) = parameters.first() else { return Ok(()) };
        if let Some(gpu) = Gpu::of(first.weight.device())? {
            return gpu::sgd(&gpu, self, parameters);
        }
        let gradients = parameters.iter().map(|parameter| parameter.gradient);
        let gradient_scale = self.gradient_scale(gradients)?;
        for SgdOperands { weight, velocity, gradient, decays } in parameters {
            let weight_decay = if *decays { self.weight_decay } else { 0.0 };
            let step = VelocityStep { momentum: self.momentum, weight_decay, gradient_scale };
            velocity.inplace_op3(gradient, weight, &step)?;
            weight.inplace_op2(velocity, &Axpby { a: 1.0, b: -self.learning_rate })?;
        }
        Ok(())
    }

    /// s
    fn gradient_scale<'a>(&self, gradients: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
        let Some(bound) = self.clip_norm else { return Ok(1.0) };
        let norm = host_squares(gradients)?.sqrt();
        // A norm that is not finite does not clip: the check of the next loss reports it.
        Ok(if norm > bound { bound / norm } else { 1.0 })
    }
}

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
        pairs(self.name(), (q, q_layout), (g, g_layout), |q, g| *q += share * (g * g - *q))
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
        pairs(self.name(), (g, g_layout), (q, q_layout), |g, q| *g /= (q + epsilon).sqrt())
    }
}

/// v ← μ v + s g + λ w.
struct VelocityStep {
    momentum: f64,
    weight_decay: f64,
    gradient_scale: f64,
}

impl InplaceOp3 for VelocityStep {
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

/// x + `factor` · along for each pair, in new tensors; x where there is no direction.
///
/// # Errors
/// When the shapes differ or the device has no kernel.
pub fn moved(pairs: &[(&Tensor, Option<&Tensor>)], factor: f64) -> Result<Vec<Tensor>> {
    let Some((first, _)) = pairs.first() else { return Ok(Vec::new()) };
    if let Some(gpu) = Gpu::of(first.device())? {
        return gpu::moved(&gpu, pairs, factor);
    }
    let moved = pairs.iter().map(|(x, along)| match along {
        Some(along) => *x + (*along * factor)?,
        None => x.copy(),
    });
    moved.collect()
}

/// One step of running averages, in place: a ← a + `share` · (x - a) for each pair (a, x).
///
/// # Errors
/// When the shapes differ or the device has no kernel.
pub fn average(averages: &[(&Tensor, &Tensor)], share: f64) -> Result<()> {
    let Some((first, _)) = averages.first() else { return Ok(()) };
    if let Some(gpu) = Gpu::of(first.device())? {
        return gpu::average(&gpu, averages, share);
    }
    averages.iter().try_for_each(|(average, x)| average.inplace_op2(x, &Follow { share }))
}

/// a ← a + `share` · (x - a).
struct Follow {
    share: f64,
}

impl InplaceOp2 for Follow {
    fn name(&self) -> &'static str {
        "average"
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        a_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let share = self.share as f32;
        pairs(self.name(), (a, a_layout), (x, x_layout), |a, x| *a += share * (x - *a))
    }
}

/// Σ x² over all tensors, one number.
///
/// # Errors
/// When the device has no kernel.
pub fn sum_of_squares(tensors: &[&Tensor]) -> Result<Deferred> {
    if let Some(first) = tensors.first()
        && let Some(gpu) = Gpu::of(first.device())?
    {
        return gpu::sum_of_squares(&gpu, tensors);
    }
    Ok(Deferred::known(vec![host_squares(tensors.iter().copied())?]))
}

/// Σ x², in f64.
fn host_squares<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
    let mut total = 0.0;
    for x in tensors {
        total += Host::of(x)?.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    }
    Ok(total)
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
        let (a, b) = (self.a as f32, self.b as f32);
        pairs(self.name(), (x, x_layout), (y, y_layout), |x, y| *x = a * *x + b * y)
    }
}

/// Calls `update` with every value of the first tensor and the one at its place in the second.
fn pairs(
    operator: &str,
    (to, to_layout): (&mut CpuStorage, &Layout),
    (from, from_layout): (&CpuStorage, &Layout),
    update: impl Fn(&mut f32, f32),
) -> Result<()> {
    let (to, from) = (slice_mut(to, to_layout)?, slice(from, from_layout)?);
    if to.len() != from.len() {
        bail!("{operator}: {to_layout:?} and {from_layout:?} do not match");
    }
    to.iter_mut().zip(from).for_each(|(to, from)| update(to, *from));
    Ok(())
}
