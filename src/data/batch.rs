//! Batches: the order of images, and their tensors.
//!
//! Order and augmentation are functions of (seed, label, epoch, position). They depend neither on the
//! number of threads nor on earlier batches, so a later batch can be made without those before it.

use super::source::Source;
use super::{DataError, Dataset, Split};
use crate::ops::gpu;
use crate::ops::loss::Labels;
use crate::recipe::{Augment, scaled};
use crate::rng::{Seed, Stream};
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
    order_label: String,
    augment_label: String,
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
        let training = Training {
            augment,
            seed,
            order_label: format!("{label}/order"),
            augment_label: format!("{label}/augment"),
        };
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
            Some(Training { seed, order_label, .. }) => {
                let order = seed.stream(order_label, epoch).permutation(self.indices.len());
                order.into_iter().map(|position| self.indices[position]).collect()
            }
        };
        Epoch { loader: self, epoch, order, next: 0 }
    }

    /// The augmentation of the image at `position` in the order of `epoch`.
    fn random(&self, epoch: u64, position: usize) -> Option<(Augment, Stream)> {
        let Training { augment, seed, augment_label, .. } = self.training.as_ref()?;
        // An epoch has fewer than 2^32 images.
        let step = (epoch << 32) | position as u64;
        Some((*augment, seed.stream(augment_label, step)))
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
                self.source.write(index, self.random(epoch, first + i), output)
            })
            .map_err(candle_core::Error::msg)?;
        let shape = (indices.len(), height, width, channels);
        if !on_gpu {
            let xs = gpu::upload(values, shape, &self.device)?;
            return Ok(Batch { xs, labels: labels.into() });
        }
        let all = values.len();
        let values = gpu::upload(values, all, &self.device)?;
        let xs = values.narrow(0, 0, images)?.reshape(shape)?;
        let on_gpu = values.narrow(0, images, labels.len())?;
        Ok(Batch { xs, labels: Labels::on_gpu(labels, on_gpu) })
    }
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
mod tests {
    use super::*;
    use crate::data::{Images, Normalisation, Pixels};
    use crate::recipe::DatasetName;

    const AUGMENT: Augment = Augment { flip: true, crop_padding: 4, crop_area: None };

    /// 200 images of 2x2, each filled with its index; the label is index mod 7.
    fn numbered() -> Dataset {
        let bytes = (0..200u8).flat_map(|i| [i; 12]).collect();
        let images = Images::Memory(Pixels { height: 2, width: 2, bytes });
        let train = Split { images, labels: (0..200).map(|i| i % 7).collect() };
        Dataset {
            name: DatasetName::Cifar10,
            classes: Vec::new(),
            height: 2,
            width: 2,
            channels: 3,
            normalisation: Normalisation { mean: vec![0.0; 3], sd: vec![1.0 / 255.0; 3] },
            test: Split { labels: Vec::new(), ..train.clone() },
            train,
        }
    }

    fn slice() -> Dataset {
        crate::data::load(&DatasetName::FashionMnistSlice.into(), "/nowhere".as_ref()).unwrap()
    }

    /// The index of every image, in order of appearance.
    fn seen(loader: &Loader, epoch: u64) -> Vec<usize> {
        let mut seen = Vec::new();
        for batch in loader.epoch(epoch) {
            let batch = batch.unwrap();
            let values = batch.xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
            for (image, label) in values.iter().zip(batch.labels.iter()) {
                assert_eq!(image[0].round() as u32 % 7, *label);
                seen.push(image[0].round() as usize);
            }
        }
        seen
    }

