//! The Markdown page of a memory scaling study.

use super::{Measured, Point, Series, place_of, predictions};
use crate::report::cells::escape;
use crate::report::page::origin;
use crate::report::stats::Line;
use crate::report::table::{
    Align::{Left, Right},
    Table,
};
use crate::space::{Dimension, SearchSpace, parse_space};
use crate::store::RunRow;
use std::path::Path;

const MIB: f64 = 1_048_576.0;
/// From the fewest to the most widths, the masked supernet's bytes may grow by so much, and its
/// seconds, for the claim to count as reproduced.
const BYTES_TOLERATED: f64 = 0.01;
const SECONDS_TOLERATED: f64 = 0.03;
/// Of the paper, for two orders of magnitude of space size; a recollection.
const PUBLISHED_MB: f64 = 1.0;
/// How far the memory model may be off.
const MODEL_TOLERATED: f64 = 0.03;

/// All of it.
pub fn markdown(
    runs: &[Measured<'_>],
    points: &[Point],
    series: &[Series],
    pictures: &[String],
    command_line: &str,
) -> String {
    let rows: Vec<RunRow> = runs.iter().map(|(run, _)| (*run).clone()).collect();
    let experiment = rows.first().map_or("", |run| run.experiment.as_str());
    let mut page = vec![format!("# {}\n", escape(experiment)), origin(&rows, command_line)];
    page.push(about(points));
    let space = rows.first().and_then(space_of);
    page.push(format!("## Verdicts\n\n{}", verdicts(space.as_ref(), points, series)));
    page.extend(pictures.iter().map(|name| {
        format!("![What a step takes over the options and the size of the space]({name})\n")
    }));
    page.push(format!("## Growth\n\n{}\n{GROWTH}", growth_table(series).markdown()));
    if let Some(space) = &space {
        let threads = rows.first().map_or(1, |run| run.environment.threads as usize);
        page.push(format!(
            "## What would fit\n\n{}\n\n{}\nPredicted by the memory model for {} as a whole, from \
             its text alone; GB are 10^9 bytes. A GPU has no tiles of threads, and its own \
             libraries take some hundred MB that are not counted.\n",
            predictions::reason(space, threads),
            predictions::table(space, threads).markdown(),
            escape(&space.name)
        ));
    }
    page.push(format!("## Points\n\n{}\n{POINTS}", point_table(points).markdown()));
    page.join("\n")
}

fn space_of(run: &RunRow) -> Option<SearchSpace> {
    parse_space(&run.manifest.space_text, Path::new(&run.manifest.space_name)).ok()
}

/// What was done.
fn about(points: &[Point]) -> String {
    let batches: Vec<String> = points.iter().map(|p| p.batch.to_string()).collect();
    let batch = batches.first().cloned().unwrap_or_default();
    let processes = points.iter().map(|p| p.repeats.len()).max().unwrap_or(0);
    format!(
        "A step trains the supernet's weights on {batch} images. Every point was measured by up to \
         {processes} processes that did nothing else. One thing grows at a time and everything else \
         is decided: one option each, the largest size, the first block type; `all` grows all of \
         them at once. Of sizes the largest is always among the options, and the others are spread \
         evenly, so that the largest network is always the same. `dmasking` masks shared weights, and has a \
         branch for each block type; `dnas` has a block for every option.\n"
    )
}

const GROWTH: &str = "From the fewest to the most options that were measured. The slope is that of a \
straight line through the medians, least squares, with its 95 % interval by Student's t; R² is the \
share of the variance that the line explains. The last column is twice the slope over log10 of the \
number of networks.\n";

const POINTS: &str = "Medians over processes, with the range of their seconds. What has no measured \
peak did not fit into this machine's memory and was predicted. The model's error is predicted over \
measured, less one. By owner and by phase: see the CSV file.\n";

fn growth_table(series: &[Series]) -> Table {
    let columns = [
        ("growing", Left),
        ("supernet", Left),
        ("recompute", Left),
        ("options", Right),
        ("MiB", Right),
        ("bytes grow", Right),
        ("seconds grow", Right),
        ("MiB an option", Right),
        ("R²", Right),
        ("ms an option", Right),
        ("MB per 100 times the networks", Right),
    ];
    let mut table = Table::new(&columns);
    for s in series {
        let measured: Vec<&Point> = s.measured().collect();
        let [first, .., last] = measured[..] else { continue };
        let ends = |of: &dyn Fn(&Point) -> String| format!("{} to {}", of(first), of(last));
        let mib = |p: &Point| p.peak_bytes().map_or(String::new(), |b| format!("{:.1}", b / MIB));
        let over_options = |y| s.line(|p| p.options as f64, y);
        let bytes = over_options(|p| p.peak_bytes().map(|b| b / MIB));
        let seconds = over_options(|p| p.seconds().map(|s| 1e3 * s));
        table.push(vec![
            s.dimension.clone(),
            s.method.clone(),
            s.recompute.clone(),
            ends(&|p| p.options.to_string()),
            ends(&mib),
            times(s.growth(Point::peak_bytes)),
            times(s.growth(Point::seconds)),
            slope(bytes.as_ref()),
            bytes.and_then(|line| line.r_squared).map_or(String::new(), |r| format!("{r:.4}")),
            slope(seconds.as_ref()),
            per_hundredfold(s).map_or(String::new(), |mb| format!("{mb:.2}")),
        ]);
    }
    table
}

/// Megabytes per two orders of magnitude of space size.
fn per_hundredfold(series: &Series) -> Option<f64> {
    let line = series.line(|p| p.log10_candidates, |p| p.peak_bytes().map(|b| b / 1e6))?;
    Some(2.0 * line.slope)
}

fn times(growth: Option<f64>) -> String {
    match growth {
        Some(growth) if growth < 1.1 => format!("{:+.2} %", 100.0 * (growth - 1.0)),
        Some(growth) => format!("{growth:.2} times"),
        None => String::new(),
    }
}

fn slope(line: Option<&Line>) -> String {
    let Some(line) = line else { return String::new() };
    let digits = |value: f64| {
        if value.abs() >= 10.0 { format!("{value:.1}") } else { format!("{value:.3}") }
    };
    match line.interval {
        Some((low, high)) => {
            format!("{} ({} to {})", digits(line.slope), digits(low), digits(high))
        }
        None => digits(line.slope),
    }
}

fn point_table(points: &[Point]) -> Table {
    let columns = [
        ("growing", Left),
        ("supernet", Left),
        ("recompute", Left),
        ("options", Right),
        ("log10 networks", Right),
        ("MiB", Right),
        ("predicted MiB", Right),
        ("error", Right),
        ("seconds", Right),
        ("run", Right),
    ];
    let mut table = Table::new(&columns);
    let mut points: Vec<&Point> = points.iter().collect();
    points.sort_by_key(|p| place_of(&p.dimension));
    for p in points {
        let seconds = p.seconds().zip(p.range(|step| step.seconds));
        table.push(vec![
            p.dimension.clone(),
            p.method.clone(),
            p.recompute.clone(),
            p.options.to_string(),
            format!("{:.2}", p.log10_candidates),
            p.peak_bytes().map_or("predicted".to_owned(), |b| format!("{:.1}", b / MIB)),
            format!("{:.1}", p.predicted_bytes as f64 / MIB),
            p.model_ratio().map_or(String::new(), |r| format!("{:+.1} %", 100.0 * (r - 1.0))),
            seconds.map_or(String::new(), |(median, (low, high))| {
                format!("{median:.3} ({low:.3} to {high:.3})")
            }),
            p.run.to_string(),
        ]);
    }
    table
}

/// What the study says of the paper's claims, and of the memory model.
fn verdicts(space: Option<&SearchSpace>, points: &[Point], series: &[Series]) -> String {
    let mut lines = Vec::new();
    lines.extend(space.map(size_verdict));
    for dimension in ["width", "expansion", "resolution", "block_type"] {
        lines.extend(masking_verdict(series, dimension));
    }
    lines.extend(explicit_verdict(series));
    lines.extend(model_verdict(points));
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

/// C1.
fn size_verdict(space: &SearchSpace) -> String {
    let widths = space.size().along(Dimension::Width).log10();
    format!(
        "C1, \"up to 10^14 times larger\": the widths of {} multiply to 10^{widths:.1}: {}.",
        escape(&space.name),
        if widths >= 13.5 {
            "reproduced"
        } else {
            "less than the paper's, this space has fewer blocks"
        }
    )
}

/// That without recompute comes first.
fn find<'a>(series: &'a [Series], method: &str, dimension: &str) -> Option<&'a Series> {
    series.iter().find(|s| s.method == method && s.dimension == dimension)
}

