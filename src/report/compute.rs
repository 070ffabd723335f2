//! Accuracy over compute, one colour per method. The left panel shows results: one dot per run, and the
//! mean of each method with its standard deviation. The right panel shows search curves: the held-out
//! accuracy that a method selects by over what it had executed so far.

use super::comparison::{ComparedRun, Comparison};
use super::drawing::{Anchor, Drawing, Pen, Pixel};
use super::figure::{Axis, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour_of, frame};
use super::frame::mean_and_sd;
use super::results::top1;
use crate::record::Phase;
use crate::text::{Unit, percent, plural};

/// Multiply-accumulates, and top-1 in 0..=1.
type ComputePoint = (f64, f64);

/// What the axis of accuracies counts in.
const PERCENT: f64 = 0.01;
/// What the axis of multiply-accumulates counts in, the largest first.
const UNITS: [(f64, &str); 2] = [(1e12, "10^12"), (1e9, "10^9")];

/// The picture; `None` where no run has counted what it executed.
#[must_use]
pub fn accuracy_over_compute(title: &str, comparison: &Comparison<'_>) -> Option<Drawing> {
    let methods = &comparison.methods;
    // Points with the names of their runs.
    let named = methods.iter().map(|method| {
        let of_run = |compared: &ComparedRun<'_>| {
            let run = compared.run;
            let name = format!("{}, seed {}, run {}", run.method, run.seed, run.id);
            Some((result(compared)?, name))
        };
        method.runs.iter().filter_map(of_run).unzip()
    });
    let (results, labels): (Vec<Vec<ComputePoint>>, Vec<Vec<String>>) = named.unzip();
    let curves = methods.iter().map(|method| {
        let of_runs: Vec<&[ComputePoint]> =
            method.runs.iter().map(|compared| &compared.search_curve[..]).collect();
        mean_curve(&of_runs)
    });
    let curves: Vec<Vec<ComputePoint>> = curves.collect();
    results.iter().flatten().next()?;
    let panels = 1 + usize::from(curves.iter().any(|curve| !curve.is_empty()));
    let columns = 2 * panels;
    let height = PANEL.1 + LEGEND_LINE * methods.len().div_ceil(columns) as f64 + 10.0;
    let mut drawing = Drawing::new(title, (PANEL.0 * panels as f64, height));
    let colours: Vec<&'static str> =
        methods.iter().enumerate().map(|(i, method)| colour_of(method.name, i)).collect();
    draw_results(&mut drawing, &results, (&labels, &colours));
    for (i, (method, points)) in methods.iter().zip(&results).enumerate() {
        let x = PANEL.0 / 2.0 * (i % columns) as f64 + 14.0;
        let y = PANEL.1 + LEGEND_LINE * (i / columns) as f64 + 6.0;
        dot(&mut drawing, (x, y), colours[i]);
        let text = format!("{}, {}", method.name, plural(points.len(), "run"));
        drawing.text((x + 14.0, y + 4.0), Anchor::Start, &text);
    }
    if panels > 1 {
        draw_curves(drawing.at((PANEL.0, 0.0)), &curves, &colours);
    }
    Some(drawing)
}

