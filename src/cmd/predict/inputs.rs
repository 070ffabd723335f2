//! What is classified: image files, or a file of normalised tensors. A batch at a time is in memory as numbers.

use crate::cmd::ending::Usage;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use repro::data::{self, DataError, Normalisation};
use repro::trained::TrainedNetwork;
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub enum Inputs {
    Images(ImageFiles),
    Tensor(TensorFile),
}

pub struct ImageFiles {
    paths: Vec<PathBuf>,
    /// Pixels and channels.
    shape: (usize, usize),
    /// See [`data::read_image`].
    share: f64,
    normalisation: Normalisation,
}

/// A safetensors file with images `[n, channels, side, side]`.
pub struct TensorFile {
    bytes: Vec<u8>,
    /// Where the images lie in the file.
    place: Range<usize>,
    dtype: DType,
    images: usize,
    /// Channels and pixels.
    shape: (usize, usize),
}

/// Some of the inputs.
pub struct InputBatch {
    /// Of those that can be read.
    pub names: Vec<String>,
    /// `[n, side, side, channels]`, normalised.
    pub images: Tensor,
    /// Why the others cannot be read.
    pub damaged: Vec<(String, DataError)>,
}

impl Inputs {
    /// Opens the files that the command line names. A network that no run has trained takes tensors of any size.
    ///
    /// # Errors
    /// When they cannot be the network's input.
    pub fn open(paths: &[PathBuf], trained: &mut TrainedNetwork) -> Result<Self> {
        let is_tensor = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
        if let [path] = paths
            && is_tensor(path)
        {
            let file = TensorFile::open(path, trained);
            return Ok(Self::Tensor(file.with_context(|| path.display().to_string())?));
        }
        if paths.iter().any(is_tensor) {
            bail!(Usage("--input takes images, or one safetensors file".to_owned()));
        }
        if let Some(folder) = paths.iter().find(|path| path.is_dir()) {
            bail!(Usage(format!("--input: {} is a folder; give its images", folder.display())));
        }
        Ok(Self::Images(ImageFiles {
            paths: paths.to_owned(),
            shape: (trained.side(), trained.file.arch.image_channels),
            share: trained.seen_share(),
            normalisation: trained.normalisation(),
        }))
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Images(files) => files.paths.len(),
            Self::Tensor(file) => file.images,
        }
    }

    /// The side of the images in pixels.
    pub fn side(&self) -> usize {
        match self {
            Self::Images(files) => files.shape.0,
            Self::Tensor(file) => file.shape.1,
        }
    }

    /// Bytes that reading an image takes, beside those of its batch.
    pub fn reading_bytes(&self) -> u64 {
        match self {
            Self::Images(files) => {
                files.paths.iter().map(|path| data::image_bytes(path)).max().unwrap_or(0)
            }
            Self::Tensor(_) => 0,
        }
    }

    pub fn read(&self, range: Range<usize>) -> Result<InputBatch> {
        match self {
            Self::Images(files) => files.read(range),
            Self::Tensor(file) => file.read(range),
        }
    }
}

impl ImageFiles {
    fn read(&self, range: Range<usize>) -> Result<InputBatch> {
        let Self { shape, share, normalisation, .. } = self;
        let (mut names, mut values, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        for path in &self.paths[range] {
            let name = path.display().to_string();
            match data::read_image(path, *shape, *share, normalisation) {
                Ok(image) => {
                    values.extend(image);
                    names.push(name);
                }
                Err(error) => damaged.push((name, error)),
            }
        }
        let (side, channels) = *shape;
        let images = Tensor::from_vec(values, (names.len(), side, side, channels), &Device::Cpu)?;
        Ok(InputBatch { names, images, damaged })
    }
}

impl TensorFile {
    fn open(path: &Path, trained: &mut TrainedNetwork) -> Result<Self> {
        ensure!(!path.exists() || path.is_file(), "is not a regular file");
        let bytes = fs::read(path)?;
        let damaged = |error: &dyn std::fmt::Display| {
            anyhow::anyhow!("is no safetensors file, or damaged ({error})")
        };
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
        let info = metadata.info("input").context("has no tensor `input`")?;
        let channels = trained.file.arch.image_channels;
        let [images, given, h, w] = info.shape[..] else {
            bail!(
                "its tensor `input` has the shape {:?}, not [n, {channels}, side, side]",
                info.shape
            )
        };
        ensure!(
            images > 0 && h > 0 && given == channels && h == w,
            "its tensor `input` has the shape {:?}, not [n, {channels}, side, side] with at least one \
             image, as {} needs",
            info.shape,
            trained.file.name
        );
        let least = trained.file.arch.resolution;
        ensure!(
            trained.images.is_none() || h >= least,
            "its images have {h}x{h} pixels, but {} takes {least}x{least} or more",
            trained.file.name
        );
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                bail!("its tensor `input` has the type {other:?}; give floating-point numbers")
            }
        };
        let (from, to) = info.data_offsets;
        // The length of the header comes first.
        let start = size_of::<u64>() + header;
        let place = start + from..start + to;
        if trained.images.is_none() {
            trained.set_resolution(h);
        }
        Ok(Self { place, dtype, images, shape: (channels, h), bytes })
    }

    fn read(&self, range: Range<usize>) -> Result<InputBatch> {
        let (channels, side) = self.shape;
        let len = channels * side * side * self.dtype.size_in_bytes();
        let values = &self.bytes[self.place.clone()][range.start * len..range.end * len];
        let shape = [range.len(), channels, side, side];
        let images = Tensor::from_raw_buffer(values, self.dtype, &shape, &Device::Cpu)?;
        let images = images.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?;
        let names = range.map(|i| format!("input {}", i + 1)).collect();
        Ok(InputBatch { names, images, damaged: Vec::new() })
    }
}
