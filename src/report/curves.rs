//! Search curves: one panel per metric over the epochs or candidates. The finished runs of a method with one
//! setting are one line, their mean, with a band of a standard deviation around it.

use super::drawing::{Anchor, Drawing, Pen, Pixel};
use super::figure::{
    Axis, COLOURS, COLUMNS, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, colour_of, frame,
};
use super::frame::mean_and_sd;
use super::groups::{grouped, last_per_seed};
use super::measured::{MeasuredRun, StepValue};
use super::settings::SettingsKeys;
use crate::record::Metric;
use crate::store::{RunRow, RunStatus};
use crate::text::{decimal, plural};
use std::collections::{BTreeMap, BTreeSet};

/// What one panel shows.
struct CurvePanel {
    metric: Metric,
    title: &'static str,
    /// What a step is.
    step: &'static str,
    /// The axis counts in this many.
    unit: f64,
}

impl CurvePanel {
    /// Over the epochs.
    const fn epochs(metric: Metric, title: &'static str, unit: f64) -> Self {
        Self { metric, title, step: "epoch", unit }
    }

    /// Accuracies over the candidates.
    const fn candidates(metric: Metric, title: &'static str) -> Self {
        Self { metric, title, step: "candidate", unit: 0.01 }
    }
}

const PANELS: [CurvePanel; 10] = [
    CurvePanel::epochs(Metric::SEARCH_LOSS, "cross-entropy, weight split [nats]", 1.0),
    CurvePanel::epochs(
        Metric::SEARCH_ALPHA_CROSS_ENTROPY,
        "cross-entropy, architecture split [nats]",
        1.0,
    ),
    CurvePanel::epochs(Metric::SEARCH_EXPECTED_MACS, "expected MACs [millions]", 1e6),
    CurvePanel::epochs(Metric::SEARCH_EXPECTED_PARAMS, "expected params [thousands]", 1e3),
    CurvePanel::epochs(Metric::SEARCH_ENTROPY_TYPE, "entropy of types [share of maximum]", 1.0),
    CurvePanel::epochs(Metric::SEARCH_ENTROPY_EXPANSION, "entropy of expansions", 1.0),
    CurvePanel::epochs(Metric::SEARCH_ENTROPY_WIDTH, "entropy of widths", 1.0),
    CurvePanel::epochs(Metric::SEARCH_ENTROPY_RESOLUTION, "entropy of resolutions", 1.0),
    CurvePanel::candidates(Metric::SEARCH_CANDIDATE_TOP1, "held-out top-1 per candidate [%]"),
    CurvePanel::candidates(Metric::SEARCH_BEST_TOP1, "held-out top-1, best so far [%]"),
];

/// The metrics that the panels show.
pub fn metrics() -> impl Iterator<Item = Metric> {
    PANELS.iter().map(|panel| panel.metric)
}

/// More runs that have not finished are not shown: hundreds of lines are not legible.
const MOST_UNFINISHED: usize = 20;
/// Longer lines are thinned to this many points.
const MOST_POINTS: usize = 500;

/// A panel with more points names none of them under the pointer, so that files stay small.
const MOST_HOVERS: usize = 600;

/// A line in every panel that has measured it.
struct Curve {
    label: String,
    method: String,
    /// Panel by panel.
    points: Vec<Vec<CurvePoint>>,
}

/// A value of one run, or the mean of several.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CurvePoint {
    step: f64,
    value: f64,
    /// The standard deviation (n - 1) over the runs; zero for one run.
    sd: f64,
}

