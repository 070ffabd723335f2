//! The Markdown page of a memory scaling study.

use super::{Measured, Point, Series, order, predictions};
use crate::claim::{self, Evidence};
use crate::report::cells::{MIB, Unit, escape};
use crate::report::page::origin;
use crate::report::stats::Line;
use crate::report::table::{
    Align::{Left, Right},
    Table,
};
use crate::space::{Dimension, SearchSpace, parse_space};
use crate::store::RunRow;
use std::path::Path;

/// From the fewest to the most widths, the masked supernet's bytes may grow by so much, and its
/// seconds, for the claim to count as reproduced.
const BYTES_TOLERATED: f64 = 0.01;
const SECONDS_TOLERATED: f64 = 0.03;
/// Seconds of fewer processes are not judged: one and the same step differs by some per cent between
/// them.
const PROCESSES: usize = 3;
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
    page.push(format!("## Verdicts\n\n{}", verdicts(&rows, space.as_ref(), points, series)));
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
    let mut batches: Vec<u64> = points.iter().map(|p| p.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    let batch = batches.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
    let processes = points.iter().map(|p| p.repeats.len()).max().unwrap_or(0);
    format!(
        "A step trains the supernet's weights on {batch} images. Every point was measured by up to \
         {processes} processes that did nothing else. One thing grows at a time and everything else \
         is decided: one option each, the largest size, the first block type; `all` grows all of \
         them at once. A block has at most as many options as are named, and never more than the space \
         gives it. Of sizes the largest is always among the options, and the others are spread evenly; \
         of block types the first ones are. `dmasking` masks shared weights, and has a branch for each \
         block type; `dnas` and `darts` have a block for every option.\n"
    )
}

const GROWTH: &str = "From the fewest to the most options that were measured. The slope is that of a \
straight line through the medians, least squares, with its 95 % interval by Student's t; R² is the \
share of the variance that the line explains. Where blocks have fewer options than are named, growth \
flattens: that is the space's doing. The last column is twice the slope over log10 of the \
number of networks.\n";

