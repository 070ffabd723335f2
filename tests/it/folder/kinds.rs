//! Image files of all kinds, decoded, cropped and normalised.

use super::*;

#[test]
fn the_centre_is_scaled_and_normalised() {
    let sandbox = Sandbox::new();
    // 16 rows of 8 pixels: the centre is 7x7 at (4.5, 0.5), so each pixel is the mean of four.
    let at = |y: usize, x: usize| [10 * y as u8, 20 * x as u8, (y * x) as u8];
    let pixels: Vec<u8> = (0..16 * 8).flat_map(|i| at(i / 8, i % 8)).collect();
    for part in ["train", "val"] {
        write_png(&sandbox.path(&format!("{part}/a/1.png")), (16, 8), ColorType::Rgb, &pixels);
    }
    let (mean, sd) = ([0.5, 0.25, 0.125], [0.5, 0.25, 0.2]);
    let data = data::load(&config(7, mean, sd), sandbox.root()).unwrap();
    let (values, _) = values_and_labels(&data);
    for (i, pixel) in values[0].chunks_exact(3).enumerate() {
        let (y, x) = (4 + i / 7, i % 7);
        for channel in 0..3 {
            let four = [at(y, x), at(y, x + 1), at(y + 1, x), at(y + 1, x + 1)];
            let sum: f32 = four.iter().map(|pixel| f32::from(pixel[channel])).sum();
            let expected = (sum / 4.0 / 255.0 - mean[channel]) / sd[channel];
            assert!((pixel[channel] - expected).abs() < 1e-5, "{y} {x} {channel}");
        }
    }
}

/// Written by Pillow 13 in one colour.
const OTHERS: [&str; 12] = [
    "alpha.bmp",
    "alpha.webp",
    "colour.bmp",
    "colour.gif",
    "colour.ppm",
    "colour.tif",
    "colour.webp",
    "grey.bmp",
    "grey.pgm",
    "grey.tif",
    "lossy.webp",
    "lzw.tiff",
];

#[test]
fn every_file_format_has_the_same_colours() {
    const COLOUR: [u8; 3] = [200, 100, 50];
    const GREY: [u8; 3] = [120; 3];
    let of = |pixel: &[u8]| pixel.repeat(16 * 16);
    let file = |kind, pixel: &[u8]| png((16, 16), kind, BitDepth::Eight, &of(pixel));
    let sixteen = png((16, 16), ColorType::Rgb, BitDepth::Sixteen, &of(&[200, 7, 100, 7, 50, 7]));
    let photo = |kind, pixel: &[u8], progressive| jpeg((16, 16), kind, &of(pixel), progressive);
    let sandbox = Sandbox::new();
    let kinds = [
        ("rgb.png", file(ColorType::Rgb, &COLOUR), COLOUR),
        ("alpha.png", file(ColorType::Rgba, &[200, 100, 50, 0]), COLOUR),
        ("palette.png", file(ColorType::Indexed, &[1]), COLOUR),
        ("sixteen.PNG", sixteen, COLOUR),
        ("grey.png", file(ColorType::Grayscale, &[120]), GREY),
        ("grey_alpha.png", file(ColorType::GrayscaleAlpha, &[120, 9]), GREY),
        ("photo.jpg", photo(JpegKind::Rgb, &COLOUR, false), COLOUR),
        ("progressive.jpeg", photo(JpegKind::Rgb, &COLOUR, true), COLOUR),
        ("grey.JPEG", photo(JpegKind::Luma, &[120], false), GREY),
        ("cmyk.jpg", photo(JpegKind::Cmyk, &[55, 155, 205, 0], false), COLOUR),
        ("ycck.jpg", photo(JpegKind::CmykAsYcck, &[55, 155, 205, 0], false), COLOUR),
        ("misnamed.jpg", file(ColorType::Rgb, &COLOUR), COLOUR),
    ];
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    for name in OTHERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/images");
        let colour = if name.starts_with("grey") { GREY } else { COLOUR };
        kinds.push((name, fs::read(folder.join(name)).unwrap(), colour));
    }
    kinds.sort_by_key(|(name, ..)| *name);
    for (name, bytes, _) in &kinds {
        sandbox.write(&format!("train/a/{name}"), bytes);
        sandbox.write(&format!("val/a/{name}"), bytes);
    }
    sandbox.write("train/a/notes.txt", b"no image");
    sandbox.write("train/a/.hidden.png", b"no image");
    let (values, _) = values_and_labels(&sandbox.open(5).unwrap());
    assert_eq!(values.len(), kinds.len());
    for (image, (name, _, expected)) in values.iter().zip(&kinds) {
        for pixel in image.chunks_exact(3) {
            for (value, expected) in pixel.iter().zip(expected) {
                assert!((value - f32::from(*expected)).abs() < 2.5, "{name}: {pixel:?}");
            }
        }
    }
}

