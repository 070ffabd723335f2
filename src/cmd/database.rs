//! The results database that the command line names.

use super::ending::Usage;
use super::output::say;
use anyhow::{Error, Result, bail};
use repro::store::{Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The database's path: the flag, else `REPRO_DB`, else `results.db`.
pub fn path(flag: Option<PathBuf>) -> PathBuf {
    let variable = || std::env::var_os("REPRO_DB").filter(|path| !path.is_empty());
    flag.or_else(|| variable().map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("results.db"))
}

/// Opens the database, or creates it.
///
/// # Errors
/// [`Usage`] where the path cannot name a database of this program, otherwise why it cannot be used.
pub fn open(path: &Path) -> Result<Store> {
    Ok(opened(Store::open(path))?.with_listener(|sentence| say(sentence)))
}

/// Prints the database's note, and turns errors in its path into [`Usage`].
fn opened(store: Result<Store, StoreError>) -> Result<Store> {
    let store = store.map_err(|error| match error {
        StoreError::NoFolder { .. }
        | StoreError::IsFolder(_)
        | StoreError::NotAFile(_)
        | StoreError::NotUtf8(_)
        | StoreError::OtherNames(_)
        | StoreError::BehindAndReadOnly(_)
        | StoreError::NotADatabase(_)
        | StoreError::Foreign(_)
        | StoreError::NotWritable { .. } => Usage(error.to_string()).into(),
        _ => Error::from(error),
    })?;
    if let Some(note) = store.note() {
        say_once(note);
    }
    Ok(store)
}

/// A command may open the database several times.
fn say_once(note: String) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.contains(&note) {
        say(&note);
        said.push(note);
    }
}

/// Opens an existing database to read it.
///
/// # Errors
/// When there is none, or as [`open`].
pub fn existing(path: &Path) -> Result<Store> {
    check_exists(path)?;
    opened(Store::open_to_read(path))
}

/// Opens an existing database to change it.
///
/// # Errors
/// As [`existing`].
pub fn open_existing(path: &Path) -> Result<Store> {
    check_exists(path)?;
    open(path)
}

fn check_exists(path: &Path) -> Result<()> {
    if !path.exists() {
        bail!(Usage(format!(
            "there is no database at {}; `repro run MANIFEST` creates one, --db PATH names another",
            path.display()
        )));
    }
    Ok(())
}
