//! Memory scaling studies, whole: the manifest, the sweep that measures a step of each supernet, the
//! verdict on what the paper claims of it, and the report.

pub mod manifest;
pub mod report;
pub mod sweep;
mod verdict;

pub use manifest::{Scaling, is_study, load};
