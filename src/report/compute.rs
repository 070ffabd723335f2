//! Accuracy over compute, as a picture: one dot per run, one colour per method, and the mean of each
//! method with its standard deviation.

use super::comparison::{Comparison, MethodRuns, Tested};
use super::figure::{Axis, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, frame, head, xml};
use super::frame::mean_and_sd;
use super::results::top1;
use crate::record::Phase;

/// Logarithm of the multiply-accumulates, and top-1 in percent.
type Point = (f64, f64);

/// The picture as SVG; `None` where no run has counted what it executed.
#[must_use]
pub fn accuracy_over_compute(title: &str, comparison: &Comparison<'_>) -> Option<String> {
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
    let mut svg = vec![head(title, (PANEL.0, height)), frame("test top-1 [%]", x_title, &y_axis)];
    let at = |(x, y): Point| (x_axis.at(x, X_ENDS), y_axis.at(y, Y_ENDS));
    for (i, ((method, points), bar)) in methods.iter().zip(&bars).enumerate() {
        svg.extend(points.iter().map(|point| dot(at(*point), i)));
        svg.extend(bar.as_ref().map(|bar| bar.draw(at, i)));
        let y = PANEL.1 + LEGEND_LINE * i as f64 + 6.0;
        let (text_x, text_y) = (LEFT + 14.0, y + 4.0);
        let text = format!("{}, {} runs", method.name, points.len());
        svg.push(format!(
            "{}<text x=\"{text_x}\" y=\"{text_y}\">{}</text>\n",
            dot((LEFT, y), i),
            xml(&text)
        ));
    }
    svg.push("</svg>\n".to_owned());
    Some(svg.concat())
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

    fn draw(&self, at: impl Fn(Point) -> (f64, f64), method: usize) -> String {
        let (x, y) = at((self.x, self.y));
        let (_, low) = at((self.x, self.y - self.sd));
        let (_, high) = at((self.x, self.y + self.sd));
        format!(
            "<path d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {y:.1}h12\" stroke=\"{}\" \
             stroke-width=\"1.5\"/>\n",
            x - 6.0,
            colour(method)
        )
    }
}

fn dot((x, y): (f64, f64), method: usize) -> String {
    let colour = colour(method);
    format!(
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\" fill-opacity=\"0.7\"/>\n"
    )
}
