//! `repro show`: everything about one run.

use super::summary::Summary;
use anyhow::{Result, bail};
use repro::env::{self, Environment};
use repro::record::{ChoiceProbabilities, PhaseUsage, ScalingPoint};
use repro::report;
use repro::space::{BlockKind, BlockSpec};
use repro::store::{ArchitectureRow, AttemptRow, Measurement, RunRow, RunStatus, Store};
use repro::study::report::points_table;
use repro::text::{self, Table, or_dash};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

/// Show everything about one run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro show 3
  repro show 3 --json
  repro show 3 --weights")]
pub struct Args {
    /// The run's number, as `repro list` shows it.
    #[arg(value_name = "RUN")]
    run: i64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Print only the paths of the trained weights: safetensors files, one per repeat.
    #[arg(long, conflicts_with = "json")]
    weights: bool,
}

/// # Errors
/// When there is no such run, or nothing can be written.
pub fn run(args: &Args, store: &Store) -> Result<()> {
    let run = store.run(args.run)?;
    let measurements = store.measurements(args.run)?;
    let points = store.scaling_points(args.run)?;
    let attempts = store.attempts(args.run)?;
    let series = series(&measurements);
    let mut out = io::stdout().lock();
    if args.weights {
        for file in weights(&run, store)? {
            writeln!(out, "{}", file.display())?;
        }
    } else if args.json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&as_json(&run, &attempts, &series, &points)?)?
        )?;
    } else {
        writeln!(out, "{}", text::printable(&as_text(&run, &attempts, &measurements, points)))?;
    }
    Ok(())
}

/// The files of the trained weights.
///
/// # Errors
/// When there are none.
fn weights(run: &RunRow, store: &Store) -> Result<Vec<PathBuf>> {
    let repeats = run.settings.values.get("train.repeats").and_then(Value::as_u64).unwrap_or(1);
    let mut files = store.files_of(run.id).weights(repeats as usize);
    files.retain(|file| run.status == RunStatus::Finished && file.is_file());
    if files.is_empty() {
        let why = match run.status {
            RunStatus::Finished if run.result.is_none() => "it trained no network",
            RunStatus::Finished => "they were discarded, or removed",
            _ => "it is not finished",
        };
        bail!("there are no weights of run {}: {why}", run.id);
    }
    Ok(files)
}

/// The measurements by metric. They are stored in this order.
fn series(measurements: &[Measurement]) -> Vec<&[Measurement]> {
    measurements.chunk_by(|a, b| a.metric == b.metric).collect()
}

fn as_json(
    run: &RunRow,
    attempts: &[AttemptRow],
    series: &[&[Measurement]],
    points: &[ScalingPoint],
) -> Result<Value> {
    let mut value = serde_json::to_value(Summary::of(run))?;
    let phases = run.phases.iter().map(|row| {
        let usage = row.usage.map(|usage| {
            let PhaseUsage { seconds, peak_bytes, images, macs, architectures } = usage;
            json!({
                "seconds": seconds,
                "peak_bytes": peak_bytes,
                "images": images,
                "macs": macs,
                "architectures": architectures,
            })
        });
        json!({ "phase": row.phase.name(), "usage": usage })
    });
    let metrics = series.iter().filter_map(|points| {
        let last = points.last()?;
        let about = json!({ "points": points.len(), "step": last.step, "last": last.value });
        Some((last.metric.name().into_owned(), about))
    });
    let manifest = &run.manifest;
    let rest = json!({
        "attempt": run.attempt,
        "attempts": attempts,
        "started_at": run.started_at,
        "last_seen_at": run.last_seen_at,
        "command": run.command,
        "test_images": run.result.as_ref().map(|result| result.test_images),
        "phases": phases.collect::<Vec<_>>(),
        "architecture": run.architecture.as_ref().map(|found| &*found.arch),
        "probabilities": run.architecture.as_ref().map(|found| &found.probabilities),
        "resolutions": run.architecture.as_ref().map(|found| &found.resolutions),
        "metrics": metrics.collect::<serde_json::Map<_, _>>(),
        "points": points,
        "environment": *run.environment,
        "manifest": {
            "sha256": manifest.sha256,
            "text": manifest.text,
            "space_name": manifest.space_name,
            "space_text": manifest.space_text,
            "space_candidates": manifest.space_candidates,
            "space_log10": manifest.space_log10,
        },
    });
    if let (Value::Object(value), Value::Object(rest)) = (&mut value, rest) {
        value.extend(rest);
    }
    Ok(value)
}

