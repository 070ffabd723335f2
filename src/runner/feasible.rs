//! Problems of a manifest that only show together with the whole space or the data.

use crate::manifest::{Diagnostic, Diagnostics, Manifest};
use crate::recipe::Budget;
use crate::search;

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
