//! The loop of the methods that learn architecture parameters by gradients: the weights on one part
//! of the images, α on the other, in turns, while the temperature falls; the likeliest option of every
//! choice is the result. The turns are epochs (FBNet v1 and FBNetV2, section 3) or minibatches (DARTS).

use super::budget::{budget_metrics, most_probable, preferences};
use super::hypergradient::NextBatch;
use super::score::split;
use super::{ArchParams, Images, SearchOutcome, relaxation};
use crate::cost::propagate;
use crate::data::{Batch, Loader};
use crate::monitor::Monitor;
use crate::net::SharedWeights;
use crate::nn::Params;
use crate::ops::loss::CrossEntropy;
use crate::progress::Amount;
use crate::recipe::{AlphaConfig, Alternation, GradientSearch, Method, Order, SearchConfig};
use crate::record::{Metric, Work};
use crate::rng::Seed;
use crate::space::SearchSpace;
use crate::train::{Mean, Names, Step, Steps, ensure_finite};
use anyhow::{Context, Result, ensure};
use std::iter;
use std::time::Instant;

/// A network whose choices are weighed by gates that follow from α.
pub trait Relaxation {
    /// One step of the weights at temperature τ; α is held.
    ///
    /// # Errors
    /// When an operator fails.
    fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step>;

    /// One step of α on held-out images; the weights are held. The gradient is of second order where
    /// the `next` batch of the weights is given.
    ///
    /// # Errors
    /// When an operator fails.
    fn alpha_step(
        &mut self,
        config: &AlphaConfig,
        batch: &Batch,
        next: Option<NextBatch<'_>>,
        step: u64,
        tau: f64,
    ) -> Result<AlphaStep>;

    fn alpha(&self) -> &ArchParams;

    /// The weights.
    fn params(&self) -> &Params;

    /// What all steps so far worked through.
    fn work(&self) -> Work;
}

/// What a step of α found.
pub struct AlphaStep {
    pub result: CrossEntropy,
    /// The search loss.
    pub loss: f64,
    /// Expected cost in its unit.
    pub cost: f64,
}

/// Means over an epoch.
#[derive(Default)]
struct Epoch {
    weights: Mean,
    alpha: Mean,
    /// Sum of the search loss over images.
    alpha_loss: f64,
}

impl Epoch {
    fn images(&self) -> usize {
        self.weights.images() + self.alpha.images()
    }
}

/// The images of the two kinds of steps.
struct Parts<'a> {
    weights: Loader<'a>,
    alpha: Loader<'a>,
}

/// The two kinds of steps, counted.
struct Loop<'a, 'w> {
    relaxation: &'a mut dyn Relaxation,
    alpha: &'a AlphaConfig,
    order: Order,
    /// Those of the weights.
    steps: Steps<'a, 'w>,
    alpha_step: u64,
}

/// Runs the whole search.
pub(super) fn search(
    space: &SearchSpace,
    images: Images<'_>,
    method: &Method,
    config: &SearchConfig,
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    let step = config.step(method).context("the method has no supernet")?;
    let gradient = method.gradient().context("the method learns no architecture parameters")?;
    let mut relaxation = relaxation(space, &step, seed, images.device)?;
    let outcome = learn(&mut *relaxation, space, images, (&gradient, config), seed, monitor)?;
    let shares = method.name().shares_weights();
    let shared = shares.then(|| SharedWeights::of(space, relaxation.params().clone()));
    Ok(SearchOutcome { shared, ..outcome })
}

