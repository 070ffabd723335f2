//! Shared weights trained along random paths (RS-WS, Li & Talwalkar 2019). Every minibatch draws one
//! network, which takes one step of SGD; the weights of all other networks stay as they are. Then
//! networks are scored under the shared weights, and the best of several draws, or of an evolution,
//! is the result.
//!
//! The drawn network is cut out of the supernet and runs alone. This equals the supernet with one-hot
//! gates, at the cost of the network: on the CIFAR-10 space a step takes about an eighth of the time of
//! a step of the whole supernet (`repro bench`, batch 64, two cores).
//!
//! Paths are drawn from the whole space, even where a budget limits the result, unless
//! `search.shared.paths` says otherwise. Each weight has its own momentum, which changes only while the
//! weight is drawn.

use super::draw::{draw, mutate};
use super::evolution::Population;
use super::incumbent::{Incumbent, IncumbentState};
use super::score::{Scorer, split};
use super::{SearchData, SearchOutcome};
use crate::checkpoint::Stage;
use crate::cost;
use crate::data::{Batch, Loader};
use crate::monitor::Monitor;
use crate::net::SharedWeights;
use crate::ops::gpu;
use crate::progress::Amount;
use crate::recipe::{Budget, Evolution, PathRange, Recompute, SearchConfig, Sgd, SharedScores};
use crate::record::{Metric, Work};
use crate::rng::Seed;
use crate::space::{Decisions, SearchSpace};
use crate::train::{
    Epoch, Epochs, Learner, LoopMetrics, OptimizerState, Step, restore_weights, save_weights,
    training_step,
};
use anyhow::Result;
use candle_core::{Device, Tensor};

/// The name of the search in checkpoints, once its shared weights are trained.
const STAGE: &str = "search";

/// Shared weights and their velocities.
pub struct Paths {
    weights: SharedWeights,
    velocities: Vec<Tensor>,
    config: Sgd,
    recompute: Recompute,
}

impl Paths {
    /// Initial weights.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(
        space: &SearchSpace,
        (config, recompute): (Sgd, Recompute),
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let weights = SharedWeights::new(space, seed, device)?;
        let zeros = weights.params().tensors().map(|(tensor, _)| gpu::zeros_like(tensor));
        let velocities = zeros.collect::<candle_core::Result<_>>()?;
        Ok(Self { weights, velocities, config, recompute })
    }

    #[must_use]
    pub fn weights(&self) -> &SharedWeights {
        &self.weights
    }

    /// One step of the network of these `decisions`; no other weight changes.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn step(&mut self, decisions: &Decisions, batch: &Batch, rate: f64) -> Result<Step> {
        let mut cut = self.weights.extract(decisions)?;
        let mut optimizer = OptimizerState::resumed(self.config, cut.slices_of(&self.velocities)?);
        let (net, target) = (&cut.net, (&batch.labels, 0.0));
        let step =
            training_step(&mut cut.params, &mut optimizer, rate, target, self.recompute, |pass| {
                net.forward(pass, &batch.xs)
            })?;
        cut.write_into(&mut self.velocities, optimizer.velocities())?;
        self.weights.write_back(&cut)?;
        Ok(step)
    }

    /// Continues from the weights and velocities of a state.
    fn restore(&mut self, stage: &Stage) -> Result<()> {
        let params = self.weights.params_mut();
        restore_weights(stage, "weights", params)?;
        let like: Vec<&Tensor> = params.tensors().map(|(tensor, _)| tensor).collect();
        self.velocities = stage.tensors_like("velocities", like.into_iter())?;
        Ok(())
    }
}

/// Shared weights while they are trained.
struct PathLearner<'a> {
    paths: Paths,
    space: &'a SearchSpace,
    /// `None`: paths are drawn from the whole space.
    budget: Option<&'a Budget>,
    seed: Seed,
    work: Work,
}

impl Learner for PathLearner<'_> {
    fn step(&mut self, batch: &Batch, number: u64, rate: f64) -> Result<Step> {
        let mut stream = self.seed.stream("paths/draw", number);
        let path = draw(self.space, self.budget, &mut stream)?;
        let macs = cost::count(&self.space.decide(&path)).macs;
        self.work.add_training(macs, batch.labels.len());
        self.paths.step(&path, batch, rate)
    }

    fn epoch_ended(&mut self, epoch: &Epoch, monitor: &mut Monitor<'_>) -> Result<()> {
        let Epoch { number, batches, mean, seconds } = *epoch;
        let metrics = [
            (Metric::SEARCH_LOSS, mean.score().loss),
            (Metric::SEARCH_TOP1, mean.score().top1),
            (Metric::SEARCH_IMAGES_PER_SECOND, mean.images() as f64 / seconds),
            (Metric::SEARCH_EXECUTED_MACS, self.work.macs as f64),
            (Metric::SEARCH_WEIGHT_STEPS, ((number + 1) * batches) as f64),
        ];
        monitor.measure(number, &metrics)
    }

    fn save(&self, stage: &mut Stage) -> Result<()> {
        stage.put("work", &self.work)?;
        let params = self.paths.weights.params();
        save_weights(stage, params);
        let names = params.named().map(|(name, _)| name);
        stage.put_tensors("velocities", names.zip(&self.paths.velocities));
        Ok(())
    }

    fn restore(&mut self, stage: &Stage) -> Result<()> {
        self.work = stage.get("work")?;
        self.paths.restore(stage)
    }
}

