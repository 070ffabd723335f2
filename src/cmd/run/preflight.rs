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
    /// Processes that run at once, each with so many threads.
    pub processes: u64,
}

/// The bytes of memory that the runs need, with a description.
///
/// # Errors
/// When less is free and the check is not skipped, or when the GPU cannot tell.
pub fn check(manifest: &Manifest, machine: Machine<'_>) -> Result<(u64, String)> {
    let backend = gpu::backend(machine.device)?;
    let Some(need) = runner::memory_need(manifest, machine.threads, backend) else {
        return Ok((0, "nothing".to_owned()));
    };
    let need = match backend {
        Backend::Cpu => need.with_decoding(machine.decoding),
        Backend::EmulatedGpu | Backend::Gpu => need,
    };
    let (free, of) = free_memory(machine.device)?;
    let taken = need.taken(need.bytes);
    let each = match machine.processes {
        1 => String::new(),
        processes => format!(" in each of {processes} processes"),
    };
    let about = format!("about {} for {}{each}", text::bytes(taken), need.subject());
    let Some(free) = free else { return Ok((taken, about)) };
    let fits = taken.saturating_mul(machine.processes) <= free;
    if !fits && !machine.force {
        let refusal = match free / taken {
            0 => refusal(&need, &manifest.input().of, (free, of)),
            processes => format!(
                "it needs {about}, but only {} of {of} are free; use --jobs {processes}, or --force to \
                 skip this check",
                text::bytes(free)
            ),
        };
        bail!("{}: {refusal}", manifest.path.display());
    }
    let warning = if fits { "" } else { ": the runs may fail" };
    Ok((taken, format!("{about}, {} are free{warning}", text::bytes(free))))
}

/// Why the runs do not start, and what needs less memory.
fn refusal(need: &MemoryNeed<'_>, of_space: &str, (free, of): (u64, &str)) -> String {
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
        lines.extend(parts.map(|parts| format!("  fewer {parts} in {of_space}")));
    } else {
        lines.extend(settings.into_iter().min_by_key(|setting| setting.bytes).map(|least| {
            let taken = text::bytes(need.taken(least.bytes));
            format!("No setting fits: even with {} it needs about {taken}.", least.options)
        }));
        let parts = shrinkable(need.bottleneck());
        lines.extend(
            parts.map(|parts| format!("A space with fewer {parts} than {of_space} needs less.")),
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
