//! Layers on the tape: plain structs that hold parameter ids, with one `forward` each.

mod layers;
mod params;

pub use layers::{BatchNorm, Conv1x1, Dense, Depthwise, SqueezeExcite, StemConv};
pub use params::{BufferId, Init, ParamId, Params, Pass};
