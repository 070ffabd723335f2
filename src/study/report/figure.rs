//! Pictures of bytes and seconds over the number of options and over the size of the space. Squares are
//! measured masked supernets and dots measured explicit ones, so that both show where they coincide.
//! Lines are predictions of the memory model, or join the measured points.

use super::points::{GrowthCurve, PointResult};
use crate::report::drawing::{Anchor, Drawing, Pen, Pixel};
use crate::report::figure::{
    Axis, COLUMNS, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, frame,
};
use crate::space::{Dimension, Growth};
use crate::text::{MIB, decimal, plural};

/// What the vertical axis shows.
struct Quantity {
    kind: &'static str,
    title: &'static str,
    measured: fn(&PointResult) -> Option<f64>,
    /// By the memory model, if it predicts the quantity.
    predicted: fn(&PointResult) -> Option<f64>,
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
        measured: PointResult::seconds,
        predicted: PointResult::seconds,
    },
];

/// Every picture that has points.
pub fn all(title: &str, curves: &[GrowthCurve]) -> Vec<(&'static str, Drawing)> {
    let some = QUANTITIES
        .iter()
        .filter(|q| curves.iter().any(|c| c.points.iter().any(|p| (q.predicted)(p).is_some())));
    some.map(|quantity| (quantity.kind, picture(title, curves, quantity))).collect()
}

/// One panel per dimension, and one over the size of the space.
fn picture(title: &str, curves: &[GrowthCurve], quantity: &Quantity) -> Drawing {
    let kinds = kinds(curves);
    let grows = Growth::ALL.into_iter();
    let grows: Vec<Growth> =
        grows.filter(|g| curves.iter().any(|s| s.dimension == g.name())).collect();
    let rows = (grows.len() + 1).div_ceil(COLUMNS) as f64;
    let (width, below) = (PANEL.0 * COLUMNS as f64, PANEL.1 * rows);
    let height = below + LEGEND_LINE * (kinds.len() + 1) as f64 + 10.0;
    let mut drawing = Drawing::new(&format!("{title}: {}", quantity.title), (width, height));
    let place = |i: usize| ((i % COLUMNS) as f64 * PANEL.0, (i / COLUMNS) as f64 * PANEL.1);
    let of = |growth: Growth| curves.iter().filter(move |s| s.dimension == growth.name());
    for (i, growth) in grows.iter().enumerate() {
        let panel = Panel {
            title: format!("{} by {}", quantity.title, growth.name()),
            x_title: "options",
            x: |p| p.options as f64,
            logarithmic: *growth == Growth::All,
        };
        panel.draw(drawing.at(place(i)), &of(*growth).collect::<Vec<_>>(), &kinds, quantity);
    }
    let panel = Panel {
        title: format!("{} by size of the space (width, all)", quantity.title),
        x_title: "log10 of the number of networks",
        x: |p| p.log10_candidates,
        logarithmic: true,
    };
    let both = [Growth::Of(Dimension::Width), Growth::All].into_iter().flat_map(of);
    panel.draw(drawing.at(place(grows.len())), &both.collect::<Vec<_>>(), &kinds, quantity);
    legend(drawing.at((0.0, below)), &kinds);
    drawing
}

fn legend(drawing: &mut Drawing, kinds: &[(&str, &str)]) {
    let line = |i: usize| LEGEND_LINE * i as f64 + 6.0;
    let text = |drawing: &mut Drawing, i, text: &str| {
        drawing.text((LEFT + 30.0, line(i) + 4.0), Anchor::Start, text);
    };
    for (i, (method, recompute)) in kinds.iter().enumerate() {
        drawing.line(&[(LEFT, line(i)), (LEFT + 24.0, line(i))], pen(i));
        mark(drawing, (LEFT + 12.0, line(i)), method, i);
        text(drawing, i, &format!("{method}, recompute {recompute}"));
    }
    open_dot(drawing, (LEFT + 12.0, line(kinds.len())), INK);
    text(drawing, kinds.len(), "predicted only");
}