fn as_text(
    run: &RunRow,
    attempts: &[AttemptRow],
    measurements: &[Measurement],
    points: Vec<ScalingPoint>,
) -> String {
    let series = series(measurements);
    let mut text = head(run);
    for warning in report::warnings(run, measurements) {
        let _ = write!(text, "\n  warning     {warning}");
    }
    let mut section = |title: &str, body: String| {
        let _ = write!(text, "\n\n{title}\n{}", indent(&body));
    };
    if let Some(found) = &run.architecture {
        let cost =
            format!("{} MACs, {} params", text::count(found.macs), text::count(found.params));
        let body = format!("{}\n{}", resolution(found), blocks(found));
        section(&format!("architecture {}: {cost}", found.id), body);
    }
    if attempts.len() > 1 {
        section("attempts", attempts_table(attempts).to_string());
    }
    if !run.phases.is_empty() {
        section("phases", phases(run).to_string());
    }
    if !series.is_empty() {
        section("metrics", metrics(&series).to_string());
    }
    if !points.is_empty() {
        section("points", points_table(run, points).trim_end().to_owned());
    }
    section("environment", environment(&run.environment));
    let title = format!("manifest (space {}: see --json)", run.manifest.space_name);
    section(&title, run.manifest.text.trim_end().to_owned());
    text
}

fn attempts_table(attempts: &[AttemptRow]) -> Table {
    let headings = ["attempt", "status", "from checkpoint", "start (UTC)", ">duration", "process"];
    let mut table = Table::new(headings);
    for attempt in attempts {
        table.row([
            attempt.number.to_string(),
            attempt.status.name().to_owned(),
            or_dash(attempt.from_checkpoint),
            env::utc(attempt.started_at),
            text::duration(attempt.last_seen_at - attempt.started_at),
            format!("{} on {}", attempt.pid, attempt.host),
        ]);
    }
    table
}

fn head(run: &RunRow) -> String {
    let started = env::utc(run.started_at);
    let lasted = text::duration(run.last_seen_at - run.started_at);
    let device = run.environment.device_with_model();
    let mut lines = vec![
        format!("run {}: {}", run.id, run.status.name()),
        format!("  experiment  {}: {}, seed {}", run.experiment, run.method, run.seed),
        format!("  data set    {}", run.dataset),
        format!("  device      {device}, precision {}", run.precision()),
        format!("  start       {started} UTC, duration {lasted}, attempt {}", run.attempt),
        format!("  command     {}", run.command),
    ];
    if let Some(result) = &run.result {
        let (top1, n) = (text::percent(result.test_top1), result.test_images);
        let images = text::plural(n, "image");
        lines.push(format!("  test        top-1 {top1}, loss {:.4}, {images}", result.test_loss));
        lines.push(format!("  weights     sha256 {}", result.weights_sha256));
    }
    lines
        .extend(run.error.as_ref().map(|error| format!("  error       {}", text::one_line(error))));
    lines.join("\n")
}

/// The input resolution, and the final probability of each one that was searched.
fn resolution(found: &ArchitectureRow) -> String {
    let side = found.arch.resolution;
    let options: Vec<String> = found
        .resolutions
        .iter()
        .map(|option| format!("{} ({:.0} %)", option.side, 100.0 * option.probability))
        .collect();
    match &options[..] {
        [] => format!("input {side}x{side}"),
        options => format!("input {side}x{side}, chosen from {}", options.join(", ")),
    }
}

