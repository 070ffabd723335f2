//! A few operations whose results are known exactly: whether a GPU computes.

use super::sums::total_f32;
use super::{Gpu, Matrix, download, upload};
use candle_core::{Device, Result, Tensor, bail};

/// Compares an upload, a kernel, a matrix product and an operation of candle's with their exact results.
///
/// # Errors
/// What failed, or the result that was wrong.
pub fn self_test(device: &Device) -> Result<()> {
    let Some(gpu) = Gpu::of(device)? else { return Ok(()) };
    // Large enough for the way of batches, with integers that f32 holds exactly.
    let (rows, columns) = (64, 1024);
    let values: Vec<f32> = (0..rows * columns).map(|i| (i % 251) as f32).collect();
    let tensor = upload(values.clone(), (rows, columns), device)?;
    expect("an upload", &tensor, &values)?;
    let sums: Vec<f32> =
        (0..columns).map(|j| values.iter().skip(j).step_by(columns).sum()).collect();
    expect("a kernel", &total_f32(&gpu, &tensor)?, &sums)?;
    let ones = upload(vec![1.0; rows], (1, rows), device)?;
    let product = gpu.output((1, columns))?;
    let [row, matrix, out] = [(&ones, 1, rows), (&tensor, rows, columns), (&product, 1, columns)]
        .map(|(tensor, rows, columns)| Matrix::new(tensor, rows, columns));
    gpu.matmul(row, matrix, out, false)?;
    expect("a matrix product", &product, &sums)?;
    let twice: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
    expect("an operation of candle's", &(tensor * 2.0)?, &twice)
}

fn expect(what: &str, tensor: &Tensor, expected: &[f32]) -> Result<()> {
    let found = download(tensor)?;
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        _ if found.len() != expected.len() => bail!("{what} has {} values", found.len()),
        None => Ok(()),
        Some(i) => bail!("{what} gives {} instead of {} at {i}", found[i], expected[i]),
    }
}
