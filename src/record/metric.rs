//! Every metric that a run can record, with its name in the database, its unit and its meaning.
//!
//! Searches, training, the runner, the database and the reports name metrics by the constants of
//! this list, so that a misspelt one does not compile.

use std::borrow::Cow;
use std::fmt;

/// A quantity that a run measures, possibly in one of several training runs of its network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric {
    /// In [`REGISTRY`].
    position: u8,
    /// Which training run of the network it belongs to. The first is 0 and has no prefix.
    repeat: u32,
}

/// What the numbers of a metric count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricUnit {
    /// In 0..=1.
    Share,
    /// Cross-entropy with natural logarithms.
    Nats,
    Seconds,
    Bytes,
    /// Multiply-accumulates.
    Macs,
    /// Weights of convolutions and fully connected layers.
    Params,
    ImagesPerSecond,
    /// A number without a unit.
    Number,
}

/// What the steps of a metric count, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// One value, at step 0.
    Run,
    Epoch,
    /// A step of an optimizer.
    Update,
    /// A network that a search scores.
    Candidate,
    /// A network whose rank is measured.
    RankedNetwork,
    /// A training run of the derived network.
    TrainingRun,
}

impl MetricUnit {
    /// Whether values also depend on the machine and its load, and not on the run alone.
    #[must_use]
    pub fn depends_on_machine(self) -> bool {
        matches!(self, Self::Seconds | Self::Bytes | Self::ImagesPerSecond)
    }

    /// Whether the numbers depend on how fast the machine is.
    #[must_use]
    pub fn is_of_time(self) -> bool {
        matches!(self, Self::Seconds | Self::ImagesPerSecond)
    }
}

struct Entry {
    name: &'static str,
    unit: MetricUnit,
    per: Per,
    meaning: &'static str,
}

macro_rules! registry {
    ($($constant:ident: $name:literal, $unit:ident, $per:ident, $meaning:literal;)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Position { $($constant),+ }

        const REGISTRY: &[Entry] = &[$(
            Entry { name: $name, unit: MetricUnit::$unit, per: Per::$per, meaning: $meaning },
        )+];

        impl Metric {
            $(
                #[doc = $meaning]
                pub const $constant: Self =
                    Self { position: Position::$constant as u8, repeat: 0 };
            )+
        }
    };
}