/// Trains shared weights for `search.epochs` on the weight split.
fn train(
    range: PathRange,
    space: &SearchSpace,
    data: SearchData<'_>,
    config: &SearchConfig,
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<(SharedWeights, Work)> {
    let SearchData { dataset, indices, device } = data;
    let paths = Paths::new(space, (config.weights, config.recompute), seed, device)?;
    let (for_weights, _) = split(indices, config);
    let (own, size) = (for_weights.to_vec(), config.batch_size);
    let loader = Loader::training(dataset, own, size, config.augment, seed, "search/weights");
    let budget = match range {
        PathRange::Space => None,
        PathRange::Budget => config.budget.as_ref(),
    };
    let epochs = Epochs {
        epochs: config.epochs as u64,
        loader: &loader.share(config.scale).on(device),
        config: &config.weights,
        metrics: LoopMetrics::SEARCH,
        task: "training shared weights",
        stage: "search/shared",
        classes: space.classes,
        device,
    };
    let mut learner = PathLearner { paths, space, budget, seed, work: Work::default() };
    epochs.run(&mut learner, monitor)?;
    Ok((learner.paths.weights, learner.work))
}

/// A search under shared weights that are trained.
struct Scoring {
    weights: SharedWeights,
    work: Work,
    incumbent: IncumbentState,
    population: Population<Decisions>,
}

impl Scoring {
    fn save(&self, incumbent: &Incumbent<'_>) -> Result<Stage> {
        let mut stage = Stage::with("incumbent", incumbent.state())?;
        stage.put("work", &self.work)?;
        stage.put("population", &self.population)?;
        stage.put_tensors("shared", self.weights.params().named());
        Ok(stage)
    }

    fn of(stage: &Stage, space: &SearchSpace, device: &Device) -> Result<Self> {
        Ok(Self {
            weights: SharedWeights::restored(space, device, stage.tensors("shared")?)?,
            work: stage.get("work")?,
            incumbent: stage.get("incumbent")?,
            population: stage.get("population")?,
        })
    }
}

/// Trains shared weights and returns the best network under them: of independent draws, or of an
/// evolution.
pub(super) fn search(
    (settings, evolution): (SharedScores, Option<Evolution>),
    space: &SearchSpace,
    data: SearchData<'_>,
    config: &SearchConfig,
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    let mut scoring = if let Some(stage) = monitor.restored(STAGE) {
        Scoring::of(&stage, space, data.device)?
    } else {
        let (weights, work) = train(settings.paths, space, data, config, seed, monitor)?;
        let (incumbent, population) = Default::default();
        Scoring { weights, work, incumbent, population }
    };
    let (parts, size) = (split(data.indices, config), config.batch_size);
    let batches = settings.calibration_batches;
    let scorer = Scorer::new(data.dataset, parts, size, batches, data.device)?;
    let mut incumbent = Incumbent::continued(space, scoring.incumbent.clone());
    let candidates = settings.candidates as u64;
    monitor.progress.started("scoring networks", Amount::Steps(candidates));
    let budget = config.budget.as_ref();
    for i in incumbent.state().evaluated..candidates {
        if monitor.is_due() {
            monitor.checkpoint(STAGE, scoring.save(&incumbent)?)?;
        }
        let parent = evolution.and_then(|config| scoring.population.parent(config, seed, i));
        let decisions = match parent {
            None => draw(space, budget, &mut seed.stream("candidates/draw", i))?,
            Some(parent) => {
                mutate(space, budget, parent, &mut seed.stream("candidates/mutate", i))?
            }
        };
        let mut work = scoring.work;
        let score = scorer.score(&scoring.weights, &decisions, &mut work, monitor.stop);
        if score.is_err() && monitor.check_stop().is_err() {
            monitor.checkpoint(STAGE, scoring.save(&incumbent)?)?;
        }
        let score = incumbent.offer(&decisions, score?, &work, monitor)?;
        scoring.work = work;
        if let Some(config) = evolution {
            scoring.population.add(config, decisions, score);
        }
    }
    monitor.progress.finished();
    let decisions = incumbent.into_best()?;
    let outcome = SearchOutcome::decided(space, decisions, scoring.work);
    Ok(SearchOutcome { shared: Some(scoring.weights), ..outcome })
}
