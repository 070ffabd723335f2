//! Buffers that are used in turn.

use candle_core::Result;

/// N buffers, each with its length; none until it is first used.
pub(super) struct Slots<S, const N: usize> {
    slots: [Option<(usize, S)>; N],
    next: usize,
}

impl<S, const N: usize> Slots<S, N> {
    pub(super) const fn new() -> Self {
        Self { slots: [const { None }; N], next: 0 }
    }

    /// The buffer that was used longest ago. `new` makes one of `len` values where there is none, or a
    /// shorter one.
    ///
    /// # Errors
    /// Those of `new`.
    pub(super) fn next(
        &mut self,
        len: usize,
        new: impl FnOnce(usize) -> Result<S>,
    ) -> Result<&mut S> {
        self.next = (self.next + 1) % N;
        let slot = &mut self.slots[self.next];
        // One that is too short is freed first, once the GPU is done with it.
        slot.take_if(|(room, _)| *room < len);
        let (_, buffer) = match slot {
            Some(slot) => slot,
            None => slot.insert((len, new(len)?)),
        };
        Ok(buffer)
    }
}
