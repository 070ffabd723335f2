//! Accuracy with shared weights versus accuracy after training from scratch: one dot per network, one
//! colour per ranking.

use super::drawing::{Anchor, Drawing};
use super::figure::{Axis, LEFT, LEGEND_LINE, PANEL, X_ENDS, Y_ENDS, colour, frame};
use super::rank::Ranking;
use crate::text::percent;

/// The picture; `None` if there is nothing to draw.
#[must_use]
pub fn scatter(title: &str, rankings: &[Ranking<'_>]) -> Option<Drawing> {
    if rankings.is_empty() {
        return None;
    }
    let all = || rankings.iter().flat_map(|ranking| &ranking.pairs);
    let x_axis = Axis::new(all().map(|pair| 100.0 * pair.0), 0.0);
    let y_axis = Axis::new(all().map(|pair| 100.0 * pair.1), 0.0);
    let height = PANEL.1 + LEGEND_LINE * rankings.len() as f64 + 10.0;
    let mut drawing = Drawing::new(title, (PANEL.0, height));
    let x_title = ("top-1 with shared weights [%]", &x_axis);
    frame(&mut drawing, "top-1 trained from scratch [%]", x_title, &y_axis);
    for (i, ranking) in rankings.iter().enumerate() {
        for (shared, alone) in &ranking.pairs {
            let place = (x_axis.at(100.0 * shared, X_ENDS), y_axis.at(100.0 * alone, Y_ENDS));
            drawing.dot(place, 3.0, colour(i), 1.0);
            let (shared, alone) = (percent(*shared), percent(*alone));
            drawing.hover(place, format!("{shared} with shared weights, {alone} from scratch"));
        }
        let y = PANEL.1 + LEGEND_LINE * i as f64 + 6.0;
        drawing.dot((LEFT, y), 3.0, colour(i), 1.0);
        drawing.text((LEFT + 14.0, y + 4.0), Anchor::Start, &ranking.label());
    }
    Some(drawing)
}
