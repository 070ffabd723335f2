//! `repro` reproduces FBNetV2's `DMaskingNAS` (arXiv 2004.05565) and the search methods it is compared
//! with, and stores every result in a database. `docs/architecture.md` describes the modules.

pub mod artifacts;
pub mod bench;
pub mod checkpoint;
pub mod child;
pub mod claim;
pub mod compare;
pub mod cost;
pub mod data;
pub mod document;
pub mod env;
pub mod evaluation;
pub mod export;
#[cfg(test)]
#[path = "../tests/fuzz.rs"]
mod fuzz;
pub mod hex;
pub mod ledger;
pub mod manifest;
pub mod memory;
pub mod monitor;
pub mod net;
pub mod nn;
pub mod ops;
pub mod progress;
pub mod recipe;
pub mod record;
pub mod report;
pub mod rng;
pub mod runner;
pub mod search;
pub mod selftest;
pub mod space;
pub mod store;
pub mod study;
pub mod tape;
pub mod text;
pub mod tiling;
pub mod train;
pub mod trained;
pub mod zoo;
