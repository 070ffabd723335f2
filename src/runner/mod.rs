//! From a manifest to its runs, and one run from start to end.

mod execute;
mod feasible;
mod images;
mod need;
mod out_of_memory;
mod plan;
mod rank;
#[cfg(test)]
mod tests;
mod training;
mod weights;

pub use execute::RunOutcome;
pub use feasible::check_budget;
pub use images::check_images;
pub use need::{
    MemoryNeed, SmallerSetting, SpaceBottleneck, estimated_resident, estimated_taken, memory_need,
};
pub(crate) use plan::manifest_record;
pub use plan::{RunPlan, plans};
pub use weights::{copy_files, remove_weights, save_weights, weight_files, weights_folder};
