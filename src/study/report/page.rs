//! The Markdown page of a memory scaling study.

use super::{Measured, Point, Series, order, predictions, verdicts};
use crate::report::page::origin;
use crate::report::stats::Line;
use crate::space::{SearchSpace, parse_space};
use crate::store::RunRow;
use crate::study::verdict::TOLERATED_BYTES;
use crate::text::{MIB, Table, Unit, escape};
use std::path::Path;

/// Below, a straight line does not describe how bytes grow.
pub(super) const STRAIGHT: f64 = 0.99;
/// An interval from fewer points says nothing.
const LEAST_POINTS: usize = 4;

/// All of it.
pub fn markdown(
    runs: &[Measured<'_>],
    incomplete: &[String],
    points: &[Point],
    series: &[Series],
    pictures: &[(&str, String)],
    command_line: &str,
) -> String {
    let rows: Vec<RunRow> = runs.iter().map(|(run, _)| (*run).clone()).collect();
    let experiment = rows.first().map_or("", |run| run.experiment.as_str());
    let mut page = vec![format!("# {}\n", escape(experiment)), origin(&rows, command_line)];
    page.push(about(points));
    let space = rows.first().and_then(space_of);
    let incomplete: String =
        incomplete.iter().map(|line| format!("- {}\n", escape(line))).collect();
    let verdicts = verdicts::list(&rows, space.as_ref(), points, series);
    page.push(format!("## Verdicts\n\n{incomplete}{verdicts}"));
    page.extend(pictures.iter().map(|(kind, name)| {
        let kind = if *kind == "bytes" { "The most bytes" } else { "The seconds" };
        format!("![{kind} of a step over the options and over the size of the space]({name})\n")
    }));
    page.extend((!pictures.is_empty()).then(|| PICTURES.to_owned()));
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

const PICTURES: &str = "Squares are measured masked supernets, dots are measured explicit ones; open dots \
were predicted alone. Lines are what the memory model says, and join the seconds. Bytes and \
seconds are medians over processes. Where everything grows, and over the size of the space, the \
vertical axis is logarithmic.\n";

const GROWTH: &str = "From the fewest to the most options that were measured. Bytes and \
seconds are medians over processes. The slope is that of a straight line, least squares, with its 95 % \
interval by Student's t, through the medians of bytes and through the seconds of every process; R² is \
the share of the variance of bytes that the line explains. Bytes that grow and do not lie on a line (R² below 0.99) are bent: \
there, and where there are fewer than four points, a slope has no interval. Where blocks have fewer \
options than are named, growth flattens: that is the space's doing. The last column is twice the \
slope over log10 of the number of networks.\n";

const POINTS: &str = "Medians over processes, with the range of their seconds where there are several. \
What has no measured peak needs more memory than was free, or than the manifest allows, and was \
predicted. The model's error is predicted over measured, less one. By owner and by phase: see the CSV \
file.\n";

pub(super) fn growth_table(series: &[Series]) -> Table {
    let columns = [
        "growing",
        "supernet",
        "recompute",
        ">options",
        ">MiB",
        ">bytes grow",
        ">seconds grow",
        ">MiB an option",
        ">R²",
        ">ms an option",
        ">MB per 100 times the networks",
        ">run",
    ];
    let mut table = Table::new(columns);
    for s in series {
        let Some((first, last)) = s.ends() else { continue };
        let ends = |of: &dyn Fn(&Point) -> String| format!("{} to {}", of(first), of(last));
        let mib = |p: &Point| p.peak_bytes().map_or(String::new(), |b| Unit::Mebibytes.cell(b));
        let over_options = |y| s.line(|p| p.options as f64, y);
        let bytes = over_options(|p| p.peak_bytes().map(|b| b / MIB));
        let seconds = s.seconds_line().map(|line| line.times(1e3));
        let (bent, interval) = (s.is_bent(), has_interval(s));
        let bent = if bent { ", bent" } else { "" };
        table.row([
            s.dimension.clone(),
            s.method.clone(),
            s.recompute.clone(),
            ends(&|p| p.options.to_string()),
            ends(&mib),
            times(s.growth(Point::peak_bytes)),
            times(s.growth(Point::seconds)),
            slope(bytes.as_ref(), interval) + bent,
            // Two points are always on a line.
            bytes
                .filter(|line| line.interval.is_some())
                .and_then(|line| line.r_squared)
                .map_or(String::new(), |r| format!("{r:.4}")),
            slope(seconds.as_ref(), interval),
            per_hundredfold(s).map_or(String::new(), |mb| format!("{mb:.2}")),
            first.run.to_string(),
        ]);
    }
    table
}

impl Series {
    /// Whether bytes grow, and not along a line.
    pub(super) fn is_bent(&self) -> bool {
        let grows = self.growth(Point::peak_bytes).is_some_and(|g| g > 1.0 + TOLERATED_BYTES);
        let line = self.line(|p| p.options as f64, Point::peak_bytes);
        grows && line.and_then(|line| line.r_squared).is_none_or(|r| r < STRAIGHT)
    }
}

/// Whether the slope of a line says something beyond its points.
pub(super) fn has_interval(series: &Series) -> bool {
    series.measured().count() >= LEAST_POINTS && !series.is_bent()
}

/// Megabytes per two orders of magnitude of space size.
pub(super) fn per_hundredfold(series: &Series) -> Option<f64> {
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

pub(super) fn slope(line: Option<&Line>, with_interval: bool) -> String {
    let Some(line) = line else { return String::new() };
    let digits = |value: f64| {
        if value.abs() >= 10.0 { format!("{value:.1}") } else { format!("{value:.3}") }
    };
    match line.interval.filter(|_| with_interval) {
        Some((low, high)) => {
            format!("{} ({} to {})", digits(line.slope), digits(low), digits(high))
        }
        None => digits(line.slope),
    }
}

pub(super) fn point_table(points: &[Point]) -> Table {
    let columns = [
        "growing",
        "supernet",
        "recompute",
        ">options",
        ">log10 networks",
        ">MiB",
        ">predicted MiB",
        ">error",
        ">seconds",
        ">run",
    ];
    let mut table = Table::new(columns);
    let mut points: Vec<&Point> = points.iter().collect();
    points.sort_by_key(|p| order(&p.dimension, &p.recompute));
    for p in points {
        let seconds = p.seconds().zip(p.range(|step| step.seconds));
        table.row([
            p.dimension.clone(),
            p.method.clone(),
            p.recompute.clone(),
            p.options.to_string(),
            format!("{:.2}", p.log10_candidates),
            p.peak_bytes().map_or("predicted".to_owned(), |b| Unit::Mebibytes.cell(b)),
            Unit::Mebibytes.cell(p.predicted_bytes as f64),
            p.model_ratio().map_or(String::new(), |r| format!("{:+.1} %", 100.0 * (r - 1.0))),
            match seconds {
                Some((median, (low, high))) if p.repeats.len() > 1 => {
                    format!("{median:.3} ({low:.3} to {high:.3})")
                }
                Some((median, _)) => format!("{median:.3}"),
                None => String::new(),
            },
            p.run.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::grown_by;
    use super::*;

    #[test]
    fn one_measured_point_says_nothing_of_growth() {
        let steps = [(1, Some((1_000_000, 1.0))), (3, None)];
        assert!(growth_table(&[grown_by("dmasking", "width", &steps)]).is_empty());
    }

    #[test]
    fn a_slope_of_few_points_or_of_a_bent_line_has_no_interval() {
        let mib = 1_048_576;
        let table = |last| {
            let steps = [(1, mib), (2, 2 * mib), (3, 3 * mib), (4, last)];
            let steps = steps.map(|(options, bytes)| (options, Some((bytes, options as f64))));
            let few = grown_by("dnas", "width", &steps[..3]);
            growth_table(&[grown_by("dnas", "width", &steps), few]).markdown()
        };
        let straight = table(4 * mib);
        assert!(straight.contains(" 1.000 (1.000 to 1.000) | 1.0000 |"), "{straight}");
        assert!(straight.contains(" 1.000 | 1.0000 |"), "{straight}");
        assert!(table(9 * mib).contains(" 2.500, bent | 0.8"), "{}", table(9 * mib));
    }

    #[test]
    fn one_process_has_no_range() {
        let mut one = grown_by("dnas", "width", &[(1, Some((1_000_000, 1.0)))]);
        assert!(point_table(&one.points).markdown().contains(" 1.000 (1.000 to 1.000) |"));
        one.points[0].repeats.truncate(1);
        assert!(point_table(&one.points).markdown().contains(" 1.000 |"));
    }
}