const POINTS: &str = "Medians over processes, with the range of their seconds. What has no measured \
peak needs more memory than was free, or than the manifest allows, and was predicted. The model's error is predicted over \
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
        ("run", Right),
    ];
    let mut table = Table::new(&columns);
    for s in series {
        let Some((first, last)) = s.ends() else { continue };
        let ends = |of: &dyn Fn(&Point) -> String| format!("{} to {}", of(first), of(last));
        let mib = |p: &Point| p.peak_bytes().map_or(String::new(), |b| Unit::Mebibytes.cell(b));
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
            first.run.to_string(),
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
    points.sort_by_key(|p| order(&p.dimension, &p.recompute));
    for p in points {
        let seconds = p.seconds().zip(p.range(|step| step.seconds));
        table.push(vec![
            p.dimension.clone(),
            p.method.clone(),
            p.recompute.clone(),
            p.options.to_string(),
            format!("{:.2}", p.log10_candidates),
            p.peak_bytes().map_or("predicted".to_owned(), |b| Unit::Mebibytes.cell(b)),
            Unit::Mebibytes.cell(p.predicted_bytes as f64),
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
fn verdicts(
    runs: &[RunRow],
    space: Option<&SearchSpace>,
    points: &[Point],
    series: &[Series],
) -> String {
    let mut lines = Vec::new();
    lines.extend(size_verdict(runs, space));
    for dimension in ["width", "expansion", "resolution", "block_type"] {
        lines.extend(masking_verdict(series, dimension));
    }
    lines.extend(explicit_verdict(series));
    lines.extend(model_verdict(points));
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

/// C1, which a space alone decides.
fn size_verdict(runs: &[RunRow], space: Option<&SearchSpace>) -> Option<String> {
    let (run, space) = (runs.first()?, space?);
    let size = space.size();
    let by_widths = size.along(Dimension::Width).log10();
    let growth = claim::Growth {
        by_widths,
        over_block_types: size.over_block_types.log10(),
        classes: space.classes,
    };
    let evidence = Evidence { dataset: run.dataset.clone(), growth: Some(growth) };
    let c1 = claim::ALL.iter().find(|claim| claim.id == "C1")?;
    Some(format!(
        "C1, \"{}\": the widths of {} multiply to 10^{by_widths:.1}: {}.",
        c1.statement.trim_end_matches('.'),
        escape(&space.name),
        c1.judge(&evidence)
    ))
}

/// That without recompute, where there is one.
fn find<'a>(series: &'a [Series], methods: &[&str], dimension: &str) -> Option<&'a Series> {
    series.iter().find(|s| methods.contains(&&s.method[..]) && s.dimension == dimension)
}

/// C2, for one thing that grows.
fn masking_verdict(series: &[Series], dimension: &str) -> Option<String> {
    let masked = find(series, &["dmasking"], dimension)?;
    let (bytes, seconds) = (masked.growth(Point::peak_bytes)?, masked.growth(Point::seconds)?);
    let (first, last) = masked.ends()?;
    let verdict = match (bytes <= 1.0 + BYTES_TOLERATED, judge_seconds(first, last, seconds)) {
        (true, Ok(true)) => "reproduced".to_owned(),
        (true, Ok(false)) => "reproduced in bytes, not in seconds".to_owned(),
        (true, Err(doubt)) => format!("reproduced in bytes; {doubt}"),
        (false, Ok(true)) => "reproduced in seconds, not in bytes".to_owned(),
        (false, _) => "not reproduced".to_owned(),
    };
    let why = match dimension {
        "block_type" => {
            " (masks share weights among sizes; each block type is a branch of its own, in the paper, too)"
        }
        "resolution" => {
            " (each resolution is computed by itself; what the smaller ones compute is not kept)"
        }
        _ => "",
    };
    let per = per_hundredfold(masked).map_or(String::new(), |mb| {
        format!(
            "; {mb:.3} MB per two orders of magnitude of space size, beside the paper's {PUBLISHED_MB} \
             (a recollection)"
        )
    });
    Some(format!(
        "C2, \"nearly constant\", {dimension}: from {} to {} options masking needs {} memory and {} \
         time{per}: {verdict}{why}. Tolerated: {} % of bytes, {} % of seconds. Recompute {} (run {}).",
        first.options,
        last.options,
        grown(bytes),
        grown(seconds),
        100.0 * BYTES_TOLERATED,
        100.0 * SECONDS_TOLERATED,
        masked.recompute,
        first.run
    ))
}

/// Whether seconds stay as they are, by the medians; or why that cannot be said.
fn judge_seconds(first: &Point, last: &Point, growth: f64) -> Result<bool, &'static str> {
    if first.repeats.len().min(last.repeats.len()) < PROCESSES {
        return Err("too few processes for seconds");
    }
    let ends = first.range(|step| step.seconds).zip(last.range(|step| step.seconds));
    let apart = ends.is_some_and(|(few, many)| many.0 > (1.0 + SECONDS_TOLERATED) * few.1);
    match growth <= 1.0 + SECONDS_TOLERATED {
        true => Ok(true),
        false if apart => Ok(false),
        false => Err("seconds scatter too much between processes"),
    }
}

/// In a sentence: `1.2 % more`.
fn grown(factor: f64) -> String {
    match factor {
        _ if factor >= 1.1 => format!("{factor:.2} times the"),
        _ if factor >= 1.0 => format!("{:.2} % more", 100.0 * (factor - 1.0)),
        _ => format!("{:.2} % less", 100.0 * (1.0 - factor)),
    }
}

/// What masking is compared with.
fn explicit_verdict(series: &[Series]) -> Option<String> {
    let explicit = find(series, &["dnas", "darts"], "width")?;
    let line = explicit.line(|p| p.options as f64, |p| p.peak_bytes().map(|b| b / MIB))?;
    let (r_squared, (first, last)) = (line.r_squared?, explicit.ends()?);
    Some(format!(
        "A block for every option: from {} to {} widths {} memory and {} time; {} MiB a width, R² \
         {r_squared:.4}: {}. Recompute {} (run {}).",
        first.options,
        last.options,
        grown(explicit.growth(Point::peak_bytes)?),
        grown(explicit.growth(Point::seconds)?),
        slope(Some(&line)),
        if r_squared >= 0.99 { "linear" } else { "not a straight line" },
        explicit.recompute,
        first.run
    ))
}

fn model_verdict(points: &[Point]) -> Option<String> {
    let off = |p: &&Point| p.model_ratio().map_or(0.0, |ratio| (ratio - 1.0).abs());
    let measured = points.iter().filter(|p| p.model_ratio().is_some());
    let worst = measured.clone().max_by(|a, b| off(a).total_cmp(&off(b)))?;
    let within = measured.clone().filter(|p| off(p) <= MODEL_TOLERATED).count();
    Some(format!(
        "The memory model is within {} % at {within} of {} measured points; it is furthest off by {:+.1} % \
         ({}, recompute {}, {} {}, run {}).",
        100.0 * MODEL_TOLERATED,
        measured.count(),
        100.0 * (worst.model_ratio()? - 1.0),
        worst.method,
        worst.recompute,
        worst.dimension,
        worst.options,
        worst.run
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::StepUsage;

    /// Steps of so many bytes and seconds, by options; without them, predicted.
    fn grown_by(method: &str, dimension: &str, steps: &[(u64, Option<(u64, f64)>)]) -> Series {
        let point = |&(options, step): &(u64, Option<(u64, f64)>)| Point {
            run: 7,
            method: method.to_owned(),
            recompute: "none".to_owned(),
            dimension: dimension.to_owned(),
            options,
            batch: 64,
            log10_candidates: 2.0 * options as f64,
            predicted_bytes: 1_000_000,
            repeats: step.map_or(Vec::new(), |(peak_bytes, seconds)| {
                vec![StepUsage { seconds, peak_bytes, ..StepUsage::default() }; 3]
            }),
        };
        let points = steps.iter().map(point).collect();
        let (method, dimension) = (method.to_owned(), dimension.to_owned());
        Series { method, recompute: "none".to_owned(), dimension, points }
    }

    #[test]
    fn what_stays_nearly_constant_is_reproduced_and_nothing_else_is() {
        let verdict = |bytes, seconds| {
            let steps = [(1, Some((1_000_000, 1.0))), (3, Some((bytes, seconds)))];
            masking_verdict(&[grown_by("dmasking", "width", &steps)], "width").unwrap()
        };
        let kept = verdict(1_010_000, 1.03);
        assert!(kept.contains("needs 1.00 % more memory and 3.00 % more time"), "{kept}");
        // 10 kB over four orders of magnitude.
        assert!(kept.contains("; 0.005 MB per two orders of magnitude"), "{kept}");
        assert!(kept.contains("recollection): reproduced. Tolerated"), "{kept}");
        assert!(verdict(1_011_000, 1.0).contains(": reproduced in seconds, not in bytes. "));
        assert!(verdict(1_000_000, 1.2).contains(": reproduced in bytes, not in seconds. "));
        assert!(verdict(2_000_000, 1.2).contains(": not reproduced. "));
        assert!(verdict(2_000_000, 0.9).contains("2.00 times the memory and 10.00 % less time"));

        let steps = [(1, Some((1_000_000, 1.0))), (3, Some((1_000_000, 1.1)))];
        let mut scattered = grown_by("dmasking", "width", &steps);
        scattered.points[1].repeats[0].seconds = 1.02;
        let scattered = masking_verdict(&[scattered], "width").unwrap();
        let doubt = ": reproduced in bytes; seconds scatter too much between processes.";
        assert!(scattered.contains(doubt), "{scattered}");

        let steps = [(1, Some((1_000_000, 1.0))), (3, Some((1_000_000, 1.0)))];
        let mut fewer = grown_by("dmasking", "width", &steps);
        fewer.points[1].repeats.truncate(2);
        let fewer = masking_verdict(&[fewer], "width").unwrap();
        assert!(fewer.contains(": reproduced in bytes; too few processes for seconds."), "{fewer}");
    }

    #[test]
    fn one_measured_point_says_nothing_of_growth() {
        let steps = [(1, Some((1_000_000, 1.0))), (3, None)];
        let series = [grown_by("dmasking", "width", &steps), grown_by("dnas", "width", &steps)];
        assert_eq!(masking_verdict(&series, "width"), None);
        assert_eq!(explicit_verdict(&series), None);
        assert!(growth_table(&series).is_empty());
    }

    #[test]
    fn a_straight_line_is_told_from_a_bent_one_and_the_model_from_what_was_measured() {
        let mib = 1_048_576;
        let line = |last| {
            let steps = [(1, Some((mib, 1.0))), (2, Some((2 * mib, 2.0))), (3, Some((last, 3.0)))];
            grown_by("dnas", "width", &steps)
        };
        let straight = explicit_verdict(&[line(3 * mib)]).unwrap();
        assert!(
            straight.contains("1.000 (1.000 to 1.000) MiB a width, R² 1.0000: linear"),
            "{straight}"
        );
        let bent = explicit_verdict(&[line(2 * mib)]).unwrap();
        assert!(bent.contains(": not a straight line."), "{bent}");
        let model = model_verdict(&line(3 * mib).points).unwrap();
        assert!(model.contains("within 3 % at 0 of 3 measured points"), "{model}");
        assert!(
            model.contains("furthest off by -68.2 % (dnas, recompute none, width 3, run 7)"),
            "{model}"
        );
    }
}