/// The supernets in the order of their curves; each has a colour.
fn kinds(curves: &[GrowthCurve]) -> Vec<(&str, &str)> {
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for curve in curves {
        let kind = (&curve.method[..], &curve.recompute[..]);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

struct Panel {
    title: String,
    x_title: &'static str,
    x: fn(&PointResult) -> f64,
    /// The vertical axis.
    logarithmic: bool,
}

impl Panel {
    fn draw(
        &self,
        drawing: &mut Drawing,
        curves: &[&GrowthCurve],
        kinds: &[(&str, &str)],
        quantity: &Quantity,
    ) {
        let place = |p: &PointResult, of: fn(&PointResult) -> Option<f64>| {
            of(p).filter(|y| *y > 0.0).map(|y| ((self.x)(p), y))
        };
        let points = curves.iter().flat_map(|s| &s.points);
        let shown =
            points.flat_map(|p| [place(p, quantity.measured), place(p, quantity.predicted)]);
        let shown: Vec<(f64, f64)> = shown.flatten().collect();
        // Options are counted.
        let least_step = if self.x_title == "options" { 1.0 } else { 0.0 };
        let x_axis = Axis::new(shown.iter().map(|p| p.0), least_step);
        let y_axis = if self.logarithmic {
            Axis::logarithmic(shown.iter().map(|p| p.1))
        } else {
            Axis::new(shown.iter().map(|p| p.1).chain([0.0]), 0.0)
        };
        frame(drawing, &self.title, (self.x_title, &x_axis), &y_axis);
        let at = |(x, y): (f64, f64)| (x_axis.at(x, X_ENDS), y_axis.at(y, Y_ENDS));
        for curve in curves {
            let kind = (&curve.method[..], &curve.recompute[..]);
            let Some(i) = kinds.iter().position(|known| *known == kind) else { continue };
            let line = curve.points.iter().filter_map(|p| place(p, quantity.predicted)).map(at);
            drawing.line(&line.collect::<Vec<_>>(), pen(i));
            for point in &curve.points {
                let (measured, predicted) = (quantity.measured, quantity.predicted);
                match (place(point, measured), place(point, predicted)) {
                    (Some(place), _) => mark(drawing, at(place), &curve.method, i),
                    (None, Some(place)) => open_dot(drawing, at(place), colour(i)),
                    (None, None) => {}
                }
            }
            for point in &curve.points {
                let all = [(quantity.measured, ""), (quantity.predicted, " predicted")];
                let shown = all.into_iter().find_map(|(of, kind)| Some((place(point, of)?, kind)));
                let Some((value, kind)) = shown else { continue };
                let (method, recompute, options) = (&curve.method, &curve.recompute, point.options);
                let text = format!(
                    "{method}, recompute {recompute}, {}: {}{kind}",
                    plural(options, "option"),
                    decimal(value.1)
                );
                drawing.hover(at(value), text);
            }
        }
    }
}

const INK: &str = "#222222";

fn pen(kind: usize) -> Pen {
    Pen::solid(colour(kind), 1.2)
}

/// A measured point. A masked supernet has a square around where an explicit one has its dot.
fn mark(drawing: &mut Drawing, (x, y): Pixel, method: &str, kind: usize) {
    if method == "dmasking" {
        let (left, right, top, bottom) = (x - 4.5, x + 4.5, y - 4.5, y + 4.5);
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
        drawing.line(&corners, pen(kind));
    } else {
        drawing.dot((x, y), 2.5, colour(kind), 1.0);
    }
}

/// A point that was predicted only.
fn open_dot(drawing: &mut Drawing, place: Pixel, colour: &'static str) {
    drawing.dot(place, 3.2, colour, 1.0);
    drawing.dot(place, 2.0, "#ffffff", 1.0);
}
