//! Problems of a manifest that only show together with the whole space or the data.

use crate::manifest::{Diagnostic, Diagnostics, InitialWeights, Manifest, Task, sha256_of};
use crate::net::{Network, read_state_file};
use crate::nn::Params;
use crate::recipe::Budget;
use crate::search;
use crate::space::{ArchFile, NetworkPlan};
use crate::trained::set_weights;
use anyhow::{Context, Result, ensure};
use candle_core::Device;

/// Checks that the space has a network within the budget. Without this check, a search would fail
/// only at its end.
///
/// # Errors
/// When no such network was found.
pub fn check_budget(manifest: &Manifest) -> Result<(), Diagnostics> {
    let Some(task) = manifest.search() else { return Ok(()) };
    let Some(budget) = &task.config.budget else { return Ok(()) };
    let Budget { objective, bound, tolerance, above } = *budget;
    search::check_budget(&task.space, budget).map_err(|error| {
        let of = objective.name();
        let given = format!("{of} = {bound:?}, tolerance = {tolerance:?}, above = {above:?}");
        diagnostic(manifest, "search.budget", format!("{given}: {error:#}"), "").into()
    })
}

/// Checks that the initial weights, if the manifest names some, are those of its network.
///
/// # Errors
/// When the file is gone or another, or has other entries.
pub fn check_initial_weights(manifest: &Manifest) -> Result<(), Diagnostics> {
    let Task::Network(task) = &manifest.task else { return Ok(()) };
    let Some(init) = &task.init else { return Ok(()) };
    let mut params = Params::shapes(&Device::Cpu);
    let loaded = Network::new(&mut params, &NetworkPlan::derived(&task.network.arch))
        .map_err(anyhow::Error::from)
        .and_then(|_| set_initial_weights(&task.network, init, &mut params));
    loaded.map_err(|error| diagnostic(manifest, "init", format!("{error:#}"), "").into())
}

/// Sets the weights to those that training starts from.
///
/// # Errors
/// When the file is not the one that the run began with, or has the weights of another network.
pub(super) fn set_initial_weights(
    network: &ArchFile,
    init: &InitialWeights,
    params: &mut Params,
) -> Result<()> {
    let InitialWeights { path, sha256 } = init;
    let found = sha256_of(path).with_context(|| path.display().to_string())?;
    ensure!(
        found == *sha256,
        "{} is not the file that this run began with, whose SHA-256 is {sha256}",
        path.display()
    );
    let state = read_state_file(path).map_err(anyhow::Error::msg)?;
    set_weights(network, params, &state, path)?;
    Ok(())
}

/// A problem with a key of the manifest that shows only together with the data or the space.
pub(super) fn diagnostic(
    manifest: &Manifest,
    key: &str,
    problem: String,
    expected: &str,
) -> Diagnostic {
    let diagnostic = Diagnostic::of_file(&manifest.path, problem, expected);
    Diagnostic { key: key.to_owned(), ..diagnostic }
}
