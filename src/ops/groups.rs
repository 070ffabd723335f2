//! The weights of a grouped 1x1 convolution as those of a dense one: zero between a channel and the inputs of
//! other groups. So every operator that takes a dense 1x1 convolution also takes a grouped one.

mod gpu;

use super::gpu::Gpu;
use super::host::{Host, tensor};
use candle_core::{Result, Tensor, bail};

/// Which inputs belong to which group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOrder {
    /// Consecutive inputs.
    Plain,
    /// Consecutive inputs after a channel shuffle: input k of part g of the unshuffled channels is at place
    /// k · groups + g (Zhang et al. 2018, ShuffleNet).
    Shuffled,
}

/// A grouped 1x1 convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    pub number: usize,
    pub order: GroupOrder,
}

impl Groups {
    /// The place of input `row` of `rows` in its group, and the group.
    fn place(self, row: usize, rows: usize) -> (usize, usize) {
        let each = rows / self.number;
        let place = match self.order {
            GroupOrder::Plain => row,
            GroupOrder::Shuffled => row % each * self.number + row / each,
        };
        (place % each, place / each)
    }

    fn check(self, rows: usize, columns: usize) -> Result<()> {
        let number = self.number;
        if number == 0 || !rows.is_multiple_of(number) || !columns.is_multiple_of(number) {
            bail!("groups: {rows} x {columns} channels are not {number} groups");
        }
        Ok(())
    }
}

/// w `[c_in / groups, c_out]` → `[c_in, c_out]`.
///
/// # Errors
/// When the channels are not so many groups.
pub fn dense(w: &Tensor, groups: Groups) -> Result<Tensor> {
    let (each, columns) = w.dims2()?;
    let rows = each * groups.number;
    groups.check(rows, columns)?;
    if let Some(gpu) = Gpu::of(w.device())? {
        return gpu::dense(&gpu, w, groups);
    }
    let (w, width) = (Host::of(w)?, columns / groups.number);
    let mut dense = vec![0f32; rows * columns];
    for (row, to) in dense.chunks_exact_mut(columns).enumerate() {
        let (place, group) = groups.place(row, rows);
        let own = group * width..(group + 1) * width;
        to[own.clone()].copy_from_slice(&w[place * columns..][own]);
    }
    tensor(dense, (rows, columns))
}

/// The gradient of w from that of the dense weights `[c_in, c_out]`.
///
/// # Errors
/// As [`dense`].
pub fn backward(ddense: &Tensor, groups: Groups) -> Result<Tensor> {
    let (rows, columns) = ddense.dims2()?;
    groups.check(rows, columns)?;
    if let Some(gpu) = Gpu::of(ddense.device())? {
        return gpu::backward(&gpu, ddense, groups);
    }
    let (ddense, width) = (Host::of(ddense)?, columns / groups.number);
    let mut dw = vec![0f32; rows / groups.number * columns];
    for (row, from) in ddense.chunks_exact(columns).enumerate() {
        let (place, group) = groups.place(row, rows);
        let own = group * width..(group + 1) * width;
        dw[place * columns..][own.clone()].copy_from_slice(&from[own]);
    }
    tensor(dw, (rows / groups.number, columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn shuffled_inputs_are_those_that_a_shuffle_moves_into_the_group() {
        let groups = Groups { number: 3, order: GroupOrder::Shuffled };
        // The shuffle turns (a0 a1 | b0 b1 | c0 c1) into (a0 b0 | c0 a1 | b1 c1).
        let places: Vec<(usize, usize)> = (0..6).map(|row| groups.place(row, 6)).collect();
        assert_eq!(places, [(0, 0), (1, 1), (1, 0), (0, 2), (0, 1), (1, 2)]);
    }

    #[test]
    fn the_backward_pass_is_the_transpose() {
        for order in [GroupOrder::Plain, GroupOrder::Shuffled] {
            let groups = Groups { number: 2, order };
            let w = Tensor::arange(1_f32, 13.0, &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
            let all = dense(&w, groups).unwrap();
            assert_eq!(all.dims(), [6, 4]);
            let count = all.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(count.iter().filter(|v| **v != 0.0).count(), 12);
            let back = backward(&all, groups).unwrap();
            assert_eq!(back.to_vec2::<f32>().unwrap(), w.to_vec2::<f32>().unwrap());
        }
        let w = Tensor::zeros((3, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(dense(&w, Groups { number: 2, order: GroupOrder::Plain }).is_err());
    }
}
