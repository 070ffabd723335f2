//! `[search.table]`: derived networks are looked up in a table of all networks of the space instead of being trained.
//!
//! ```toml
//! [search.table]
//! manifest = "table_widths.toml"
//! ```

use super::Manifest;
use super::keys::file_of;
use crate::document::{Diagnostics, Section};
use crate::recipe::DataConfig;
use crate::space::{SearchSpace, parse_space};
use std::path::Path;

/// The name of the section within `[search]`.
pub(super) const SECTION: &str = "table";
/// The key for the name of the table's experiment. It is stored with a run.
pub(super) const EXPERIMENT: &str = "experiment";

const MANIFEST: &str = "the path of a manifest with [table], relative to this manifest's folder";
const NAME: &str = "the name of the table's experiment";

/// What the table must have in common with the search.
pub(super) struct Searched<'a> {
    /// The manifest of the search.
    pub path: &'a Path,
    pub data: Option<&'a DataConfig>,
    pub space: Option<&'a SearchSpace>,
}

/// Reads the manifest of a table; `None` where the file has no section `[table]`.
pub(super) type LoadTable<'a> = &'a dyn Fn(&Path) -> Result<Option<Manifest>, Diagnostics>;

/// The name of the table's experiment. `load` is `None` for a stored manifest: the table's may be gone.
pub(super) fn read_lookup(
    s: &Section<'_>,
    searched: &Searched<'_>,
    load: Option<LoadTable<'_>>,
) -> Option<String> {
    let Some(load) = load else {
        drop(s.get("manifest"));
        return s.require(EXPERIMENT, NAME)?.text(NAME).map(str::to_owned);
    };
    let manifest = s.require("manifest", MANIFEST);
    let experiment = s.get(EXPERIMENT);
    let name = experiment.as_ref().map_or(Some(None), |value| value.text(NAME).map(Some));
    let manifest = manifest?;
    let path = file_of(&manifest, searched.path, MANIFEST)?;
    let Some(table) = s.adopt(load(&path))? else {
        let problem = format!("{} has no section [table]", path.display());
        return manifest.fail(problem, "give a manifest that trains every network of a space");
    };
    if let (Some(given), Some(Some(name))) = (experiment, name)
        && name != table.name
    {
        let problem = format!("{} is not the name of {}", given.given(), path.display());
        return given.fail(problem, format!("give \"{}\", or remove it", table.name));
    }
    let refuse = |what: &str| {
        let problem = format!("{} has another {what} than this search", path.display());
        manifest.fail::<()>(problem, format!("give both the same {what}"))
    };
    if s.adopt(parse_space(table.space_text(), &path))? != *searched.space? {
        refuse("space")?;
    }
    if table.data.source != searched.data?.source {
        refuse("data set")?;
    }
    name.map(|_| table.name)
}
