//! Image folders: decoding, errors, and runs.

mod faults;
mod jpegs;
mod kinds;
mod runs;

use crate::cli::repro;
use crate::resume::EVERY_KEY;
use jpeg_encoder::{ColorType as JpegKind, Encoder};
use png::{BitDepth, ColorType};
use repro::data::{self, DataError, Dataset, Loader};
use repro::progress::Quiet;
use repro::recipe::{Augment, Colour, DataConfig, Erase, ImageFolder, ImageSource};
use repro::rng::Seed;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SPACE: &str = include_str!("../../../experiments/spaces/smoke.toml");
const MANIFEST: &str = include_str!("../../../experiments/smoke.toml");

/// A data folder with an image folder "pets" in it.
struct Sandbox(TempDir);

impl Sandbox {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Cats are red, dogs green, fish blue, each with its own noise; some are wide, some are high.
    fn of_pets(train: usize, val: usize) -> Self {
        let sandbox = Self::new();
        for (part, images) in [("train", train), ("val", val)] {
            for (class, name) in ["cat", "dog", "fish"].into_iter().enumerate() {
                for i in 0..images {
                    let (height, width) = ([20, 36, 30][i % 3], [40, 20, 30][i % 3]);
                    let mut noise = Seed(i as u64).stream(&format!("{part}/{name}"), 0);
                    let pixels = (0..height * width * 3).map(|at| {
                        let base = if at % 3 == class { 150 } else { 60 };
                        (base + noise.below(60)) as u8
                    });
                    let path = sandbox.path(&format!("{part}/{name}/{i:03}.png"));
                    write_png(&path, (height, width), ColorType::Rgb, &pixels.collect::<Vec<_>>());
                }
            }
        }
        sandbox
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join("pets").join(name)
    }

    /// Writes a file and creates its folders.
    fn write(&self, name: &str, bytes: &[u8]) {
        write(&self.path(name), bytes);
    }

    fn open(&self, side: usize) -> Result<Dataset, DataError> {
        data::load(&config(side, [0.0; 3], [1.0 / 255.0; 3]), self.root())
    }

    /// A message without the path of the temporary folder.
    fn redact(&self, message: &str) -> String {
        message.replace(&format!("{}/", self.root().display()), "")
    }

    /// Writes a manifest and its space: those of the smoke test, with other images.
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
fn values_and_labels(data: &Dataset) -> (Vec<Vec<f32>>, Vec<u32>) {
    let all = (0..data.train.len()).collect();
    let loader = Loader::evaluation(data, &data.train, all, data.train.len());
    let batch = loader.epoch(0).next().unwrap().unwrap();
    assert_eq!(batch.xs.dims()[1..], [data.height, data.width, 3]);
    (batch.xs.flatten_from(1).unwrap().to_vec2().unwrap(), batch.labels.to_vec())
}

fn bits(batch: &data::Batch) -> Vec<u32> {
    let values = batch.xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}
