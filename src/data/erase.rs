//! Erasing a part of training images: a square of fixed size (cutout, DeVries & Taylor 2017), or a random
//! rectangle (Zhong et al. 2020). The part becomes zero after normalisation, the average colour.

use super::augment::Shape;
use crate::recipe::Erase;
use crate::rng::Stream;
use std::ops::Range;

/// Draws of a rectangle that fits into the image.
const ATTEMPTS: usize = 100;

/// Rows and columns to erase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Erases the part of a normalised image that is drawn.
pub(super) fn erase(image: &mut [f32], shape: Shape, config: Erase, stream: &mut Stream) {
    let part = match config {
        Erase::Square { side } => square(side, shape, stream),
        Erase::Rectangle { probability, area, ratio } => {
            if stream.uniform() >= probability {
                return;
            }
            rectangle(area, ratio, shape, stream)
        }
    };
    for row in part.rows {
        let pixel = |column: usize| (row * shape.width + column) * shape.channels;
        image[pixel(part.columns.start)..pixel(part.columns.end)].fill(0.0);
    }
}

/// A square whose centre is any pixel, so that a part of it may lie outside.
fn square(side: usize, shape: Shape, stream: &mut Stream) -> Part {
    let mut along = |len: usize| {
        let from = stream.below(len) as isize - (side / 2) as isize;
        let end = (from + side as isize).clamp(0, len as isize);
        from.max(0) as usize..end as usize
    };
    Part { rows: along(shape.height), columns: along(shape.width) }
}

/// A rectangle with a share of the area and a ratio of height to width (log-uniform) between bounds; nothing if
/// no draw fits into the image.
fn rectangle(area: (f64, f64), ratio: (f64, f64), shape: Shape, stream: &mut Stream) -> Part {
    let Shape { height, width, .. } = shape;
    let between = |(low, high): (f64, f64), share: f64| low + (high - low) * share;
    for _ in 0..ATTEMPTS {
        let part = (height * width) as f64 * between(area, stream.uniform());
        let ratio = between((ratio.0.ln(), ratio.1.ln()), stream.uniform()).exp();
        let (h, w) = ((part * ratio).sqrt().round(), (part / ratio).sqrt().round());
        if h < height as f64 && w < width as f64 {
            let (h, w) = (h as usize, w as usize);
            let (top, left) = (stream.below(height - h + 1), stream.below(width - w + 1));
            return Part { rows: top..top + h, columns: left..left + w };
        }
    }
    Part::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    const SHAPE: Shape = Shape { height: 20, width: 30, channels: 2 };

    /// Which pixels are erased: of rows, then columns.
    fn erased(config: Erase, step: u64) -> Vec<(usize, usize)> {
        let mut image = vec![1.0; 20 * 30 * 2];
        erase(&mut image, SHAPE, config, &mut Seed(1).stream("test", step));
        let pixels = image.as_chunks::<2>().0.iter().enumerate();
        let zero = pixels.filter(|(_, pixel)| {
            assert!(**pixel == [0.0; 2] || **pixel == [1.0; 2], "all channels of a pixel");
            **pixel == [0.0; 2]
        });
        zero.map(|(i, _)| (i / 30, i % 30)).collect()
    }

    /// The rows and columns that a rectangle covers; it must be whole.
    fn bounds(pixels: &[(usize, usize)]) -> (Range<usize>, Range<usize>) {
        let range = |values: Vec<usize>| {
            values.iter().min().map_or(0..0, |low| *low..values.iter().max().unwrap() + 1)
        };
        let rows = range(pixels.iter().map(|(row, _)| *row).collect());
        let columns = range(pixels.iter().map(|(_, column)| *column).collect());
        assert_eq!(rows.len() * columns.len(), pixels.len(), "{pixels:?}");
        (rows, columns)
    }

    #[test]
    fn a_square_is_centred_on_any_pixel_and_cut_off_at_the_border() {
        let mut centres = std::collections::BTreeSet::new();
        for step in 0..20_000 {
            let (rows, columns) = bounds(&erased(Erase::Square { side: 8 }, step));
            for (range, len) in [(&rows, 20), (&columns, 30)] {
                let whole = range.start > 0 && range.end < len;
                assert!(if whole { range.len() == 8 } else { (4..=8).contains(&range.len()) });
            }
            let centre = |range: &Range<usize>| {
                if range.start == 0 { range.end as isize - 4 } else { range.start as isize + 4 }
            };
            centres.insert((centre(&rows), centre(&columns)));
        }
        assert_eq!(centres.len(), 20 * 30);
    }

    #[test]
    fn rectangles_have_the_areas_and_ratios_asked_for() {
        let config = Erase::Rectangle { probability: 0.6, area: (0.05, 0.3), ratio: (0.5, 2.0) };
        let (mut areas, mut ratios, mut none) = (Vec::new(), Vec::new(), 0);
        for step in 0..4_000 {
            let pixels = erased(config, step);
            if pixels.is_empty() {
                none += 1;
                continue;
            }
            let (rows, columns) = bounds(&pixels);
            areas.push(pixels.len() as f64 / 600.0);
            ratios.push(rows.len() as f64 / columns.len() as f64);
        }
        assert!((1_480..1_720).contains(&none), "{none} of 4000");
        let range = |values: &[f64]| {
            let of = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap();
            (of(f64::min), of(f64::max))
        };
        let ((small, large), (wide, high)) = (range(&areas), range(&ratios));
        // Sides are rounded to pixels.
        assert!((0.04..0.06).contains(&small) && (0.28..0.33).contains(&large), "{small} {large}");
        assert!((0.4..0.6).contains(&wide) && (1.7..2.4).contains(&high), "{wide} {high}");
    }

    #[test]
    fn a_rectangle_that_never_fits_erases_nothing() {
        let config = Erase::Rectangle { probability: 1.0, area: (1.0, 1.0), ratio: (1.0, 1.0) };
        assert!(erased(config, 0).is_empty());
    }
}
