//! The end of a run: stored, printed as text and as JSON.

use super::ending::Ending;
use super::output::{Output, message, say};
use super::summary::Summary;
use anyhow::{Result, bail};
use repro::monitor::Interrupted;
use repro::store::{NewRun, RunRecorder, RunRow, Store, StoreError};
use std::path::Path;

/// Where the end of a run is stored and printed.
#[derive(Clone, Copy)]
pub struct Ends<'a> {
    pub store: &'a Store,
    pub output: &'a Output,
}

impl Ends<'_> {
    /// Stores and reports how `run` ended; `finish` stores its result. Returns `None` where another process
    /// continues the run.
    ///
    /// # Errors
    /// When the end cannot be stored. The JSON line is printed even then, with the error.
    pub fn conclude<T>(
        self,
        run: &NewRun,
        recorder: RunRecorder,
        result: Result<T>,
        finish: impl FnOnce(RunRecorder, T) -> Result<(), StoreError>,
    ) -> Result<Option<(RunRow, Ending)>> {
        let id = recorder.run_id();
        let (stored, ending, error) = match result {
            Ok(result) => (finish(recorder, result), Ending::Done, None),
            Err(error) if error.is::<Interrupted>() => {
                (recorder.interrupt(), Ending::Interrupted, Some(error.to_string()))
            }
            Err(error) => {
                let error = message(&error);
                (recorder.fail(&error), Ending::Failed, Some(error))
            }
        };
        match stored.and_then(|()| self.store.run(id)) {
            Ok(row) => {
                match (ending, error) {
                    (Ending::Failed, Some(error)) => say(format_args!("run {id} failed: {error}")),
                    (_, Some(error)) => say(format_args!("run {id}: {error}")),
                    (_, None) => {}
                }
                self.output.json(&Summary::of(&row))?;
                Ok(Some((row, ending)))
            }
            Err(replaced @ StoreError::Replaced { .. }) => {
                say(replaced);
                Ok(None)
            }
            Err(failure) => {
                let error = joined(error, &failure.to_string());
                self.output.json(&Summary::not_stored(id, run, &error))?;
                bail!("run {id} failed: {error}")
            }
        }
    }
}

/// The error of a run and why it could not be stored; often both are the same.
fn joined(error: Option<String>, failure: &str) -> String {
    match error {
        Some(error) if !error.contains(failure) => format!("{error}; then: {failure}"),
        _ => failure.to_owned(),
    }
}

/// The commands that show the results.
pub fn next_steps(last: &RunRow, database: &Path) -> String {
    let db = match database.to_str() {
        Some("results.db") => String::new(),
        _ => format!(" --db {}", database.display()),
    };
    format!(
        "\nnext: `repro show {}{db}` shows this run, `repro list{db}` lists all runs, \
         `repro report{db}` writes tables and figures",
        last.id
    )
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn the_same_failure_is_printed_once() {
        assert_eq!(joined(None, "disk full"), "disk full");
        assert_eq!(joined(Some("x.db: disk full".to_owned()), "disk full"), "disk full");
        assert_eq!(joined(Some("no loss".to_owned()), "disk full"), "no loss; then: disk full");
    }
}
