//! Scaling of images. Larger images are interpolated bilinearly. Smaller ones are averaged with a
//! triangle as wide as the pixels that fall onto one, so that fine patterns do not alias. Positions
//! are those of pixel centres. At an edge, the weights of the pixels that exist are normalised to a
//! sum of one. This is Pillow's `BILINEAR` filter without rounding between the two axes.
//!
//! The arithmetic has a fixed order, row by row, so that every machine gives the same bits.

/// One axis: the input pixels of each output pixel, with their weights.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    taps: Vec<Taps>,
}

/// Adjacent pixels, from `first`; their weights sum to one.
#[derive(Clone, Debug)]
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Axis {
    /// Scales a part of `len` pixels to `side` pixels. The part begins at `from` and has this
    /// `extent`; both may be fractions of a pixel.
    ///
    /// # Panics
    /// When there are no pixels on either side.
    pub(super) fn new(len: usize, (from, extent): (f64, f64), side: usize) -> Self {
        assert!(len > 0 && side > 0, "there are pixels");
        let step = extent / side as f64;
        let reach = step.max(1.0);
        let taps = (0..side).map(|i| Taps::new(len, from + (i as f64 + 0.5) * step, reach));
        Self { taps: taps.collect() }
    }

    /// The first pixel with a weight, and one past the last.
    fn used(&self) -> (usize, usize) {
        let first = self.taps.iter().map(|taps| taps.first).min();
        let end = self.taps.iter().map(|taps| taps.first + taps.weights.len()).max();
        (first.unwrap_or(0), end.unwrap_or(0))
    }
}

impl Taps {
    fn new(len: usize, centre: f64, reach: f64) -> Self {
        let last = len as f64 - 1.0;
        let first = (centre - reach + 0.5).floor().clamp(0.0, last) as usize;
        let end = (centre + reach + 0.5).floor().clamp(first as f64 + 1.0, len as f64) as usize;
        let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - centre) / reach).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        let weights = (first..end).map(|x| (weight(x) / sum) as f32).collect();
        Self { first, weights }
    }
}

/// Writes the scaled image, `[rows, columns, channels]`, into `output`, which must be zero.
///
/// `image` has rows of `width` pixels.
pub(super) fn scale<T: Copy + Into<f32>>(
    image: &[T],
    (width, channels): (usize, usize),
    (rows, columns): (&Axis, &Axis),
    output: &mut [f32],
) {
    let (first, end) = columns.used();
    // One output row before its columns are scaled.
    let mut mixed = vec![0f32; (end - first) * channels];
    for (taps, output) in
        rows.taps.iter().zip(output.chunks_exact_mut(columns.taps.len() * channels))
    {
        mixed.fill(0.0);
        for (y, &weight) in (taps.first..).zip(&taps.weights) {
            let row = &image[(y * width + first) * channels..][..mixed.len()];
            for (sum, &value) in mixed.iter_mut().zip(row) {
                *sum += weight * value.into();
            }
        }
        for (taps, output) in columns.taps.iter().zip(output.chunks_exact_mut(channels)) {
            let pixels = mixed[(taps.first - first) * channels..].chunks_exact(channels);
            for (pixel, &weight) in pixels.zip(&taps.weights) {
                for (sum, &value) in output.iter_mut().zip(pixel) {
                    *sum += weight * value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(image: &[f32], part: (f64, f64), side: usize) -> Vec<f32> {
        let columns = Axis::new(image.len(), part, side);
        let mut output = vec![0.0; side];
        scale(image, (image.len(), 1), (&Axis::new(1, (0.0, 1.0), 1), &columns), &mut output);
        output
    }

    fn assert_near(actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len());
        let near = actual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near, "{actual:?} is not {expected:?}");
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        assert_eq!(row(&[3.0, 1.0, 4.0], (0.0, 3.0), 3), [3.0, 1.0, 4.0]);
    }

    #[test]
    fn a_larger_image_is_interpolated_between_centres() {
        // Output centres lie at 1/4, 3/4, 5/4, 7/4 and input centres at 1/2 and 3/2.
        assert_near(&row(&[0.0, 4.0], (0.0, 2.0), 4), &[0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn a_smaller_image_is_averaged() {
        let stripes: Vec<f32> = (0..64).map(|i| (i % 2) as f32).collect();
        for value in &row(&stripes, (0.0, 64.0), 16)[1..15] {
            assert!((value - 0.5).abs() < 0.01, "{value}");
        }
        // By hand: centre 1, reach 2, weights 3/4, 3/4, 1/4 of pixels 0, 1, 2.
        assert_near(&row(&[7.0, 0.0, 0.0, 0.0], (0.0, 4.0), 2), &[3.0, 0.0]);
    }

    #[test]
    fn a_part_keeps_its_position() {
        let ramp: Vec<f32> = (0..10).map(|i| i as f32 + 0.5).collect();
        // The value of the ramp is the position itself.
        assert_near(&row(&ramp, (2.5, 4.0), 4), &[3.0, 4.0, 5.0, 6.0]);
        assert_near(&row(&ramp, (7.0, 2.0), 4), &[7.25, 7.75, 8.25, 8.75]);
    }

    #[test]
    fn rows_columns_and_channels_are_separate() {
        // 2 x 3 pixels of two channels; the second channel is ten times the first.
        let image: Vec<u8> = [1, 2, 3, 4, 5, 6].iter().flat_map(|&v| [v, 10 * v]).collect();
        let (rows, columns) = (Axis::new(2, (0.0, 2.0), 4), Axis::new(3, (1.0, 1.0), 1));
        let mut output = vec![0.0; 8];
        scale(&image, (3, 2), (&rows, &columns), &mut output);
        assert_near(&output, &[2.0, 20.0, 2.75, 27.5, 4.25, 42.5, 5.0, 50.0]);
    }
}
