//! Image folders: from files that the test writes to the numbers that a network sees, what is wrong
//! with a folder, and runs on one.

use crate::cli::repro;
use jpeg_encoder::{ColorType as JpegKind, Encoder};
use png::{BitDepth, ColorType};
use repro::data::{self, DataError, Dataset, Loader};
use repro::recipe::{Augment, DataConfig, ImageFolder, ImageSource};
use repro::rng::Seed;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SPACE: &str = include_str!("../../experiments/spaces/smoke.toml");
const MANIFEST: &str = include_str!("../../experiments/smoke.toml");

/// A data folder with an image folder "pets" in it.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Cats are red, dogs green, fish blue, each with noise of its own; some wide, some high.
    fn of_pets(train: usize, val: usize) -> Self {
        let bench = Self::new();
        for (part, images) in [("train", train), ("val", val)] {
            for (class, name) in ["cat", "dog", "fish"].into_iter().enumerate() {
                for i in 0..images {
                    let (height, width) = ([20, 36, 30][i % 3], [40, 20, 30][i % 3]);
                    let mut noise = Seed(i as u64).stream(&format!("{part}/{name}"), 0);
                    let pixels = (0..height * width * 3).map(|at| {
                        let base = if at % 3 == class { 150 } else { 60 };
                        (base + noise.below(60)) as u8
                    });
                    let path = bench.path(&format!("{part}/{name}/{i:03}.png"));
                    write_png(&path, (height, width), ColorType::Rgb, &pixels.collect::<Vec<_>>());
                }
            }
        }
        bench
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join("pets").join(name)
    }

    /// A file with its folders.
    fn write(&self, name: &str, bytes: &[u8]) {
        write(&self.path(name), bytes);
    }

    fn open(&self, side: usize) -> Result<Dataset, DataError> {
        data::load(&config(side, [0.0; 3], [1.0 / 255.0; 3]), self.root())
    }

    /// A message, as it reads wherever the folder lies.
    fn redact(&self, message: &str) -> String {
        message.replace(&format!("{}/", self.root().display()), "")
    }

    /// Writes a manifest and its space, both those of the smoke test but for the images.
    fn manifest(&self, edit: impl Fn(String) -> String) -> PathBuf {
        let space = replaced(SPACE, "resolutions = [28]", "resolutions = [24]");
        let space = replaced(&space, "channels = 1\nclasses = 10", "channels = 3\nclasses = 3");
        fs::write(self.root().join("space.toml"), space).unwrap();
        let manifest = replaced(MANIFEST, "spaces/smoke.toml", "space.toml");
        let manifest = replaced(
            &manifest,
            "\"fashion-mnist-slice\"\nvalidation_images = 100",
            "\"image-folder\"\nfolder = \"pets\"\nvalidation_images = 12",
        );
        let manifest =
            manifest.replace("images = 400\n", "").replace("batch_size = 32", "batch_size = 8");
        let manifest = manifest.replace("{ flip = true }", "{ flip = true, crop_area = 0.5 }");
        let path = self.root().join("pets.toml");
        fs::write(&path, edit(manifest)).unwrap();
        path
    }

    fn repro(&self, arguments: &[&str]) -> assert_cmd::Command {
        let mut command = repro(arguments);
        command.env("REPRO_DATA", self.root()).env("REPRO_DB", self.root().join("results.db"));
        command
    }
}

fn config(side: usize, mean: [f32; 3], sd: [f32; 3]) -> DataConfig {
    let folder = ImageFolder { path: "pets".into(), side, mean, sd };
    DataConfig { source: ImageSource::Folder(folder), validation_images: 0 }
}

fn replaced(text: &str, find: &str, replace: &str) -> String {
    assert_eq!(text.matches(find).count(), 1, "{find:?}");
    text.replace(find, replace)
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn png(size: (usize, usize), kind: ColorType, depth: BitDepth, bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.1 as u32, size.0 as u32);
    encoder.set_color(kind);
    encoder.set_depth(depth);
    if kind == ColorType::Indexed {
        encoder.set_palette(vec![9, 9, 9, 200, 100, 50]);
    }
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
    file
}

fn write_png(path: &Path, size: (usize, usize), kind: ColorType, bytes: &[u8]) {
    write(path, &png(size, kind, BitDepth::Eight, bytes));
}

fn jpeg(size: (usize, usize), kind: JpegKind, bytes: &[u8], progressive: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 100);
    encoder.set_progressive(progressive);
    encoder.encode(bytes, size.1 as u16, size.0 as u16, kind).unwrap();
    file
}

