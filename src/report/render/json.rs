//! A page as JSON: every table with its values at full precision.

use crate::report::page::{Page, Part, Section};
use crate::report::prose::Prose;
use crate::report::table::ReportTable;
use anyhow::Result;
use polars::prelude::{AnyValue, DataFrame};
use serde_json::{Map, Value, json};

/// Title, run ids, sections with their parts, and one object per row of the page's data.
pub fn page(page: &Page) -> Result<String> {
    let sections = page.sections.iter().map(section).collect::<Result<Vec<_>>>()?;
    let value = json!({
        "title": page.title,
        "run_ids": page.runs,
        "sections": sections,
        "data": rows(&page.data)?,
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn section(section: &Section) -> Result<Value> {
    let parts = section.parts.iter().map(part).collect::<Result<Vec<_>>>()?;
    let heading = section.heading.as_ref().map(Prose::plain);
    Ok(json!({ "heading": heading, "subsection": section.is_subsection, "parts": parts }))
}

fn part(part: &Part) -> Result<Value> {
    Ok(match part {
        Part::Paragraph(text) => json!({ "paragraph": text.plain() }),
        Part::List(items) => {
            json!({ "list": items.iter().map(Prose::plain).collect::<Vec<_>>() })
        }
        Part::Table(table) => json!({ "table": table_value(table)? }),
        Part::Figure(figure) => json!({ "figure": { "file": figure.file, "shows": figure.alt } }),
    })
}

fn table_value(table: &ReportTable) -> Result<Value> {
    let mut rows = rows(&table.frame)?;
    for (row, ids) in rows.iter_mut().zip(&table.runs) {
        row.insert("run_ids".to_owned(), json!(ids));
    }
    Ok(json!({ "name": table.name, "rows": rows }))
}

/// One object per row; unknown values are null.
fn rows(frame: &DataFrame) -> Result<Vec<Map<String, Value>>> {
    let mut rows = vec![Map::new(); frame.height()];
    for column in frame.columns() {
        for (i, row) in rows.iter_mut().enumerate() {
            row.insert(column.name().to_string(), value(&column.get(i)?));
        }
    }
    Ok(rows)
}

/// Numbers that JSON does not have, such as infinity, are text.
fn value(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(value) => json!(value),
        AnyValue::UInt32(value) => json!(value),
        AnyValue::UInt64(value) => json!(value),
        AnyValue::Int64(value) => json!(value),
        AnyValue::Float64(value) if value.is_finite() => json!(value),
        AnyValue::String(value) => json!(value),
        AnyValue::StringOwned(value) => json!(value.as_str()),
        other => json!(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::Columns;

    #[test]
    fn values_keep_their_types() {
        let rows = [(u64::MAX, 0.1), (1, f64::INFINITY)];
        let table = Columns::of("t", &rows)
            .whole("n", "n", |row| Some(row.0))
            .number("x", "x", |row| Some(row.1), |x| x.to_string())
            .maybe_text("s", "s", |row| (row.0 == 1).then(|| "a".to_owned()))
            .of_runs(|_| vec![3, 4])
            .table();
        let value = table_value(&table).unwrap();
        assert_eq!(
            value["rows"],
            json!([
                { "n": u64::MAX, "x": 0.1, "s": null, "run_ids": [3, 4] },
                { "n": 1, "x": "inf", "s": "a", "run_ids": [3, 4] },
            ])
        );
    }
}
