//! The states of all stages of a run, and when they are written.

use crate::checkpoint::{Checkpoint, Folder, PhaseState, Stage};
use crate::memory;
use crate::progress::Progress;
use crate::record::{Phase, PhaseUsage, Recorder};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The states of the stages of a run: those of an earlier attempt, which the stages take over, and those
/// that the next checkpoint will have.
#[derive(Debug)]
pub struct Checkpoints {
    /// `None`: nothing is written.
    writer: Option<CheckpointWriter>,
    restored: BTreeMap<String, Stage>,
    next: Checkpoint,
    /// When the current phase started, or was continued.
    phase_start: Instant,
    last: Instant,
    /// Whether it was reported that checkpoints cannot be written.
    is_reported: bool,
}

/// A checkpoint between two phases takes some tens of milliseconds.
const WORTHWHILE: Duration = Duration::from_secs(5);

/// Where checkpoints are written, and how often.
#[derive(Clone, Debug)]
pub struct CheckpointWriter {
    pub folder: Folder,
    pub interval: Duration,
}

impl Checkpoints {
    /// Neither writes nor continues anything.
    #[must_use]
    pub fn none() -> Self {
        Self::new(None, Checkpoint::default())
    }

    /// Continues from this checkpoint, which is empty for a new run.
    #[must_use]
    pub fn new(writer: Option<CheckpointWriter>, mut from: Checkpoint) -> Self {
        let restored = std::mem::take(&mut from.stages);
        let now = Instant::now();
        Self { writer, restored, next: from, phase_start: now, last: now, is_reported: false }
    }

    /// The fingerprint of the images that the earlier attempt has read.
    #[must_use]
    pub fn data_sha256(&self) -> Option<&str> {
        self.next.data_sha256.as_deref()
    }

    pub fn set_data(&mut self, sha256: &str) {
        self.next.data_sha256 = Some(sha256.to_owned());
    }

    /// Whether the searched architecture is in the database.
    #[must_use]
    pub fn has_architecture(&self) -> bool {
        self.next.has_architecture
    }

    pub fn set_has_architecture(&mut self) {
        self.next.has_architecture = true;
    }

    pub(super) fn restored(&mut self, stage: &str) -> Option<Stage> {
        self.restored.remove(stage)
    }

    pub(super) fn keep(&mut self, stage: &str, state: Stage) {
        // Without a writer, nothing would ever read it.
        if self.writer.is_some() {
            self.next.stages.insert(stage.to_owned(), state);
        }
    }

    pub(super) fn forget(&mut self, stage: &str) {
        self.next.stages.remove(stage);
    }

    pub(super) fn forget_tensors(&mut self, stage: &str) {
        if let Some(stage) = self.next.stages.get_mut(stage) {
            stage.forget_tensors();
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| self.last.elapsed() >= writer.interval)
    }

    /// Whether enough time has passed since the last checkpoint.
    pub(super) fn is_worthwhile(&self) -> bool {
        let worthwhile = |writer: &CheckpointWriter| writer.interval.min(WORTHWHILE);
        self.writer.as_ref().is_some_and(|writer| self.last.elapsed() >= worthwhile(writer))
    }

