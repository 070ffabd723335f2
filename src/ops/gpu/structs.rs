//! Structs that a kernel takes by value: their fields are appended in order.

use super::{StructArg, size};
use candle_core::Tensor;

impl<'a> StructArg<'a> {
    /// An array of `len` pointers to buffers that are read; null behind the last of `tensors`.
    pub(in crate::ops) fn pointers(
        &mut self,
        len: usize,
        tensors: impl IntoIterator<Item = &'a Tensor>,
    ) {
        let at = self.bytes.len();
        for (i, tensor) in tensors.into_iter().take(len).enumerate() {
            self.pointers.push((at + i * size_of::<u64>(), tensor, false));
        }
        self.bytes.resize(at + len * size_of::<u64>(), 0);
    }

    /// An array of `len` sizes; zero behind the last of `values`.
    pub(in crate::ops) fn sizes(&mut self, len: usize, values: impl IntoIterator<Item = usize>) {
        let end = self.bytes.len() + len * size_of::<i32>();
        for value in values.into_iter().take(len) {
            self.bytes.extend(size(value).to_ne_bytes());
        }
        self.bytes.resize(end, 0);
    }

    /// The struct, its size rounded up to the alignment of a pointer.
    pub(in crate::ops) fn padded(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(size_of::<u64>()), 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arg, LARGEST};
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_found() {
        let too_large = LARGEST + 1;
        assert!(!Arg::size(LARGEST).too_large());
        assert!(Arg::size(too_large).too_large());
        let fields = |sizes: [usize; 2]| {
            let mut fields = StructArg::default();
            fields.sizes(3, sizes);
            Arg::Struct(fields)
        };
        assert!(!fields([1, 2]).too_large());
        assert!(fields([1, too_large]).too_large());
    }
}
