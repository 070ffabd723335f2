//! All integration tests, one binary.

#![allow(clippy::unwrap_used)]

mod blocks;
mod candle;
mod cli;
mod comparison;
mod costs;
mod darts;
mod data;
mod drops;
mod explicit;
mod export;
mod extents;
mod folder;
#[cfg(target_os = "linux")]
mod full_disk;
mod gpu;
mod harness;
mod inference;
mod instructions;
mod invariants;
mod ledger;
mod logs;
mod memory_model;
mod modules;
mod networks;
mod numbers;
mod operators;
mod optimizers;
#[cfg(unix)]
mod planted;
mod processes;
mod published;
mod pytorch;
mod recompute;
mod reference;
mod refusals;
mod report;
mod resolution;
mod resume;
mod sampling;
mod spaces;
mod store;
mod study;
mod words;
#[cfg(unix)]
mod workers;
