//! Whether a database is whole.

use super::error::Fault;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, query, query_scalar};

/// What is wrong with the file and the references between its tables, one sentence each.
pub async fn problems(connection: &mut SqliteConnection) -> Result<Vec<String>, Fault> {
    let lines: Vec<String> =
        query_scalar("PRAGMA integrity_check").fetch_all(&mut *connection).await?;
    let mut problems: Vec<String> = lines.into_iter().filter(|line| line != "ok").collect();
    for row in query("PRAGMA foreign_key_check").fetch_all(connection).await? {
        let (table, parent): (String, String) = (row.try_get(0)?, row.try_get(2)?);
        problems.push(format!("a row of {table} refers to a missing row of {parent}"));
    }
    Ok(problems)
}
