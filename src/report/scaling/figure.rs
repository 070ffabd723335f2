//! Bytes and seconds over the number of options and over the size of the space, as pictures: dots are
//! measured, lines are what the memory model says, or join what was measured.

use super::{DIMENSIONS, Point, Series};
use crate::report::figure::{
    Axis, COLUMNS, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, frame, head, xml,
};

/// What is drawn upwards.
struct Quantity {
    kind: &'static str,
    title: &'static str,
    measured: fn(&Point) -> Option<f64>,
    /// Where there is a model.
    predicted: fn(&Point) -> Option<f64>,
}

const MIB: f64 = 1_048_576.0;

const QUANTITIES: [Quantity; 2] = [
    Quantity {
        kind: "bytes",
        title: "peak [MiB]",
        measured: |point| point.peak_bytes().map(|bytes| bytes / MIB),
        predicted: |point| Some(point.predicted_bytes as f64 / MIB),
    },
    Quantity {
        kind: "seconds",
        title: "step [s]",
        measured: Point::seconds,
        predicted: Point::seconds,
    },
];

/// All pictures that there is something in.
pub fn all(title: &str, series: &[Series]) -> Vec<(&'static str, String)> {
    let some = QUANTITIES
        .iter()
        .filter(|q| series.iter().any(|s| s.points.iter().any(|p| (q.predicted)(p).is_some())));
    some.map(|quantity| (quantity.kind, picture(title, series, quantity))).collect()
}

/// One panel for each thing that grows, and one of everything over the size of the space.
fn picture(title: &str, series: &[Series], quantity: &Quantity) -> String {
    let kinds = kinds(series);
    let grows = DIMENSIONS.iter().filter(|d| series.iter().any(|s| s.dimension == **d));
    let mut panels: Vec<String> = grows
        .map(|dimension| {
            let title = format!("{}, growing: {dimension}", quantity.title);
            let over = |p: &Point| p.options as f64;
            let own = series.iter().filter(|s| s.dimension == *dimension);
            panel((&title, "options"), own, &kinds, over, quantity, |y| y)
        })
        .collect();
    let title_all = format!("log10 of {}, all of them", quantity.title);
    let over = |p: &Point| p.log10_candidates;
    let x_title = "log10 of the networks in the space";
    panels.push(panel((&title_all, x_title), series.iter(), &kinds, over, quantity, f64::log10));
    let rows = panels.len().div_ceil(COLUMNS) as f64;
    let (width, below) = (PANEL.0 * COLUMNS as f64, PANEL.1 * rows);
    let height = below + LEGEND_LINE * kinds.len() as f64 + 10.0;
    let mut svg = vec![head(title, (width, height))];
    for (i, drawn) in panels.iter().enumerate() {
        let (x, y) = ((i % COLUMNS) as f64 * PANEL.0, (i / COLUMNS) as f64 * PANEL.1);
        svg.push(format!("<g transform=\"translate({x} {y})\">\n{drawn}</g>\n"));
    }
    for (i, (method, recompute)) in kinds.iter().enumerate() {
        let y = below + LEGEND_LINE * i as f64 + 6.0;
        let text = xml(&format!("{method}, recompute {recompute}"));
        svg.push(format!(
            "{}<path d=\"M{LEFT} {y}h24\" {}/><text x=\"{}\" y=\"{}\">{text}</text>\n",
            dot((LEFT + 12.0, y), i),
            stroke(i),
            LEFT + 30.0,
            y + 4.0
        ));
    }
    svg.push("</svg>\n".to_owned());
    svg.concat()
}

/// The supernets, in the order of their series; each has a colour.
fn kinds(series: &[Series]) -> Vec<(&str, &str)> {
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for series in series {
        let kind = (&series.method[..], &series.recompute[..]);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn panel<'a>(
    (title, x_title): (&str, &str),
    series: impl Iterator<Item = &'a Series> + Clone,
    kinds: &[(&str, &str)],
    x: impl Fn(&Point) -> f64,
    quantity: &Quantity,
    scale: impl Fn(f64) -> f64,
) -> String {
    let place = |p: &Point, y: Option<f64>| y.filter(|y| *y > 0.0).map(|y| (x(p), scale(y)));
    let shown = series
        .clone()
        .flat_map(|s| &s.points)
        .flat_map(|p| [place(p, (quantity.measured)(p)), place(p, (quantity.predicted)(p))]);
    let shown: Vec<(f64, f64)> = shown.flatten().collect();
    let x_axis = Axis::new(shown.iter().map(|p| p.0), 0.0);
    let y_axis = Axis::new(shown.iter().map(|p| p.1).chain([0.0]), 0.0);
    let at = |(x, y): (f64, f64)| (x_axis.at(x, X_ENDS), y_axis.at(y, Y_ENDS));
    let mut svg = vec![frame(title, (x_title, &x_axis), &y_axis)];
    for one in series {
        let kind = (&one.method[..], &one.recompute[..]);
        let Some(i) = kinds.iter().position(|known| *known == kind) else { continue };
        let line = one.points.iter().filter_map(|p| place(p, (quantity.predicted)(p)).map(at));
        let line: Vec<String> = line.map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        if !line.is_empty() {
            svg.push(format!("<path d=\"M{}\" {}/>\n", line.join("L"), stroke(i)));
        }
        let dots = one.points.iter().filter_map(|p| place(p, (quantity.measured)(p)).map(at));
        svg.extend(dots.map(|place| dot(place, i)));
    }
    svg.concat()
}

fn stroke(kind: usize) -> String {
    format!("fill=\"none\" stroke=\"{}\" stroke-width=\"1.2\"", colour(kind))
}

fn dot((x, y): (f64, f64), kind: usize) -> String {
    format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{}\"/>\n", colour(kind))
}
