//! Bytes and seconds over the number of options and over the size of the space, as pictures: dots are
//! measured, lines are what the memory model says, or join what was measured.

use super::{Point, Series};
use crate::report::cells::MIB;
use crate::report::drawing::{Anchor, Drawing, Pen};
use crate::report::figure::{
    Axis, COLUMNS, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, frame,
};
use crate::space::Growth;

/// What is drawn upwards.
struct Quantity {
    kind: &'static str,
    title: &'static str,
    measured: fn(&Point) -> Option<f64>,
    /// Where there is a model.
    predicted: fn(&Point) -> Option<f64>,
}

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
pub fn all(title: &str, series: &[Series]) -> Vec<(&'static str, Drawing)> {
    let some = QUANTITIES
        .iter()
        .filter(|q| series.iter().any(|s| s.points.iter().any(|p| (q.predicted)(p).is_some())));
    some.map(|quantity| (quantity.kind, picture(title, series, quantity))).collect()
}

/// One panel for each thing that grows, and one of everything over the size of the space.
fn picture(title: &str, series: &[Series], quantity: &Quantity) -> Drawing {
    let kinds = kinds(series);
    let grows = Growth::ALL.map(Growth::name).into_iter();
    let grows: Vec<&str> = grows.filter(|d| series.iter().any(|s| s.dimension == *d)).collect();
    let rows = (grows.len() + 1).div_ceil(COLUMNS) as f64;
    let (width, below) = (PANEL.0 * COLUMNS as f64, PANEL.1 * rows);
    let height = below + LEGEND_LINE * kinds.len() as f64 + 10.0;
    let mut drawing = Drawing::new(title, (width, height));
    let place = |i: usize| ((i % COLUMNS) as f64 * PANEL.0, (i / COLUMNS) as f64 * PANEL.1);
    for (i, dimension) in grows.iter().enumerate() {
        let title = format!("{}, growing: {dimension}", quantity.title);
        let own: Vec<&Series> = series.iter().filter(|s| s.dimension == *dimension).collect();
        let panel = Panel { title, x_title: "options", x: |p| p.options as f64, scale: |y| y };
        panel.draw(drawing.at(place(i)), &own, &kinds, quantity);
    }
    let panel = Panel {
        title: format!("log10 of {}, all of them", quantity.title),
        x_title: "log10 of the networks in the space",
        x: |p| p.log10_candidates,
        scale: f64::log10,
    };
    let own: Vec<&Series> = series.iter().collect();
    panel.draw(drawing.at(place(grows.len())), &own, &kinds, quantity);
    drawing.at((0.0, 0.0));
    for (i, (method, recompute)) in kinds.iter().enumerate() {
        let y = below + LEGEND_LINE * i as f64 + 6.0;
        drawing.line(&[(LEFT, y), (LEFT + 24.0, y)], pen(i));
        drawing.dot((LEFT + 12.0, y), RADIUS, colour(i), 1.0);
        let text = format!("{method}, recompute {recompute}");
        drawing.text((LEFT + 30.0, y + 4.0), Anchor::Start, &text);
    }
    drawing
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

struct Panel {
    title: String,
    x_title: &'static str,
    x: fn(&Point) -> f64,
    /// Of what is drawn upwards.
    scale: fn(f64) -> f64,
}

impl Panel {
    fn draw(
        &self,
        drawing: &mut Drawing,
        series: &[&Series],
        kinds: &[(&str, &str)],
        quantity: &Quantity,
    ) {
        let place = |p: &Point, of: fn(&Point) -> Option<f64>| {
            of(p).filter(|y| *y > 0.0).map(|y| ((self.x)(p), (self.scale)(y)))
        };
        let points = series.iter().flat_map(|s| &s.points);
        let shown =
            points.flat_map(|p| [place(p, quantity.measured), place(p, quantity.predicted)]);
        let shown: Vec<(f64, f64)> = shown.flatten().collect();
        let x_axis = Axis::new(shown.iter().map(|p| p.0), 0.0);
        let y_axis = Axis::new(shown.iter().map(|p| p.1).chain([0.0]), 0.0);
        frame(drawing, &self.title, (self.x_title, &x_axis), &y_axis);
        let at = |(x, y): (f64, f64)| (x_axis.at(x, X_ENDS), y_axis.at(y, Y_ENDS));
        for one in series {
            let kind = (&one.method[..], &one.recompute[..]);
            let Some(i) = kinds.iter().position(|known| *known == kind) else { continue };
            let places = |of| one.points.iter().filter_map(move |p| place(p, of)).map(at);
            drawing.line(&places(quantity.predicted).collect::<Vec<_>>(), pen(i));
            for dot in places(quantity.measured) {
                drawing.dot(dot, RADIUS, colour(i), 1.0);
            }
        }
    }
}

const RADIUS: f64 = 2.5;

fn pen(kind: usize) -> Pen {
    Pen::solid(colour(kind), 1.2)
}
