//! The manifest that is stored with a run.

use super::ending::Usage;
use anyhow::{Context, Result, bail};
use repro::evaluation;
use repro::manifest::{self, Manifest, Overrides};
use repro::runner;
use repro::store::{ExperimentKind, RunRow};
use std::path::PathBuf;

/// The manifest of this run with its seed, and the run's method.
///
/// # Errors
/// When the run is a memory study or an evaluation.
pub fn stored_manifest(run: &RunRow) -> Result<(Manifest, &'static str)> {
    if run.settings.kind == ExperimentKind::MemoryStudy {
        let problem = "is a memory study; `repro run MANIFEST` continues it";
        bail!(Usage(format!("run {} {problem}", run.id)));
    }
    if run.method == evaluation::METHOD {
        let problem = format!("run {} is an evaluation; `repro eval` starts another", run.id);
        bail!(Usage(problem));
    }
    let name = PathBuf::from(format!("the manifest of run {}", run.id));
    let overrides = Overrides { seeds: vec![run.seed], ..Overrides::default() };
    let texts = (&run.manifest.text[..], &run.manifest.space_text[..]);
    let manifest = manifest::parse(&name, texts, &overrides)?;
    let method = runner::plans(&manifest).map(|plan| plan.method()).find(|m| *m == run.method);
    let method = method.with_context(|| format!("{} has no {}", name.display(), run.method))?;
    Ok((manifest, method))
}
