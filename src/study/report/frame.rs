//! The points of a study as a frame: one row per point, every number at full precision.

use super::points::PointResult;
use crate::record::StepUsage;
use crate::report::frame::{DataFrame, column};
use anyhow::{Context as _, Result};

/// Peaks by owner and phase come from the process with the median peak, seconds are medians.
///
/// # Errors
/// When two columns have the same name.
pub fn frame(points: &[PointResult]) -> Result<DataFrame> {
    let median = |name: &str, of: fn(&StepUsage) -> f64| {
        column(name, points, |point: &PointResult| point.median(of))
    };
    let bytes = |name: &str, of: fn(&StepUsage) -> u64| {
        column(name, points, |point: &PointResult| point.typical().map(of))
    };
    let columns = vec![
        column("run_id", points, |p: &PointResult| p.run),
        column("method", points, |p: &PointResult| p.method.as_str()),
        column("recompute", points, |p: &PointResult| p.recompute.as_str()),
        column("dimension", points, |p: &PointResult| p.dimension.as_str()),
        column("options", points, |p: &PointResult| p.options),
        column("batch", points, |p: &PointResult| p.batch),
        column("log10_candidates", points, |p: &PointResult| p.log10_candidates),
        bytes("peak_bytes", |step| step.peak_bytes),
        column("predicted_bytes", points, |p: &PointResult| p.predicted_bytes),
        median("step_seconds", |step| step.seconds),
        column("measured", points, |p: &PointResult| !p.repeats.is_empty()),
        column("processes", points, |p: &PointResult| p.repeats.len() as u64),
        column("step_seconds_min", points, |p: &PointResult| p.range(|s| s.seconds).map(|r| r.0)),
        column("step_seconds_max", points, |p: &PointResult| p.range(|s| s.seconds).map(|r| r.1)),
        median("forward_seconds", |step| step.forward_seconds),
        median("backward_seconds", |step| step.backward_seconds),
        median("optimizer_seconds", |step| step.optimizer_seconds),
        bytes("forward_peak_bytes", |step| step.forward_bytes),
        bytes("backward_peak_bytes", |step| step.backward_bytes),
        bytes("optimizer_peak_bytes", |step| step.optimizer_bytes),
        bytes("weight_bytes", |step| step.weight_bytes),
        bytes("velocity_bytes", |step| step.velocity_bytes),
        bytes("activation_bytes", |step| step.activation_bytes),
        bytes("gradient_bytes", |step| step.gradient_bytes),
        bytes("scratch_bytes", |step| step.scratch_bytes),
        column("resident_bytes", points, |p: &PointResult| {
            p.repeats.iter().filter_map(|step| step.resident_bytes).max()
        }),
        column("other_cores_max", points, PointResult::other_cores),
    ];
    DataFrame::new(points.len(), columns).context("cannot make a table of the points")
}
