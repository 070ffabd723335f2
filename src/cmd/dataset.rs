//! The data set of an experiment: its folder, and its download before the first run.

use super::ending::Usage;
use super::output::say;
use super::progress::Display;
use anyhow::Result;
use repro::data::{self, DataError, FetchMonitor, Presence, data_root};
use repro::recipe::DataConfig;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// The data folder that the command line names, if any.
pub struct DataFolder {
    flag: Option<PathBuf>,
}

impl DataFolder {
    pub fn new(flag: Option<PathBuf>) -> Self {
        Self { flag }
    }

    /// The folder to use. It need not exist.
    ///
    /// # Errors
    /// When neither the command line nor the environment names one.
    pub fn root(&self) -> Result<PathBuf, DataError> {
        data_root(self.flag.clone())
    }

    /// The folder for this data set. A built-in data set and an image folder with an absolute path
    /// need none, so they work without HOME.
    ///
    /// # Errors
    /// As [`DataFolder::root`].
    pub fn root_for(&self, config: &DataConfig) -> Result<PathBuf, DataError> {
        let needs_none = match config.folder() {
            Some(folder) => folder.path.is_absolute(),
            None => data::presence(config.dataset(), Path::new("")) == Presence::BuiltIn,
        };
        match self.root() {
            Err(DataError::NoRoot) if needs_none => Ok(PathBuf::new()),
            root => root,
        }
    }

    /// Downloads the data set if it is absent, and returns its folder. A download is not part of a
    /// run, so that it does not count towards the run's time.
    ///
    /// # Errors
    /// When the data set cannot be downloaded, or a folder that the user named does not exist.
    pub fn fetch_if_absent(
        &self,
        config: &DataConfig,
        display: &Display,
        stop: &AtomicBool,
    ) -> Result<PathBuf> {
        let (root, dataset) = (self.root_for(config)?, config.dataset());
        if data::presence(dataset, &root) == Presence::Absent {
            let name = data::describe(dataset).name;
            self.refuse_mistyped(&root, name)?;
            say(format_args!("{name} is not in {} yet; fetching it", root.display()));
            data::fetch(dataset, &root, None, FetchMonitor { progress: display, stop })?;
        }
        Ok(root)
    }

    /// [`DataFolder::fetch_if_absent`] for several data sets; returns their common folder, which is empty where
    /// all come with the program.
    ///
    /// # Errors
    /// As for one.
    pub fn fetch_all<'a>(
        &self,
        configs: impl Iterator<Item = &'a DataConfig>,
        display: &Display,
        stop: &AtomicBool,
    ) -> Result<PathBuf> {
        let mut folder = PathBuf::new();
        for config in configs {
            let root = self.fetch_if_absent(config, display, stop)?;
            if !root.as_os_str().is_empty() {
                folder = root;
            }
        }
        Ok(folder)
    }

    /// A folder that the user named and that does not exist is probably mistyped. It is not used for a
    /// large download.
    fn refuse_mistyped(&self, root: &Path, name: &str) -> Result<(), Usage> {
        let variable = std::env::var_os("REPRO_DATA").is_some_and(|value| !value.is_empty());
        let source = match (&self.flag, variable) {
            (Some(_), _) => "--data",
            (None, true) => "REPRO_DATA",
            (None, false) => return Ok(()),
        };
        if root.is_dir() {
            return Ok(());
        }
        let root = root.display();
        Err(Usage(format!(
            "{source}: the folder {root} does not exist; name another one, or download the data set \
             there with `repro data fetch {name} --data {root}`"
        )))
    }
}
