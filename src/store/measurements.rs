//! The statements that read measurements.

use super::error::Fault;
use super::rows::Measurement;
use crate::record::Metric;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, query, query_as, query_scalar};
use std::collections::BTreeMap;

/// Runs whose measurements are in memory as rows at once.
const RUNS_AT_ONCE: usize = 64;
/// Rows of a [`Page`].
const ROWS_AT_ONCE: i64 = 4096;

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

/// A part of a run's measurements.
pub struct Page {
    pub measurements: Vec<Measurement>,
    /// The key of its last row; `None` where no rows follow.
    pub last: Option<(String, i64)>,
}

/// The measurements of a run's last attempt after this key, in the order of the table's key.
pub async fn page(
    connection: &mut SqliteConnection,
    id: i64,
    after: Option<&(String, i64)>,
) -> Result<Page, Fault> {
    let (metric, step) = after.map_or(("", -1), |(metric, step)| (metric, *step));
    let mut rows: Vec<(String, i64, f64)> = query_as(
        "SELECT metric, step, value FROM measurements
         WHERE run = ?1 AND attempt = (SELECT max(number) FROM attempts WHERE run = ?1)
           AND (metric, step) > (?2, ?3)
         ORDER BY metric, step LIMIT ?4",
    )
    .bind(id)
    .bind(metric)
    .bind(step)
    .bind(ROWS_AT_ONCE)
    .fetch_all(connection)
    .await?;
    let measurements = rows
        .iter()
        .filter_map(|(metric, step, value)| measurement(metric, *step, *value))
        .collect();
    let is_full = rows.len() as i64 == ROWS_AT_ONCE;
    let last = rows.pop().filter(|_| is_full).map(|(metric, step, _)| (metric, step));
    Ok(Page { measurements, last })
}

/// The last step of each metric of a run's last attempt, by name.
pub async fn last_steps(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Vec<(Metric, u64)>, Fault> {
    let rows: Vec<(String, i64)> = query_as(
        "SELECT metric, max(step) FROM measurements
         WHERE run = ?1 AND attempt = (SELECT max(number) FROM attempts WHERE run = ?1)
         GROUP BY metric ORDER BY metric",
    )
    .bind(id)
    .fetch_all(connection)
    .await?;
    let known =
        |(metric, step): &(String, i64)| Some((Metric::parse(metric)?, u64::try_from(*step).ok()?));
    Ok(rows.iter().filter_map(known).collect())
}

/// The measurements of these metrics, also in repeats, in the last attempts of all runs: by run, and
/// metric by metric in the order of steps.
pub async fn of_all_runs(
    connection: &mut SqliteConnection,
    metrics: &[Metric],
) -> Result<BTreeMap<i64, Vec<Measurement>>, Fault> {
    // Each pair of a run and a metric is one range of the key, so that no other row is read. The
    // repeats that a run has are found one after the other.
    const SQL: &str = "
        WITH RECURSIVE repeats (run, attempt, metric) AS (
            SELECT run, number, (SELECT min(metric) FROM measurements AS m
                                 WHERE m.run = a.run AND m.attempt = a.number
                                 AND m.metric > 'repeat.' AND m.metric < 'repeat/')
            FROM last_attempts AS a WHERE run BETWEEN ?2 AND ?3
            UNION ALL
            SELECT run, attempt, (SELECT min(metric) FROM measurements AS m
                                  WHERE m.run = repeats.run AND m.attempt = repeats.attempt
                                  AND m.metric > repeats.metric AND m.metric < 'repeat/')
            FROM repeats WHERE metric IS NOT NULL
        ),
        wanted (run, attempt, metric) AS MATERIALIZED (
            SELECT a.run, a.number, name.value
            FROM last_attempts AS a CROSS JOIN json_each(?1) AS name
            WHERE a.run BETWEEN ?2 AND ?3
            UNION ALL
            SELECT run, attempt, metric FROM repeats
            WHERE ltrim(substr(metric, 8), '0123456789.') IN (SELECT value FROM json_each(?1))
        )
        SELECT m.run, m.metric, m.step, m.value
        FROM wanted AS w
        CROSS JOIN measurements AS m
            ON m.run = w.run AND m.attempt = w.attempt AND m.metric = w.metric";
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
