//! The files of runs beside the database: trained weights in `DATABASE.weights/` and checkpoints in
//! `DATABASE.checkpoints/`.

use crate::checkpoint::Folder;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A run of the database in this file.
#[derive(Clone, Copy, Debug)]
pub struct StoredRun<'a> {
    /// Symbolic links followed.
    pub database: &'a Path,
    pub id: i64,
}

impl StoredRun<'_> {
    /// The files of its weights, one per repeat: `RUN.safetensors`, `RUN.repeat-1.safetensors` and so on.
    #[must_use]
    pub fn weights(self, repeats: usize) -> Vec<PathBuf> {
        let (folder, run) = (weights_folder(self.database), self.id);
        let name = |repeat: usize| match repeat {
            0 => format!("{run}.safetensors"),
            repeat => format!("{run}.repeat-{repeat}.safetensors"),
        };
        (0..repeats).map(|repeat| folder.join(name(repeat))).collect()
    }

    /// Its checkpoints.
    #[must_use]
    pub fn checkpoints(self) -> Folder {
        Folder::of_run(self.database, self.id)
    }

    /// The files of weights that there are, with what follows the run's number in their names.
    fn existing_weights(self) -> Vec<(PathBuf, String)> {
        let own = entries(&weights_folder(self.database)).into_iter().filter_map(|path| {
            let rest =
                path.file_name()?.to_str()?.strip_prefix(&format!("{}.", self.id))?.to_owned();
            Some((path, rest))
        });
        own.collect()
    }

    /// Removes its weights and checkpoints.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        self.checkpoints().remove().map_err(io::Error::other)?;
        self.existing_weights().iter().try_for_each(|(path, _)| fs::remove_file(path))
    }

    /// Whether it has any.
    #[must_use]
    pub fn exist(self) -> bool {
        self.checkpoints().path().is_dir() || !self.existing_weights().is_empty()
    }

    /// Copies its weights and checkpoints to those of another run, which loses its own once all are copied.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn copy_to(self, other: StoredRun<'_>) -> io::Result<()> {
        let mut staging = other.database.as_os_str().to_owned();
        staging.push(format!(".copy-{}", std::process::id()));
        let staging = PathBuf::from(staging);
        let copied = self.copy_through(other, &staging);
        // Where all went well, nothing is left in it.
        let _ = fs::remove_dir_all(staging);
        copied
    }

    fn copy_through(self, other: StoredRun<'_>, staging: &Path) -> io::Result<()> {
        let mut moves = Vec::new();
        fs::create_dir_all(staging)?;
        for (path, rest) in self.existing_weights() {
            let name = format!("{}.{rest}", other.id);
            fs::copy(path, staging.join(&name))?;
            moves.push((staging.join(&name), weights_folder(other.database).join(name)));
        }
        let (from, to) = (self.checkpoints(), other.checkpoints());
        if from.path().is_dir() {
            let folder = staging.join("checkpoints");
            fs::create_dir_all(&folder)?;
            for path in entries(from.path()) {
                fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
            }
            moves.push((folder, to.path().to_owned()));
        }
        other.remove()?;
        for (from, to) in moves {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::rename(from, to)?;
        }
        Ok(())
    }
}

/// The files that belong to none of these runs.
#[must_use]
pub fn orphans(database: &Path, runs: &BTreeSet<i64>) -> Vec<PathBuf> {
    let folders = [Folder::of_database(database), weights_folder(database)];
    let is_orphan = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let run = name.split('.').next().unwrap_or_default().parse();
        !run.is_ok_and(|run| runs.contains(&run))
    };
    folders.iter().flat_map(|folder| entries(folder)).filter(is_orphan).collect()
}

fn weights_folder(database: &Path) -> PathBuf {
    let mut folder: OsString = database.as_os_str().to_owned();
    folder.push(".weights");
    PathBuf::from(folder)
}

/// What a folder holds, sorted; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_copied_found_and_removed_by_run() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first.db", "second.db"].map(|name| folder.path().join(name));
        let run = |database, id| StoredRun { database, id };
        let (of_first, of_second) = (run(&first, 1), run(&second, 12));
        for file in of_first.weights(2) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, b"weights").unwrap();
        }
        fs::create_dir_all(of_first.checkpoints().path()).unwrap();
        fs::write(of_first.checkpoints().path().join("1-000001.safetensors"), b"state").unwrap();
        of_first.copy_to(of_second).unwrap();
        for file in of_second.weights(2) {
            assert_eq!(fs::read(file).unwrap(), b"weights");
        }
        assert!(of_second.checkpoints().path().join("1-000001.safetensors").is_file());
        assert_eq!(orphans(&second, &[12].into()), Vec::<PathBuf>::new());
        // The number of a run is not the beginning of another one.
        assert_eq!(orphans(&second, &[1].into()).len(), 3);
        // A copy that fails leaves what is there: nothing can be a folder where a file is.
        let unwritable = folder.path().join("second.db.copy-").into_os_string();
        let unwritable = PathBuf::from(format!("{}{}", unwritable.display(), std::process::id()));
        fs::write(&unwritable, b"").unwrap();
        assert!(of_first.copy_to(of_second).is_err());
        fs::remove_file(&unwritable).unwrap();
        assert!(of_second.exist());
        assert_eq!(fs::read(&of_second.weights(1)[0]).unwrap(), b"weights");
        run(&second, 1).remove().unwrap();
        assert_eq!(orphans(&second, &BTreeSet::new()).len(), 3);
        of_second.remove().unwrap();
        assert_eq!(orphans(&second, &BTreeSet::new()), Vec::<PathBuf>::new());
    }
}
