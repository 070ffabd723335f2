//! Who holds the bytes at the highest peak of a step.
//!
//! A trace is a row of stretches; each ends when an operator has given its output. What was there
//! when a stretch began, and what its peak adds to that, are told apart between owners without a
//! rest, so that the owners' bytes always sum to the peak.

use super::{live_bytes, peak_bytes, reset_peak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who holds the bytes of a peak, above the base of its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Gradients that are there, and those that the operator at work gives.
    pub gradients: u64,
    /// What threads keep for their next piece of work, and what the operator at work holds besides
    /// what it was given and what it gives.
    pub scratch: u64,
    /// Everything else that is there, and the map that the operator at work gives.
    pub rest: u64,
}

impl Peak {
    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.gradients + self.scratch + self.rest
    }

    /// What is live now, of which so many bytes are gradients.
    fn now(base: u64, gradients: u64) -> Self {
        let live = live_bytes().saturating_sub(base);
        let gradients = gradients.min(live);
        let scratch = KEPT.load(Ordering::Relaxed).min(live - gradients);
        Self { gradients, scratch, rest: live - gradients - scratch }
    }
}

/// The peaks of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    pub highest: Peak,
    /// Bytes of the highest one of each part: up to the loss, back from it, and what comes after.
    pub forward: u64,
    pub backward: u64,
    pub after: u64,
}

impl Peaks {
    fn of(peak: Peak) -> Self {
        Self { highest: peak, ..Self::default() }
    }
}

/// Working memory that threads keep from one piece of work to the next.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// A thread keeps so many bytes of working memory more.
pub fn keep(more: usize) {
    KEPT.fetch_add(more as u64, Ordering::Relaxed);
}

struct Trace {
    base: u64,
    /// When the present stretch began.
    before: Peak,
    peaks: Peaks,
    /// Whether an operator has given gradients; what makes maps from then on makes them again.
    backward: bool,
}

static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

/// Begins to look at who holds the bytes above `base`. Until [`end_trace`] there is no other use for
/// [`peak_bytes`].
pub fn begin_trace(base: u64) {
    let before = Peak::now(base, 0);
    reset_peak();
    *lock() = Some(Trace { base, before, peaks: Peaks::of(before), backward: false });
}

/// The highest peaks since [`begin_trace`].
#[must_use]
pub fn end_trace() -> Peaks {
    let Some(mut trace) = lock().take() else { return Peaks::default() };
    let last = trace.end_stretch(0, |new| Peak { scratch: new, ..Peak::default() });
    Peaks { after: last, ..trace.peaks }
}

/// An operator of a forward pass has given a map of so many bytes.
pub fn map_made(bytes: impl FnOnce() -> u64) {
    if let Some(trace) = lock().as_mut() {
        let bytes = bytes();
        let peak = trace.end_stretch(trace.before.gradients, |new| {
            let map = bytes.min(new);
            Peak { rest: map, scratch: new - map, ..Peak::default() }
        });
        trace.note(peak);
    }
}

/// An operator of a backward pass has given gradients of `made` bytes; `held` bytes of gradients are
/// there now.
pub fn gradients_made(made: u64, held: impl FnOnce() -> u64) {
    if let Some(trace) = lock().as_mut() {
        let peak = trace.end_stretch(held(), |new| {
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
    /// Counts a stretch's peak to the part of the step that it lies in.
    fn note(&mut self, bytes: u64) {
        let Peaks { forward, backward, .. } = &mut self.peaks;
        let part = if self.backward { backward } else { forward };
        *part = bytes.max(*part);
    }

    /// The bytes of the stretch's peak. `owners` of those that it has beyond the stretch's beginning;
    /// the next one begins with so many bytes of gradients.
    fn end_stretch(&mut self, gradients: u64, owners: impl FnOnce(u64) -> Peak) -> u64 {
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