/// One dot per run, and a bar per method.
fn draw_results(
    drawing: &mut Drawing,
    results: &[Vec<ComputePoint>],
    (labels, colours): (&[Vec<String>], &[&'static str]),
) {
    let bars: Vec<Option<MeanBar>> = results.iter().map(|points| MeanBar::of(points)).collect();
    let ends = bars.iter().flatten().flat_map(|bar| [bar.y - bar.sd, bar.y + bar.sd]);
    let all = || results.iter().flatten();
    let y_axis = Axis::new(all().map(|point| point.1).chain(ends).map(|y| y / PERCENT), 0.0);
    let macs = MacsAxis::of(all().map(|point| point.0));
    let x_title = format!("MACs of search and one training run [{}]", macs.name);
    frame(drawing, "test top-1 [%]", (&x_title, &macs.axis), &y_axis);
    let at = |point| macs.place(&y_axis, point);
    for (i, (points, bar)) in results.iter().zip(&bars).enumerate() {
        for point in points {
            dot(drawing, at(*point), colours[i]);
        }
        if let Some(bar) = bar {
            bar.draw(drawing, at, colours[i]);
        }
    }
    // Above everything else, so that no mark hides them.
    for (points, labels) in results.iter().zip(labels) {
        for (point, label) in points.iter().zip(labels) {
            let (macs, top1) = (Unit::Count.cell(point.0), percent(point.1));
            drawing.hover(at(*point), format!("{label}: {top1} after {macs} MACs"));
        }
    }
}

/// One line per method.
fn draw_curves(drawing: &mut Drawing, curves: &[Vec<ComputePoint>], colours: &[&'static str]) {
    let all = || curves.iter().flatten();
    let y_axis = Axis::new(all().map(|point| point.1 / PERCENT), 0.0);
    let macs = MacsAxis::of(all().map(|point| point.0));
    let x_title = format!("MACs executed so far [{}]", macs.name);
    frame(drawing, "held-out top-1 during the search [%]", (&x_title, &macs.axis), &y_axis);
    for (i, curve) in curves.iter().enumerate() {
        let places: Vec<Pixel> = curve.iter().map(|p| macs.place(&y_axis, *p)).collect();
        drawing.line(&places, Pen::solid(colours[i], 1.5));
        // Shows also a line of one point.
        if let Some(last) = places.last() {
            dot(drawing, *last, colours[i]);
        }
    }
}

/// A logarithmic axis of multiply-accumulates.
struct MacsAxis {
    axis: Axis,
    /// What it counts in.
    unit: f64,
    name: &'static str,
}

impl MacsAxis {
    /// In the largest unit of which the largest value has a tenth or more.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let largest = values.clone().fold(0.0, f64::max);
        let fits = |(unit, _): &(f64, &str)| largest >= 0.1 * unit;
        let (unit, name) = UNITS.into_iter().find(fits).unwrap_or(UNITS[1]);
        Self { axis: Axis::logarithmic(values.map(|value| value / unit)), unit, name }
    }

    fn place(&self, y_axis: &Axis, (x, y): ComputePoint) -> Pixel {
        (self.axis.at(x / self.unit, X_ENDS), y_axis.at(y / PERCENT, Y_ENDS))
    }
}

/// The mean of the curves of a method's runs, step by step, up to the end of the shortest.
fn mean_curve(curves: &[&[ComputePoint]]) -> Vec<ComputePoint> {
    let steps = curves.iter().map(|curve| curve.len()).min().unwrap_or(0);
    let mean_at = |step: usize| {
        let points = curves.iter().map(|curve| curve[step]);
        let sum = points.fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let n = curves.len() as f64;
        (sum.0 / n, sum.1 / n)
    };
    (0..steps).map(mean_at).collect()
}

/// What a run executed to search its network and to train it once. Further training runs only measure
/// how much training runs differ.
fn result(compared: &ComparedRun<'_>) -> Option<ComputePoint> {
    let macs = |phase| compared.run.usage(phase).and_then(|usage| usage.macs).map(|n| n as f64);
    let training_runs = compared.top1s.len().max(1) as f64;
    let executed = macs(Phase::Search)? + macs(Phase::Train)? / training_runs;
    (executed > 0.0).then_some((executed, top1(compared.run)?))
}

/// The mean of a method's points, and the standard deviation of its accuracies.
struct MeanBar {
    x: f64,
    y: f64,
    /// Zero where there is one point.
    sd: f64,
}

impl MeanBar {
    fn of(points: &[ComputePoint]) -> Option<Self> {
        let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        let ((x, _), (y, sd)) = mean_and_sd(&xs).zip(mean_and_sd(&ys))?;
        Some(Self { x, y, sd: sd.unwrap_or_default() })
    }

    fn draw(
        &self,
        drawing: &mut Drawing,
        at: impl Fn(ComputePoint) -> Pixel,
        colour: &'static str,
    ) {
        let (x, y) = at((self.x, self.y));
        let (low, high) = (at((self.x, self.y - self.sd)), at((self.x, self.y + self.sd)));
        let pen = Pen::solid(colour, 1.5);
        drawing.line(&[low, high], pen);
        drawing.line(&[(x - 6.0, y), (x + 6.0, y)], pen);
    }
}

fn dot(drawing: &mut Drawing, place: Pixel, colour: &'static str) {
    drawing.dot(place, 3.0, colour, 0.7);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_lie_where_the_axes_say() {
        let mut drawing = Drawing::new("t", PANEL);
        let labels = [vec!["a".to_owned(), "b".to_owned()]];
        draw_results(&mut drawing, &[vec![(1e12, 0.5), (2e12, 0.7)]], (&labels, &["#000000"]));
        let svg = drawing.svg();
        assert!(svg.contains("<title>b: 70.00 % after 2.00 T MACs</title>"), "{svg}");
        // From 1 to 2 on a logarithmic axis; 60 % ± 14.1 are on one from 40 to 80.
        let ((left, right), (bottom, top)) = (X_ENDS, Y_ENDS);
        for (x, y) in
            [(left, bottom + 0.25 * (top - bottom)), (right, bottom + 0.75 * (top - bottom))]
        {
            assert!(
                svg.contains(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\"")),
                "{x} {y} in {svg}"
            );
        }
        let mut drawing = Drawing::new("t", PANEL);
        draw_curves(&mut drawing, &[vec![(1e11, 0.2), (2e11, 0.4)], vec![]], &["#000000"; 2]);
        assert!(drawing.svg().contains(&format!("<circle cx=\"{right:.1}\" cy=\"{top:.1}\"")));
    }

    #[test]
    fn a_mean_curve_ends_with_the_shortest() {
        let (a, b) = ([(1.0, 0.1), (2.0, 0.2), (3.0, 0.3)], [(3.0, 0.3), (6.0, 0.6)]);
        assert_eq!(mean_curve(&[&a, &b]), [(2.0, 0.2), (4.0, 0.4)]);
        assert_eq!(mean_curve(&[&a, &[]]), []);
        assert_eq!(mean_curve(&[]), []);
    }
}
