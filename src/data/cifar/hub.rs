//! CIFAR-10 from the Parquet files on the Hugging Face hub: a column "label" and a column "img" of
//! PNG files. Their rows are in another order than the published records. The order is restored from
//! a table: `order.bin` gives, for each published record of a part, its rank among the sorted records.
//! The MD5s of the published files decide whether that was right.

use super::{Cifar, IMAGE_BYTES, SIDE, deinterleave};
use crate::data::DataError;
use parquet::column::reader::ColumnReader;
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use rayon::prelude::*;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;

/// 50,000 ranks of the training part, then 10,000 of the test part: 16 bits each, little-endian.
const ORDER: &[u8] = include_bytes!("order.bin");

/// Writes the binary files into `folder`, each checked, from the two files of the hub.
pub(super) fn convert(
    set: &Cifar,
    [train, test]: &[&Path; 2],
    folder: &Path,
) -> Result<(), DataError> {
    let (last, first) = set.files.split_last().ok_or(DataError::NoFolder)?;
    let ranks: Vec<u16> =
        ORDER.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes)).collect();
    let training: usize = first.iter().map(|file| file.images).sum();
    let mut records = in_order(&ranks[..training], train)?;
    for file in first {
        let rest = records.split_off(set.bytes(file));
        set.write(train, folder, file, &records)?;
        records = rest;
    }
    set.write(test, folder, last, &in_order(&ranks[training..], test)?)
}

/// The records of a part in their published order.
fn in_order(ranks: &[u16], file: &Path) -> Result<Vec<u8>, DataError> {
    let mut records =
        read(file).map_err(|reason| DataError::Damaged { path: file.to_owned(), reason })?;
    if records.len() != ranks.len() {
        let reason = format!("holds {} images of {}", records.len(), ranks.len());
        return Err(DataError::Damaged { path: file.to_owned(), reason });
    }
    records.par_sort_unstable();
    Ok(ranks.iter().flat_map(|&rank| &records[usize::from(rank)]).copied().collect())
}

type Record = Vec<u8>;

fn read(path: &Path) -> Result<Vec<Record>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let (labels, pictures) = columns(file).map_err(|error| error.to_string())?;
    if labels.len() != pictures.len() {
        return Err(format!("{} labels of {} images", labels.len(), pictures.len()));
    }
    labels.par_iter().zip(&pictures).map(|(&label, png)| record(label, png.data())).collect()
}

/// The columns "label" and "img.bytes" of all row groups.
fn columns(file: File) -> Result<(Vec<i64>, Vec<ByteArray>), ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let (mut labels, mut pictures) = (Vec::new(), Vec::new());
    for i in 0..reader.num_row_groups() {
        let group = reader.get_row_group(i)?;
        let rows = group.metadata().num_rows() as usize;
        match column(&*group, "label")? {
            ColumnReader::Int64ColumnReader(mut reader) => {
                read_all(&mut reader, rows, &mut labels)?;
            }
            _ => return Err(ParquetError::General("the labels are not integers".to_owned())),
        }
        match column(&*group, "img.bytes")? {
            ColumnReader::ByteArrayColumnReader(mut reader) => {
                read_all(&mut reader, rows, &mut pictures)?;
            }
            _ => return Err(ParquetError::General("the images are not bytes".to_owned())),
        }
    }
    Ok((labels, pictures))
}

fn column(group: &dyn RowGroupReader, path: &str) -> Result<ColumnReader, ParquetError> {
    let columns = group.metadata().schema_descr().columns();
    let at = columns.iter().position(|column| column.path().string() == path);
    let missing = || ParquetError::General(format!("there is no column {path}"));
    group.get_column_reader(at.ok_or_else(missing)?)
}

fn read_all<T: DataType>(
    reader: &mut parquet::column::reader::ColumnReaderImpl<T>,
    rows: usize,
    values: &mut Vec<T::T>,
) -> Result<(), ParquetError> {
    let mut levels = Vec::new();
    let mut read = 0;
    while read < rows {
        let (records, ..) = reader.read_records(rows - read, Some(&mut levels), None, values)?;
        if records == 0 {
            return Err(ParquetError::EOF(format!("{read} rows of {rows}")));
        }
        read += records;
    }
    Ok(())
}

/// A record of the binary version: the label, then the planes.
fn record(label: i64, png: &[u8]) -> Result<Record, String> {
    let mut reader =
        png::Decoder::new(Cursor::new(png)).read_info().map_err(|error| error.to_string())?;
    let info = reader.info();
    let shape = (info.width as usize, info.height as usize, info.color_type, info.bit_depth);
    if shape != (SIDE, SIDE, png::ColorType::Rgb, png::BitDepth::Eight) {
        return Err(format!("a picture of the shape {shape:?}"));
    }
    let mut pixels = vec![0; IMAGE_BYTES];
    reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    let mut record = vec![0; 1 + IMAGE_BYTES];
    record[0] = u8::try_from(label).map_err(|_| format!("the label {label}"))?;
    deinterleave(&pixels, &mut record[1..]);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cifar::PIXELS;

    /// Written by pyarrow like the hub's files: image k has the colour (10 k, k, 255 - k) and the
    /// label 9 - k, in row groups of two.
    fn fixture() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/hub.parquet")
    }

    #[test]
    fn records_come_in_the_order_of_the_table() {
        // Sorted by their labels, the rows stand in reverse.
        let records = in_order(&[4, 2, 0, 1, 3], &fixture()).unwrap();
        let found: Vec<[u8; 4]> = records
            .chunks_exact(1 + IMAGE_BYTES)
            .map(|it| [it[0], it[1], it[1 + PIXELS], it[2 * PIXELS + 1]])
            .collect();
        let of = |k: u8| [9 - k, 10 * k, k, 255 - k];
        assert_eq!(found, [of(0), of(2), of(4), of(3), of(1)]);
    }

    #[test]
    fn another_number_of_images_is_refused() {
        let error = in_order(&[0, 1], &fixture()).unwrap_err().to_string();
        assert!(error.contains("holds 5 images of 2"), "{error}");
        assert!(in_order(&[0], Path::new(file!())).is_err());
    }

    #[test]
    fn the_table_names_every_rank_once() {
        let ranks = ORDER.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
        let mut ranks: Vec<u16> = ranks.collect();
        let (train, test) = ranks.split_at_mut(50_000);
        train.sort_unstable();
        test.sort_unstable();
        assert!(train.iter().copied().eq(0..50_000) && test.iter().copied().eq(0..10_000));
    }
}
