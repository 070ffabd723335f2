//! Random search without shared weights: one uniform draw, or the best of several draws that are each
//! trained for a short time.

use super::draw::draw;
use super::incumbent::Incumbent;
use super::score::split;
use super::{Scorer, SearchData, SearchOutcome, Trial};
use crate::checkpoint::Stage;
use crate::monitor::Monitor;
use crate::progress::Amount;
use crate::recipe::{DropRates, RandomSearch, SearchConfig, TrainConfig};
use crate::record::{Metric, Work};
use crate::rng::Seed;
use crate::space::SearchSpace;
use anyhow::Result;

/// The name of the search in checkpoints.
const STAGE: &str = "search";

/// One draw, without training.
pub(super) fn one(space: &SearchSpace, config: &SearchConfig, seed: Seed) -> Result<SearchOutcome> {
    let mut stream = seed.stream("random/draw", 0);
    let decisions = draw(space, config.budget.as_ref(), &mut stream)?;
    Ok(SearchOutcome::decided(space, decisions, Work::default()))
}

/// The best of `search.random.candidates` by the criterion of the other methods: accuracy on the
/// architecture split.
pub(super) fn search(
    settings: RandomSearch,
    space: &SearchSpace,
    data: SearchData<'_>,
    config: &SearchConfig,
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    let recipe = TrainConfig {
        epochs: settings.epochs,
        scale: config.scale,
        batch_size: config.batch_size,
        optimizer: config.weights.into(),
        ema_decay: None,
        label_smoothing: 0.0,
        drops: DropRates::default(),
        augment: config.augment,
        mixup: None,
        recompute: config.recompute,
        repeats: 1,
    };
    let SearchData { dataset, indices, device } = data;
    let splits = split(indices, config);
    let (size, batches) = (config.batch_size, settings.calibration_batches);
    let scorer = &Scorer::new(dataset, splits, size, batches, device)?;
    let trial = Trial {
        dataset,
        images: splits.0,
        scorer,
        config: &recipe,
        label: "search",
        stage: "search/candidate",
        device,
    };
    let (state, mut work) = match monitor.restored(STAGE) {
        None => Default::default(),
        Some(stage) => (stage.get("incumbent")?, stage.get("work")?),
    };
    let mut incumbent = Incumbent::continued(space, state);
    let candidates = settings.candidates as u64;
    monitor.progress.started("searching", Amount::Steps(candidates));
    for i in incumbent.state().evaluated..candidates {
        let mut stage = Stage::with("incumbent", incumbent.state())?;
        stage.put("work", &work)?;
        monitor.keep(STAGE, stage);
        // Not the stream of `one`, whose draw would be the first candidate.
        let own = seed.child(&format!("random/candidate/{i}"));
        let decisions = draw(space, config.budget.as_ref(), &mut own.stream("draw", 0))?;
        let trained = trial.score(&space.decide(&decisions), own, &mut work, monitor)?;
        let steps = (Metric::SEARCH_CANDIDATE_WEIGHT_STEPS, trained.weight_steps as f64);
        monitor.measure(i, &[steps])?;
        incumbent.offer(&decisions, trained.score, &work, monitor)?;
    }
    monitor.forget(STAGE);
    monitor.progress.finished();
    Ok(SearchOutcome::decided(space, incumbent.into_best()?, work))
}