/// One line per block. The last column is the final probability of the argmax type, expansion and
/// width, which were chosen unless the projection onto the budget changed them.
fn blocks(found: &ArchitectureRow) -> Table {
    let mut table = Table::new([
        "block",
        "kind",
        ">stride",
        ">hidden",
        ">squeeze",
        ">width",
        "residual",
        "p of argmax",
    ]);
    for (i, block) in found.arch.blocks.iter().enumerate() {
        let [kind, hidden, squeeze, residual] = kind(block);
        table.row([
            block.label.clone(),
            kind,
            block.stride.to_string(),
            hidden,
            squeeze,
            block.width.to_string(),
            residual,
            or_dash(found.probabilities.get(i).map(probabilities)),
        ]);
    }
    table
}

/// The kind of a block, its hidden and squeezed channels, and whether it adds its input.
fn kind(block: &BlockSpec) -> [String; 4] {
    let dash = || or_dash(None::<usize>);
    match &block.kind {
        BlockKind::MbConv { mid, squeeze, residual, .. } => [
            block.kind.type_name(),
            mid.to_string(),
            or_dash(*squeeze),
            if *residual { "yes".to_owned() } else { dash() },
        ],
        BlockKind::Projection => ["skip (conv 1x1, relu)".to_owned(), dash(), dash(), dash()],
        BlockKind::Identity => [block.kind.type_name(), dash(), dash(), dash()],
        BlockKind::Residual => [block.kind.type_name(), dash(), dash(), "yes".to_owned()],
    }
}

fn probabilities(p: &ChoiceProbabilities) -> String {
    let largest = |p: &[f64]| 100.0 * p.iter().copied().fold(0.0, f64::max);
    let [kind, expansion, width] = [&p.types, &p.expansions, &p.widths].map(|p| largest(p));
    format!("{kind:.0} % {expansion:.0} % {width:.0} %")
}

fn phases(run: &RunRow) -> Table {
    let mut table = Table::new([
        "phase",
        ">time",
        ">peak memory",
        ">images",
        ">images/s",
        ">executed MACs",
        ">networks",
    ]);
    for row in &run.phases {
        let images = row.usage.filter(|usage| usage.images > 0);
        table.row([
            row.phase.name().to_owned(),
            row.usage.map_or("not finished".to_owned(), |usage| text::duration(usage.seconds)),
            or_dash(row.usage.map(|usage| text::bytes(usage.peak_bytes))),
            or_dash(images.map(|usage| usage.images)),
            or_dash(images.map(|usage| format!("{:.1}", usage.images as f64 / usage.seconds))),
            or_dash(row.usage.and_then(|usage| usage.macs).filter(|n| *n > 0).map(text::count)),
            or_dash(row.usage.and_then(|usage| usage.architectures).filter(|n| *n > 0)),
        ]);
    }
    table
}

fn metrics(series: &[&[Measurement]]) -> Table {
    const WIDTH: usize = 32;
    let mut table = Table::new(["metric", ">points", ">first", ">last", "curve"]);
    for points in series {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
        let values: Vec<f64> = points.iter().map(|point| point.value).collect();
        let curve = if values.len() > 1 { text::sparkline(&values, WIDTH) } else { String::new() };
        let cells = [first, last].map(|point| text::decimal(point.value));
        let [first, last] = cells;
        table.row([points[0].metric.to_string(), points.len().to_string(), first, last, curve]);
    }
    table
}

fn environment(e: &Environment) -> String {
    let revision = e.git_revision.as_deref().unwrap_or("unknown revision");
    let dirty = if e.git_dirty == Some(true) { ", with uncommitted changes" } else { "" };
    let (memory, cores) = (text::bytes(e.memory_bytes), text::plural(e.cores, "core"));
    let mut lines = vec![
        format!("program   repro {}, {revision}{dirty}", e.version),
        format!("built by  {}; {}", e.rustc, e.libraries),
        format!("machine   {}, {}, {} ({})", e.host, e.os, e.cpu, e.instructions),
        format!("computed  on {} with {} of {cores}, {memory}", e.device, e.threads),
    ];
    lines.extend(e.cuda.as_ref().map(|cuda| format!("CUDA      {cuda}")));
    lines.join("\n")
}

fn indent(text: &str) -> String {
    let lines = text.lines().map(|line| format!("  {line}"));
    lines.collect::<Vec<_>>().join("\n")
}
