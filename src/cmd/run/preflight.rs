//! The memory check before the first run.

use crate::cmd::device::free_memory;
use anyhow::{Result, bail};
use candle_core::Device;
use repro::cost::Backend;
use repro::manifest::Manifest;
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
    let need = match backend {
        Backend::Cpu => need.with_decoding(machine.decoding),
        Backend::EmulatedGpu | Backend::Gpu => need,
    };
    let (free, of) = free_memory(machine.device)?;
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

/// Why the runs do not start, and what needs less memory.
fn refusal(need: &MemoryNeed<'_>, space: &str, (free, of): (u64, &str)) -> String {
    let mut lines = vec![format!(
        "{} needs about {} of {of} at batch size {}, but only {} are free.",
        need.subject(),
        text::bytes(need.taken(need.bytes)),
        need.batch(),
        text::bytes(free)
    )];
    let settings = need.smaller_settings(free);
    if settings.iter().any(|setting| setting.fits) {
        lines.push("These settings need less:".to_owned());
        lines.extend(settings.into_iter().map(|setting| {
            let note = if setting.fits { "" } else { ", still too much" };
            format!("  {}: {}{note}", setting.options, text::bytes(need.taken(setting.bytes)))
        }));
        let parts = shrinkable(need.bottleneck());
        lines.extend(parts.map(|parts| format!("  fewer {parts} in {space}")));
    } else {
        lines.extend(settings.into_iter().min_by_key(|setting| setting.bytes).map(|least| {
            let taken = text::bytes(need.taken(least.bytes));
            format!("No setting fits: even with {} it needs about {taken}.", least.options)
        }));
        let parts = shrinkable(need.bottleneck());
        lines.extend(
            parts.map(|parts| format!("A space with fewer {parts} than {space} needs less.")),
        );
    }
    lines.push("--force skips this check.".to_owned());
    lines.join("\n")
}

/// What a smaller space has fewer of.
fn shrinkable(bottleneck: SpaceBottleneck) -> Option<&'static str> {
    match bottleneck {
        SpaceBottleneck::Options => Some("options"),
        SpaceBottleneck::TypesOrResolutions => Some("block types or resolutions"),
        SpaceBottleneck::None => None,
    }
}