registry! {
    MEMORY_HIGH_WATER_BYTES: "memory.high_water_bytes", Bytes, Run,
        "Largest resident size of the process.";

    RANK_ALONE_LOSS: "rank.alone.loss", Nats, RankedNetwork,
        "Loss on the validation images after training by itself.";
    RANK_ALONE_TOP1: "rank.alone.top1", Share, RankedNetwork,
        "Accuracy on the validation images after training by itself.";
    RANK_DIVERGED: "rank.diverged", Number, RankedNetwork,
        "1 where the network diverged; its scores are then those of chance.";
    RANK_MACS: "rank.macs", Macs, RankedNetwork, "Cost of the network for one image.";
    RANK_PARAMS: "rank.params", Params, RankedNetwork, "Size of the network.";
    RANK_SHARED_LOSS: "rank.shared.loss", Nats, RankedNetwork,
        "Loss on the architecture split under the search's shared weights.";
    RANK_SHARED_TOP1: "rank.shared.top1", Share, RankedNetwork,
        "Accuracy on the architecture split under the search's shared weights.";

    SEARCH_ALPHA_CROSS_ENTROPY: "search.alpha.cross_entropy", Nats, Epoch,
        "Mean cross-entropy of the supernet on the architecture split.";
    SEARCH_ALPHA_LEARNING_RATE: "search.alpha.learning_rate", Number, Update,
        "Learning rate of the architecture parameters.";
    SEARCH_ALPHA_LOSS: "search.alpha.loss", Number, Epoch,
        "Mean search loss on the architecture split: cross-entropy and expected cost.";
    SEARCH_ALPHA_STEP_COST: "search.alpha.step_cost", Number, Update,
        "Expected cost, in the manifest's cost unit.";
    SEARCH_ALPHA_STEP_CROSS_ENTROPY: "search.alpha.step_cross_entropy", Nats, Update,
        "Cross-entropy of an architecture batch.";
    SEARCH_ALPHA_STEP_LOSS: "search.alpha.step_loss", Number, Update,
        "Search loss of an architecture batch.";
    SEARCH_ALPHA_STEP_SECONDS: "search.alpha.step_seconds", Seconds, Update,
        "Duration of an update of the architecture parameters.";
    SEARCH_ALPHA_STEPS: "search.alpha.steps", Number, Epoch,
        "Updates of the architecture parameters so far.";
    SEARCH_ALPHA_TOP1: "search.alpha.top1", Share, Epoch,
        "Accuracy of the supernet on the architecture split.";
    SEARCH_BEST_TOP1: "search.best.top1", Share, Candidate, "Best accuracy of a candidate so far.";
    SEARCH_BUDGET_CHANGED: "search.budget.changed", Number, Run,
        "Choices that the projection onto the budget changed.";
    SEARCH_BUDGET_MACS_UNCONSTRAINED: "search.budget.macs_unconstrained", Macs, Run,
        "Cost of the argmax options without the budget.";
    SEARCH_BUDGET_PARAMS_UNCONSTRAINED: "search.budget.params_unconstrained", Params, Run,
        "Size of the argmax options without the budget.";
    SEARCH_CANDIDATE_DIVERGED: "search.candidate.diverged", Number, Candidate,
        "1 where the candidate diverged; its scores are then those of chance.";
    SEARCH_CANDIDATE_EXECUTED_MACS: "search.candidate.executed_macs", Macs, Candidate,
        "What the search had executed when the candidate was scored.";
    SEARCH_CANDIDATE_LOSS: "search.candidate.loss", Nats, Candidate,
        "Loss of the candidate on the architecture split.";
    SEARCH_CANDIDATE_MACS: "search.candidate.macs", Macs, Candidate,
        "Cost of the candidate for one image.";
    SEARCH_CANDIDATE_PARAMS: "search.candidate.params", Params, Candidate,
        "Size of the candidate.";
    SEARCH_CANDIDATE_TOP1: "search.candidate.top1", Share, Candidate,
        "Accuracy of the candidate on the architecture split.";
    SEARCH_CANDIDATE_WEIGHT_STEPS: "search.candidate.weight_steps", Number, Candidate,
        "Optimizer steps that trained the candidate alone.";
    SEARCH_DIVERGED: "search.diverged", Nats, Run,
        "Loss at the end of a search that diverged: far above that of a random guess.";
    SEARCH_ENTROPY_EXPANSION: "search.entropy.expansion", Share, Epoch,
        "Mean entropy of the expansion choices, as a share of the largest possible.";
    SEARCH_ENTROPY_RESOLUTION: "search.entropy.resolution", Share, Epoch,
        "Entropy of the resolution choice, as a share of the largest possible.";
    SEARCH_ENTROPY_TYPE: "search.entropy.type", Share, Epoch,
        "Mean entropy of the block type choices, as a share of the largest possible.";
    SEARCH_ENTROPY_WIDTH: "search.entropy.width", Share, Epoch,
        "Mean entropy of the width choices, as a share of the largest possible.";
    SEARCH_EXECUTED_MACS: "search.executed_macs", Macs, Epoch,
        "What the search had executed at the end of the epoch.";
    SEARCH_EXPECTED_MACS: "search.expected_macs", Macs, Epoch,
        "Expected cost of a network drawn by the architecture parameters.";
    SEARCH_EXPECTED_PARAMS: "search.expected_params", Params, Epoch,
        "Expected size of a network drawn by the architecture parameters.";
    SEARCH_IMAGES_PER_SECOND: "search.images_per_second", ImagesPerSecond, Epoch,
        "Images that went through the supernet, by the duration of the epoch.";
    SEARCH_LEARNING_RATE: "search.learning_rate", Number, Update,
        "Learning rate of the supernet's weights.";
    SEARCH_LOSS: "search.loss", Nats, Epoch,
        "Mean cross-entropy of the supernet on the weight split.";
    SEARCH_STEP_LOSS: "search.step_loss", Nats, Update, "Cross-entropy of a weight batch.";
    SEARCH_STEP_SECONDS: "search.step_seconds", Seconds, Update,
        "Duration of an update of the supernet's weights.";
    SEARCH_TAU: "search.tau", Number, Epoch, "Temperature of the gates.";
    SEARCH_TOP1: "search.top1", Share, Epoch, "Accuracy of the supernet on the weight split.";
    SEARCH_WEIGHT_STEPS: "search.weight_steps", Number, Epoch,
        "Updates of the supernet's weights so far.";

    TEST_DAMAGED: "test.damaged", Number, Run,
        "Test images that could not be read and were left out.";
    TEST_LOSS: "test.loss", Nats, TrainingRun, "Loss on the test images.";
    TEST_TOP1: "test.top1", Share, TrainingRun, "Accuracy on the test images.";
    TEST_TOP5: "test.top5", Share, Run,
        "Share of the test images whose class is among the five with the largest logits.";

    TRAIN_DIVERGED: "train.diverged", Nats, Run,
        "Loss at the end of a training run that diverged: far above that of a random guess.";
    TRAIN_IMAGES_PER_SECOND: "train.images_per_second", ImagesPerSecond, Epoch,
        "Training images by the duration of their steps.";
    TRAIN_LEARNING_RATE: "train.learning_rate", Number, Update, "Learning rate of the weights.";
    TRAIN_LOSS: "train.loss", Nats, Epoch, "Mean loss of the training batches.";
    TRAIN_STEP_LOSS: "train.step_loss", Nats, Update, "Loss of a training batch.";
    TRAIN_STEP_SECONDS: "train.step_seconds", Seconds, Update, "Duration of a training step.";
    TRAIN_TOP1: "train.top1", Share, Epoch, "Accuracy on the training batches.";

    VALIDATION_LOSS: "validation.loss", Nats, Epoch, "Loss on the validation images.";
    VALIDATION_TOP1: "validation.top1", Share, Epoch, "Accuracy on the validation images.";
}