    /// Writes the states of all stages, after all that was measured before.
    pub(super) fn write(
        &mut self,
        recorder: &mut dyn Recorder,
        progress: &dyn Progress,
    ) -> anyhow::Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let mut checkpoint = self.next.clone();
        // Those that no stage has taken over yet: they belong to later phases.
        let waiting =
            self.restored.iter().filter(|(name, _)| !self.next.stages.contains_key(*name));
        let waiting = waiting.map(|(name, stage)| (name.clone(), stage.clone()));
        checkpoint.stages.extend(waiting);
        for state in &mut checkpoint.phases {
            if !state.is_finished {
                state.usage = with_time(state.usage, self.phase_start);
            }
        }
        self.last = Instant::now();
        // The database is locked by another program: the next time, then.
        let Some(id) = recorder.mark()? else { return Ok(()) };
        checkpoint.id = id;
        match writer.folder.save(&checkpoint, self.next.id) {
            Ok(()) => {
                self.next.id = id;
                self.is_reported = false;
            }
            Err(error) if !self.is_reported => {
                progress.remark(&format!(
                    "cannot write a checkpoint, so the run could only be continued from an earlier \
                     one: {error}"
                ));
                self.is_reported = true;
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn state_of(&mut self, phase: Phase) -> Option<&mut PhaseState> {
        self.next.phases.iter_mut().find(|state| state.phase == phase)
    }

    pub(super) fn has_started(&mut self, phase: Phase) -> bool {
        self.state_of(phase).is_some()
    }

    pub(super) fn has_finished(&mut self, phase: Phase) -> bool {
        self.state_of(phase).is_some_and(|state| state.is_finished)
    }

    pub(super) fn start(&mut self, phase: Phase, now: f64) {
        self.phase_start = Instant::now();
        if self.state_of(phase).is_none() {
            let usage = PhaseUsage::default();
            let state = PhaseState { phase, started_at: now, usage, is_finished: false };
            self.next.phases.push(state);
        }
    }

    /// Seconds and peak memory of a phase up to now.
    pub(super) fn usage_of(&mut self, phase: Phase) -> PhaseUsage {
        let start = self.phase_start;
        with_time(self.state_of(phase).map(|state| state.usage).unwrap_or_default(), start)
    }

    pub(super) fn finish(&mut self, phase: Phase, usage: PhaseUsage) {
        if let Some(state) = self.state_of(phase) {
            (state.usage, state.is_finished) = (usage, true);
        }
    }
}

/// `usage`, and what has passed since `start`.
fn with_time(usage: PhaseUsage, start: Instant) -> PhaseUsage {
    PhaseUsage {
        seconds: usage.seconds + start.elapsed().as_secs_f64(),
        peak_bytes: usage.peak_bytes.max(memory::peak_bytes()),
        ..usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Monitor;
    use crate::progress::Quiet;
    use crate::record::{CheckpointId, Metric};
    use candle_core::Device;
    use std::sync::atomic::AtomicBool;

    /// Counts checkpoints, and stores nothing.
    #[derive(Default)]
    struct Count(u32);

    impl Recorder for Count {
        fn measure(&mut self, _: u64, _: &[(Metric, f64)]) -> anyhow::Result<()> {
            Ok(())
        }
        fn mark(&mut self) -> anyhow::Result<Option<CheckpointId>> {
            self.0 += 1;
            Ok(Some(CheckpointId { attempt: 1, count: self.0 }))
        }
    }

    #[test]
    fn a_checkpoint_has_the_stages_that_are_still_to_be_continued() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::of_run(&temporary.path().join("results.db"), 1);
        let writer = CheckpointWriter { folder: folder.clone(), interval: Duration::ZERO };
        let stage = |value: u64| Stage::with("at", &value).unwrap();
        let stages = [("search".to_owned(), stage(1)), ("train".to_owned(), stage(2))].into();
        let from = Checkpoint { stages, ..Checkpoint::default() };
        let checkpoints = &mut Checkpoints::new(Some(writer), from);
        let (recorder, stop) = (&mut Count::default(), AtomicBool::new(false));
        let mut monitor = Monitor { recorder, progress: &Quiet, stop: &stop, checkpoints };
        let stages = |folder: &Folder| -> Vec<(String, u64)> {
            let checkpoint = folder.load(&Device::Cpu, |_| true).unwrap().checkpoint.unwrap();
            checkpoint.stages.into_iter().map(|(name, s)| (name, s.get("at").unwrap())).collect()
        };
        let named = |stages: &[(&str, u64)]| -> Vec<(String, u64)> {
            stages.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect()
        };
        assert_eq!(monitor.restored("search").unwrap().get::<u64>("at").unwrap(), 1);
        monitor.checkpoint("search", stage(5)).unwrap();
        assert_eq!(stages(&folder), named(&[("search", 5), ("train", 2)]));
        assert!(monitor.restored("train").is_some());
        assert!(monitor.restored("train").is_none());
        monitor.keep("train", stage(7));
        monitor.checkpoint_between().unwrap();
        assert_eq!(stages(&folder), named(&[("train", 7)]));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(
            monitor
                .checkpoint("train/repeat", stage(9))
                .unwrap_err()
                .is::<crate::monitor::Interrupted>()
        );
        assert_eq!(stages(&folder), named(&[("train", 7), ("train/repeat", 9)]));
    }
}
