//! Tables of the database as files, one per table; and frames as Parquet.

use super::frame::csv_of;
use crate::store::{Cell, StoredTable};
use anyhow::{Context, Result};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use polars::prelude::{Column, DataFrame, DataType};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The format of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    /// One object per row and line.
    Json,
    Parquet,
}

/// A column with values of one type.
enum Values {
    Boolean(Vec<Option<bool>>),
    Integer(Vec<Option<i64>>),
    /// Whole numbers of 64 bits without a sign.
    Unsigned(Vec<Option<u64>>),
    Real(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
}

/// Writes each table to `folder`, and returns the files.
///
/// # Errors
/// When a file cannot be written.
pub fn export_tables(
    tables: &[StoredTable],
    folder: &Path,
    format: Format,
) -> Result<Vec<PathBuf>> {
    let extension = match format {
        Format::Csv => "csv",
        Format::Json => "json",
        Format::Parquet => "parquet",
    };
    let files = tables.iter().map(|table| {
        let path = folder.join(&table.name).with_extension(extension);
        let written = match format {
            Format::Csv => csv(table).and_then(|text| Ok(fs::write(&path, text)?)),
            Format::Json => json(table, &path),
            Format::Parquet => parquet(table, &path),
        };
        written.with_context(|| path.display().to_string())?;
        Ok(path)
    });
    files.collect()
}

/// The values of column `index`: whole numbers, numbers, or else text.
fn values(table: &StoredTable, index: usize) -> Values {
    let cells = || table.rows.iter().map(|row| &row[index]);
    if cells().all(|cell| matches!(cell, Cell::Null | Cell::Integer(_))) {
        let integer = |cell: &Cell| match cell {
            Cell::Integer(value) => Some(*value),
            _ => None,
        };
        Values::Integer(cells().map(integer).collect())
    } else if cells().all(|cell| !matches!(cell, Cell::Text(_))) {
        let real = |cell: &Cell| match cell {
            Cell::Real(value) => Some(*value),
            Cell::Integer(value) => Some(*value as f64),
            _ => None,
        };
        Values::Real(cells().map(real).collect())
    } else {
        let text = |cell: &Cell| match cell {
            Cell::Null => None,
            Cell::Text(text) => Some(text.clone()),
            Cell::Integer(value) => Some(value.to_string()),
            Cell::Real(value) => Some(value.to_string()),
        };
        Values::Text(cells().map(text).collect())
    }
}

fn csv(table: &StoredTable) -> Result<String> {
    let columns = table.columns.iter().enumerate().map(|(index, name)| {
        let name = name.as_str().into();
        match values(table, index) {
            Values::Boolean(values) => Column::new(name, values),
            Values::Integer(values) => Column::new(name, values),
            Values::Unsigned(values) => Column::new(name, values),
            Values::Real(values) => Column::new(name, values),
            Values::Text(values) => Column::new(name, values),
        }
    });
    Ok(csv_of(table.rows.len(), columns.collect())?)
}

fn json(table: &StoredTable, path: &Path) -> Result<()> {
    let mut file = std::io::BufWriter::new(File::create(path)?);
    for row in &table.rows {
        let cells = table.columns.iter().zip(row).map(|(name, cell)| {
            let value = match cell {
                Cell::Null => Value::Null,
                Cell::Integer(value) => (*value).into(),
                Cell::Real(value) => (*value).into(),
                Cell::Text(text) => text.as_str().into(),
            };
            (name.clone(), value)
        });
        serde_json::to_writer(&mut file, &cells.collect::<Map<_, _>>())?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

fn parquet(table: &StoredTable, path: &Path) -> Result<()> {
    let columns = table.columns.iter().enumerate();
    let columns = columns.map(|(index, name)| (name.as_str(), values(table, index)));
    write_parquet(columns.collect(), File::create(path)?)
}

/// A frame as the bytes of a Parquet file. Whole numbers have 64 bits.
pub(super) fn frame(frame: &DataFrame) -> Result<Vec<u8>> {
    let columns = frame.columns().iter().map(|column| {
        let (name, dtype) = (column.name().as_str(), column.dtype());
        let values = if dtype.is_bool() {
            Values::Boolean(column.bool()?.iter().collect())
        } else if dtype.is_unsigned_integer() {
            Values::Unsigned(column.cast(&DataType::UInt64)?.u64()?.iter().collect())
        } else if dtype.is_integer() {
            Values::Integer(column.cast(&DataType::Int64)?.i64()?.iter().collect())
        } else if dtype.is_float() {
            Values::Real(column.f64()?.iter().collect())
        } else {
            let text = column.cast(&DataType::String)?;
            Values::Text(text.str()?.iter().map(|text| text.map(str::to_owned)).collect())
        };
        Ok((name, values))
    });
    let mut bytes = Vec::new();
    write_parquet(columns.collect::<Result<_>>()?, &mut bytes)?;
    Ok(bytes)
}

fn write_parquet<W: Write + Send>(columns: Vec<(&str, Values)>, to: W) -> Result<()> {
    let mut schema = String::from("message table {");
    for (name, values) in &columns {
        let of = match values {
            Values::Boolean(_) => format!("OPTIONAL BOOLEAN {name};"),
            Values::Integer(_) => format!("OPTIONAL INT64 {name};"),
            Values::Unsigned(_) => format!("OPTIONAL INT64 {name} (INTEGER(64,false));"),
            Values::Real(_) => format!("OPTIONAL DOUBLE {name};"),
            Values::Text(_) => format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
        };
        let _ = write!(schema, " {of}");
    }
    schema.push_str(" }");
    let schema = Arc::new(parse_message_type(&schema)?);
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(to, schema, properties)?;
    let mut group = writer.next_row_group()?;
    for (_, values) in columns {
        match values {
            Values::Boolean(values) => column::<BoolType, W>(&mut group, &values)?,
            Values::Integer(values) => column::<Int64Type, W>(&mut group, &values)?,
            Values::Unsigned(values) => {
                // Parquet stores the bits.
                let bits: Vec<_> = values.iter().map(|value| value.map(u64::cast_signed)).collect();
                column::<Int64Type, W>(&mut group, &bits)?;
            }
            Values::Real(values) => column::<DoubleType, W>(&mut group, &values)?,
            Values::Text(values) => {
                let bytes =
                    |text: Option<String>| text.map(|text| ByteArray::from(text.into_bytes()));
                let values: Vec<_> = values.into_iter().map(bytes).collect();
                column::<ByteArrayType, W>(&mut group, &values)?;
            }
        }
    }
    group.close()?;
    writer.close()?;
    Ok(())
}

/// Writes the next column of a group. Each value has a level: 1 where there is one.
fn column<T: parquet::data_type::DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[Option<T::T>],
) -> Result<()> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<T::T> = values.iter().flatten().cloned().collect();
    let mut column = group.next_column()?.context("the schema has no more columns")?;
    column.typed::<T>().write_batch(&present, Some(&levels), None)?;
    column.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    fn table() -> StoredTable {
        let text = |text: &str| Cell::Text(text.to_owned());
        StoredTable {
            name: "things".into(),
            columns: ["id", "size", "name", "note"].map(str::to_owned).into(),
            rows: vec![
                vec![Cell::Integer(1), Cell::Real(0.1), text("a \"b\",\nc"), Cell::Null],
                vec![Cell::Integer(2), Cell::Integer(3), text("é"), Cell::Null],
            ],
        }
    }

    #[test]
    fn every_format_has_every_cell() {
        let folder = tempfile::tempdir().unwrap();
        let export = |format| {
            let files = export_tables(&[table()], folder.path(), format).unwrap();
            assert_eq!(files.len(), 1);
            files[0].clone()
        };
        let csv = fs::read_to_string(export(Format::Csv)).unwrap();
        assert_eq!(csv, "id,size,name,note\n1,0.1,\"a \"\"b\"\",\nc\",\n2,3.0,é,\n");
        let json = fs::read_to_string(export(Format::Json)).unwrap();
        let expected = "{\"id\":1,\"size\":0.1,\"name\":\"a \\\"b\\\",\\nc\",\"note\":null}\n\
                        {\"id\":2,\"size\":3,\"name\":\"é\",\"note\":null}\n";
        assert_eq!(json, expected);
        let file = File::open(export(Format::Parquet)).unwrap();
        let rows = SerializedFileReader::new(file).unwrap();
        let rows: Vec<String> =
            rows.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains("size: 0.1") && rows[1].contains("é"), "{rows:?}");
    }
}
