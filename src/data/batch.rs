//! Batches: the order of images, and their tensors.
//!
//! Order and augmentation are functions of (seed, label, epoch, position). They depend neither on the
//! number of threads nor on earlier batches, so a later batch can be made without those before it.

use super::augment::Random;
use super::source::Source;
use super::{DataError, Dataset, Split};
use crate::ops::gpu;
use crate::ops::loss::Labels;
use crate::recipe::{Augment, scaled};
use crate::rng::Seed;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::sync::mpsc;
use std::thread;

/// The images of one step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[n, height, width, channels]`, f32, normalised.
    pub xs: Tensor,
    /// One class index per image.
    pub labels: Labels,
}

/// Calls `user` with the `items` that a loader makes. On a GPU a thread makes the next one, which copies
/// it to the GPU, while the last is in use. On the CPU, which a step keeps busy, an item is made when it
/// is asked for.
pub fn prefetched<I: Send, T>(
    device: &Device,
    mut items: impl Iterator<Item = I> + Send,
    user: impl FnOnce(&mut dyn Iterator<Item = I>) -> T,
) -> T {
    if !gpu::in_use(device).unwrap_or(false) {
        return user(&mut items);
    }
    ahead(items, user)
}

/// Calls `user` with items that a thread makes, one ahead of the item in use.
pub fn ahead<I: Send, T>(
    mut items: impl Iterator<Item = I> + Send,
    user: impl FnOnce(&mut dyn Iterator<Item = I>) -> T,
) -> T {
    thread::scope(|scope| {
        // Without a buffer: at most one item is ahead.
        let (sender, receiver) = mpsc::sync_channel(0);
        scope.spawn(move || {
            // Without a receiver nobody wants another item.
            let _ = items.try_for_each(|item| sender.send(item));
        });
        user(&mut receiver.into_iter())
    })
}

/// The images of a batch that can be read.
pub struct ReadableBatch {
    pub batch: Batch,
    /// What is wrong with the others.
    pub damaged: Vec<DataError>,
}

/// Serves the same images in every epoch, in batches.
pub struct Loader<'a> {
    source: Source<'a>,
    labels: &'a [u32],
    /// Height, width and channels, as a network sees them.
    shape: (usize, usize, usize),
    indices: Vec<usize>,
    batch_size: usize,
    device: Device,
    training: Option<Training>,
    /// Share of an epoch's batches to serve, in (0, 1].
    share: f64,
}

/// What changes training batches from epoch to epoch.
struct Training {
    augment: Augment,
    seed: Seed,
    label: String,
    /// See [`Loader::mixing`].
    mixup: Option<f64>,
}

impl<'a> Loader<'a> {
    /// Shuffled and augmented batches of training images. All have the full size: an incomplete last
    /// batch is dropped. `label` names the purpose (`search/weights`), so that two loaders of one seed
    /// are independent.
    ///
    /// # Panics
    /// When `batch_size` is zero.
    #[must_use]
    pub fn training(
        dataset: &'a Dataset,
        indices: Vec<usize>,
        batch_size: usize,
        augment: Augment,
        seed: Seed,
        label: &str,
    ) -> Self {
        let training = Training { augment, seed, label: label.to_owned(), mixup: None };
        let loader = Self::evaluation(dataset, &dataset.train, indices, batch_size);
        Self { training: Some(training), ..loader }
    }

    /// Batches in the order of `indices`, unchanged; the last one may be smaller. `split` is the
    /// data set's training or test part.
    ///
    /// # Panics
    /// When `batch_size` is zero.
    #[must_use]
    pub fn evaluation(
        dataset: &'a Dataset,
        split: &'a Split,
        indices: Vec<usize>,
        batch_size: usize,
    ) -> Self {
        assert!(batch_size > 0, "a batch holds at least one image");
        let Dataset { height, width, channels, .. } = *dataset;
        Self {
            source: Source::new(dataset, split),
            labels: &split.labels,
            shape: (height, width, channels),
            indices,
            batch_size,
            device: Device::Cpu,
            training: None,
            share: 1.0,
        }
    }

    /// Serves only the first batches of each epoch's order: this share of them, in (0, 1], and at least
    /// one. Shuffled epochs have different images.
    #[must_use]
    pub fn share(self, share: f64) -> Self {
        Self { share, ..self }
    }

    /// Shows the central square whose side is this share of the shorter side, where images are not augmented and come
    /// from files.
    #[must_use]
    pub fn centred(mut self, share: f64) -> Self {
        if let Source::Files(source) = &mut self.source {
            source.centre = share;
        }
        self
    }

    /// Mixes the images of each training batch in pairs (mixup, Zhang et al. 2018): the first with the last, and
    /// so on. Their order is random. The share of one image is drawn for each batch, Beta(`alpha`, `alpha`).
    #[must_use]
    pub fn mixing(mut self, alpha: Option<f64>) -> Self {
        if let Some(training) = &mut self.training {
            training.mixup = alpha;
        }
        self
    }

    /// Puts the tensors on this device instead of the CPU.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// Batches per epoch.
    #[must_use]
    pub fn batches(&self) -> usize {
        let all = match self.training {
            Some(_) => self.indices.len() / self.batch_size,
            None => self.indices.len().div_ceil(self.batch_size),
        };
        scaled(all, self.share)
    }

    /// Images per epoch, in all its batches.
    #[must_use]
    pub fn images(&self) -> usize {
        self.indices.len().min(self.batches() * self.batch_size)
    }

