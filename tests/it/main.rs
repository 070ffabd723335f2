//! All integration tests, one binary.

#![allow(clippy::unwrap_used)]

mod data;
mod refusals;