    fn bits(batch: &Batch) -> Vec<u32> {
        let values = batch.xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn every_epoch_is_another_permutation() {
        let data = numbered();
        let some: Vec<usize> = (0..200).step_by(2).collect();
        let loader = Loader::training(&data, some.clone(), 20, Augment::default(), Seed(1), "test");
        let (one, two) = (seen(&loader, 0), seen(&loader, 1));
        assert_ne!(one, two);
        assert_eq!(one, seen(&loader, 0));
        for mut order in [one, two] {
            order.sort_unstable();
            assert_eq!(order, some);
        }
    }

    #[test]
    fn only_evaluation_keeps_a_partial_batch() {
        let data = numbered();
        let training =
            Loader::training(&data, (0..70).collect(), 32, Augment::default(), Seed(1), "test");
        assert_eq!((training.batches(), training.images()), (2, 64));
        assert_eq!(seen(&training, 0).len(), 64);
        let evaluation = Loader::evaluation(&data, &data.train, (0..70).rev().collect(), 32);
        assert_eq!((evaluation.batches(), evaluation.images()), (3, 70));
        assert_eq!(seen(&evaluation, 5), (0..70).rev().collect::<Vec<_>>());
        assert_eq!(Loader::evaluation(&data, &data.test, Vec::new(), 32).epoch(0).count(), 0);
    }

    #[test]
    fn pixels_are_normalised_per_channel() {
        let mut data = numbered();
        data.normalisation = Normalisation { mean: vec![0.5, 0.0, 0.2], sd: vec![0.5, 1.0, 0.25] };
        let batch = Loader::evaluation(&data, &data.train, vec![51], 1).epoch(0).next();
        let batch = batch.unwrap().unwrap();
        assert_eq!(batch.xs.dims(), [1, 2, 2, 3]);
        let values = batch.xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (value, expected) in values.iter().zip([-0.6, 0.2, 0.0]) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
    }

    #[test]
    fn seed_label_and_epoch_determine_the_bits() {
        let data = slice();
        let first = |seed, label, epoch| {
            let loader =
                Loader::training(&data, (0..1000).collect(), 64, AUGMENT, Seed(seed), label);
            bits(&loader.epoch(epoch).next().unwrap().unwrap())
        };
        let one = first(1, "train", 0);
        assert_eq!(one, first(1, "train", 0));
        for other in [first(2, "train", 0), first(1, "search", 0), first(1, "train", 1)] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn threads_do_not_change_images() {
        let data = slice();
        let loader = Loader::training(&data, (0..1000).collect(), 64, AUGMENT, Seed(1), "train");
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&loader.epoch(0).next().unwrap().unwrap()))
        };
        assert_eq!(with(1), with(5));
    }

    #[test]
    fn epochs_augment_an_image_differently() {
        let data = slice();
        let loader = Loader::training(&data, vec![7], 1, AUGMENT, Seed(1), "train");
        let of = |epoch| bits(&loader.epoch(epoch).next().unwrap().unwrap());
        let distinct: std::collections::BTreeSet<_> = (0..8).map(of).collect();
        assert!(distinct.len() > 4, "162 changes are possible");
    }

    #[test]
    fn images_are_augmented_before_scaling() {
        let own = slice();
        let scaled = own.clone().scaled(56);
        let of = |data| Loader::training(data, (0..64).collect(), 64, AUGMENT, Seed(1), "train");
        let small = of(&own).epoch(2).next().unwrap().unwrap();
        let large = of(&scaled).epoch(2).next().unwrap().unwrap();
        assert_eq!((large.xs.dims(), &large.labels[..]), (&[64, 56, 56, 1][..], &small.labels[..]));
        // The mean of the four pixels that came from one is a weighted mean of the nine pixels around
        // it, with the weights (1/8, 6/8, 1/8) along each axis.
        let values = |xs: &Tensor| xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        for (small, large) in values(&small.xs).iter().zip(values(&large.xs)) {
            let at = |y: usize, x: usize| small[y.min(27) * 28 + x.min(27)];
            for (y, x) in (0..28 * 28).map(|i| (i / 28, i % 28)) {
                let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
                let four = four.map(|(down, right)| large[(2 * y + down) * 56 + 2 * x + right]);
                let along =
                    |y: usize| (at(y, x.saturating_sub(1)) + 6.0 * at(y, x) + at(y, x + 1)) / 8.0;
                let expected = (along(y.saturating_sub(1)) + 6.0 * along(y) + along(y + 1)) / 8.0;
                assert!((four.iter().sum::<f32>() / 4.0 - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn threads_do_not_change_scaled_images() {
        let data = slice().scaled(40);
        let loader = Loader::training(&data, (0..1000).collect(), 64, AUGMENT, Seed(1), "train");
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&loader.epoch(0).next().unwrap().unwrap()))
        };
        assert_eq!(with(1), with(5));
    }

    #[test]
    fn a_share_is_the_beginning_of_an_epoch() {
        let data = slice();
        let loader = || Loader::training(&data, (0..1000).collect(), 64, AUGMENT, Seed(1), "train");
        let (all, part) = (loader(), loader().share(0.2));
        assert_eq!((all.batches(), part.batches(), part.images()), (15, 3, 192));
        let labels = |epoch: Epoch<'_>| -> Vec<Vec<u32>> {
            epoch.map(|batch| batch.unwrap().labels.to_vec()).collect()
        };
        for epoch in [0, 5] {
            assert_eq!(labels(part.epoch(epoch)), labels(all.epoch(epoch))[..3]);
        }
        assert_ne!(labels(part.epoch(0)), labels(part.epoch(5)));
        assert_eq!(loader().share(1e-9).batches(), 1);
        let none = Loader::training(&data, vec![1], 2, AUGMENT, Seed(1), "train").share(0.5);
        assert_eq!(none.batches(), 0);
    }

    #[test]
    fn skipping_keeps_the_other_batches() {
        let data = slice();
        let loader = Loader::training(&data, (0..1000).collect(), 64, AUGMENT, Seed(1), "train");
        let all: Vec<_> = loader.epoch(3).map(|batch| bits(&batch.unwrap())).collect();
        assert_eq!(all.len(), loader.batches());
        let rest: Vec<_> = loader.epoch(3).skip(10).map(|batch| bits(&batch.unwrap())).collect();
        assert_eq!(rest, all[10..]);
        assert!(loader.epoch(3).nth(loader.batches()).is_none());
    }
}