/// All training images in order: values and labels.
fn unchanged(data: &Dataset) -> (Vec<Vec<f32>>, Vec<u32>) {
    let all = (0..data.train.len()).collect();
    let loader = Loader::evaluation(data, &data.train, all, data.train.len());
    let batch = loader.epoch(0).next().unwrap().unwrap();
    assert_eq!(batch.xs.dims()[1..], [data.height, data.width, 3]);
    (batch.xs.flatten_from(1).unwrap().to_vec2().unwrap(), batch.labels)
}

fn bits(batch: &data::Batch) -> Vec<u32> {
    let values = batch.xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn the_middle_of_a_picture_arrives_scaled_and_normalised() {
    let bench = Bench::new();
    // 16 rows of 8 pixels: the middle is 7x7 at (4.5, 0.5), so each pixel is the mean of four.
    let at = |y: usize, x: usize| [10 * y as u8, 20 * x as u8, (y * x) as u8];
    let pixels: Vec<u8> = (0..16 * 8).flat_map(|i| at(i / 8, i % 8)).collect();
    for part in ["train", "val"] {
        write_png(&bench.path(&format!("{part}/a/1.png")), (16, 8), ColorType::Rgb, &pixels);
    }
    let (mean, sd) = ([0.5, 0.25, 0.125], [0.5, 0.25, 0.2]);
    let data = data::load(&config(7, mean, sd), bench.root()).unwrap();
    let (values, _) = unchanged(&data);
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

#[test]
fn every_kind_of_file_becomes_the_same_colours() {
    const COLOUR: [u8; 3] = [200, 100, 50];
    const GREY: [u8; 3] = [120; 3];
    let of = |pixel: &[u8]| pixel.repeat(16 * 16);
    let file = |kind, pixel: &[u8]| png((16, 16), kind, BitDepth::Eight, &of(pixel));
    let sixteen = png((16, 16), ColorType::Rgb, BitDepth::Sixteen, &of(&[200, 7, 100, 7, 50, 7]));
    let photo = |kind, pixel: &[u8], progressive| jpeg((16, 16), kind, &of(pixel), progressive);
    let bench = Bench::new();
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
    kinds.sort_by_key(|(name, ..)| *name);
    for (name, bytes, _) in &kinds {
        bench.write(&format!("train/a/{name}"), bytes);
        bench.write(&format!("val/a/{name}"), bytes);
    }
    bench.write("train/a/notes.txt", b"no image");
    bench.write("train/a/.hidden.png", b"no image");
    let (values, _) = unchanged(&bench.open(5).unwrap());
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
fn a_photo_is_decoded_where_it_lies() {
    let bench = Bench::new();
    let at = |y: usize, x: usize| [(4 * y) as u8, (3 * x) as u8, (255 - 2 * y - x) as u8];
    let pixels: Vec<u8> = (0..56 * 64).flat_map(|i| at(i / 64, i % 64)).collect();
    for part in ["train", "val"] {
        let bytes = jpeg((56, 64), JpegKind::Rgb, &pixels, false);
        bench.write(&format!("{part}/a/1.jpg"), &bytes);
    }
    // The middle is 49x49 at (3.5, 7.5).
    let (values, _) = unchanged(&bench.open(49).unwrap());
    for (i, pixel) in values[0].chunks_exact(3).enumerate() {
        let (y, x) = (3.5 + (i / 49) as f32, 7.5 + (i % 49) as f32);
        for (value, expected) in pixel.iter().zip([4.0 * y, 3.0 * x, 255.0 - 2.0 * y - x]) {
            assert!((value - expected).abs() < 4.0, "{y} {x}: {pixel:?}");
        }
    }
}

#[test]
fn classes_and_images_come_in_the_order_of_their_names_however_many_there_are() {
    let bench = Bench::new();
    for class in (0..300).rev() {
        for part in ["train", "val"] {
            let path = bench.path(&format!("{part}/n{class:03}/{part}.png"));
            write_png(&path, (1, 1), ColorType::Grayscale, &[(class % 256) as u8]);
        }
    }
    let data = bench.open(1).unwrap();
    assert_eq!((data.classes.len(), &*data.classes[299]), (300, "n299"));
    let (values, labels) = unchanged(&data);
    assert_eq!(labels, (0..300).collect::<Vec<_>>());
    for (image, label) in values.iter().zip(labels) {
        assert!((image[0] - (label % 256) as f32).abs() < 1e-3);
    }
}

#[test]
fn training_images_are_cut_out_anew_each_epoch_and_the_same_on_any_number_of_threads() {
    let bench = Bench::of_pets(8, 1);
    let data = bench.open(24).unwrap();
    let augment = Augment { flip: true, crop_padding: 0, crop_area: Some(0.08) };
    let first = |seed, epoch, threads| {
        let loader = Loader::training(&data, (0..24).collect(), 24, augment, Seed(seed), "train");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let batch = loader.epoch(epoch).next().unwrap().unwrap();
            (bits(&batch), batch.labels)
        })
    };
    let one = first(1, 0, 1);
    assert_eq!(one, first(1, 0, 5));
    assert_ne!(one.0, first(2, 0, 1).0);
    assert_ne!(one.0, first(1, 1, 1).0);
    // Whatever is cut out, cats are red: the image belongs to its label.
    let values: Vec<f32> = one.0.iter().map(|&bits| f32::from_bits(bits)).collect();
    for (image, &label) in values.chunks_exact(24 * 24 * 3).zip(&one.1) {
        let sums = [0, 1, 2].map(|c| image.iter().skip(c).step_by(3).sum::<f32>());
        let reddest = (0..3).max_by(|&a, &b| sums[a].total_cmp(&sums[b])).unwrap();
        assert_eq!(reddest, label as usize, "{sums:?}");
    }
}

#[test]
fn without_a_crop_only_the_mirror_is_random() {
    let bench = Bench::of_pets(1, 1);
    let data = bench.open(24).unwrap();
    let (plain, _) = unchanged(&data);
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

#[test]
fn a_photo_cut_short_anywhere_is_an_error_that_names_it() {
    let mut noise = Seed(1).stream("photo", 0);
    let pixels: Vec<u8> = (0..64 * 64 * 3).map(|_| noise.bits() as u8).collect();
    for progressive in [false, true] {
        let whole = jpeg((64, 64), JpegKind::Rgb, &pixels, progressive);
        for share in 1..20 {
            let bench = Bench::new();
            bench.write("train/a/short.jpg", &whole[..whole.len() * share / 20]);
            bench.write("val/a/whole.jpg", &whole);
            let data = bench.open(8).unwrap();
            let loader = Loader::evaluation(&data, &data.train, vec![0], 1);
            let error = loader.epoch(0).next().unwrap().unwrap_err().to_string();
            assert!(error.contains("train/a/short.jpg") && error.contains("damaged"), "{error}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_folder_is_said_with_what_to_do() {
    let whole = png((2, 2), ColorType::Grayscale, BitDepth::Eight, &[1, 2, 3, 4]);
    let mut out = String::new();
    let mut case = |what: &str, files: &[(&str, &[u8])], folders: &[&str]| {
        let bench = Bench::new();
        for (name, bytes) in files {
            bench.write(name, bytes);
        }
        for name in folders {
            fs::create_dir_all(bench.path(name)).unwrap();
        }
        let message = match bench.open(8) {
            Err(error) => error.to_string(),
            Ok(data) => {
                let loader = Loader::evaluation(&data, &data.train, vec![0], 1);
                loader.epoch(0).next().unwrap().unwrap_err().to_string()
            }
        };
        let message = bench.redact(message.lines().next().unwrap());
        writeln!(out, "## {what}\n{message}\n").unwrap();
    };
    let good = ("train/a/1.png", &whole[..]);
    case("no folder", &[], &[]);
    case("no val", &[good], &[]);
    case("no classes", &[("train/1.png", &whole)], &["val/a"]);
    case("val without classes", &[good, ("val/1.png", &whole)], &[]);
    case("a class without images", &[good, ("val/a/1.png", &whole)], &["train/b", "val/b"]);
    case("images a folder deeper", &[("train/a/images/1.png", &whole)], &["val/a"]);
    case(
        "a class that val lacks",
        &[good, ("train/b/1.png", &whole), ("val/a/1.png", &whole)],
        &[],
    );
    let many = ["val/b", "val/c", "val/d", "val/e"];
    case("classes that train lacks", &[good, ("val/a/1.png", &whole)], &many);
    case("other classes", &[good, ("val/b/1.png", &whole)], &[]);
    let val = ("val/a/1.png", &whole[..]);
    case("an empty file", &[("train/a/1.png", b""), val], &[]);
    case("no image", &[("train/a/1.jpg", b"<html></html>"), val], &[]);
    case("a damaged PNG", &[("train/a/1.png", &whole[..40]), val], &[]);
    case("a damaged JPEG", &[("train/a/1.jpg", b"\xff\xd8\xff\xe0rest"), val], &[]);
    insta::assert_snapshot!("folder", out);
}

#[test]
fn a_run_on_a_folder_is_the_same_whatever_the_number_of_threads() {
    let bench = Bench::of_pets(40, 6);
    let manifest = bench.manifest(|text| text);
    let run = |threads| {
        let arguments = ["run", manifest.to_str().unwrap(), "--json", "--threads", threads];
        let output = bench.repro(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one["weights_sha256"], two["weights_sha256"]);
    assert_eq!(one["dataset"], "image-folder pets");
    // Chance is 1/3.
    assert!(one["test_top1"].as_f64().unwrap() > 0.8, "{one}");
}

#[test]
fn other_methods_and_some_of_the_classes_work_on_a_folder_too() {
    let bench = Bench::of_pets(40, 2);
    let manifest = bench.manifest(|text| text.replace("epochs = 5", "epochs = 1"));
    let classes = ["--set", "search.classes=2", "--set", "search.epochs=1"];
    let warmup =
        ["--set", "search.warmup_epochs=0", "--set", "search.method=[\"evolution\", \"darts\"]"];
    let run = ["run", manifest.to_str().unwrap(), "--json"];
    let output = bench.repro(&[&run[..], &classes, &warmup].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
}

/// What `repro check` and `repro run` say before any work, both with exit status 2.
#[test]
fn a_folder_that_does_not_fit_the_manifest_is_refused_before_any_work() {
    let bench = Bench::of_pets(10, 2);
    let mut out = String::new();
    for (what, find, replace) in [
        ("more classes than the space", "", ""),
        ("nothing to train on", "validation_images = 12", "validation_images = 30"),
        ("a batch larger than what there is", "batch_size = 8\nlabel", "batch_size = 19\nlabel"),
        ("a share of too few", "weight_share = 0.8", "weight_share = 0.99"),
        (
            "more to search on than there is",
            "weight_share = 0.8",
            "weight_share = 0.8\nimages = 40",
        ),
    ] {
        let manifest = bench.manifest(|text| text.replace(find, replace));
        if find.is_empty() {
            let space = bench.root().join("space.toml");
            let text = fs::read_to_string(&space).unwrap();
            fs::write(&space, replaced(&text, "classes = 3", "classes = 4")).unwrap();
        }
        let say = |command: &str| {
            let output = bench.repro(&[command, manifest.to_str().unwrap()]).output().unwrap();
            assert_ne!(output.status.code(), Some(0), "{what}");
            bench.redact(&String::from_utf8(output.stderr).unwrap())
        };
        let (checked, run) = (say("check"), say("run"));
        assert_eq!(checked, run);
        writeln!(out, "## {what}\n{run}").unwrap();
    }
    insta::assert_snapshot!("folder_and_manifest", out);
    let listed = bench.repro(&["list", "--json"]).output().unwrap();
    assert!(listed.stdout.is_empty(), "no run has begun");
}

#[test]
fn a_manifest_is_right_without_its_folder() {
    let bench = Bench::new();
    fs::create_dir_all(bench.root()).unwrap();
    let manifest = bench.manifest(|text| text);
    let output = bench.repro(&["check", manifest.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("not here: "), "{said}");
}

#[test]
fn all_images_are_looked_at_when_asked_for() {
    let bench = Bench::of_pets(2, 1);
    let said = |code: i32, arguments: &[&str]| {
        let output = bench.repro(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let both = [output.stdout, output.stderr].concat();
        bench.redact(&String::from_utf8(both).unwrap())
    };
    assert!(said(0, &["data", "check", "pets"]).contains("all 9 images can be used"));
    bench.write("val/dog/broken.jpg", b"nothing");
    let broken = said(1, &["data", "check", "pets"]);
    assert!(broken.contains("pets/val/dog/broken.jpg: is neither JPEG nor PNG"), "{broken}");
    assert!(broken.contains("1 of 10 images cannot be used"), "{broken}");
    assert!(said(0, &["data", "list"]).contains("here    pets"), "the folder is listed");
    assert!(said(1, &["data", "fetch", "image-folder"]).contains("NAME/train/CLASS/*.jpg"));
}

#[test]
fn a_study_of_memory_takes_images_in_memory_alone() {
    let study = ["check", "experiments/memory_scaling.toml", "--set", "data.dataset=image-folder"];
    let output = repro(&study).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("images of any size on the disk; give a data set that lies"), "{said}");
}
