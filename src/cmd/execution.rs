//! What runs of a manifest and memory scaling studies have in common: threads, data, output, and how
//! a run ends.

use super::progress::Display;
use super::summary::Summary;
use super::{Ending, message, say};
use anyhow::{Error, Result};
use repro::data::{self, Presence};
use repro::env;
use repro::monitor::Interrupted;
use repro::recipe::DatasetName;
use repro::store::{RunRecorder, RunRow, StoreError};
use std::io::{self, Write};
use std::path::Path;

/// Records and says how a run ended.
///
/// # Errors
/// When the database cannot be used.
pub fn settle<T>(
    id: i64,
    recorder: RunRecorder,
    result: Result<T>,
    finish: impl FnOnce(RunRecorder, T) -> Result<(), StoreError>,
) -> Result<Ending> {
    Ok(match result {
        Ok(result) => {
            finish(recorder, result)?;
            Ending::Done
        }
        Err(error) if error.is::<Interrupted>() => {
            recorder.interrupt()?;
            say(format_args!("run {id}: {error}"));
            Ending::Interrupted
        }
        Err(error) => {
            let message = message(&error);
            say(format_args!("run {id} failed: {message}"));
            recorder.fail(&message)?;
            Ending::Failed
        }
    })
}

/// Where text for people and lines for programs go. A listener who went away does not end a run.
#[derive(Clone, Copy)]
pub struct Output {
    pub json: bool,
}

impl Output {
    pub fn tell(self, text: impl std::fmt::Display) {
        if self.json {
            say(text);
        } else {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    pub fn json(self, summary: &Summary<'_>) -> Result<()> {
        if self.json {
            let line = serde_json::to_string(summary)?;
            if let Err(error) = writeln!(io::stdout(), "{line}")
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                return Err(Error::from(error).context("standard output"));
            }
        }
        Ok(())
    }
}

/// The number of threads that the operators now run on. More than there are cores would only wait
/// for each other, and the results do not depend on it.
///
/// # Errors
/// When the threads cannot be started.
pub fn set_threads(threads: Option<u16>) -> Result<usize> {
    if let Some(threads) = threads {
        let (asked, cores) = (usize::from(threads), env::cores());
        if asked > cores {
            say(format_args!("--threads {asked}: there are {cores} cores, so {cores} it is"));
        }
        rayon::ThreadPoolBuilder::new().num_threads(asked.min(cores)).build_global()?;
    }
    Ok(rayon::current_num_threads())
}

/// Fetching is no part of a run: it happens once, and its time says nothing about the method.
///
/// # Errors
/// When the data set cannot be fetched.
pub fn fetch_if_absent(dataset: DatasetName, root: &Path, display: &Display) -> Result<()> {
    if data::presence(dataset, root) == Presence::Absent {
        data::fetch(dataset, root, None, display)?;
    }
    Ok(())
}

/// What to do after the run.
pub fn next_steps(last: &RunRow, database: &Path) -> String {
    let db = match database.to_str() {
        Some("results.db") => String::new(),
        _ => format!(" --db {}", database.display()),
    };
    format!(
        "\nnext: `repro show {}{db}` for this run, `repro list{db}` for all, `repro report{db}` for \
         pages and tables",
        last.id
    )
}
