//! Reports on disk: a file is either the old one or the new one, never a part.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file name for an experiment. Manifests allow only letters, digits, `_`, `-` and `.` in names;
/// anything else is written as `=` and its bytes in hex, so that two names never share a file.
#[must_use]
pub fn stem(experiment: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let bytes = experiment.bytes();
    bytes.map(|b| if plain(b) { char::from(b).to_string() } else { format!("={b:02X}") }).collect()
}

/// Makes the folder if it is not there.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Writes `content` beside the file and then renames it.
///
/// # Errors
/// When the folder cannot be written to; the file is then as it was.
pub fn replace(folder: &Path, name: &str, content: &[u8]) -> Result<PathBuf> {
    let path = folder.join(name);
    let partial = folder.join(format!(".{name}.{}.partial", std::process::id()));
    let written = write_all(&partial, content).and_then(|()| fs::rename(&partial, &path));
    if written.is_err() {
        // The error that matters is the first.
        let _ = fs::remove_file(&partial);
    }
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn write_all(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}
