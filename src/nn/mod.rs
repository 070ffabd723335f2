//! Layers on the tape: plain structs that hold parameter ids, with a `forward` each.

mod layers;
mod params;

pub use layers::{BatchNorm, Conv, Conv1x1, Depthwise, Linear, SqueezeExcite};
pub use params::{BufferId, Init, ParamId, Params, Pass, Rows};
