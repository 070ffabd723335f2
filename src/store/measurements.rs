//! The statements that read measurements.

use super::error::Fault;
use super::rows::Measurement;
use crate::record::Metric;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, query, query_as, query_scalar};
use std::collections::BTreeMap;

/// Runs whose measurements are in memory as rows at once.
const RUNS_AT_ONCE: usize = 64;

/// The measurements of a run's last attempt, in the order of the table's key. Metrics that this
/// version does not know are left out.
pub async fn of_run(connection: &mut SqliteConnection, id: i64) -> Result<Vec<Measurement>, Fault> {
    let rows: Vec<(String, i64, f64)> = query_as(
        "SELECT metric, step, value FROM measurements
         WHERE run = ?1 AND attempt = (SELECT max(number) FROM attempts WHERE run = ?1)
         ORDER BY metric, step",
    )
    .bind(id)
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().filter_map(|(metric, step, value)| measurement(metric, *step, *value)).collect())
}

/// The measurements of these metrics in the last attempts of all runs, by run; within a run by
/// metric, then step.
pub async fn of_all_runs(
    connection: &mut SqliteConnection,
    metrics: &[Metric],
) -> Result<BTreeMap<i64, Vec<Measurement>>, Fault> {
    // The names in a row, so that each pair of a run and a metric is one range of the key.
    const SQL: &str = "
        SELECT m.run, m.metric, m.step, m.value
        FROM last_attempts AS a
        CROSS JOIN json_each(?1) AS name
        CROSS JOIN measurements AS m
            ON m.run = a.run AND m.attempt = a.number AND m.metric = name.value
        WHERE a.run BETWEEN ?2 AND ?3
        ORDER BY a.run";
    let mut names: Vec<_> = metrics.iter().map(|metric| metric.name()).collect();
    names.sort_unstable();
    names.dedup();
    let names = serde_json::Value::from(names.iter().map(|name| &**name).collect::<Vec<&str>>());
    let mut runs: BTreeMap<i64, Vec<Measurement>> = BTreeMap::new();
    let ids: Vec<i64> =
        query_scalar("SELECT id FROM runs ORDER BY id").fetch_all(&mut *connection).await?;
    for ids in ids.chunks(RUNS_AT_ONCE) {
        let (first, last) = (ids[0], ids[ids.len() - 1]);
        let rows = query(SQL).bind(names.to_string()).bind(first).bind(last);
        for row in rows.fetch_all(&mut *connection).await? {
            let (metric, step, value) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            runs.entry(row.try_get(0)?).or_default().extend(measurement(metric, step, value));
        }
    }
    Ok(runs)
}

/// `None` for a metric that this version does not know, and for what no program has written.
fn measurement(metric: &str, step: i64, value: f64) -> Option<Measurement> {
    let step = u64::try_from(step).ok()?;
    let metric = Metric::parse(metric)?;
    value.is_finite().then_some(Measurement { metric, step, value })
}
