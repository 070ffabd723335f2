//! The tables of a study: how far each curve grows, and every point.

use super::points::{GrowthCurve, PointResult, order};
use crate::report::stats::LinearFit;
use crate::report::table::{Columns, ReportTable};
use crate::text::{MIB, Unit};

/// A curve between its fewest and its most measured options.
struct GrowthRow<'a> {
    curve: &'a GrowthCurve,
    first: &'a PointResult,
    last: &'a PointResult,
    /// MiB over the options.
    bytes: Option<LinearFit>,
    /// Milliseconds over the options.
    seconds: Option<LinearFit>,
}

impl<'a> GrowthRow<'a> {
    fn of(curve: &'a GrowthCurve) -> Option<Self> {
        let (first, last) = curve.ends()?;
        let bytes = curve.line(|p| p.options as f64, |p| p.peak_bytes().map(|b| b / MIB));
        let seconds = curve.seconds_line().map(|line| line.times(1e3));
        Some(Self { curve, first, last, bytes, seconds })
    }

    fn bytes_slope(&self) -> String {
        let bent = if self.curve.is_bent() { ", bent" } else { "" };
        slope(self.bytes.as_ref(), self.curve.has_interval()) + bent
    }

    /// Two points always lie on a line.
    fn r_squared(&self) -> Option<f64> {
        self.bytes.as_ref().filter(|line| line.interval.is_some())?.r_squared
    }
}

/// One row per curve, from the fewest to the most measured options.
pub fn growth_table(curves: &[GrowthCurve]) -> ReportTable {
    let rows: Vec<GrowthRow<'_>> = curves.iter().filter_map(GrowthRow::of).collect();
    let mib = |bytes: f64| Unit::Mebibytes.cell(bytes);
    Columns::of("growth", &rows)
        .text("dimension", "dimension", |row| row.curve.dimension.clone())
        .text("supernet", "supernet", |row| row.curve.method.clone())
        .text("recompute", "recompute", |row| row.curve.recompute.clone())
        .ends(
            "options",
            "options",
            |row| Some((row.first.options as f64, row.last.options as f64)),
            |options| options.to_string(),
        )
        .ends("peak_bytes", "MiB", |row| row.first.peak_bytes().zip(row.last.peak_bytes()), mib)
        .number(
            "growth_in_bytes",
            "growth in bytes",
            |row| row.curve.growth(PointResult::peak_bytes),
            times,
        )
        .number(
            "growth_in_seconds",
            "growth in seconds",
            |row| row.curve.growth(PointResult::seconds),
            times,
        )
        .number_as(
            "mib_per_option",
            "MiB per option",
            |row| row.bytes.as_ref().map(|line| line.slope),
            |row, _| row.bytes_slope(),
        )
        .number("r_squared", "R²", GrowthRow::r_squared, |r| format!("{r:.4}"))
        .number_as(
            "ms_per_option",
            "ms per option",
            |row| row.seconds.as_ref().map(|line| line.slope),
            |row, _| slope(row.seconds.as_ref(), row.curve.has_interval()),
        )
        .number(
            "mb_per_hundredfold",
            "MB per 100x networks",
            |row| row.curve.per_hundredfold(),
            |mb| format!("{mb:.2}"),
        )
        .runs("run", |row| vec![row.first.run])
        .table()
}

fn times(growth: f64) -> String {
    if growth < 1.1 {
        format!("{:+.2} %", 100.0 * (growth - 1.0))
    } else {
        format!("{growth:.2} times")
    }
}

/// The slope of a line, with its interval where `with_interval`.
pub fn slope(line: Option<&LinearFit>, with_interval: bool) -> String {
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

/// One row per point.
pub fn point_table(points: &[PointResult]) -> ReportTable {
    let mut points: Vec<&PointResult> = points.iter().collect();
    points.sort_by_key(|p| order(&p.dimension, &p.recompute));
    let mib = |bytes: u64| Unit::Mebibytes.cell(bytes as f64);
    let error = |point: &&PointResult| point.model_ratio().map(|ratio| ratio - 1.0);
    Columns::of("points", &points)
        .text("dimension", "dimension", |p| p.dimension.clone())
        .text("supernet", "supernet", |p| p.method.clone())
        .text("recompute", "recompute", |p| p.recompute.clone())
        .whole("options", "options", |p| Some(p.options))
        .number(
            "log10_networks",
            "log10 networks",
            |p| Some(p.log10_candidates),
            |n| format!("{n:.2}"),
        )
        .number("peak_bytes", "MiB", |p| p.peak_bytes(), |b| Unit::Mebibytes.cell(b))
        .or_word("predicted")
        .whole_as("predicted_bytes", "predicted MiB", |p| Some(p.predicted_bytes), |_, b| mib(b))
        .number("error", "error", error, |error| format!("{:+.1} %", 100.0 * error))
        .number_as(
            "seconds",
            "seconds",
            |p| p.seconds(),
            |p, median| match p.range(|step| step.seconds) {
                Some((low, high)) if p.repeats.len() > 1 => {
                    format!("{median:.3} ({low:.3} to {high:.3})")
                }
                _ => format!("{median:.3}"),
            },
        )
        .number("other_cores", "other cores", |p| p.other_cores(), |cores| format!("{cores:.2}"))
        .runs("run", |p| vec![p.run])
        .table()
}

#[cfg(test)]
mod tests {
    use super::super::points::tests::curve;
    use super::*;

    #[test]
    fn one_measured_point_is_no_growth() {
        let steps = [(1, Some((1_000_000, 1.0))), (3, None)];
        assert!(growth_table(&[curve("dmasking", "width", &steps)]).is_empty());
    }

    #[test]
    fn few_or_bent_points_have_no_interval() {
        let mib = 1_048_576;
        let table = |last| {
            let steps = [(1, mib), (2, 2 * mib), (3, 3 * mib), (4, last)];
            let steps = steps.map(|(options, bytes)| (options, Some((bytes, options as f64))));
            let few = curve("dnas", "width", &steps[..3]);
            growth_table(&[curve("dnas", "width", &steps), few]).cells().markdown()
        };
        let straight = table(4 * mib);
        assert!(straight.contains(" 1.000 (1.000 to 1.000) | 1.0000 |"), "{straight}");
        assert!(straight.contains(" 1.000 | 1.0000 |"), "{straight}");
        assert!(table(9 * mib).contains(" 2.500, bent | 0.8"), "{}", table(9 * mib));
    }

    #[test]
    fn one_process_has_no_range() {
        let mut one = curve("dnas", "width", &[(1, Some((1_000_000, 1.0)))]);
        assert!(point_table(&one.points).cells().markdown().contains(" 1.000 (1.000 to 1.000) |"));
        one.points[0].repeats.truncate(1);
        assert!(point_table(&one.points).cells().markdown().contains(" 1.000 |"));
    }
}
