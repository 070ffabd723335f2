//! The runs as JSON Lines, and the Python program that imports them into MLflow. MLflow's stores are databases of
//! its own, which only its client can write.

use super::content::{RunContent, Total, series_name};
use super::folder::{LogError, LogFolder, WriteError};
use crate::store::{RunStatus, Store};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

/// What is written.
pub const FILES: [&str; 2] = [RUNS, PROGRAM];
const RUNS: &str = "runs.jsonl";
const PROGRAM: &str = "import.py";
/// Points of one line.
const POINTS: usize = 1000;
/// The version of the lines, which `import.py` checks.
const VERSION: u32 = 1;

/// A line of the file. A run has one of the first kind, any number of the second, and one of the third.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    Run(Box<RunLine<'a>>),
    Metric {
        name: &'a str,
        /// Step, milliseconds since 1970, value.
        points: Vec<(u64, i64, f64)>,
    },
    End {
        run: i64,
    },
}

#[derive(Serialize)]
struct RunLine<'a> {
    version: u32,
    run: i64,
    identity: &'a str,
    state: &'a str,
    experiment: &'a str,
    name: String,
    /// As MLflow calls it.
    status: &'static str,
    /// Milliseconds since 1970, UTC; the end is null while the run is running.
    start_time: i64,
    end_time: Option<i64>,
    tags: BTreeMap<String, String>,
    params: BTreeMap<String, String>,
    /// Files by name.
    artifacts: BTreeMap<&'static str, String>,
}

/// Writes both files.
///
/// # Errors
/// When the disk or the database refuses.
pub fn write(
    folder: &LogFolder,
    store: &Store,
    contents: &[RunContent<'_>],
) -> Result<(), LogError> {
    folder.write(RUNS, |out| {
        contents.iter().try_for_each(|content| write_run(out, store, content))
    })?;
    folder.write(PROGRAM, |out| Ok(out.write_all(include_bytes!("import.py"))?))
}

fn write_run(
    out: &mut dyn Write,
    store: &Store,
    content: &RunContent<'_>,
) -> Result<(), WriteError> {
    write_line(out, &Line::Run(Box::new(run_line(content))))?;
    content.measurements(store, |metric, points| {
        let name = &series_name(metric);
        for points in points.chunks(POINTS) {
            let points = points.iter().map(|point| {
                (point.step, milliseconds(content.timeline.at(metric, point.step)), point.value)
            });
            write_line(out, &Line::Metric { name, points: points.collect() })?;
        }
        Ok::<_, WriteError>(())
    })?;
    for Total { name, value, at, .. } in &content.totals() {
        write_line(out, &Line::Metric { name, points: vec![(0, milliseconds(*at), *value)] })?;
    }
    Ok(write_line(out, &Line::End { run: content.run.id })?)
}

fn write_line(out: &mut dyn Write, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)
}

fn run_line<'a>(content: &'a RunContent<'_>) -> RunLine<'a> {
    let run = content.run;
    let params = content.hyperparameters().into_iter();
    RunLine {
        version: VERSION,
        run: run.id,
        identity: &content.identity,
        state: &content.state,
        experiment: &run.experiment,
        name: content.name(),
        status: match run.status {
            RunStatus::Finished => "FINISHED",
            RunStatus::Failed => "FAILED",
            RunStatus::Interrupted => "KILLED",
            RunStatus::Running => "RUNNING",
        },
        start_time: milliseconds(content.timeline.whole.0),
        end_time: content.ended_at().map(milliseconds),
        tags: tags(content),
        params: params.map(|(name, value)| (name, plain(value))).collect(),
        artifacts: content.texts().into_iter().collect(),
    }
}

/// The tags of `repro`, and those that MLflow shows in columns of their own.
fn tags(content: &RunContent<'_>) -> BTreeMap<String, String> {
    let run = content.run;
    let own = content.facts().into_iter().chain(content.environment());
    let mut tags: BTreeMap<String, String> =
        own.map(|(name, value)| (format!("repro.{name}"), value)).collect();
    let mut add = |name: &str, value: String| tags.insert(format!("mlflow.{name}"), value);
    add("source.type", "LOCAL".to_owned());
    add("source.name", run.command.clone());
    if let Some(revision) = &run.environment.git_revision {
        add("source.git.commit", revision.clone());
    }
    let mut note = format!("Run {} of `repro`: {} on {}.", run.id, run.method, run.dataset);
    if let Some(error) = &run.error {
        let _ = write!(note, " It failed: {error}");
    }
    add("note.content", note);
    tags
}

/// Texts without quotes, everything else as JSON.
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_they_are() {
        let line =
            Line::Metric { name: "train/loss", points: vec![(3, 1500, 0.1), (4, 1501, -5e-324)] };
        let mut out = Vec::new();
        write_line(&mut out, &line).unwrap();
        let expected = "{\"kind\":\"metric\",\"name\":\"train/loss\",\"points\":[[3,1500,0.1],[4,1501,-5e-324]]}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_program_reads_this_version() {
        assert!(include_str!("import.py").contains(&format!("\nVERSION = {VERSION}\n")));
    }

    #[test]
    fn times_are_whole_milliseconds() {
        assert_eq!(milliseconds(1_700_000_000.123_456), 1_700_000_000_123);
    }
}
