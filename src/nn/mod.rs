//! Layers on the tape: plain structs that hold parameter ids, with one `forward` each.

mod layers;
mod params;

pub use layers::{BatchNorm, Conv, Conv1x1, Depthwise, Linear, SqueezeExcite};
pub use params::{BufferId, Init, ParamId, Params, Pass};
