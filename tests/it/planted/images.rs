//! Images whose classes differ in one pattern.

use super::IMAGES;
use repro::data::{Dataset, Images, Normalisation, Pixels, Split};
use repro::recipe::DatasetName;
use repro::rng::{Seed, Stream};

/// What tells the two classes apart.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// 8x8: stripes of one pixel, vertical or horizontal, with a random phase.
    Stripes,
    /// 12x12: each pixel is that four columns before, or its opposite.
    Distant,
    /// 6x6: dark or bright.
    Brightness,
    /// 16x16, four classes and channels: the channel of the class is the brightest, on average over so many
    /// pixels that a filter does not see it.
    Brightest,
}

impl Pattern {
    /// The side of the images in pixels.
    fn side(self) -> usize {
        match self {
            Self::Stripes => 8,
            Self::Distant => 12,
            Self::Brightness => 6,
            Self::Brightest => 16,
        }
    }

    fn classes(self) -> usize {
        match self {
            Self::Brightest => 4,
            Self::Stripes | Self::Distant | Self::Brightness => 2,
        }
    }

    fn channels(self) -> usize {
        match self {
            Self::Brightest => 4,
            Self::Stripes | Self::Distant | Self::Brightness => 1,
        }
    }

    /// Values around zero, `[side, side, channels]`.
    fn draw(self, class: usize, stream: &mut Stream) -> Vec<f64> {
        let side = self.side();
        let sign = |bit: usize| if bit.is_multiple_of(2) { 1.0 } else { -1.0 };
        let phase = stream.below(2);
        // One period of four random columns for each row.
        let period: Vec<f64> = (0..4 * side).map(|_| sign(stream.below(2))).collect();
        let levels: Vec<f64> = (0..self.channels())
            .map(|channel| if channel == class { 0.6 } else { 0.8 * stream.uniform() - 0.4 })
            .collect();
        let mut values = Vec::new();
        for i in 0..side * side * self.channels() {
            let (pixel, channel) = (i / self.channels(), i % self.channels());
            let (y, x) = (pixel / side, pixel % side);
            let (signal, noise) = match self {
                Self::Stripes => (sign(phase + if class == 0 { x } else { y }), 0.3),
                Self::Distant => (period[4 * y + x % 4] * sign(class * (x / 4)), 0.2),
                Self::Brightness => (0.5 * sign(class), 0.5),
                Self::Brightest => (levels[channel], 1.6),
            };
            values.push(signal + noise * stream.normal());
        }
        values
    }
}

/// As many training images as a search takes, and half as many test images, in random order.
pub fn dataset(pattern: Pattern) -> Dataset {
    let side = pattern.side();
    let split = |label: &str, images: usize| {
        let (mut bytes, mut labels) = (Vec::new(), Vec::new());
        for i in 0..images {
            let mut stream = Seed(7).stream(label, i as u64);
            let class = stream.below(pattern.classes());
            let values = pattern.draw(class, &mut stream);
            // Four standard deviations of the largest noise fit.
            bytes.extend(values.iter().map(|v| (127.5 + 16.0 * v).round().clamp(0.0, 255.0) as u8));
            labels.push(class as u32);
        }
        Split { images: Images::Memory(Pixels { height: side, width: side, bytes }), labels }
    };
    Dataset {
        name: DatasetName::FashionMnistSlice,
        classes: (0..pattern.classes()).map(|class| class.to_string()).collect(),
        height: side,
        width: side,
        channels: pattern.channels(),
        // The values as they were drawn.
        normalisation: Normalisation {
            mean: vec![0.5; pattern.channels()],
            sd: vec![16.0 / 255.0; pattern.channels()],
        },
        train: split("train", IMAGES),
        test: split("test", IMAGES / 2),
    }
}
