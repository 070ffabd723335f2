//! The memory check before a network with trained weights is used.

use super::device::free_memory;
use anyhow::{Result, bail};
use candle_core::Device;
use repro::cost::{self, Backend, StepSetting};
use repro::memory;
use repro::ops::gpu;
use repro::recipe::{Recompute, StepExtras};
use repro::runner;
use repro::space::ArchSpec;
use repro::text;
use std::fs;
use std::path::Path;

/// Copies of the weights in memory while they are read: the file, its tensors, and those of the network.
const COPIES: u64 = 4;

/// Bytes that the allocator may take beyond those that are asked for.
const PAGES: u64 = 16 << 20;

/// # Errors
/// When there is not enough memory to read a file of weights.
pub fn check_loading(weights: &Path) -> Result<()> {
    // Reading it gives a better error.
    let Ok(found) = fs::metadata(weights) else { return Ok(()) };
    let needed = COPIES * found.len();
    match memory::available_bytes() {
        Some(free) if needed > free => bail!(
            "{} needs about {} of memory, but only {} are free",
            weights.display(),
            text::bytes(needed),
            text::bytes(free)
        ),
        _ => Ok(()),
    }
}

/// What the memory of inference depends on.
#[derive(Clone, Copy)]
pub struct Inference<'a> {
    pub arch: &'a ArchSpec,
    /// Of the images, in pixels, before the network subsamples them.
    pub side: usize,
    pub threads: usize,
    pub device: &'a Device,
    /// Bytes on the host beside those of the network: for example those of decoding images.
    pub beside: u64,
}

impl Inference<'_> {
    /// The largest number of images up to `batch` that a batch can have in free memory, halved until it
    /// fits.
    ///
    /// # Errors
    /// When not even one image fits.
    pub fn fitting_batch(self, batch: usize) -> Result<usize> {
        let (free, _) = free_memory(self.device)?;
        let Some(free) = free else { return Ok(batch) };
        let mut size = batch;
        while self.taken(size)? > free {
            if size <= 1 {
                bail!(self.refusal(1)?);
            }
            size /= 2;
        }
        Ok(size)
    }

    /// # Errors
    /// When a batch of so many images does not fit into free memory.
    pub fn check(self, batch: usize) -> Result<()> {
        let (free, _) = free_memory(self.device)?;
        if free.is_none_or(|free| self.taken(batch).is_ok_and(|taken| taken <= free)) {
            return Ok(());
        }
        let smaller = match batch {
            1 => None,
            _ => self.fitting_batch(batch / 2).ok(),
        };
        let hint = smaller.map_or(String::new(), |size| format!("; --batch {size} needs less"));
        bail!("{}{hint}", self.refusal(batch)?)
    }

    fn refusal(self, batch: usize) -> Result<String> {
        let (free, of) = free_memory(self.device)?;
        Ok(format!(
            "inference on {} of {side}x{side} pixels needs about {} of {of}, but only {} are free",
            text::plural(batch, "image"),
            text::bytes(self.taken(batch)?),
            text::bytes(free.unwrap_or_default()),
            side = self.side
        ))
    }

    /// Bytes that a batch takes, with the next one, which is read meanwhile.
    fn taken(self, batch: usize) -> Result<u64> {
        let Self { arch, side, threads, device, beside } = self;
        let backend = gpu::backend(device)?;
        let (recompute, extras) = (Recompute::None, StepExtras::default());
        let setting = |batch| StepSetting { batch, threads, recompute, extras, backend };
        let step = cost::inference_step(arch, side, setting(batch)).total();
        let images = (size_of::<f32>() * side * side * arch.image_channels) as u64;
        let bytes = step + 2 * batch as u64 * images;
        Ok(match backend {
            // Threads with images of their own have maps of their own. The program itself is in memory already.
            Backend::Cpu => {
                let maps = cost::inference_step(arch, side, setting(1)).activations;
                let bytes = bytes + beside + threads.min(batch) as u64 * maps;
                bytes + bytes / 16 + PAGES
            }
            Backend::EmulatedGpu | Backend::Gpu => runner::estimated_taken(backend, bytes),
        })
    }
}
