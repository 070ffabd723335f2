//! The points of memory studies in the database.

use super::error::Fault;
use super::numbers::{finite, integer};
use super::write::AttemptKey;
use crate::record::{ScalingPoint, StepUsage};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, query};

/// Inserts a point of an attempt.
pub async fn write(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    point: &ScalingPoint,
) -> Result<(), Fault> {
    let seconds = |of: fn(&StepUsage) -> f64| {
        point.measured.as_ref().map(|step| finite("the seconds of a step", of(step))).transpose()
    };
    let bytes = |of: fn(&StepUsage) -> u64| {
        point.measured.as_ref().map(|step| integer("the bytes of a step", of(step))).transpose()
    };
    let other_cores = point.measured.as_ref().and_then(|step| step.other_cores);
    let resident = point.measured.as_ref().and_then(|step| step.resident_bytes);
    query(
        "INSERT INTO scaling_points
         (run, attempt, dimension, options, recompute, repeat, batch, log10_candidates,
          predicted_bytes, step_seconds, forward_seconds, backward_seconds, optimizer_seconds,
          peak_bytes, forward_bytes, backward_bytes, optimizer_bytes, weight_bytes, velocity_bytes,
          activation_bytes, gradient_bytes, scratch_bytes, resident_bytes, other_cores)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19, ?20, ?21, ?22, ?23, ?24)",
    )
    .bind(key.run)
    .bind(key.number)
    .bind(&point.dimension)
    .bind(integer("the number of options", point.options)?)
    .bind(&point.recompute)
    .bind(integer("the number of the repeat", point.repeat)?)
    .bind(integer("the images of a step", point.batch)?)
    .bind(finite("the logarithm of the space's size", point.log10_candidates)?)
    .bind(integer("the predicted bytes", point.predicted_bytes)?)
    .bind(seconds(|step| step.seconds)?)
    .bind(seconds(|step| step.forward_seconds)?)
    .bind(seconds(|step| step.backward_seconds)?)
    .bind(seconds(|step| step.optimizer_seconds)?)
    .bind(bytes(|step| step.peak_bytes)?)
    .bind(bytes(|step| step.forward_bytes)?)
    .bind(bytes(|step| step.backward_bytes)?)
    .bind(bytes(|step| step.optimizer_bytes)?)
    .bind(bytes(|step| step.weight_bytes)?)
    .bind(bytes(|step| step.velocity_bytes)?)
    .bind(bytes(|step| step.activation_bytes)?)
    .bind(bytes(|step| step.gradient_bytes)?)
    .bind(bytes(|step| step.scratch_bytes)?)
    .bind(resident.map(|bytes| integer("the resident bytes", bytes)).transpose()?)
    .bind(other_cores.map(|cores| finite("the cores of other programs", cores)).transpose()?)
    .execute(connection)
    .await?;
    Ok(())
}

/// The points of a run's last attempt, in the order of the table's key.
pub async fn read(connection: &mut SqliteConnection, id: i64) -> Result<Vec<ScalingPoint>, Fault> {
    let rows = query(
        "SELECT * FROM scaling_points
         WHERE run = ?1 AND attempt = (SELECT max(number) FROM attempts WHERE run = ?1)
         ORDER BY dimension, options, recompute, repeat",
    )
    .bind(id)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(point(row)?)).collect()
}

fn point(row: &SqliteRow) -> Result<ScalingPoint, sqlx::Error> {
    let resident: Option<i64> = row.try_get("resident_bytes")?;
    let measured = match row.try_get::<Option<f64>, _>("step_seconds")? {
        None => None,
        Some(seconds) => Some(StepUsage {
            seconds,
            forward_seconds: row.try_get("forward_seconds")?,
            backward_seconds: row.try_get("backward_seconds")?,
            optimizer_seconds: row.try_get("optimizer_seconds")?,
            peak_bytes: count(row, "peak_bytes")?,
            forward_bytes: count(row, "forward_bytes")?,
            backward_bytes: count(row, "backward_bytes")?,
            optimizer_bytes: count(row, "optimizer_bytes")?,
            weight_bytes: count(row, "weight_bytes")?,
            velocity_bytes: count(row, "velocity_bytes")?,
            activation_bytes: count(row, "activation_bytes")?,
            gradient_bytes: count(row, "gradient_bytes")?,
            scratch_bytes: count(row, "scratch_bytes")?,
            resident_bytes: resident.map(i64::cast_unsigned),
            other_cores: row.try_get("other_cores")?,
        }),
    };
    Ok(ScalingPoint {
        dimension: row.try_get("dimension")?,
        options: count(row, "options")?,
        recompute: row.try_get("recompute")?,
        repeat: count(row, "repeat")?,
        batch: count(row, "batch")?,
        log10_candidates: row.try_get("log10_candidates")?,
        predicted_bytes: count(row, "predicted_bytes")?,
        measured,
    })
}

/// The table's CHECKs keep these from being negative.
fn count(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}
