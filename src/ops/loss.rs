//! Cross-entropy with label smoothing.

mod gpu;

use super::gpu::{Deferred, Gpu};
use super::host::{Host, tensor};
use candle_core::{Result, Tensor, bail};
use std::ops::Deref;

/// The classes of a batch, one index per image.
#[derive(Clone, Debug)]
pub struct Labels {
    indices: Vec<u32>,
    /// The indices as f32 `[n]`, where the batch is on a GPU.
    on_gpu: Option<Tensor>,
    /// See [`Labels::mixed`].
    share: Option<f64>,
}

impl Labels {
    /// Labels that were copied to the GPU with their batch, as f32 `[n]`.
    #[must_use]
    pub fn on_gpu(indices: Vec<u32>, tensor: Tensor) -> Self {
        Self { indices, on_gpu: Some(tensor), share: None }
    }

    /// Each image counts by this share for its own label, and by the rest for the label at its place from the
    /// end of the batch, as mixed images do. `None`: for its own label only.
    #[must_use]
    pub fn mixed(self, share: Option<f64>) -> Self {
        Self { share, ..self }
    }

    /// See [`Labels::mixed`].
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        self.share
    }
}

impl From<Vec<u32>> for Labels {
    fn from(indices: Vec<u32>) -> Self {
        Self { indices, on_gpu: None, share: None }
    }
}

impl Deref for Labels {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.indices
    }
}

/// The loss of a batch, and the number of correct predictions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchLoss {
    /// Mean over the batch, in nats.
    pub loss: f64,
    /// Images whose largest logit is at the label; of equal logits the first counts. Of mixed images each label
    /// counts by its share.
    pub correct: f64,
}

impl BatchLoss {
    /// From [`CrossEntropy::numbers`].
    #[must_use]
    pub fn of(numbers: &[f64]) -> Self {
        let number = |i: usize| numbers.get(i).copied().unwrap_or(f64::NAN);
        Self { loss: number(0), correct: number(1) }
    }
}

/// The loss of a batch and its gradient. On a GPU both are still being computed.
pub struct CrossEntropy {
    /// What [`BatchLoss::of`] takes.
    pub numbers: Deferred,
    /// d loss / d logits, `[n, classes]`.
    pub dlogits: Tensor,
}

impl CrossEntropy {
    /// The loss. On a GPU, waits for it.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self) -> Result<BatchLoss> {
        Ok(BatchLoss::of(&self.numbers.read()?))
    }
}

/// Mean over the batch of -Σ_k q_k ln p_k, p = softmax(logits), q = 1 - s at the label plus
/// s / classes everywhere. Of mixed images 1 - s is divided between two labels by their shares (Zhang et al. 2018,
/// equation 1).
///
/// # Errors
/// When a label is no class or the device has no kernel.
pub fn cross_entropy(logits: &Tensor, labels: &Labels, smoothing: f64) -> Result<CrossEntropy> {
    let (n, classes) = logits.dims2()?;
    if labels.len() != n || labels.iter().any(|l| *l as usize >= classes) {
        bail!("cross_entropy: {} labels for {n} images of {classes} classes", labels.len());
    }
    if let Some(gpu) = Gpu::of(logits.device())? {
        return gpu::cross_entropy(&gpu, logits, labels, smoothing);
    }
    let xs = Host::of(logits)?;
    let mut dlogits = vec![0f32; n * classes];
    let (mut loss, mut correct) = (0.0, 0.0);
    let share = labels.share.unwrap_or(1.0);
    for (i, (x, d)) in xs.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes)).enumerate() {
        let shares = [(labels[i] as usize, share), (labels[n - 1 - i] as usize, 1.0 - share)];
        let (value, hit) = one_image(x, shares, smoothing, n, d);
        loss += value / n as f64;
        correct += hit;
    }
    let numbers = Deferred::known(vec![loss, correct]);
    Ok(CrossEntropy { numbers, dlogits: tensor(dlogits, (n, classes))? })
}

/// The loss of an image, and the share of its labels that the largest logit is at.
fn one_image(
    x: &[f32],
    shares: [(usize, f64); 2],
    smoothing: f64,
    n: usize,
    d: &mut [f32],
) -> (f64, f64) {
    let at = |k: usize| -> f64 {
        shares.iter().map(|(label, share)| if *label == k { *share } else { 0.0 }).sum()
    };
    let best = x.iter().enumerate().fold(0, |best, (k, v)| if *v > x[best] { k } else { best });
    let max = f64::from(x[best]);
    let log_sum = x.iter().map(|v| (f64::from(*v) - max).exp()).sum::<f64>().ln() + max;
    let uniform = smoothing / x.len() as f64;
    let mut loss = 0.0;
    for (k, (x, d)) in x.iter().zip(d).enumerate() {
        let log_p = f64::from(*x) - log_sum;
        let q = uniform + at(k) * (1.0 - smoothing);
        loss -= q * log_p;
        *d = ((log_p.exp() - q) / n as f64) as f32;
    }
    (loss, at(best))
}
