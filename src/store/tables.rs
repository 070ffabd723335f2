//! Whole tables, to take them elsewhere.

use super::error::Fault;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row, TypeInfo, ValueRef, query, query_scalar};

/// A table of the database as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTable {
    pub name: String,
    pub columns: Vec<String>,
    /// One list of cells per row.
    pub rows: Vec<Vec<Cell>>,
}

/// A value of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

/// All tables but those that are SQLite's and the migrations'.
pub async fn read(connection: &mut SqliteConnection) -> Result<Vec<StoredTable>, Fault> {
    let names: Vec<String> = query_scalar(
        r"SELECT name FROM sqlite_schema
          WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
            AND name NOT LIKE '\_sqlx\_%' ESCAPE '\' ORDER BY name",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut tables = Vec::new();
    for name in names {
        let columns: Vec<String> = query_scalar("SELECT name FROM pragma_table_info(?1)")
            .bind(&name)
            .fetch_all(&mut *connection)
            .await?;
        let rows = query(AssertSqlSafe(format!("SELECT * FROM {name}")));
        let rows = rows.fetch_all(&mut *connection).await?;
        let rows = rows.iter().map(cells).collect::<Result<_, sqlx::Error>>()?;
        tables.push(StoredTable { name, columns, rows });
    }
    Ok(tables)
}

fn cells(row: &SqliteRow) -> Result<Vec<Cell>, sqlx::Error> {
    let cell = |index: usize| {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        Ok(match raw.type_info().name() {
            "INTEGER" | "BOOLEAN" => Cell::Integer(row.try_get_unchecked(index)?),
            "REAL" => Cell::Real(row.try_get_unchecked(index)?),
            _ => Cell::Text(row.try_get_unchecked(index)?),
        })
    };
    (0..row.len()).map(cell).collect()
}
