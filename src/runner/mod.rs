//! From a manifest to its runs, and one run from start to end.

mod checkpoint_size;
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

pub use checkpoint_size::largest_checkpoint;
pub use execute::RunOutcome;
pub(crate) use execute::{record_data, record_given};
pub use feasible::{check_budget, check_initial_weights};
pub use images::check_images;
pub use need::{
    MemoryNeed, SmallerSetting, SpaceBottleneck, estimated_resident, estimated_taken, memory_need,
};
pub(crate) use plan::manifest_record;
pub use plan::{GIVEN, NetworkSource, RunPlan, plans};
pub use training::combined_hash;
pub use weights::save_weights;
