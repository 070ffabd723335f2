//! The tables of a study: how far each curve grows, and every point.

use super::points::{GrowthCurve, PointResult, order};
use crate::report::stats::LinearFit;
use crate::text::{MIB, Table, Unit};

/// One row per curve, from the fewest to the most measured options.
pub fn growth_table(curves: &[GrowthCurve]) -> Table {
    let columns = [
        "dimension",
        "supernet",
        "recompute",
        ">options",
        ">MiB",
        ">growth in bytes",
        ">growth in seconds",
        ">MiB per option",
        ">R²",
        ">ms per option",
        ">MB per 100x networks",
        ">run",
    ];
    let mut table = Table::new(columns);
    for curve in curves {
        let Some((first, last)) = curve.ends() else { continue };
        let ends = |of: &dyn Fn(&PointResult) -> String| format!("{} to {}", of(first), of(last));
        let mib =
            |p: &PointResult| p.peak_bytes().map_or(String::new(), |b| Unit::Mebibytes.cell(b));
        let over_options = |y| curve.line(|p| p.options as f64, y);
        let bytes = over_options(|p| p.peak_bytes().map(|b| b / MIB));
        let seconds = curve.seconds_line().map(|line| line.times(1e3));
        let (bent, interval) = (curve.is_bent(), curve.has_interval());
        let bent = if bent { ", bent" } else { "" };
        table.row([
            curve.dimension.clone(),
            curve.method.clone(),
            curve.recompute.clone(),
            ends(&|p| p.options.to_string()),
            ends(&mib),
            times(curve.growth(PointResult::peak_bytes)),
            times(curve.growth(PointResult::seconds)),
            slope(bytes.as_ref(), interval) + bent,
            // Two points always lie on a line.
            bytes
                .filter(|line| line.interval.is_some())
                .and_then(|line| line.r_squared)
                .map_or(String::new(), |r| format!("{r:.4}")),
            slope(seconds.as_ref(), interval),
            curve.per_hundredfold().map_or(String::new(), |mb| format!("{mb:.2}")),
            first.run.to_string(),
        ]);
    }
    table
}

fn times(growth: Option<f64>) -> String {
    match growth {
        Some(growth) if growth < 1.1 => format!("{:+.2} %", 100.0 * (growth - 1.0)),
        Some(growth) => format!("{growth:.2} times"),
        None => String::new(),
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
pub fn point_table(points: &[PointResult]) -> Table {
    let columns = [
        "dimension",
        "supernet",
        "recompute",
        ">options",
        ">log10 networks",
        ">MiB",
        ">predicted MiB",
        ">error",
        ">seconds",
        ">other cores",
        ">run",
    ];
    let mut table = Table::new(columns);
    let mut points: Vec<&PointResult> = points.iter().collect();
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
            p.other_cores().map_or(String::new(), |cores| format!("{cores:.2}")),
            p.run.to_string(),
        ]);
    }
    table
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
            growth_table(&[curve("dnas", "width", &steps), few]).markdown()
        };
        let straight = table(4 * mib);
        assert!(straight.contains(" 1.000 (1.000 to 1.000) | 1.0000 |"), "{straight}");
        assert!(straight.contains(" 1.000 | 1.0000 |"), "{straight}");
        assert!(table(9 * mib).contains(" 2.500, bent | 0.8"), "{}", table(9 * mib));
    }

    #[test]
    fn one_process_has_no_range() {
        let mut one = curve("dnas", "width", &[(1, Some((1_000_000, 1.0)))]);
        assert!(point_table(&one.points).markdown().contains(" 1.000 (1.000 to 1.000) |"));
        one.points[0].repeats.truncate(1);
        assert!(point_table(&one.points).markdown().contains(" 1.000 |"));
    }
}
