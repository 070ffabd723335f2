//! Runs as a polars frame: one row per run, every number at full precision.

use crate::record::Phase;
use crate::store::{ArchitectureRow, FinalResult, RunRow};
use polars::prelude::*;

pub(crate) use polars::prelude::DataFrame;

/// Columns of so many rows as comma-separated values.
pub(crate) fn csv_of(rows: usize, columns: Vec<Column>) -> PolarsResult<String> {
    csv_of_frame(DataFrame::new(rows, columns)?)
}

/// A frame as comma-separated values; unknown values are empty.
pub(crate) fn csv_of_frame(mut frame: DataFrame) -> PolarsResult<String> {
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).finish(&mut frame)?;
    String::from_utf8(bytes).map_err(|error| polars_err!(ComputeError: "{error}"))
}

/// The mean of some numbers, and their standard deviation (n - 1) where there are two or more.
pub fn mean_and_sd(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let column = Float64Chunked::from_slice("values".into(), values);
    column.mean().map(|mean| (mean, column.std(1)))
}

/// One row per run. `test_top1s` holds the test accuracy of each training run of each run, in 0..=1.
pub fn frame(runs: &[RunRow], test_top1s: &[Vec<f64>]) -> PolarsResult<DataFrame> {
    let mut columns = identity(runs);
    columns.extend(outcome(runs));
    columns.push(each_training_run(test_top1s));
    columns.extend(Phase::ALL.into_iter().flat_map(|phase| usage(runs, phase)));
    columns.extend(origin(runs));
    DataFrame::new(runs.len(), columns)
}

fn identity(runs: &[RunRow]) -> Vec<Column> {
    vec![
        column("run_id", runs, |r| r.id),
        column("experiment", runs, |r| r.experiment.as_str()),
        column("method", runs, |r| r.method.as_str()),
        column("dataset", runs, |r| r.dataset.as_str()),
        column("space", runs, |r| r.manifest.space_name.as_str()),
        column("space_candidates", runs, |r| r.manifest.space_candidates.as_str()),
        column("space_log10", runs, |r| r.manifest.space_log10),
        column("seed", runs, |r| r.seed),
        column("attempt", runs, |r| r.attempt),
        column("status", runs, |r| r.status.name()),
        column("error", runs, |r| r.error.as_deref()),
    ]
}

fn outcome(runs: &[RunRow]) -> Vec<Column> {
    fn result<T>(run: &RunRow, of: fn(&FinalResult) -> T) -> Option<T> {
        run.result.as_ref().map(of)
    }
    fn derived<T>(run: &RunRow, of: fn(&ArchitectureRow) -> T) -> Option<T> {
        run.architecture.as_ref().map(of)
    }
    vec![
        column("test_top1", runs, |r| result(r, |result| result.test_top1)),
        column("test_loss_nats", runs, |r| result(r, |result| result.test_loss)),
        column("test_images", runs, |r| result(r, |result| result.test_images)),
        column("arch_id", runs, |r| r.architecture.as_ref().map(|arch| arch.id.as_str())),
        column("macs", runs, |r| derived(r, |arch| arch.macs)),
        column("params", runs, |r| derived(r, |arch| arch.params)),
        column("weights_sha256", runs, |r| r.result.as_ref().map(|r| r.weights_sha256.as_str())),
    ]
}

/// Separated by semicolons.
fn each_training_run(top1s: &[Vec<f64>]) -> Column {
    let text = |top1s: &Vec<f64>| {
        let numbers: Vec<String> = top1s.iter().map(f64::to_string).collect();
        (!numbers.is_empty()).then(|| numbers.join(";"))
    };
    Column::new("test_top1_of_training_runs".into(), top1s.iter().map(text).collect::<Vec<_>>())
}

fn usage(runs: &[RunRow], phase: Phase) -> [Column; 5] {
    let name = |what: &str| format!("{}_{what}", phase.name());
    [
        column(&name("seconds"), runs, |r| r.usage(phase).map(|usage| usage.seconds)),
        column(&name("peak_bytes"), runs, |r| r.usage(phase).map(|usage| usage.peak_bytes)),
        column(&name("processed_images"), runs, |r| r.usage(phase).map(|usage| usage.images)),
        column(&name("executed_macs"), runs, |r| r.usage(phase).and_then(|usage| usage.macs)),
        column(&name("architectures"), runs, |r| {
            r.usage(phase).and_then(|usage| usage.architectures)
        }),
    ]
}

fn origin(runs: &[RunRow]) -> Vec<Column> {
    vec![
        column("started_at_unix_seconds", runs, |r| r.started_at),
        column("last_seen_at_unix_seconds", runs, |r| r.last_seen_at),
        column("manifest_sha256", runs, |r| r.manifest.sha256.as_str()),
        column("settings_sha256", runs, |r| r.settings.sha256.as_str()),
        column("images_sha256", runs, |r| r.data.as_ref().map(|data| data.sha256.as_str())),
        column("version", runs, |r| r.environment.version.as_str()),
        column("git_revision", runs, |r| r.environment.git_revision.as_deref()),
        column("git_dirty", runs, |r| r.environment.git_dirty),
        column("rustc", runs, |r| r.environment.rustc.as_str()),
        column("libraries", runs, |r| r.environment.libraries.as_str()),
        column("os", runs, |r| r.environment.os.as_str()),
        column("cpu", runs, |r| r.environment.cpu.as_str()),
        column("instructions", runs, |r| r.environment.instructions.as_str()),
        column("cores", runs, |r| r.environment.cores),
        column("memory_bytes", runs, |r| r.environment.memory_bytes),
        column("threads", runs, |r| r.environment.threads),
        column("device", runs, |r| r.environment.device.as_str()),
        column("gpu", runs, |r| r.environment.gpu.as_deref()),
        column("cuda", runs, |r| r.environment.cuda.as_deref()),
        column("precision", runs, RunRow::precision),
        column("command", runs, |r| r.command.as_str()),
    ]
}

/// One column: `of` each row.
pub(crate) fn column<'a, R, T>(name: &str, rows: &'a [R], of: impl Fn(&'a R) -> T) -> Column
where
    Series: NamedFrom<Vec<T>, [T]>,
{
    Column::new(name.into(), rows.iter().map(of).collect::<Vec<T>>())
}