impl Metric {
    /// All of them, of first training runs, in the order of their names.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..REGISTRY.len()).map(|position| Self { position: position as u8, repeat: 0 })
    }

    /// The same quantity in training run `repeat` of the network, the first of which is 0.
    #[must_use]
    pub fn of_repeat(self, repeat: u32) -> Self {
        Self { repeat, ..self }
    }

    /// Which training run of the network it belongs to; the first is 0.
    #[must_use]
    pub fn repeat(self) -> u32 {
        self.repeat
    }

    /// The name in the database: a dotted path, as in `train.loss` or `repeat.1.train.loss`.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        let name = self.entry().name;
        match self.repeat {
            0 => Cow::Borrowed(name),
            repeat => Cow::Owned(format!("repeat.{repeat}.{name}")),
        }
    }

    /// The metric with that [name](Self::name). `None` where this version of the program has none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (repeat, name) = match name.strip_prefix("repeat.") {
            Some(rest) => {
                let (repeat, name) = rest.split_once('.')?;
                (repeat.parse().ok()?, name)
            }
            None => (0, name),
        };
        let position = REGISTRY.binary_search_by_key(&name, |entry| entry.name).ok()?;
        Some(Self { position: position as u8, repeat })
    }

    #[must_use]
    pub fn unit(self) -> MetricUnit {
        self.entry().unit
    }

    #[must_use]
    pub fn per(self) -> Per {
        self.entry().per
    }

    /// One sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.entry().meaning
    }

    fn entry(self) -> &'static Entry {
        &REGISTRY[usize::from(self.position)]
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_read_back() {
        let names: Vec<_> = Metric::all().map(Metric::name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for metric in Metric::all().flat_map(|metric| [metric, metric.of_repeat(12)]) {
            assert_eq!(Metric::parse(&metric.name()), Some(metric));
        }
    }

    #[test]
    fn a_repeat_is_part_of_the_name() {
        let metric = Metric::TRAIN_LOSS.of_repeat(2);
        assert_eq!(metric.to_string(), "repeat.2.train.loss");
        assert_eq!((metric.unit(), metric.per()), (MetricUnit::Nats, Per::Epoch));
        assert_eq!(Metric::TRAIN_LOSS.to_string(), "train.loss");
    }

    #[test]
    fn other_names_are_no_metrics() {
        for name in ["", "train", "train.los", "repeat.1", "repeat.x.train.loss", "repeat..tau"] {
            assert_eq!(Metric::parse(name), None, "{name}");
        }
    }
}
