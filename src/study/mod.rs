//! The memory study: how the memory and time of a supernet step grow with the search space. Its
//! manifest, the sweep that measures it, the verdict on the paper's claim, and its report.

mod load;
pub mod manifest;
pub mod report;
pub mod sweep;
#[cfg(test)]
mod tests;
pub(crate) mod verdict;

pub use load::DISTURBING_CORES;
pub use manifest::{Study, Sweep, is_study, keys, load};
