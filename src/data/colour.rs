//! Colour operations on training images, as in RandAugment (Cubuk et al. 2020), without its geometric ones.
//! Each operation is that of Pillow to the bit; `benches/pytorch/colour.py` makes the images that tests
//! compare with.

use super::augment::Shape;
use crate::recipe::Colour;
use crate::rng::Stream;

/// One operation. Factors are those of Pillow: at one the image stays as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    Sharpness(f32),
    /// Bits that stay.
    Posterize(u32),
    /// Values from here on are inverted.
    Solarize(f64),
    Equalize,
    AutoContrast,
    Invert,
}

const OPERATIONS: usize = 9;

impl Operation {
    /// Draws an operation, and whether its factor is above or below one. A `magnitude` of 30 is the strongest: a
    /// factor of 0.1 or 1.9, 4 bits, everything inverted (Cubuk et al. 2019, table 6).
    fn draw(magnitude: usize, stream: &mut Stream) -> Self {
        let strength = magnitude as f64 / Colour::STRONGEST as f64;
        let (operation, above) = (stream.below(OPERATIONS), stream.below(2) == 1);
        let change = if above { 0.9 } else { -0.9 };
        let factor = (1.0 + change * strength) as f32;
        match operation {
            0 => Self::Brightness(factor),
            1 => Self::Contrast(factor),
            2 => Self::Saturation(factor),
            3 => Self::Sharpness(factor),
            4 => Self::Posterize(8 - (4.0 * strength).round() as u32),
            5 => Self::Solarize(256.0 * (1.0 - strength)),
            6 => Self::Equalize,
            7 => Self::AutoContrast,
            _ => Self::Invert,
        }
    }

    /// Changes an image of this shape in place.
    fn apply(self, pixels: &mut [u8], shape: Shape) {
        match self {
            Self::Brightness(factor) => map(pixels, |value| blend(0, value, factor)),
            Self::Contrast(factor) => {
                let mean = mean_lightness(pixels, shape);
                map(pixels, |value| blend(mean, value, factor));
            }
            Self::Saturation(factor) => saturate(pixels, factor, shape),
            Self::Sharpness(factor) => sharpen(pixels, factor, shape),
            Self::Posterize(bits) => {
                let mask = !(0xff_u32 >> bits) as u8;
                map(pixels, |value| value & mask);
            }
            Self::Solarize(threshold) => {
                let keeps = |value: u8| f64::from(value) < threshold;
                map(pixels, |value| if keeps(value) { value } else { 255 - value });
            }
            Self::Equalize => by_channel(pixels, shape, equalized),
            Self::AutoContrast => by_channel(pixels, shape, stretched),
            Self::Invert => map(pixels, |value| 255 - value),
        }
    }
}

/// Applies the operations that are drawn for an image of 8 bits per value. What needs colour leaves grey images
/// as they are.
pub(super) fn change(pixels: &mut [u8], shape: Shape, config: Colour, stream: &mut Stream) {
    for _ in 0..config.operations {
        Operation::draw(config.magnitude, stream).apply(pixels, shape);
    }
}

/// The same for values from 0 to 255 that need not be whole: they are rounded first.
pub(super) fn change_scaled(values: &mut [f32], shape: Shape, config: Colour, stream: &mut Stream) {
    let mut pixels: Vec<u8> = values.iter().map(|value| (value + 0.5) as u8).collect();
    change(&mut pixels, shape, config, stream);
    for (value, pixel) in values.iter_mut().zip(pixels) {
        *value = f32::from(pixel);
    }
}

fn map(pixels: &mut [u8], of: impl Fn(u8) -> u8) {
    for value in pixels {
        *value = of(*value);
    }
}

/// From `low` at the factor 0 over `value` at 1 and beyond, cut off to 0..=255.
fn blend(low: u8, value: u8, factor: f32) -> u8 {
    // `as` cuts fractions off, and what is below 0 or above 255.
    (f32::from(low) + factor * (f32::from(value) - f32::from(low))) as u8
}

/// The luma of ITU-R 601, rounded.
fn lightness(red: u8, green: u8, blue: u8) -> u8 {
    let sum = u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471;
    ((sum + 0x8000) >> 16) as u8
}

fn mean_lightness(pixels: &[u8], shape: Shape) -> u8 {
    let sum: u64 = match shape.channels {
        3 => pixels.as_chunks().0.iter().map(|[r, g, b]| u64::from(lightness(*r, *g, *b))).sum(),
        _ => pixels.iter().map(|value| u64::from(*value)).sum(),
    };
    let count = (pixels.len() / shape.channels).max(1);
    (sum as f64 / count as f64 + 0.5) as u8
}

fn saturate(pixels: &mut [u8], factor: f32, shape: Shape) {
    if shape.channels != 3 {
        return;
    }
    for pixel in pixels.as_chunks_mut::<3>().0 {
        let grey = lightness(pixel[0], pixel[1], pixel[2]);
        map(pixel, |value| blend(grey, value, factor));
    }
}

