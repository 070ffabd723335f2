//! Who holds the bytes at the highest peak of a step.
//!
//! A trace is a sequence of intervals; each ends when an operator has returned its output. The bytes
//! that were live when an interval began, and those that its peak adds, are each divided among the
//! owners without remainder, so that the owners' bytes always sum to the peak.

use super::{live_bytes, peak_bytes, reset_peak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bytes of a peak by owner, above the base of its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Gradients that are live, and those that the running operator returns.
    pub gradients: u64,
    /// Working memory that threads keep for their next task, and what the running operator holds
    /// besides its inputs and outputs.
    pub scratch: u64,
    /// Everything else that is live, and the map that the running operator returns.
    pub rest: u64,
}

impl Peak {
    /// The sum over all owners.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.gradients + self.scratch + self.rest
    }

    /// The bytes that are live now, of which `gradients` belong to gradients.
    fn now(base: u64, gradients: u64) -> Self {
        let live = live_bytes().saturating_sub(base);
        let gradients = gradients.min(live);
        let scratch = SCRATCH.load(Ordering::Relaxed).min(live - gradients);
        Self { gradients, scratch, rest: live - gradients - scratch }
    }
}

/// The peaks of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    pub highest: Peak,
    /// The highest peak of each phase, in bytes: forward pass with the loss, backward pass, and what
    /// follows.
    pub forward: u64,
    pub backward: u64,
    pub after: u64,
}

impl Peaks {
    fn of(peak: Peak) -> Self {
        Self { highest: peak, ..Self::default() }
    }
}

/// Bytes of working memory that threads keep from one task to the next.
static SCRATCH: AtomicU64 = AtomicU64::new(0);

/// Counts `bytes` more of working memory that a thread keeps.
pub fn add_scratch(bytes: usize) {
    SCRATCH.fetch_add(bytes as u64, Ordering::Relaxed);
}

struct Trace {
    base: u64,
    /// When the current interval began.
    before: Peak,
    peaks: Peaks,
    /// Whether the backward pass has begun. Maps that are made from then on are recomputed ones.
    backward: bool,
}

static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

/// Begins to trace who holds the bytes above `base`. Nothing else may use [`peak_bytes`] until
/// [`end_trace`].
pub fn begin_trace(base: u64) {
    let before = Peak::now(base, 0);
    reset_peak();
    *lock() = Some(Trace { base, before, peaks: Peaks::of(before), backward: false });
}

/// The highest peaks since [`begin_trace`].
#[must_use]
pub fn end_trace() -> Peaks {
    let Some(mut trace) = lock().take() else { return Peaks::default() };
    let last = trace.end_interval(0, |new| Peak { scratch: new, ..Peak::default() });
    Peaks { after: last, ..trace.peaks }
}

/// An operator of a forward pass has returned a map of this many bytes.
pub fn map_made(bytes: impl FnOnce() -> u64) {
    if let Some(trace) = lock().as_mut() {
        let bytes = bytes();
        let peak = trace.end_interval(trace.before.gradients, |new| {
            let map = bytes.min(new);
            Peak { rest: map, scratch: new - map, ..Peak::default() }
        });
        trace.note(peak);
    }
}

/// An operator of a backward pass has returned gradients of `made` bytes; `held` bytes of gradients
/// are live now.
pub fn gradients_made(made: u64, held: impl FnOnce() -> u64) {
    if let Some(trace) = lock().as_mut() {
        let peak = trace.end_interval(held(), |new| {
            let gradients = made.min(new);
            Peak { gradients, scratch: new - gradients, ..Peak::default() }
        });
        trace.backward = true;
        trace.note(peak);
    }
}

fn lock() -> MutexGuard<'static, Option<Trace>> {
    TRACE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trace {
    /// Adds an interval's peak to the phase that the interval lies in.
    fn note(&mut self, bytes: u64) {
        let Peaks { forward, backward, .. } = &mut self.peaks;
        let phase = if self.backward { backward } else { forward };
        *phase = bytes.max(*phase);
    }

    /// Returns the bytes of the interval's peak. `owners` divides the bytes that the peak adds to what
    /// was live when the interval began; the next interval begins with `gradients` bytes of gradients.
    fn end_interval(&mut self, gradients: u64, owners: impl FnOnce(u64) -> Peak) -> u64 {
        let new = peak_bytes().saturating_sub(self.base + self.before.bytes());
        let added = owners(new);
        let peak = Peak {
            gradients: self.before.gradients + added.gradients,
            scratch: self.before.scratch + added.scratch,
            rest: self.before.rest + added.rest,
        };
        if peak.bytes() > self.peaks.highest.bytes() {
            self.peaks.highest = peak;
        }
        self.before = Peak::now(self.base, gradients);
        reset_peak();
        peak.bytes()
    }
}
