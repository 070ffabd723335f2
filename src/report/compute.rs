//! Accuracy over compute, as a picture: one dot per run, one colour per method, and the mean of each
//! method with its standard deviation.

use super::comparison::{Comparison, MethodRuns, Tested};
use super::drawing::{Anchor, Drawing, Pen, Place};
use super::figure::{Axis, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, frame};
use super::frame::mean_and_sd;
use super::results::top1;
use crate::record::Phase;

/// Logarithm of the multiply-accumulates, and top-1 in percent.
type Point = (f64, f64);

/// The picture; `None` where no run has counted what it executed.
#[must_use]
pub fn accuracy_over_compute(title: &str, comparison: &Comparison<'_>) -> Option<Drawing> {
    let methods: Vec<(&MethodRuns<'_>, Vec<Point>)> = comparison
        .methods
        .iter()
        .map(|method| (method, method.runs.iter().filter_map(point).collect()))
        .collect();
    let bars: Vec<Option<Bar>> = methods.iter().map(|(_, points)| Bar::of(points)).collect();
    let all = || methods.iter().flat_map(|(_, points)| points);
    all().next()?;
    let ends = bars.iter().flatten().flat_map(|bar| [bar.y - bar.sd, bar.y + bar.sd]);
    let x_axis = Axis::new(all().map(|point| point.0), 0.0);
    let y_axis = Axis::new(all().map(|point| point.1).chain(ends), 0.0);
    let height = PANEL.1 + LEGEND_LINE * methods.len() as f64 + 10.0;
    let x_title = ("log10 of MACs executed, search and one training", &x_axis);
    let mut drawing = Drawing::new(title, (PANEL.0, height));
    frame(&mut drawing, "test top-1 [%]", x_title, &y_axis);
    let at = |(x, y): Point| (x_axis.at(x, X_ENDS), y_axis.at(y, Y_ENDS));
    for (i, ((method, points), bar)) in methods.iter().zip(&bars).enumerate() {
        for point in points {
            dot(&mut drawing, at(*point), i);
        }
        if let Some(bar) = bar {
            bar.draw(&mut drawing, at, i);
        }
        let y = PANEL.1 + LEGEND_LINE * i as f64 + 6.0;
        dot(&mut drawing, (LEFT, y), i);
        let text = format!("{}, {} runs", method.name, points.len());
        drawing.text((LEFT + 14.0, y + 4.0), Anchor::Start, &text);
    }
    Some(drawing)
}

/// What a run executed to find its network and to train it once: the repeats only measure how much
/// trainings differ.
fn point(tested: &Tested<'_>) -> Option<Point> {
    let macs = |phase| tested.run.usage(phase).and_then(|usage| usage.macs).map(|n| n as f64);
    let trainings = tested.top1s.len().max(1) as f64;
    let executed = macs(Phase::Search)? + macs(Phase::Train)? / trainings;
    (executed > 0.0).then_some((executed.log10(), 100.0 * top1(tested.run)?))
}

/// The mean of a method's points, and the standard deviation of its accuracies.
struct Bar {
    x: f64,
    y: f64,
    /// Zero where there is one point.
    sd: f64,
}

impl Bar {
    fn of(points: &[Point]) -> Option<Self> {
        let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        let ((x, _), (y, sd)) = mean_and_sd(&xs).zip(mean_and_sd(&ys))?;
        Some(Self { x, y, sd: sd.unwrap_or_default() })
    }

    fn draw(&self, drawing: &mut Drawing, at: impl Fn(Point) -> Place, method: usize) {
        let (x, y) = at((self.x, self.y));
        let (low, high) = (at((self.x, self.y - self.sd)), at((self.x, self.y + self.sd)));
        let pen = Pen::solid(colour(method), 1.5);
        drawing.line(&[low, high], pen);
        drawing.line(&[(x - 6.0, y), (x + 6.0, y)], pen);
    }
}

fn dot(drawing: &mut Drawing, place: Place, method: usize) {
    drawing.dot(place, 3.0, colour(method), 0.7);
}