    /// The batches of one epoch. Batches that `.skip(n)` leaves out are not made.
    #[must_use]
    pub fn epoch(&self, epoch: u64) -> Epoch<'_> {
        let order = match &self.training {
            None => self.indices.clone(),
            Some(Training { seed, label, .. }) => {
                let order =
                    seed.stream(&format!("{label}/order"), epoch).permutation(self.indices.len());
                order.into_iter().map(|position| self.indices[position]).collect()
            }
        };
        Epoch { loader: self, epoch, order, next: 0 }
    }

    /// What decides how the image at `position` in the order of `epoch` is changed.
    fn random(&self, epoch: u64, position: usize) -> Option<Random<'_>> {
        let Training { augment, seed, label, .. } = self.training.as_ref()?;
        Some(Random { augment: *augment, seed: *seed, label, step: step(epoch, position) })
    }

    /// The share of an image in the batch that begins at `position`; `None` where images are not mixed.
    fn share_of_mix(&self, epoch: u64, position: usize) -> Option<f64> {
        let Training { seed, label, mixup, .. } = self.training.as_ref()?;
        let mut stream = seed.stream(&format!("{label}/mixup"), step(epoch, position));
        mixup.map(|alpha| stream.symmetric_beta(alpha))
    }

    /// All batches without augmentation; images that cannot be read are left out of theirs.
    pub fn readable(&self) -> impl Iterator<Item = candle_core::Result<ReadableBatch>> {
        self.indices.chunks(self.batch_size).map(|indices| self.readable_batch(indices))
    }

    fn readable_batch(&self, indices: &[usize]) -> candle_core::Result<ReadableBatch> {
        let (height, width, channels) = self.shape;
        let len = height * width * channels;
        let mut values = vec![0f32; indices.len() * len];
        let images = values.par_chunks_exact_mut(len).zip(indices);
        let read: Vec<Result<(), DataError>> =
            images.map(|(output, &index)| self.source.write(index, None, output)).collect();
        let (mut labels, mut damaged) = (Vec::new(), Vec::new());
        for (i, (result, &index)) in read.into_iter().zip(indices).enumerate() {
            match result {
                Ok(()) => {
                    values.copy_within(i * len..(i + 1) * len, labels.len() * len);
                    labels.push(self.labels[index]);
                }
                Err(error) => damaged.push(error),
            }
        }
        values.truncate(labels.len() * len);
        let shape = (labels.len(), height, width, channels);
        let xs = gpu::upload(values, shape, &self.device)?;
        Ok(ReadableBatch { batch: Batch { xs, labels: labels.into() }, damaged })
    }

    fn batch(&self, epoch: u64, first: usize, indices: &[usize]) -> candle_core::Result<Batch> {
        let (height, width, channels) = self.shape;
        let len = height * width * channels;
        let labels: Vec<u32> = indices.iter().map(|&index| self.labels[index]).collect();
        let on_gpu = gpu::in_use(&self.device)?;
        let images = indices.len() * len;
        let mut values = vec![0f32; images + if on_gpu { labels.len() } else { 0 }];
        // A data set has fewer than 2^24 classes, so f32 holds each label.
        for (value, label) in values[images..].iter_mut().zip(&labels) {
            *value = *label as f32;
        }
        values[..images]
            .par_chunks_exact_mut(len)
            .zip(indices)
            .enumerate()
            .try_for_each(|(i, (output, &index))| {
                self.source.write(index, self.random(epoch, first + i).as_ref(), output)
            })
            .map_err(candle_core::Error::msg)?;
        let mix = self.share_of_mix(epoch, first);
        if let Some(share) = mix {
            mix_pairs(&mut values[..images], len, share);
        }
        let shape = (indices.len(), height, width, channels);
        if !on_gpu {
            let xs = gpu::upload(values, shape, &self.device)?;
            return Ok(Batch { xs, labels: Labels::from(labels).mixed(mix) });
        }
        let all = values.len();
        let values = gpu::upload(values, all, &self.device)?;
        let xs = values.narrow(0, 0, images)?.reshape(shape)?;
        let on_gpu = values.narrow(0, images, labels.len())?;
        Ok(Batch { xs, labels: Labels::on_gpu(labels, on_gpu).mixed(mix) })
    }
}

/// The step of random streams for the image at `position` in the order of `epoch`, which has fewer than 2^32
/// images.
fn step(epoch: u64, position: usize) -> u64 {
    (epoch << 32) | position as u64
}

/// `share` of each image of `len` values plus the rest of the image at its place from the end.
fn mix_pairs(values: &mut [f32], len: usize, share: f64) {
    let (own, other) = (share as f32, (1.0 - share) as f32);
    // The one in the middle is its own partner.
    let pairs = values.len() / len / 2;
    let (front, back) = values.split_at_mut(values.len() / 2);
    let front = front.par_chunks_exact_mut(len).take(pairs);
    let back = back.par_rchunks_exact_mut(len).take(pairs);
    front.zip(back).for_each(|(a, b)| {
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (own * *a + other * *b, own * *b + other * *a);
        }
    });
}

/// Iterates over the batches of one epoch.
pub struct Epoch<'a> {
    loader: &'a Loader<'a>,
    epoch: u64,
    order: Vec<usize>,
    /// Number of the next batch.
    next: usize,
}

impl Iterator for Epoch<'_> {
    type Item = candle_core::Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.nth(0)
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        let number = self.next.saturating_add(n);
        self.next = number.saturating_add(1).min(self.loader.batches());
        if number >= self.loader.batches() {
            return None;
        }
        let first = number * self.loader.batch_size;
        let end = self.order.len().min(first + self.loader.batch_size);
        Some(self.loader.batch(self.epoch, first, &self.order[first..end]))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.loader.batches() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Epoch<'_> {}

#[cfg(test)]
mod tests;
