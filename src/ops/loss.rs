//! Cross-entropy with label smoothing.

use super::host::{Host, tensor};
use super::no_kernel;
use candle_core::{Device, Result, Tensor, bail};

/// The loss of a batch, its gradient, and the number of correct predictions.
pub struct CrossEntropy {
    /// Mean over the batch, in nats.
    pub loss: f64,
    /// d loss / d logits, `[n, classes]`.
    pub dlogits: Tensor,
    /// Images whose largest logit is at the label; of equal logits the first counts.
    pub correct: usize,
}

/// Mean over the batch of -Σ_k q_k ln p_k, p = softmax(logits), q = 1 - s at the label plus
/// s / classes everywhere.
///
/// # Errors
/// When a label is no class or the device has no kernel.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<CrossEntropy> {
    let (n, classes) = logits.dims2()?;
    if labels.len() != n || labels.iter().any(|l| *l as usize >= classes) {
        bail!("cross_entropy: {} labels for {n} images of {classes} classes", labels.len());
    }
    match logits.device() {
        Device::Cpu => {
            let xs = Host::of(logits)?;
            let mut dlogits = vec![0f32; n * classes];
            let (mut loss, mut correct) = (0.0, 0);
            for (i, (x, d)) in
                xs.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes)).enumerate()
            {
                let label = labels[i] as usize;
                let (value, hit) = one_image(x, label, smoothing, n, d);
                loss += value / n as f64;
                correct += usize::from(hit);
            }
            Ok(CrossEntropy { loss, dlogits: tensor(dlogits, (n, classes))?, correct })
        }
        device => no_kernel("cross_entropy", device),
    }
}

fn one_image(x: &[f32], label: usize, smoothing: f64, n: usize, d: &mut [f32]) -> (f64, bool) {
    let best = x.iter().enumerate().fold(0, |best, (k, v)| if *v > x[best] { k } else { best });
    let max = f64::from(x[best]);
    let log_sum = x.iter().map(|v| (f64::from(*v) - max).exp()).sum::<f64>().ln() + max;
    let uniform = smoothing / x.len() as f64;
    let mut loss = 0.0;
    for (k, (x, d)) in x.iter().zip(d).enumerate() {
        let log_p = f64::from(*x) - log_sum;
        let q = uniform + if k == label { 1.0 - smoothing } else { 0.0 };
        loss -= q * log_p;
        *d = ((log_p.exp() - q) / n as f64) as f32;
    }
    (loss, best == label)
}
