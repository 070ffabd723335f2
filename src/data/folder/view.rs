//! The part of an image that a network sees: in training a random crop ("Inception" crops, Szegedy
//! et al. 2015), otherwise the centre.

use crate::recipe::Augment;
use crate::rng::Stream;

/// The side of the central square over the shorter side: 224 of 256 pixels, as usual for ImageNet.
pub const CENTRE: f64 = 0.875;
/// Ratios of width to height that are drawn.
const RATIOS: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
const ATTEMPTS: usize = 10;

/// A rectangle of an image, in pixels or fractions of them, and whether it is mirrored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::data) struct View {
    pub top: f64,
    pub left: f64,
    pub height: f64,
    pub width: f64,
    pub flip: bool,
}

impl View {
    /// The central square, without randomness. Cropping before scaling gives the same as scaling
    /// first, except for the rounding of the longer side.
    pub(in crate::data) fn centre(size: (usize, usize)) -> Self {
        Self::square(size, CENTRE)
    }

    /// The central square whose side is this share of the shorter side.
    pub(in crate::data) fn square(size: (usize, usize), share: f64) -> Self {
        let side = share * size.0.min(size.1) as f64;
        Self::centred(size, (side, side))
    }

    /// A random view of an image of `size` (height, width). Mirroring is drawn first, so that it does
    /// not depend on the other settings.
    pub(in crate::data) fn draw(
        augment: Augment,
        size: (usize, usize),
        stream: &mut Stream,
    ) -> Self {
        let flip = stream.below(2) == 1 && augment.flip;
        let view = match augment.crop_area {
            Some(least) => Self::part(least, size, stream),
            None => Self::centre(size),
        };
        Self { flip, ..view }
    }

    /// A rectangle with at least the share `least` of the area and a ratio between 3:4 and 4:3
    /// (log-uniform). If no draw fits into the image, the largest central rectangle of such a ratio.
    fn part(least: f64, (height, width): (usize, usize), stream: &mut Stream) -> Self {
        let area = (height * width) as f64;
        let (low, high) = (RATIOS.0.ln(), RATIOS.1.ln());
        for _ in 0..ATTEMPTS {
            let part = area * (least + (1.0 - least) * stream.uniform());
            let ratio = (low + (high - low) * stream.uniform()).exp();
            let (h, w) = ((part / ratio).sqrt().round(), (part * ratio).sqrt().round());
            if (1.0..=height as f64).contains(&h) && (1.0..=width as f64).contains(&w) {
                let top = stream.below(height - h as usize + 1) as f64;
                let left = stream.below(width - w as usize + 1) as f64;
                return Self { top, left, height: h, width: w, flip: false };
            }
        }
        let (h, w) = (height as f64, width as f64);
        let ratio = (w / h).clamp(RATIOS.0, RATIOS.1);
        Self::centred((height, width), (h.min(w / ratio), w.min(h * ratio)))
    }

    fn centred(size: (usize, usize), (height, width): (f64, f64)) -> Self {
        let (top, left) = ((size.0 as f64 - height) / 2.0, (size.1 as f64 - width) / 2.0);
        Self { top, left, height, width, flip: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    fn drawn(augment: Augment, size: (usize, usize), step: u64) -> View {
        View::draw(augment, size, &mut Seed(1).stream("test", step))
    }

    #[test]
    fn the_centre_is_seven_eighths_of_the_shorter_side() {
        let view = View::centre((320, 256));
        let expected = View { top: 48.0, left: 16.0, height: 224.0, width: 224.0, flip: false };
        assert_eq!(view, expected);
    }

    #[test]
    fn random_views_cover_areas_and_ratios() {
        let augment = Augment { flip: true, crop_area: Some(0.08), ..Augment::default() };
        let (mut areas, mut ratios, mut flips) = (Vec::new(), Vec::new(), 0);
        for step in 0..4000 {
            let view = drawn(augment, (300, 400), step);
            assert!(view.top >= 0.0 && view.top + view.height <= 300.0, "{view:?}");
            assert!(view.left >= 0.0 && view.left + view.width <= 400.0, "{view:?}");
            areas.push(view.height * view.width / 120_000.0);
            ratios.push(view.width / view.height);
            flips += usize::from(view.flip);
        }
        let range = |values: &[f64]| {
            let of = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap();
            (of(f64::min), of(f64::max))
        };
        let ((least, most), (narrow, wide)) = (range(&areas), range(&ratios));
        assert!(least > 0.075 && least < 0.09 && most > 0.95, "{least} to {most}");
        assert!(narrow > 0.74 && narrow < 0.77 && wide > 1.3 && wide < 1.35, "{narrow} to {wide}");
        assert!((1850..2150).contains(&flips), "{flips}");
    }

    #[test]
    fn a_strip_is_cropped_to_its_centre() {
        let augment = Augment { crop_area: Some(1.0), ..Augment::default() };
        let view = drawn(augment, (30, 300), 0);
        assert_eq!((view.top, view.height, view.width), (0.0, 30.0, 40.0));
        assert_eq!(view.left, 130.0);
    }

    #[test]
    fn mirroring_does_not_depend_on_the_crop() {
        for step in 0..50 {
            let flip = |crop_area| {
                drawn(Augment { flip: true, crop_area, ..Augment::default() }, (60, 90), step).flip
            };
            assert_eq!(flip(None), flip(Some(0.3)));
            assert!(!drawn(Augment::default(), (60, 90), step).flip);
        }
    }
}
