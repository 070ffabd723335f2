//! Accuracies under shared weights and after training from scratch, as a picture: one dot per network,
//! one colour per run.

use super::drawing::{Anchor, Drawing};
use super::figure::{Axis, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, frame};
use super::rank::Pair;

/// The picture, each run with its label; `None` if there is nothing to draw.
#[must_use]
pub fn scatter(title: &str, runs: &[(String, Vec<Pair>)]) -> Option<Drawing> {
    let runs: Vec<_> = runs.iter().filter(|(_, pairs)| !pairs.is_empty()).collect();
    if runs.is_empty() {
        return None;
    }
    let all = || runs.iter().flat_map(|(_, pairs)| pairs);
    let x_axis = Axis::new(all().map(|pair| 100.0 * pair.0), 0.0);
    let y_axis = Axis::new(all().map(|pair| 100.0 * pair.1), 0.0);
    let height = PANEL.1 + LEGEND_LINE * runs.len() as f64 + 10.0;
    let mut drawing = Drawing::new(title, (PANEL.0, height));
    let x_title = ("top-1 with shared weights [%]", &x_axis);
    frame(&mut drawing, "top-1 trained from scratch [%]", x_title, &y_axis);
    for (i, (label, pairs)) in runs.iter().enumerate() {
        for (shared, alone) in pairs {
            let place = (x_axis.at(100.0 * shared, X_ENDS), y_axis.at(100.0 * alone, Y_ENDS));
            drawing.dot(place, 3.0, colour(i), 1.0);
        }
        let y = PANEL.1 + LEGEND_LINE * i as f64 + 6.0;
        drawing.dot((LEFT, y), 3.0, colour(i), 1.0);
        drawing.text((LEFT + 14.0, y + 4.0), Anchor::Start, label);
    }
    Some(drawing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_has_a_dot_and_every_run_a_line_in_the_legend() {
        let runs = [
            ("run 1".to_owned(), vec![(0.1, 0.5), (0.2, 0.4)]),
            ("run 2".to_owned(), vec![]),
            ("run 3".to_owned(), vec![(0.3, 0.6)]),
        ];
        let svg = scatter("t", &runs).unwrap().svg();
        assert_eq!(svg.matches("<circle").count(), 3 + 2);
        assert!(svg.contains("run 1") && !svg.contains("run 2") && svg.contains("run 3"));
        assert!(scatter("t", &runs[1..2]).is_none());
    }
}
