//! The settings of a run as plain data: which images, how the search goes, how the derived network
//! is trained. Manifests are read into these; data, training and search use them.

mod augment;
mod data;
mod gates;
mod loss;
mod method;
mod optimizer;
mod search;
mod step;
mod temperature;
mod train;

pub use augment::{Augment, Colour, Erase};
pub use data::{DataConfig, DatasetName, ImageFolder, ImageSource};
pub use gates::{GateKind, MaskPlace, ResidualRule};
pub use loss::{InputChannels, LossForm, Objective, SearchLoss};
pub use method::{
    AlphaConfig, Alternation, Evolution, GradientSearch, GumbelSoftmax, Method, MethodName, Order,
    PathRange, RandomSearch, RankCorrelation, SharedScores,
};
pub use optimizer::{Adam, Optimizer, RmsProp, Schedule, Sgd};
pub use search::{Budget, SearchConfig, for_weights, scaled};
pub use step::{GateRule, Precision, Recompute, StepConfig, StepKind, SupernetKind};
pub use temperature::{Temperature, TemperatureSchedule};
pub use train::{DropRates, StepExtras, TrainConfig};
