//! Vectorisation over channels.
//!
//! A kernel is written once for a block of `L` neighbouring channels held in registers; the
//! blocks of 16, 8, 4 and 1 channels that make up a row are chosen here. `pulp` compiles the code
//! for the instruction sets of the processor it meets at run time, so a plain `cargo build` is
//! fast on any x86-64 and on aarch64.

/// Work on `L` channels starting at `channel`.
pub(super) trait LaneKernel {
    fn run<const L: usize>(&mut self, channel: usize);
}

/// Runs `kernel` over all blocks of `0..channels`, with the best instruction set there is.
#[inline]
pub(super) fn over_channels<K: LaneKernel>(channels: usize, kernel: &mut K) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || blocks(channels, kernel),
    );
}

#[inline(always)]
fn blocks<K: LaneKernel>(channels: usize, kernel: &mut K) {
    let mut at = 0;
    while at + 16 <= channels {
        kernel.run::<16>(at);
        at += 16;
    }
    if at + 8 <= channels {
        kernel.run::<8>(at);
        at += 8;
    }
    if at + 4 <= channels {
        kernel.run::<4>(at);
        at += 4;
    }
    while at < channels {
        kernel.run::<1>(at);
        at += 1;
    }
}

#[inline(always)]
pub(super) fn load<const L: usize>(from: &[f32], at: usize) -> [f32; L] {
    let mut lanes = [0.0; L];
    lanes.copy_from_slice(&from[at..at + L]);
    lanes
}

#[inline(always)]
pub(super) fn store<const L: usize>(lanes: &[f32; L], to: &mut [f32], at: usize) {
    to[at..at + L].copy_from_slice(lanes);
}

/// `acc += a · b`, lane by lane.
#[inline(always)]
pub(super) fn multiply_add<const L: usize>(acc: &mut [f32; L], a: &[f32; L], b: &[f32; L]) {
    for l in 0..L {
        acc[l] += a[l] * b[l];
    }
}
