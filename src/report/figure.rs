//! What all figures share: sizes, colours, axes and the frame of a panel.

use super::drawing::{Anchor, Drawing, Pen};
use crate::recipe::MethodName;

/// Distinct also with colour blindness (Okabe and Ito).
pub(crate) const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#555555", "#56b4e9", "#8c510a"];

// All in pixels.
pub(crate) const PANEL: (f64, f64) = (300.0, 210.0);
pub(crate) const COLUMNS: usize = 3;
pub(crate) const LEFT: f64 = 52.0;
/// Both ends of the axes within a panel.
pub(crate) const X_ENDS: (f64, f64) = (LEFT, PANEL.0 - 14.0);
pub(crate) const Y_ENDS: (f64, f64) = (PANEL.1 - 38.0, 28.0);
pub(crate) const LEGEND_LINE: f64 = 18.0;
/// Of a logarithmic axis.
const MOST_TICKS: usize = 6;

/// The same colour for a method in all figures.
pub(crate) fn colour_of(method: &str, i: usize) -> &'static str {
    let known = MethodName::ALL.iter().position(|name| name.as_str() == method);
    colour(known.unwrap_or(i))
}

/// The colour of the `i`-th line; they repeat after eight.
pub(crate) fn colour(i: usize) -> &'static str {
    COLOURS[i % COLOURS.len()]
}

/// Title, axes, ticks and their labels.
pub(crate) fn frame(
    drawing: &mut Drawing,
    title: &str,
    (x_title, x_axis): (&str, &Axis),
    y_axis: &Axis,
) {
    let ((left, right), (bottom, top)) = (X_ENDS, Y_ENDS);
    drawing.heading((left, 18.0), title);
    for (value, label) in &y_axis.ticks {
        let y = y_axis.at(*value, Y_ENDS);
        drawing.line(&[(left, y), (right, y)], Pen::solid("#dddddd", 1.0));
        drawing.text((left - 6.0, y + 4.0), Anchor::End, label);
    }
    for (value, label) in &x_axis.ticks {
        let x = x_axis.at(*value, X_ENDS);
        drawing.line(&[(x, bottom), (x, bottom + 4.0)], Pen::ink());
        drawing.text((x, bottom + 16.0), Anchor::Middle, label);
    }
    drawing.line(&[(left, top), (left, bottom), (right, bottom)], Pen::ink());
    drawing.text((f64::midpoint(left, right), bottom + 30.0), Anchor::Middle, x_title);
}

/// A range with round ends and labelled ticks.
pub(crate) struct Axis {
    /// Logarithms if the axis is logarithmic.
    ends: (f64, f64),
    logarithmic: bool,
    /// Values and their labels.
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis that covers all `values`; ticks are at least `least_step` apart.
    pub(crate) fn new(values: impl Iterator<Item = f64>, least_step: f64) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        // A constant line, or one that varies only by rounding, still gets an axis around it.
        let span = (high - low).max(low.abs().max(high.abs()) * 1e-6).max(1e-9);
        let power = 10_f64.powf((span / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| span / s <= 5.0);
        let step = step.unwrap_or(10.0 * power).max(least_step);
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil().max(first + 1.0);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let tick = |i: usize| (first + i as f64) * step;
        let ticks = (0..=(last - first) as usize).map(tick);
        let ticks = ticks.map(|value| (value, format!("{value:.decimals$}"))).collect();
        Self { ends: (first * step, last * step), logarithmic: false, ticks }
    }

    /// A logarithmic axis for positive values. Ticks are at powers of ten, in a short range also at two
    /// and five times these.
    pub(crate) fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((1.0, 10.0));
        let multiples: &[u8] = if high < 100.0 * low { &[1, 2, 5] } else { &[1] };
        let powers = low.log10().floor() as i32..=high.log10().floor() as i32 + 1;
        let label = |power: i32, multiple: u8| {
            let decimals = (-power).max(0) as usize;
            let value = f64::from(multiple) * 10_f64.powi(power);
            (value, format!("{value:.decimals$}"))
        };
        let all = powers.flat_map(|power| multiples.iter().map(move |m| label(power, *m)));
        let all: Vec<(f64, String)> = all.collect();
        let first = all.iter().rposition(|(value, _)| *value <= low * (1.0 + 1e-9)).unwrap_or(0);
        let last = all.iter().position(|(value, _)| *value >= high * (1.0 - 1e-9));
        let last = last.unwrap_or(all.len() - 1).max(first + 1).min(all.len() - 1);
        let mut ticks = all[first..=last].to_vec();
        // More labels would overlap.
        if ticks.len() > MOST_TICKS {
            let is_power = |value: f64| (value.log10() - value.log10().round()).abs() < 1e-9;
            ticks.retain(|(value, _)| is_power(*value));
        }
        Self { ends: (all[first].0.log10(), all[last].0.log10()), logarithmic: true, ticks }
    }

    /// The pixel of a value on an axis between two pixels.
    pub(crate) fn at(&self, value: f64, (from, to): (f64, f64)) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        from + (value - self.ends.0) / (self.ends.1 - self.ends.0) * (to - from)
    }
}

/// The smallest and the largest; `None` of nothing.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(values: &[f64], least_step: f64) -> Vec<String> {
        let axis = Axis::new(values.iter().copied(), least_step);
        axis.ticks.into_iter().map(|(_, label)| label).collect()
    }

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| &label[..]).collect()
    }

    #[test]
    fn a_logarithmic_axis_has_ticks_at_powers_of_ten() {
        let axis = Axis::logarithmic([0.3, 52.9, 800.0].into_iter());
        assert_eq!(labels(&axis), ["0.1", "1", "10", "100", "1000"]);
        assert!((axis.at(10.0, (0.0, 100.0)) - 50.0).abs() < 1e-9);
        let axis = Axis::logarithmic([0.06, 1.9].into_iter());
        assert_eq!(labels(&axis), ["0.05", "0.1", "0.2", "0.5", "1", "2"]);
        assert!((axis.at(0.05, (0.0, 1.0)), axis.at(2.0, (0.0, 1.0))) == (0.0, 1.0));
        let axis = Axis::logarithmic([0.15, 9.0].into_iter());
        assert_eq!(labels(&axis), ["0.1", "1", "10"]);
        for one in [1.0, 2.0, 3.0, 5.0, 1e-12, 1e15] {
            let axis = Axis::logarithmic([one].into_iter());
            let at = axis.at(one, (0.0, 1.0));
            assert!((-1e-6..=1.0 + 1e-6).contains(&at) && axis.ticks.len() == 2, "{one} {at}");
        }
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(linear(&[0.0, 7.0], 1.0), ["0", "2", "4", "6", "8"]);
        assert_eq!(linear(&[0.0, 1.0], 1.0), ["0", "1"]);
        assert_eq!(linear(&[1.61, 2.31], 0.0), ["1.6", "1.8", "2.0", "2.2", "2.4"]);
        assert_eq!(linear(&[3.0], 1.0), ["3", "4"]);
        assert_eq!(linear(&[], 1.0), ["0", "1"]);
        assert!((2..=7).contains(&linear(&[1e300, 2e300], 0.0).len()));
        assert!((2..=7).contains(&linear(&[5e8, 5e8 + 1e-3], 0.0).len()));
    }
}
