//! Files that a command writes where the user says so.

use super::ending::Usage;
use anyhow::{Context, Result};
use repro::artifacts::StoredRun;
use repro::text::printable_name;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The file to write: `path`, or what it links to.
///
/// # Errors
/// When that is no regular file, one of the `inputs` of the command, the database, or a file of its runs.
pub fn target(path: &Path, inputs: &[&Path], database: &Path) -> Result<PathBuf> {
    let refuse = |problem: String| {
        let path = printable_name(&path.display().to_string());
        Err(Usage(format!("{path} {problem}; name another file with --output")).into())
    };
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let target = match fs::metadata(path) {
        Ok(found) if !found.is_file() => return refuse("is not a regular file".to_owned()),
        Ok(_) => path.canonicalize().with_context(|| path.display().to_string())?,
        Err(_) if is_link => return refuse("is a link to nothing".to_owned()),
        Err(_) if !has_folder(path) => {
            return refuse("lies in a folder that does not exist".to_owned());
        }
        Err(_) => path.to_owned(),
    };
    let same = |other: &Path| other.canonicalize().is_ok_and(|other| other == target);
    if let Some(input) = inputs.iter().find(|input| same(input)) {
        return refuse(format!("would overwrite {}, which is read", input.display()));
    }
    let beside = |ending: &str| {
        let mut name = OsString::from(database);
        name.push(ending);
        PathBuf::from(name)
    };
    if ["", "-wal", "-shm"].iter().any(|ending| same(&beside(ending))) {
        return refuse("is the results database".to_owned());
    }
    let of_runs = StoredRun { database, id: 1 };
    let weights = of_runs.weights(1);
    let checkpoints = of_runs.checkpoints();
    let folders = [weights[0].parent(), checkpoints.path().parent()];
    let folder = target.parent().and_then(|folder| folder.canonicalize().ok());
    let is_of_runs = |place: &&Path| {
        let place = place.canonicalize().ok();
        folder.as_ref().zip(place).is_some_and(|(folder, place)| folder.starts_with(place))
    };
    if folders.into_iter().flatten().any(|place| is_of_runs(&place)) {
        return refuse("is among the files of the database's runs".to_owned());
    }
    Ok(target)
}

fn has_folder(path: &Path) -> bool {
    path.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir())
}

/// Writes a file at once: under another name first.
///
/// # Errors
/// When the disk refuses.
pub fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut part = OsString::from(file);
    part.push(format!(".part-{}", std::process::id()));
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        // Half a file is of no use.
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("{} cannot be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_and_regular_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let database = at("results.db");
        for name in ["results.db", "weights.pth", "old.onnx"] {
            fs::write(at(name), "x").unwrap();
        }
        let runs = StoredRun { database: &database, id: 1 };
        let stored = runs.weights(1).remove(0);
        fs::create_dir_all(stored.parent().unwrap()).unwrap();
        let inputs = [at("weights.pth")];
        let inputs = [inputs[0].as_path()];
        let refused = |path: &Path| target(path, &inputs, &database).unwrap_err().to_string();
        assert!(refused(folder.path()).contains("is not a regular file"));
        assert!(refused(&at("weights.pth")).contains("which is read"));
        assert!(refused(&database).contains("is the results database"));
        assert!(refused(&stored).contains("files of the database's runs"));
        assert!(refused(&at("lost/new.onnx")).contains("lies in a folder that does not exist"));
        assert_eq!(target(&at("new.onnx"), &inputs, &database).unwrap(), at("new.onnx"));
        let old = target(&at("old.onnx"), &inputs, &database).unwrap();
        write(&old, b"new").unwrap();
        assert_eq!(fs::read(at("old.onnx")).unwrap(), b"new");
        #[cfg(unix)]
        {
            use std::os::unix::fs::symlink;
            symlink(at("old.onnx"), at("link")).unwrap();
            assert_eq!(target(&at("link"), &inputs, &database).unwrap(), old);
            symlink(at("weights.pth"), at("to_input")).unwrap();
            assert!(refused(&at("to_input")).contains("which is read"));
            symlink(at("nothing"), at("dangling")).unwrap();
            assert!(refused(&at("dangling")).contains("is a link to nothing"));
        }
    }
}