/// Teaches a fresh relaxation.
fn learn(
    relaxation: &mut dyn Relaxation,
    space: &SearchSpace,
    images: Images<'_>,
    (gradient, config): (&GradientSearch, &SearchConfig),
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    let parts = Parts::of(images, config, seed)?;
    let GradientSearch { alpha, temperature, alternation, order } = gradient;
    let steps = (config.epochs * parts.weights.batches()) as u64;
    let per_epoch = match alternation {
        Alternation::Epochs => parts.alpha.batches(),
        Alternation::Minibatches => parts.weights.batches(),
    };
    let alpha_steps = ((config.epochs - alpha.warmup_epochs) * per_epoch) as u64;
    monitor.progress.started("searching", Amount::Steps(steps + alpha_steps));
    let steps = Steps::new(Names::SEARCH, &config.weights, steps, monitor);
    let mut state = Loop { relaxation, alpha, order: *order, steps, alpha_step: 0 };
    // Where the turns are minibatches, α's images go round as they last.
    let mut round = (0..).flat_map(|pass| parts.alpha.epoch(pass));
    for epoch in 0..config.epochs {
        let tau = temperature.at(epoch, config.epochs);
        let start = Instant::now();
        let weights = parts.weights.epoch(epoch as u64);
        let means = match alternation {
            _ if epoch < alpha.warmup_epochs => state.epoch(weights, iter::empty(), tau)?,
            Alternation::Epochs => state.epoch(weights, parts.alpha.epoch(epoch as u64), tau)?,
            Alternation::Minibatches => state.alternating_epoch(weights, &mut round, tau)?,
        };
        let mut metrics = epoch_metrics(space, state.relaxation.alpha(), &means);
        let rate = means.images() as f64 / start.elapsed().as_secs_f64();
        let executed = state.relaxation.work().macs as f64;
        metrics.extend([(Metric::SEARCH_TAU, tau), (Metric::SEARCH_IMAGES_PER_SECOND, rate)]);
        metrics.push((Metric::SEARCH_EXECUTED_MACS, executed));
        state.steps.monitor.measure(epoch as u64, &metrics)?;
    }
    state.steps.monitor.progress.finished();
    let alpha = state.relaxation.alpha();
    let decisions = match &config.budget {
        Some(budget) => {
            let within = most_probable(space, &preferences(&alpha.probabilities()), budget)?;
            let metrics = budget_metrics(space, &alpha.decide(), &within);
            state.steps.monitor.measure(0, &metrics)?;
            within
        }
        None => alpha.decide(),
    };
    let arch = space.decide(&decisions);
    let probabilities = alpha.named_probabilities(space);
    let resolutions = alpha.resolution_probabilities(space);
    let work = state.relaxation.work();
    Ok(SearchOutcome { decisions, arch, probabilities, resolutions, work, shared: None })
}

impl<'a> Parts<'a> {
    fn of(images: Images<'a>, config: &SearchConfig, seed: Seed) -> Result<Self> {
        let Images { dataset, indices, device } = images;
        let (for_weights, for_alpha) = split(indices, config);
        let loader = |images: &[usize], label: &str| {
            let (size, augment) = (config.batch_size, config.augment);
            let loader = Loader::training(dataset, images.to_vec(), size, augment, seed, label);
            loader.share(config.scale).on(device)
        };
        let weights = loader(for_weights, "search/weights");
        let alpha = loader(for_alpha, "search/alpha");
        ensure!(
            weights.batches() > 0 && alpha.batches() > 0,
            "{} images for the weights and {} for the architecture parameters do not both fill a \
             batch of {}",
            for_weights.len(),
            for_alpha.len(),
            config.batch_size
        );
        Ok(Self { weights, alpha })
    }
}

impl Loop<'_, '_> {
    /// All weight steps of an epoch, then all steps of α.
    fn epoch(
        &mut self,
        weights: impl Iterator<Item = candle_core::Result<Batch>>,
        alpha: impl Iterator<Item = candle_core::Result<Batch>>,
        tau: f64,
    ) -> Result<Epoch> {
        let mut means = Epoch::default();
        for batch in weights {
            self.weight_turn(&batch?, tau, &mut means)?;
        }
        for batch in alpha {
            self.alpha_turn(&batch?, None, tau, &mut means)?;
        }
        Ok(means)
    }

    /// Before each weight step one of α, which knows what the weights are about to learn from.
    fn alternating_epoch(
        &mut self,
        weights: impl Iterator<Item = candle_core::Result<Batch>>,
        alpha: impl Iterator<Item = candle_core::Result<Batch>>,
        tau: f64,
    ) -> Result<Epoch> {
        let mut means = Epoch::default();
        for (batch, held_out) in weights.zip(alpha) {
            let (batch, held_out) = (batch?, held_out?);
            let next = match self.order {
                Order::First => None,
                Order::Second => Some(NextBatch { batch: &batch, rate: self.steps.rate() }),
            };
            self.alpha_turn(&held_out, next, tau, &mut means)?;
            self.weight_turn(&batch, tau, &mut means)?;
        }
        Ok(means)
    }

    fn weight_turn(&mut self, batch: &Batch, tau: f64, means: &mut Epoch) -> Result<()> {
        self.steps.take(batch.labels.len(), &mut means.weights, |step, rate| {
            self.relaxation.weight_step(batch, step, tau, rate)
        })?;
        self.show(&means.weights);
        Ok(())
    }