/// C2, for one thing that grows.
fn masking_verdict(series: &[Series], dimension: &str) -> Option<String> {
    let masked = find(series, "dmasking", dimension)?;
    let (bytes, seconds) = (masked.growth(Point::peak_bytes)?, masked.growth(Point::seconds)?);
    let (first, last) = (masked.measured().next()?, masked.measured().last()?);
    let verdict = match (bytes <= 1.0 + BYTES_TOLERATED, seconds <= 1.0 + SECONDS_TOLERATED) {
        (true, true) => "reproduced",
        (true, false) => "reproduced in bytes, not in seconds",
        (false, true) => "not reproduced in bytes",
        (false, false) => "not reproduced",
    };
    let why = match dimension {
        "block_type" => {
            " (masks share weights among sizes; each block type is a branch of its own)"
        }
        "resolution" => " (each resolution is computed by itself; the smaller ones are not kept)",
        _ => "",
    };
    let per = per_hundredfold(masked).map_or(String::new(), |mb| {
        format!(
            ", {mb:.2} MB per two orders of magnitude of space size beside the paper's {PUBLISHED_MB} \
             (a recollection)"
        )
    });
    Some(format!(
        "C2, \"nearly constant\", {dimension}: from {} to {} options masking takes {} bytes and {} \
         seconds{per}: {verdict}{why}. Tolerated: {} % of bytes, {} % of seconds.",
        first.options,
        last.options,
        times(Some(bytes)),
        times(Some(seconds)),
        100.0 * BYTES_TOLERATED,
        100.0 * SECONDS_TOLERATED
    ))
}

