//! The memory check before the first run.

use anyhow::{Result, bail};
use repro::manifest::Manifest;
use repro::memory;
use repro::runner::{self, MemoryNeed, SpaceBottleneck};
use repro::text;

/// The machine and options to check against.
#[derive(Clone, Copy)]
pub struct Machine {
    pub threads: usize,
    /// With a GPU, the free memory of this machine does not matter.
    pub gpu: bool,
    /// Report instead of refusing.
    pub force: bool,
    /// Bytes that decoding the largest images takes.
    pub decoding: u64,
}

/// Describes the memory that the runs need.
///
/// # Errors
/// When less is free and the check is not skipped.
pub fn check(manifest: &Manifest, machine: Machine) -> Result<String> {
    let Some(need) = runner::memory_need(manifest, machine.threads) else {
        return Ok("nothing".to_owned());
    };
    let need = need.with_decoding(machine.decoding);
    let Some(free) = memory::available_bytes().filter(|_| !machine.gpu) else {
        return Ok(format!("about {} for {}", text::bytes(need.bytes), need.subject()));
    };
    let fits = runner::estimated_resident(need.bytes) <= free;
    if !fits && !machine.force {
        bail!("{}: {}", manifest.path.display(), refusal(&need, &manifest.space.name, free));
    }
    let warning = if fits { "" } else { ": the runs may fail" };
    let (about, free) = (resident(need.bytes), text::bytes(free));
    Ok(format!("about {about} for {}, {free} are free{warning}", need.subject()))
}

/// The size of a process that allocates this many bytes.
fn resident(allocated: u64) -> String {
    text::bytes(runner::estimated_resident(allocated))
}

/// Why the runs do not start, and which settings need less memory.
fn refusal(need: &MemoryNeed<'_>, space: &str, free: u64) -> String {
    let mut lines = vec![format!(
        "{} needs about {} of memory at batch size {}, but only {} are free. These settings need \
         less:",
        need.subject(),
        resident(need.bytes),
        need.batch(),
        text::bytes(free)
    )];
    lines.extend(need.smaller_settings(free).into_iter().map(|setting| {
        let note = if setting.fits { "" } else { ", still too much" };
        format!("  {}: {}{note}", setting.options, resident(setting.bytes))
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