#[test]
fn a_photo_keeps_its_geometry() {
    let sandbox = Sandbox::new();
    let at = |y: usize, x: usize| [(4 * y) as u8, (3 * x) as u8, (255 - 2 * y - x) as u8];
    let pixels: Vec<u8> = (0..56 * 64).flat_map(|i| at(i / 64, i % 64)).collect();
    for part in ["train", "val"] {
        let bytes = jpeg((56, 64), JpegKind::Rgb, &pixels, false);
        sandbox.write(&format!("{part}/a/1.jpg"), &bytes);
    }
    // The centre is 49x49 at (3.5, 7.5).
    let (values, _) = values_and_labels(&sandbox.open(49).unwrap());
    for (i, pixel) in values[0].chunks_exact(3).enumerate() {
        let (y, x) = (3.5 + (i / 49) as f32, 7.5 + (i % 49) as f32);
        for (value, expected) in pixel.iter().zip([4.0 * y, 3.0 * x, 255.0 - 2.0 * y - x]) {
            assert!((value - expected).abs() < 4.0, "{y} {x}: {pixel:?}");
        }
    }
}

#[test]
fn classes_and_images_are_sorted_by_name() {
    let sandbox = Sandbox::new();
    for class in (0..300).rev() {
        for part in ["train", "val"] {
            let path = sandbox.path(&format!("{part}/n{class:03}/{part}.png"));
            write_png(&path, (1, 1), ColorType::Grayscale, &[(class % 256) as u8]);
        }
    }
    let data = sandbox.open(1).unwrap();
    assert_eq!((data.classes.len(), &*data.classes[299]), (300, "n299"));
    let (values, labels) = values_and_labels(&data);
    assert_eq!(labels, (0..300).collect::<Vec<_>>());
    for (image, label) in values.iter().zip(labels) {
        assert!((image[0] - (label % 256) as f32).abs() < 1e-3);
    }
}

#[test]
fn crops_depend_on_epoch_and_seed_only() {
    let sandbox = Sandbox::of_pets(8, 1);
    let data = sandbox.open(24).unwrap();
    let augment = Augment { flip: true, crop_area: Some(0.08), ..Augment::default() };
    let first = |seed, epoch, threads| {
        let loader = Loader::training(&data, (0..24).collect(), 24, augment, Seed(seed), "train");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let batch = loader.epoch(epoch).next().unwrap().unwrap();
            (bits(&batch), batch.labels.to_vec())
        })
    };
    let one = first(1, 0, 1);
    assert_eq!(one, first(1, 0, 5));
    assert_ne!(one.0, first(2, 0, 1).0);
    assert_ne!(one.0, first(1, 1, 1).0);
    // Cats are red in every crop, so the image belongs to its label.
    let values: Vec<f32> = one.0.iter().map(|&bits| f32::from_bits(bits)).collect();
    for (image, &label) in values.chunks_exact(24 * 24 * 3).zip(&one.1) {
        let sums = [0, 1, 2].map(|c| image.iter().skip(c).step_by(3).sum::<f32>());
        let reddest = (0..3).max_by(|&a, &b| sums[a].total_cmp(&sums[b])).unwrap();
        assert_eq!(reddest, label as usize, "{sums:?}");
    }
}

#[test]
fn colours_and_erased_parts_depend_on_epoch_and_seed_only() {
    let sandbox = Sandbox::of_pets(8, 1);
    let data = sandbox.open(24).unwrap();
    let crop = Augment { flip: true, crop_area: Some(0.5), ..Augment::default() };
    let colour = Some(Colour { operations: 2, magnitude: 9 });
    let erase = Some(Erase::Square { side: 8 });
    let first = |augment, threads| {
        let loader = Loader::training(&data, (0..24).collect(), 24, augment, Seed(1), "train");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let batch = loader.epoch(1).next().unwrap().unwrap();
            batch.xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap()
        })
    };
    let both = first(Augment { colour, erase, ..crop }, 1);
    assert_eq!(both, first(Augment { colour, erase, ..crop }, 5));
    let [plain, coloured, erased] = [(None, None), (colour, None), (None, erase)]
        .map(|(colour, erase)| first(Augment { colour, erase, ..crop }, 2));
    for i in 0..24 {
        // The mean is 0 and the standard deviation 1 / 255, so that values are those of pixels.
        assert!(coloured[i].iter().all(|value| (value - value.round()).abs() < 1e-3));
        let only = |one: &[f32], other: &[f32]| {
            one.iter().zip(other).all(|(one, other)| one == other || *other == 0.0)
        };
        assert!(only(&plain[i], &erased[i]) && only(&coloured[i], &both[i]));
        let zeros = erased[i].iter().filter(|value| **value == 0.0).count();
        assert!((3 * 16..=3 * 64).contains(&zeros), "{zeros}");
    }
    assert_ne!(plain, coloured);
}

#[test]
fn without_a_crop_only_mirroring_is_random() {
    let sandbox = Sandbox::of_pets(1, 1);
    let data = sandbox.open(24).unwrap();
    let (plain, _) = values_and_labels(&data);
    let mirrored: Vec<f32> = plain[0]
        .chunks_exact(24 * 3)
        .flat_map(|row| row.rchunks_exact(3).flatten())
        .copied()
        .collect();
    let augment = Augment { flip: true, ..Augment::default() };
    let loader = Loader::training(&data, vec![0], 1, augment, Seed(1), "train");
    let mut seen = [0, 0];
    for epoch in 0..20 {
        let batch = loader.epoch(epoch).next().unwrap().unwrap();
        let image = batch.xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(image == plain[0] || image == mirrored);
        seen[usize::from(image == mirrored)] += 1;
    }
    assert!(seen[0] > 3 && seen[1] > 3, "{seen:?}");
}
