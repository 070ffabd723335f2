//! Search curves: one panel per metric over the epochs or candidates, one line per run.

use super::drawing::{Anchor, Drawing, Pen, Pixel};
use super::figure::{
    Axis, COLOURS, COLUMNS, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, frame,
};
use super::groups::grouped;
use super::measured::{MeasuredRun, StepValue};
use super::settings::SettingsKeys;
use crate::record::Metric;
use crate::store::RunRow;
use crate::text::plural;
use std::collections::BTreeMap;

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

/// With more runs, each method with its settings and device is one line: hundreds of lines are not
/// legible.
const MOST_LINES: usize = 60;
/// More points of a line share their pixels.
const MOST_POINTS: usize = 500;

/// A line in every panel that has measured it.
struct Curve {
    label: String,
    /// Step and value, panel by panel.
    points: Vec<Vec<(f64, f64)>>,
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
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, panels_height) = (PANEL.0 * COLUMNS as f64, PANEL.1 * rows as f64);
    let height = panels_height + LEGEND_LINE * curves.len().div_ceil(COLUMNS) as f64 + 10.0;
    let mut drawing = Drawing::new(title, (width, height));
    for (i, panel) in panels.iter().enumerate() {
        let (x, row) = place(i);
        let lines: Vec<&[(f64, f64)]> = curves.iter().map(|curve| &curve.points[i][..]).collect();
        draw(drawing.at((x, row * PANEL.1)), panel, &lines);
    }
    drawing.at((0.0, 0.0));
    for (i, curve) in curves.iter().enumerate() {
        let (x, row) = place(i);
        let (x, y) = (x + LEFT, panels_height + LEGEND_LINE * row + 6.0);
        drawing.line(&[(x, y), (x + 24.0, y)], pen(i));
        drawing.text((x + 30.0, y + 4.0), Anchor::Start, &curve.label);
    }
    Some(drawing)
}

/// One curve per run, or per method, settings and device where there are many runs.
fn curves(
    runs: &[&MeasuredRun<'_>],
    settings: &SettingsKeys,
    panels: &[&CurvePanel],
) -> Vec<Curve> {
    let each_run = || {
        runs.iter().map(|measured| {
            let run = measured.run;
            let (id, method, seed) = (run.id, &run.method, run.seed);
            let label = format!("run {id}: {method}, seed {seed}, {}", run.status.name());
            let series = |panel: &&CurvePanel| points(measured.series(panel.metric), panel.unit);
            Curve { label, points: panels.iter().map(series).collect() }
        })
    };
    if runs.len() <= MOST_LINES {
        return each_run().collect();
    }
    let groups = grouped(runs.iter().copied(), |measured| settings.across_seeds(measured.run));
    let of_group = groups.iter().map(|runs| {
        let RunRow { id, method, .. } = runs[0].run;
        let several = groups.iter().filter(|runs| runs[0].run.method == *method).count() > 1;
        let first = if several { format!(", first run {id}") } else { String::new() };
        let label = format!("{method}, mean of {}{first}", plural(runs.len(), "run"));
        let mean = |panel: &&CurvePanel| points(&mean_series(runs, panel.metric), panel.unit);
        Curve { label, points: panels.iter().map(mean).collect() }
    });
    of_group.collect()
}

/// The mean at each step, over the runs that have it.
fn mean_series(runs: &[&MeasuredRun<'_>], metric: Metric) -> Vec<StepValue> {
    let mut sums: BTreeMap<u64, (f64, u32)> = BTreeMap::new();
    let finite = |(_, value): &&StepValue| value.is_finite();
    for (step, value) in runs.iter().flat_map(|run| run.series(metric)).filter(finite) {
        let (sum, n) = sums.entry(*step).or_default();
        (*sum, *n) = (*sum + value, *n + 1);
    }
    sums.into_iter().map(|(step, (sum, n))| (step, sum / f64::from(n))).collect()
}

/// Steps and values in the panel's unit, thinned out to what a panel can show.
fn points(series: &[StepValue], unit: f64) -> Vec<(f64, f64)> {
    let finite = series.iter().filter(|(_, value)| value.is_finite());
    let all: Vec<(f64, f64)> = finite.map(|(step, value)| (*step as f64, value / unit)).collect();
    let every = all.len().div_ceil(MOST_POINTS).max(1);
    // Counted from the end, which is what a search arrives at.
    let mut kept: Vec<(f64, f64)> = all.into_iter().rev().step_by(every).collect();
    kept.reverse();
    kept
}

/// The left edge in pixels, and the row, of the `i`-th thing.
fn place(i: usize) -> (f64, f64) {
    ((i % COLUMNS) as f64 * PANEL.0, (i / COLUMNS) as f64)
}

/// Solid lines in all colours first, then dashed ones.
fn pen(i: usize) -> Pen {
    let round = i / COLOURS.len();
    Pen { colour: colour(i), width: 1.5, dash: (round > 0).then_some(3.0 * round as f64) }
}

/// One panel, its corner at the origin.
fn draw(drawing: &mut Drawing, panel: &CurvePanel, lines: &[&[(f64, f64)]]) {
    let x_axis = Axis::new(lines.iter().flat_map(|line| line.iter()).map(|p| p.0), 1.0);
    let y_axis = Axis::new(lines.iter().flat_map(|line| line.iter()).map(|p| p.1), 0.0);
    frame(drawing, panel.title, (panel.step, &x_axis), &y_axis);
    for (i, line) in lines.iter().enumerate() {
        let places: Vec<Pixel> =
            line.iter().map(|p| (x_axis.at(p.0, X_ENDS), y_axis.at(p.1, Y_ENDS))).collect();
        drawing.line(&places, pen(i));
        // Shows also a line of one point.
        if let Some(last) = places.last() {
            drawing.dot(*last, 2.0, colour(i), 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let series = [(0, 2.0), (1, f64::NAN), (2, 1.0), (3, f64::INFINITY)];
        assert_eq!(points(&series, 2.0), [(0.0, 1.0), (2.0, 0.5)]);
    }

    #[test]
    fn a_long_line_is_thinned_out_and_keeps_its_end() {
        let series: Vec<StepValue> = (0..1201).map(|step| (step, step as f64)).collect();
        let kept = points(&series, 1.0);
        assert!(kept.len() <= MOST_POINTS && kept.len() > MOST_POINTS / 2, "{}", kept.len());
        assert_eq!(kept.last(), Some(&(1200.0, 1200.0)));
        assert_eq!(points(&series[..MOST_POINTS], 1.0).len(), MOST_POINTS);
    }
}
