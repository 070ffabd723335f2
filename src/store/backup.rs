//! Copies of a database, made while others use it.

use super::database::Database;
use super::error::StoreError;
use super::transactor::Transactor;
use crate::record::{Metric, Per};
use sqlx::{query, query_scalar};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Which measurements a copy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    All,
    /// Not those of single steps of an optimizer.
    WithoutSteps,
}

/// Writes a copy to the new file `to`. It gets its name once it is complete.
pub fn copy(database: &Database, to: &Path, kept: Kept) -> Result<(), StoreError> {
    if to.exists() {
        return Err(StoreError::Exists(to.to_owned()));
    }
    let mut part: OsString = to.as_os_str().to_owned();
    // Two processes may copy at once.
    part.push(format!(".part-{}", std::process::id()));
    let part = PathBuf::from(part);
    // Of an earlier process of this number.
    let _ = fs::remove_file(&part);
    let name = part.to_str().ok_or_else(|| StoreError::NotUtf8(to.to_owned()))?.to_owned();
    let copied = Transactor::new(database.clone())?.outside_transaction(async |connection| {
        query("VACUUM INTO ?1").bind(&name).execute(&mut *connection).await?;
        if kept == Kept::WithoutSteps {
            query("ATTACH ?1 AS copy").bind(&name).execute(&mut *connection).await?;
            let metrics = query_scalar("SELECT DISTINCT metric FROM copy.measurements");
            let metrics: Vec<String> = metrics.fetch_all(&mut *connection).await?;
            for metric in metrics.iter().filter(|metric| is_of_steps(metric)) {
                let delete = query("DELETE FROM copy.measurements WHERE metric = ?1").bind(metric);
                delete.execute(&mut *connection).await?;
            }
            query("VACUUM copy").execute(&mut *connection).await?;
            query("DETACH copy").execute(&mut *connection).await?;
        }
        Ok(())
    });
    // It is the copy that cannot be written or needs space.
    let copied = copied.map_err(|error| match error {
        StoreError::Full { cause, .. } => StoreError::Full { path: to.to_owned(), cause },
        StoreError::NotWritable { cause, .. } => {
            StoreError::NotWritable { path: to.to_owned(), cause }
        }
        error => error,
    });
    let finished = copied.and_then(|()| {
        File::open(&part)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&part, to))
            .map_err(|e| StoreError::Other { path: to.to_owned(), cause: e.to_string() })
    });
    if finished.is_err() {
        let _ = fs::remove_file(&part);
    }
    finished
}

fn is_of_steps(metric: &str) -> bool {
    Metric::parse(metric).is_some_and(|metric| metric.per() == Per::Update)
}

/// The file that keeps a database as it was before the migration of this number.
pub fn before_migration(file: &Path, migration: i64) -> PathBuf {
    let mut name: OsString = file.as_os_str().to_owned();
    name.push(format!(".before-migration-{migration}"));
    PathBuf::from(name)
}