/// The picture; `None` if there is nothing to draw.
#[must_use]
pub fn search_curves(
    title: &str,
    runs: &[MeasuredRun<'_>],
    settings: &SettingsKeys,
) -> Option<Drawing> {
    let measured = |run: &MeasuredRun<'_>, panel: &CurvePanel| !run.series(panel.metric).is_empty();
    let panels: Vec<&CurvePanel> =
        PANELS.iter().filter(|panel| runs.iter().any(|run| measured(run, panel))).collect();
    let runs: Vec<&MeasuredRun<'_>> =
        runs.iter().filter(|run| panels.iter().any(|panel| measured(run, panel))).collect();
    if panels.is_empty() {
        return None;
    }
    let curves = curves(&runs, settings, &panels);
    if curves.is_empty() {
        return None;
    }
    let pens = pens(&curves);
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, panels_height) = (PANEL.0 * COLUMNS as f64, PANEL.1 * rows as f64);
    let height = panels_height + LEGEND_LINE * curves.len().div_ceil(COLUMNS) as f64 + 10.0;
    let mut drawing = Drawing::new(title, (width, height));
    for (i, panel) in panels.iter().enumerate() {
        let (x, row) = place(i);
        let lines: Vec<&[CurvePoint]> = curves.iter().map(|curve| &curve.points[i][..]).collect();
        let labels: Vec<&str> = curves.iter().map(|curve| curve.label.as_str()).collect();
        draw(drawing.at((x, row * PANEL.1)), panel, &lines, (&labels, &pens));
    }
    drawing.at((0.0, 0.0));
    for (i, curve) in curves.iter().enumerate() {
        let (x, row) = place(i);
        let (x, y) = (x + LEFT, panels_height + LEGEND_LINE * row + 6.0);
        drawing.line(&[(x, y), (x + 24.0, y)], pens[i]);
        drawing.text((x + 30.0, y + 4.0), Anchor::Start, &curve.label);
    }
    Some(drawing)
}

