//! All integration tests, one binary.

#![allow(clippy::unwrap_used)]

mod blocks;
mod data;
mod harness;
mod networks;
mod numbers;
mod operators;
mod reference;
mod refusals;
mod spaces;
