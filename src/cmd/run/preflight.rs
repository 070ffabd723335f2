//! The memory check before the first run.

use anyhow::{Result, bail};
use candle_core::Device;
use repro::cost::Backend;
use repro::manifest::Manifest;
use repro::memory;
use repro::ops::gpu;
use repro::runner::{self, MemoryNeed, SpaceBottleneck};
use repro::text;

/// The machine and options to check against.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    pub threads: usize,
    /// Its memory is checked; with a GPU, that of the host does not matter.
    pub device: &'a Device,
    /// Report instead of refusing.
    pub force: bool,
    /// Bytes that decoding the largest images takes.
    pub decoding: u64,
}

/// Describes the memory that the runs need.
///
/// # Errors
/// When less is free and the check is not skipped, or when the GPU cannot tell.
pub fn check(manifest: &Manifest, machine: Machine<'_>) -> Result<String> {
    let backend = gpu::backend(machine.device)?;
    let Some(need) = runner::memory_need(manifest, machine.threads, backend) else {
        return Ok("nothing".to_owned());
    };
    let (need, free, of) = match backend {
        Backend::Cpu => (need.with_decoding(machine.decoding), memory::available_bytes(), "memory"),
        Backend::EmulatedGpu | Backend::Gpu => {
            let free = gpu::memory(machine.device)?.map(|memory| memory.available());
            (need, free, "the GPU's memory")
        }
    };
    let about = text::bytes(need.taken(need.bytes));
    let Some(free) = free else { return Ok(format!("about {about} for {}", need.subject())) };
    let fits = need.taken(need.bytes) <= free;
    if !fits && !machine.force {
        let refusal = refusal(&need, &manifest.space.name, (free, of));
        bail!("{}: {refusal}", manifest.path.display());
    }
    let warning = if fits { "" } else { ": the runs may fail" };
    let free = text::bytes(free);
    Ok(format!("about {about} for {}, {free} are free{warning}", need.subject()))
}

/// Why the runs do not start, and which settings need less memory.
fn refusal(need: &MemoryNeed<'_>, space: &str, (free, of): (u64, &str)) -> String {
    let mut lines = vec![format!(
        "{} needs about {} of {of} at batch size {}, but only {} are free. These settings need \
         less:",
        need.subject(),
        text::bytes(need.taken(need.bytes)),
        need.batch(),
        text::bytes(free)
    )];
    lines.extend(need.smaller_settings(free).into_iter().map(|setting| {
        let note = if setting.fits { "" } else { ", still too much" };
        format!("  {}: {}{note}", setting.options, text::bytes(need.taken(setting.bytes)))
    }));
    match need.bottleneck() {
        SpaceBottleneck::Options => lines.push(format!("  fewer options in {space}")),
        SpaceBottleneck::TypesOrResolutions => {
            lines.push(format!("  fewer block types or resolutions in {space}"));
        }
        SpaceBottleneck::None => {}
    }
    lines.push("--force skips this check.".to_owned());
    lines.join("\n")
}
