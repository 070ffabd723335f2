//! Augmentation of training images: mirroring, and padding with a random crop (as He et al. 2016,
//! section 4.2, for CIFAR). Zeros are padded after normalisation, so they mean the average colour.

use crate::recipe::Augment;
use crate::rng::{Seed, Stream};

/// What decides how one image is changed. Each kind of change has random numbers of its own, so that one
/// setting does not affect another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random<'a> {
    pub augment: Augment,
    pub seed: Seed,
    /// The beginning of the labels of the streams.
    pub label: &'a str,
    pub step: u64,
}

impl Random<'_> {
    /// The numbers of one kind of change.
    pub(super) fn stream(&self, kind: &str) -> Stream {
        self.seed.stream(&format!("{}/{kind}", self.label), self.step)
    }
}

/// The augmentation of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub flip: bool,
    /// The output pixel (row, column) comes from (row + down, column + right).
    pub down: isize,
    pub right: isize,
}

impl Change {
    /// Draws a change. All numbers are always drawn, so that one setting does not affect another.
    pub(super) fn draw(augment: Augment, stream: &mut Stream) -> Self {
        let padding = augment.crop_padding;
        let mut offset = || stream.below(2 * padding + 1) as isize - padding as isize;
        let (down, right) = (offset(), offset());
        Self { flip: augment.flip && stream.below(2) == 1, down, right }
    }
}

/// Rows, columns and channels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// Writes the normalised and changed image into `output`, which must be zero.
///
/// `tables` gives the normalised value of each byte, channel by channel.
pub(super) fn write(
    image: &[u8],
    output: &mut [f32],
    shape: Shape,
    tables: &[[f32; 256]],
    change: Change,
) {
    let row_len = shape.width * shape.channels;
    for (row, output) in output.chunks_exact_mut(row_len).enumerate() {
        let from = row as isize + change.down;
        if (0..shape.height as isize).contains(&from) {
            let image = &image[from as usize * row_len..][..row_len];
            write_row(image, output, shape, tables, change);
        }
    }
}

fn write_row(
    image: &[u8],
    output: &mut [f32],
    shape: Shape,
    tables: &[[f32; 256]],
    change: Change,
) {
    let width = shape.width as isize;
    // Output columns whose source lies inside the image.
    let columns = (-change.right).max(0)..(width - change.right).min(width);
    for column in columns {
        let from = (column + change.right) as usize * shape.channels;
        // The crop comes first, so mirroring only changes the output column.
        let to = if change.flip { width - 1 - column } else { column } as usize * shape.channels;
        let pixels = image[from..from + shape.channels].iter();
        let outputs = output[to..to + shape.channels].iter_mut();
        for ((pixel, output), table) in pixels.zip(outputs).zip(tables) {
            *output = table[*pixel as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { height: 2, width: 3, channels: 2 };
    const IMAGE: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn changed(change: Change) -> Vec<f32> {
        let mut output = vec![0.0; 12];
        // Negative values of the second channel show that each channel uses its own table.
        let tables = [1.0, -1.0].map(|sign| std::array::from_fn(|i| sign * i as f32));
        write(&IMAGE, &mut output, SHAPE, &tables, change);
        output
    }

    #[test]
    fn a_flip_mirrors_columns_and_keeps_rows_and_channels() {
        let flipped = changed(Change { flip: true, ..Change::default() });
        assert_eq!(flipped, [5., -6., 3., -4., 1., -2., 11., -12., 9., -10., 7., -8.]);
    }

    #[test]
    fn a_crop_shifts_and_fills_with_zeros() {
        let moved = changed(Change { flip: false, down: 1, right: -1 });
        assert_eq!(moved, [0., 0., 7., -8., 9., -10., 0., 0., 0., 0., 0., 0.]);
        let away = changed(Change { flip: false, down: -5, right: 7 });
        assert_eq!(away, [0.; 12], "more padding than image");
    }

    #[test]
    fn a_flip_comes_after_the_crop() {
        let both = changed(Change { flip: true, down: 0, right: 1 });
        assert_eq!(both, [0., 0., 5., -6., 3., -4., 0., 0., 11., -12., 9., -10.]);
    }

    #[test]
    fn changes_are_uniform() {
        let augment = Augment { flip: true, crop_padding: 1, ..Augment::default() };
        let mut counts = std::collections::BTreeMap::new();
        for step in 0..18_000 {
            let change = Change::draw(augment, &mut Seed(1).stream("test", step));
            *counts.entry((change.flip, change.down, change.right)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 2 * 3 * 3);
        assert!(counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
    }

    #[test]
    fn without_augmentation_nothing_changes() {
        let change = Change::draw(Augment::default(), &mut Seed(1).stream("test", 0));
        assert_eq!(change, Change::default());
    }
}