/// One curve per method, settings and device, and one per run that has not finished.
fn curves(
    runs: &[&MeasuredRun<'_>],
    settings: &SettingsKeys,
    panels: &[&CurvePanel],
) -> Vec<Curve> {
    let (finished, others): (Vec<&MeasuredRun<'_>>, Vec<_>) =
        runs.iter().partition(|measured| measured.run.status == RunStatus::Finished);
    let groups = grouped(finished, |measured| settings.across_seeds(measured.run));
    let groups: Vec<Vec<&MeasuredRun<'_>>> = groups
        .iter()
        .map(|runs| last_per_seed(runs, |measured| (measured.run.seed, measured.run.id)))
        .collect();
    let others = if others.len() <= MOST_UNFINISHED { others } else { Vec::new() };
    let each = others.into_iter().map(|measured| vec![measured]);
    let label = |runs: &[&MeasuredRun<'_>]| {
        let RunRow { id, method, seed, status, .. } = runs[0].run;
        let several = groups.iter().filter(|runs| runs[0].run.method == *method).count() > 1;
        match (runs.len(), several) {
            (1, _) => format!("run {id}: {method}, seed {seed}, {}", status.name()),
            (n, true) => format!("{method}, mean ± sd of {}, first run {id}", plural(n, "run")),
            (n, false) => format!("{method}, mean ± sd of {}", plural(n, "run")),
        }
    };
    let all = groups.iter().cloned().chain(each);
    let curve = |runs: Vec<&MeasuredRun<'_>>| {
        let points = |panel: &&CurvePanel| points(&over_runs(&runs, panel.metric), panel.unit);
        let (label, method) = (label(&runs), runs[0].run.method.clone());
        Curve { label, method, points: panels.iter().map(points).collect() }
    };
    all.map(curve).collect()
}

/// The values of each step, over the runs that have it.
fn over_runs(runs: &[&MeasuredRun<'_>], metric: Metric) -> BTreeMap<u64, Vec<f64>> {
    let mut values: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let finite = |(_, value): &&StepValue| value.is_finite();
    for (step, value) in runs.iter().flat_map(|run| run.series(metric)).filter(finite) {
        values.entry(*step).or_default().push(*value);
    }
    values
}

/// The means in the panel's unit, thinned out to what a panel can show.
fn points(series: &BTreeMap<u64, Vec<f64>>, unit: f64) -> Vec<CurvePoint> {
    let every = series.len().div_ceil(MOST_POINTS).max(1);
    let point = |(step, values): (&u64, &Vec<f64>)| {
        let (mean, sd) = mean_and_sd(values)?;
        let sd = sd.unwrap_or_default() / unit;
        Some(CurvePoint { step: *step as f64, value: mean / unit, sd })
    };
    // Counted from the end, so that the last point is kept.
    let mut kept: Vec<CurvePoint> = series.iter().rev().step_by(every).filter_map(point).collect();
    kept.reverse();
    kept
}

/// The left edge in pixels, and the row, of the `i`-th thing.
fn place(i: usize) -> (f64, f64) {
    ((i % COLUMNS) as f64 * PANEL.0, (i / COLUMNS) as f64)
}

/// The colours of methods where each has one line. Otherwise all colours, first with solid lines, then with
/// dashed ones.
fn pens(curves: &[Curve]) -> Vec<Pen> {
    let methods: BTreeSet<&str> = curves.iter().map(|curve| curve.method.as_str()).collect();
    let of_method = methods.len() == curves.len();
    let pen = |(i, curve): (usize, &Curve)| {
        let round = i / COLOURS.len();
        let colour = if of_method { colour_of(&curve.method, i) } else { colour(i) };
        Pen { colour, width: 1.5, dash: (round > 0).then_some(3.0 * round as f64) }
    };
    curves.iter().enumerate().map(pen).collect()
}

/// One panel, its corner at the origin.
fn draw(
    drawing: &mut Drawing,
    panel: &CurvePanel,
    lines: &[&[CurvePoint]],
    (labels, pens): (&[&str], &[Pen]),
) {
    let all = || lines.iter().flat_map(|line| line.iter());
    let x_axis = Axis::new(all().map(|point| point.step), 1.0);
    let ends = all().flat_map(|point| [point.value - point.sd, point.value + point.sd]);
    let y_axis = Axis::new(ends, 0.0);
    frame(drawing, panel.title, (panel.step, &x_axis), &y_axis);
    let at = |point: &CurvePoint, sds: f64| -> Pixel {
        (x_axis.at(point.step, X_ENDS), y_axis.at(point.value + sds * point.sd, Y_ENDS))
    };
    let places = |line: &[CurvePoint], sds: f64| -> Vec<Pixel> {
        line.iter().map(|point| at(point, sds)).collect()
    };
    for (i, line) in lines.iter().enumerate() {
        if line.iter().any(|point| point.sd > 0.0) {
            drawing.band(&places(line, 1.0), &places(line, -1.0), pens[i].colour);
        }
    }
    for (i, line) in lines.iter().enumerate() {
        drawing.line(&places(line, 0.0), pens[i]);
        // Shows also a line of one point.
        if let Some(last) = line.last() {
            drawing.dot(at(last, 0.0), 2.0, pens[i].colour, 1.0);
        }
    }
    if all().count() > MOST_HOVERS {
        return;
    }
    for (line, label) in lines.iter().zip(labels) {
        for point in *line {
            let CurvePoint { step, value, sd } = *point;
            let sd = if sd > 0.0 { format!(" ± {}", decimal(sd)) } else { String::new() };
            let text = format!("{label}: {} {step}, {}{sd}", panel.step, decimal(value));
            drawing.hover(at(point, 0.0), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(u64, &[f64])]) -> BTreeMap<u64, Vec<f64>> {
        values.iter().map(|(step, values)| (*step, values.to_vec())).collect()
    }

    #[test]
    fn a_point_is_a_mean_with_its_deviation() {
        let kept = points(&series(&[(0, &[2.0, 4.0]), (2, &[1.0])]), 2.0);
        let sd = 2_f64.sqrt() / 2.0;
        let expected = [
            CurvePoint { step: 0.0, value: 1.5, sd },
            CurvePoint { step: 2.0, value: 0.5, sd: 0.0 },
        ];
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_long_line_is_thinned_out_and_keeps_its_end() {
        let long: BTreeMap<u64, Vec<f64>> =
            (0..1201).map(|step| (step, vec![step as f64])).collect();
        let kept = points(&long, 1.0);
        assert!(kept.len() <= MOST_POINTS && kept.len() > MOST_POINTS / 2, "{}", kept.len());
        assert_eq!(kept.last().unwrap().step, 1200.0);
        let short: BTreeMap<u64, Vec<f64>> = long.into_iter().take(MOST_POINTS).collect();
        assert_eq!(points(&short, 1.0).len(), MOST_POINTS);
    }
}