    fn alpha_turn(
        &mut self,
        batch: &Batch,
        next: Option<NextBatch<'_>>,
        tau: f64,
        means: &mut Epoch,
    ) -> Result<()> {
        let start = Instant::now();
        let found = self.relaxation.alpha_step(self.alpha, batch, next, self.alpha_step, tau)?;
        ensure_finite(found.loss, "search", self.alpha_step)?;
        means.alpha.add(&found.result, batch.labels.len());
        means.alpha_loss += found.loss * batch.labels.len() as f64;
        self.steps.monitor.measure(
            self.alpha_step,
            &[
                (Metric::SEARCH_ALPHA_STEP_LOSS, found.loss),
                (Metric::SEARCH_ALPHA_LEARNING_RATE, self.alpha.optimizer.learning_rate),
                (Metric::SEARCH_ALPHA_STEP_CROSS_ENTROPY, found.result.loss),
                (Metric::SEARCH_ALPHA_STEP_COST, found.cost),
                (Metric::SEARCH_ALPHA_STEP_SECONDS, start.elapsed().as_secs_f64()),
            ],
        )?;
        self.alpha_step += 1;
        self.show(&means.alpha);
        Ok(())
    }

    fn show(&self, mean: &Mean) {
        let done = self.steps.done + self.alpha_step;
        self.steps.monitor.progress.advanced(done, &mean.note());
    }
}