/// What masking is compared with.
fn explicit_verdict(series: &[Series]) -> Option<String> {
    let explicit = find(series, "dnas", "width")?;
    let line = explicit.line(|p| p.options as f64, |p| p.peak_bytes().map(|b| b / MIB))?;
    let r_squared = line.r_squared?;
    Some(format!(
        "A block for every option grows by {} MiB a width option, R² {r_squared:.4}: {}.",
        slope(Some(&line)),
        if r_squared >= 0.99 { "linear" } else { "not a straight line" }
    ))
}

fn model_verdict(points: &[Point]) -> Option<String> {
    let off = |p: &&Point| p.model_ratio().map_or(0.0, |ratio| (ratio - 1.0).abs());
    let measured = points.iter().filter(|p| p.model_ratio().is_some());
    let worst = measured.clone().max_by(|a, b| off(a).total_cmp(&off(b)))?;
    let within = measured.clone().filter(|p| off(p) <= MODEL_TOLERATED).count();
    Some(format!(
        "The memory model is within {} % at {within} of {} measured points; it is furthest off by {:+.1} % \
         ({}, recompute {}, {} {}).",
        100.0 * MODEL_TOLERATED,
        measured.count(),
        100.0 * (worst.model_ratio()? - 1.0),
        worst.method,
        worst.recompute,
        worst.dimension,
        worst.options
    ))
}
