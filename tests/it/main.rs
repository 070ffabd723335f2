//! All integration tests, one binary.

#![allow(clippy::unwrap_used)]

mod blocks;
mod data;
mod harness;
mod numbers;
mod operators;
mod reference;
mod refusals;