/// How the network does, and how far the choices have settled.
fn epoch_metrics(space: &SearchSpace, alpha: &ArchParams, means: &Epoch) -> Vec<(Metric, f64)> {
    let expected = propagate(space, &alpha.probabilities(), &1.0).cost;
    let mut metrics = vec![
        (Metric::SEARCH_LOSS, means.weights.score().loss),
        (Metric::SEARCH_TOP1, means.weights.score().top1),
        (Metric::SEARCH_EXPECTED_MACS, expected.macs),
        (Metric::SEARCH_EXPECTED_PARAMS, expected.params),
    ];
    if means.alpha.images() > 0 {
        metrics.push((Metric::SEARCH_ALPHA_CROSS_ENTROPY, means.alpha.score().loss));
        metrics.push((Metric::SEARCH_ALPHA_LOSS, means.alpha_loss / means.alpha.images() as f64));
        metrics.push((Metric::SEARCH_ALPHA_TOP1, means.alpha.score().top1));
    }
    metrics.extend(alpha.entropies());
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Dataset};
    use crate::manifest::{self, Overrides};
    use crate::progress::Quiet;
    use crate::recipe::{Augment, MethodName};
    use crate::record::NullRecorder;
    use crate::train::{StepSeconds, learning_rate};
    use candle_core::{Device, Tensor};
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    /// A step that was asked for.
    #[derive(Clone, Debug, PartialEq)]
    enum Asked {
        Weights { images: Vec<f32>, step: u64, tau: f64, rate: f64 },
        Alpha { images: Vec<f32>, next: Option<(Vec<f32>, f64)>, step: u64, tau: f64 },
    }

    /// Learns nothing, and keeps what it was asked for.
    struct Fake {
        alpha: ArchParams,
        params: Params,
        asked: Vec<Asked>,
    }

    /// The first pixel of each image, which tells the images of these tests apart.
    fn first_pixels(batch: &Batch) -> Vec<f32> {
        let xs = batch.xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        xs.into_iter().map(|image| image[0]).collect()
    }

    fn result() -> CrossEntropy {
        let dlogits = Tensor::zeros((1, 10), candle_core::DType::F32, &Device::Cpu).unwrap();
        CrossEntropy { loss: 1.0, correct: 0, dlogits }
    }

    impl Relaxation for Fake {
        fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step> {
            let images = first_pixels(batch);
            self.asked.push(Asked::Weights { images, step, tau, rate });
            Ok(Step { result: result(), seconds: StepSeconds::default() })
        }

        fn alpha_step(
            &mut self,
            _: &AlphaConfig,
            batch: &Batch,
            next: Option<NextBatch<'_>>,
            step: u64,
            tau: f64,
        ) -> Result<AlphaStep> {
            let next = next.map(|next| (first_pixels(next.batch), next.rate));
            self.asked.push(Asked::Alpha { images: first_pixels(batch), next, step, tau });
            Ok(AlphaStep { result: result(), loss: 1.0, cost: 1.0 })
        }

        fn alpha(&self) -> &ArchParams {
            &self.alpha
        }
        fn params(&self) -> &Params {
            &self.params
        }
        fn work(&self) -> Work {
            Work::default()
        }
    }

    /// The images 0 to 95 in three epochs, the first without α: 64 are the weights', in 4 batches, and
    /// 32 are α's, in 2. The first pixel of image i is its number.
    fn asked(method: MethodName) -> (Vec<Asked>, GradientSearch, SearchConfig) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
        let sets = vec![format!("search.method={method}")];
        let manifest = manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap();
        let mut gradient = manifest.methods[0].gradient().unwrap();
        gradient.alpha.warmup_epochs = 1;
        let mut config = manifest.search;
        (config.weight_share, config.batch_size) = (2.0 / 3.0, 16);
        (config.epochs, config.augment) = (3, Augment::default());
        let mut dataset = data::load(&manifest.data, Path::new("/nowhere")).unwrap();
        number(&mut dataset);
        let params = SharedWeights::new(&manifest.space, Seed(1), &Device::Cpu).unwrap();
        let (alpha, params) = (ArchParams::new(&manifest.space), params.params().clone());
        let mut fake = Fake { alpha, params, asked: Vec::new() };
        let (indices, stop) = ((0..96).collect::<Vec<_>>(), AtomicBool::new(false));
        let images = Images { dataset: &dataset, indices: &indices, device: &Device::Cpu };
        let mut monitor = Monitor { recorder: &mut NullRecorder, progress: &Quiet, stop: &stop };
        learn(&mut fake, &manifest.space, images, (&gradient, &config), Seed(1), &mut monitor)
            .unwrap();
        (fake.asked, gradient, config)
    }

    fn number(dataset: &mut Dataset) {
        dataset.normalisation = data::Normalisation { mean: vec![0.0], sd: vec![1.0 / 255.0] };
        let data::Images::Memory(pixels) = &mut dataset.train.images else { panic!("in memory") };
        let size = pixels.height * pixels.width;
        for i in 0..96 {
            pixels.bytes[i * size] = i as u8;
        }
    }

    /// Of some rounds of `batches` steps each, that every round sees all of these images once, and
    /// that no two are in the same order.
    fn assert_rounds(images: &[Vec<f32>], batches: usize, all: std::ops::Range<usize>) {
        let rounds: Vec<Vec<f32>> = images.chunks(batches).map(<[_]>::concat).collect();
        for round in &rounds {
            let mut sorted: Vec<usize> = round.iter().map(|pixel| pixel.round() as usize).collect();
            sorted.sort_unstable();
            assert_eq!(sorted, all.clone().collect::<Vec<_>>());
        }
        for (i, round) in rounds.iter().enumerate() {
            assert!(!rounds[..i].contains(round), "round {i} repeats an order");
        }
    }

    #[test]
    fn each_step_gets_its_images_its_temperature_and_its_rate() {
        for method in [MethodName::Dmasking, MethodName::Darts2] {
            let (asked, gradient, config) = asked(method);
            let tau_of = |epoch| gradient.temperature.at(epoch, config.epochs);
            let (mut of_weights, mut of_alpha) = (Vec::new(), Vec::new());
            let mut tau_of_weights = Vec::new();
            for (i, one) in asked.iter().enumerate() {
                match one {
                    Asked::Weights { images, step, tau, rate } => {
                        assert_eq!(*step, of_weights.len() as u64, "{method:?}");
                        assert_eq!(*rate, learning_rate(&config.weights, *step, 12), "{method:?}");
                        tau_of_weights.push(*tau);
                        of_weights.push(images.clone());
                    }
                    Asked::Alpha { images, next, step, tau } => {
                        assert_eq!(*step, of_alpha.len() as u64, "{method:?}");
                        let epoch = match method {
                            MethodName::Darts2 => of_weights.len() / 4,
                            _ => (of_weights.len() - 1) / 4,
                        };
                        assert_eq!(*tau, tau_of(epoch), "{method:?}");
                        // What comes next is what the step of α was given.
                        let following = match &asked.get(i + 1) {
                            Some(Asked::Weights { images, rate, .. }) => {
                                Some((images.clone(), *rate))
                            }
                            _ => None,
                        };
                        let second_order = method == MethodName::Darts2;
                        assert_eq!(*next, following.filter(|_| second_order));
                        of_alpha.push(images.clone());
                    }
                }
            }
            let epochs: Vec<f64> = (0..12).map(|step| tau_of(step / 4)).collect();
            assert_eq!(tau_of_weights, epochs, "{method:?}");
            assert_rounds(&of_weights, 4, 0..64);
            assert_rounds(&of_alpha, 2, 64..96);
            // Two epochs of α: its two batches each, or one beside each of the weights' four.
            assert_eq!(
                (of_weights.len(), of_alpha.len()),
                (12, if method == MethodName::Darts2 { 8 } else { 4 })
            );
        }
    }
}