/// Away from, or towards the mean of the nine pixels around, in which the one in the middle counts five times.
/// Pixels at the border stay.
fn sharpen(pixels: &mut [u8], factor: f32, shape: Shape) {
    let Shape { height, width, channels } = shape;
    let before = pixels.to_vec();
    for row in 1..height.saturating_sub(1) {
        for at in channels..(width * channels).saturating_sub(channels) {
            let centre = row * width * channels + at;
            let rows = [centre - width * channels, centre, centre + width * channels];
            let nine: u32 = (rows.iter())
                .flat_map(|middle| [middle - channels, *middle, middle + channels])
                .map(|place| u32::from(before[place]))
                .sum();
            let sum = nine + 4 * u32::from(before[centre]);
            // Rounded.
            let smooth = ((2 * sum + 13) / 26) as u8;
            pixels[centre] = blend(smooth, before[centre], factor);
        }
    }
}

/// Replaces the values of each channel by the table that belongs to its histogram.
fn by_channel(pixels: &mut [u8], shape: Shape, table: fn(&[usize; 256]) -> Option<[u8; 256]>) {
    for channel in 0..shape.channels {
        let own = || (channel..pixels.len()).step_by(shape.channels);
        let mut histogram = [0; 256];
        own().for_each(|i| histogram[usize::from(pixels[i])] += 1);
        if let Some(table) = table(&histogram) {
            own().for_each(|i| pixels[i] = table[usize::from(pixels[i])]);
        }
    }
}

/// The table that makes all values about equally frequent; `None` where values stay as they are.
fn equalized(histogram: &[usize; 256]) -> Option<[u8; 256]> {
    let last = *histogram.iter().rev().find(|count| **count > 0)?;
    let step = (histogram.iter().sum::<usize>() - last) / 255;
    if step == 0 {
        return None;
    }
    let mut below = step / 2;
    Some(std::array::from_fn(|value| {
        let level = (below / step).min(255) as u8;
        below += histogram[value];
        level
    }))
}

/// The table that stretches the values to 0..=255; `None` where there is only one.
fn stretched(histogram: &[usize; 256]) -> Option<[u8; 256]> {
    let low = histogram.iter().position(|count| *count > 0)?;
    let high = histogram.iter().rposition(|count| *count > 0)?;
    let scale = 255.0 / high.checked_sub(low).filter(|range| *range > 0)? as f64;
    let offset = -(low as f64) * scale;
    Some(std::array::from_fn(|value| (value as f64 * scale + offset) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;
    use serde_json::Value;

    /// What Pillow made, see the head of this file.
    const PILLOW: &str = include_str!("../../tests/it/fixtures/colour.json");

    fn bytes(value: &Value) -> Vec<u8> {
        let pairs = value.as_str().unwrap().as_bytes().chunks_exact(2);
        let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
        pairs.map(|pair| 16 * digit(pair[0]) + digit(pair[1])).collect()
    }

    fn shape(of: &Value) -> Shape {
        let [height, width, channels] = [0, 1, 2].map(|i| of[i].as_u64().unwrap() as usize);
        Shape { height, width, channels }
    }

    fn operation(name: &str, amount: f64) -> Operation {
        match name {
            "brightness" => Operation::Brightness(amount as f32),
            "contrast" => Operation::Contrast(amount as f32),
            "saturation" => Operation::Saturation(amount as f32),
            "sharpness" => Operation::Sharpness(amount as f32),
            "posterize" => Operation::Posterize(amount as u32),
            "solarize" => Operation::Solarize(amount),
            "equalize" => Operation::Equalize,
            "autocontrast" => Operation::AutoContrast,
            "invert" => Operation::Invert,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn operations_equal_those_of_pillow() {
        let cases: Value = serde_json::from_str(PILLOW).unwrap();
        let mut compared = 0;
        for case in cases.as_array().unwrap() {
            let (before, shape) = (bytes(&case["pixels"]), shape(&case["shape"]));
            for result in case["results"].as_array().unwrap() {
                let name = result["operation"].as_str().unwrap();
                let amount = result["amount"].as_f64().unwrap();
                let mut pixels = before.clone();
                operation(name, amount).apply(&mut pixels, shape);
                assert_eq!(pixels, bytes(&result["pixels"]), "{name} {amount} {shape:?}");
                compared += 1;
            }
        }
        assert_eq!(compared, 9 * 30);
    }

    #[test]
    fn a_magnitude_of_zero_changes_no_value_by_a_factor() {
        for step in 0..200 {
            let operation = Operation::draw(0, &mut Seed(1).stream("test", step));
            let mut pixels: Vec<u8> = (0..=254).collect();
            operation.apply(&mut pixels, Shape { height: 5, width: 17, channels: 3 });
            let table = matches!(
                operation,
                Operation::Equalize | Operation::AutoContrast | Operation::Invert
            );
            assert!(table || pixels.iter().copied().eq(0..=254), "{operation:?}");
        }
    }

    #[test]
    fn all_operations_are_drawn_about_equally_often_in_both_directions() {
        let mut counts = std::collections::BTreeMap::new();
        for step in 0..9_000 {
            let operation = Operation::draw(30, &mut Seed(1).stream("test", step));
            *counts.entry(format!("{operation:?}")).or_insert(0) += 1;
        }
        // Four have a factor above or below one.
        assert_eq!(counts.len(), 13, "{counts:?}");
        for (operation, count) in &counts {
            let expected =
                if operation.contains("(0.1") || operation.contains("(1.9") { 500 } else { 1000 };
            assert!((expected * 85 / 100..expected * 115 / 100).contains(count), "{counts:?}");
        }
        for end in [Operation::Posterize(4), Operation::Solarize(0.0)] {
            assert!(counts.contains_key(&format!("{end:?}")), "{counts:?}");
        }
    }
}
