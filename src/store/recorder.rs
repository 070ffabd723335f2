//! Records one attempt of one run, in the background.

use super::acquire;
use super::database::Database;
use super::error::StoreError;
use super::numbers::{finite, integer};
use super::reserve::Reserve;
use super::rows::FinalResult;
use super::transactor::Transactor;
use super::write::{AttemptEnd, AttemptKey, MeasurementRow};
use super::writer::{Change, Message, Writer};
use crate::checkpoint::Checkpoint;
use crate::record::{
    CheckpointId, DataFingerprint, Metric, Phase, PhaseUsage, Recorder, ScalingPoint,
    SearchedArchitecture,
};
use crate::text;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a run waits for the answer that something is stored. It continues without one, since the
/// database may be locked for long; a failure is then returned by the next call.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// How often a run that waits for its end to be stored checks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Writes one attempt of one run. Dropped without [`RunRecorder::finish`], the attempt counts as
/// interrupted.
///
/// Measurements are written in the background; where that fails, the next call returns the error.
/// They are kept in memory while another program holds the database's lock.
#[derive(Debug)]
pub struct RunRecorder {
    path: PathBuf,
    key: AttemptKey,
    messages: Sender<Message>,
    /// Set when the user ends the program.
    stop: Arc<AtomicBool>,
    /// Set when the attempt must end soon, whatever holds the lock.
    hurry: Arc<AtomicBool>,
    failure: Arc<OnceLock<StoreError>>,
    /// The last checkpoint.
    checkpoint: CheckpointId,
    /// `None` once the attempt has ended.
    thread: Option<JoinHandle<()>>,
}

impl RunRecorder {
    /// Starts the thread that writes an acquired run, which continues from this checkpoint, if there is one.
    pub(super) fn start(
        database: &Database,
        key: AttemptKey,
        from: Option<&Checkpoint>,
    ) -> Result<Self, StoreError> {
        let path = database.path.clone();
        let (stop, hurry) = (Arc::clone(&database.stop), Arc::new(AtomicBool::new(false)));
        let mut transactor = Transactor::patient(database.clone(), Arc::clone(&stop))?;
        transactor
            .write(async |connection| acquire::take_over_records(connection, key, from).await)
            .map_err(unless_stopped)?;
        // Until the run ends, it has time to wait, also after a stop: its current step takes longer.
        transactor.hurry = Some(Arc::clone(&hurry));
        let (sender, receiver) = channel();
        let failure = Arc::new(OnceLock::new());
        let reserve = Reserve::beside(database.file(), key.run);
        let checkpoint = from.map_or_else(CheckpointId::default, |checkpoint| checkpoint.id);
        let writer = Writer::new(transactor, (key, checkpoint), Arc::clone(&failure), reserve);
        let thread = thread::Builder::new()
            .name(format!("run {} writer", key.run))
            .spawn(move || writer.run(&receiver))
            .map_err(|e| StoreError::Other { path: path.clone(), cause: e.to_string() })?;
        let thread = Some(thread);
        Ok(Self { path, key, messages: sender, stop, hurry, failure, checkpoint, thread })
    }

    #[must_use]
    pub fn run_id(&self) -> i64 {
        self.key.run
    }

    /// The run is complete.
    ///
    /// # Errors
    /// When it, or a measurement before it, cannot be stored; the attempt then counts as failed.
    pub fn finish(mut self, result: &FinalResult) -> Result<(), StoreError> {
        self.end(AttemptEnd::Finished(Some(result.clone())))
    }

    /// The run is complete, and no network was tested: a memory study, or a search without training.
    ///
    /// # Errors
    /// As [`RunRecorder::finish`].
    pub fn finish_untested(mut self) -> Result<(), StoreError> {
        self.end(AttemptEnd::Finished(None))
    }

    /// A point of a memory study.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn scaling_point(&mut self, point: &ScalingPoint) -> Result<(), StoreError> {
        self.commit(Change::ScalingPoint(Box::new(point.clone())))
    }

    /// The run ended with an error.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn fail(mut self, error: &str) -> Result<(), StoreError> {
        self.end(AttemptEnd::Failed(text::without_backtrace(error)))
    }

    /// The run was asked to stop.
    ///
    /// # Errors
    /// When it, or a measurement before it, cannot be stored; the attempt then counts as failed.
    pub fn interrupt(mut self) -> Result<(), StoreError> {
        self.hurry.store(true, Ordering::Relaxed);
        self.end(AttemptEnd::Interrupted)
    }

    fn end(&mut self, end: AttemptEnd) -> Result<(), StoreError> {
        let result = self.commit_and_wait(Change::AttemptEnd(end));
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| self.writer_gone())?;
        }
        result
    }

    /// Has the thread commit what there is, and then `change`. After a stop it hurries.
    fn commit_and_wait(&self, change: Change) -> Result<(), StoreError> {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Change(change, reply))?;
        loop {
            match answer.recv_timeout(STOP_CHECK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => {
                    self.hurry.store(true, Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.writer_gone()),
            }
        }
    }

    /// The same, but continues when there is no answer after a while.
    fn commit(&self, change: Change) -> Result<(), StoreError> {
        self.is_committed(change).map(drop)
    }

    /// The same; returns whether there was an answer. After a stop, the thread hurries.
    fn is_committed(&self, change: Change) -> Result<bool, StoreError> {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Change(change, reply))?;
        match answer.recv_timeout(ANSWER_WAIT) {
            Ok(result) => result.map(|()| true),
            Err(RecvTimeoutError::Timeout) => self.failure.get().cloned().map_or(Ok(false), Err),
            Err(RecvTimeoutError::Disconnected) => Err(self.writer_gone()),
        }
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        self.messages.send(message).map_err(|_| self.writer_gone())
    }

    fn writer_gone(&self) -> StoreError {
        StoreError::WriterGone(self.path.clone())
    }
}

/// A wait for the lock that the user has ended.
pub(super) fn unless_stopped(error: StoreError) -> StoreError {
    match error {
        StoreError::Locked { path, .. } => StoreError::Stopped(path),
        error => error,
    }
}

impl Drop for RunRecorder {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.hurry.store(true, Ordering::Relaxed);
            // Nobody receives the error; a reader sees that the heartbeat has stopped.
            let _ = self.end(AttemptEnd::Interrupted);
        }
    }
}

impl Recorder for RunRecorder {
    fn measure(&mut self, step: u64, metrics: &[(Metric, f64)]) -> anyhow::Result<()> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone().into());
        }
        let mut rows = Vec::with_capacity(metrics.len());
        for &(metric, value) in metrics {
            let what = || format!("metric `{metric}` at step {step}");
            let value = finite(what(), value)?;
            let step = integer(format!("the step of metric `{metric}`"), step)?;
            rows.push(MeasurementRow { metric, step, value });
        }
        Ok(self.send(Message::Measurements(rows))?)
    }

    fn phase_started(&mut self, phase: Phase) -> anyhow::Result<()> {
        Ok(self.commit(Change::PhaseStarted(phase))?)
    }

    fn phase_finished(&mut self, phase: Phase, usage: PhaseUsage) -> anyhow::Result<()> {
        Ok(self.commit(Change::PhaseFinished(phase, usage))?)
    }

    fn mark(&mut self) -> anyhow::Result<Option<CheckpointId>> {
        let attempt = self.key.number as u32;
        let last = if self.checkpoint.attempt == attempt { self.checkpoint.count } else { 0 };
        self.checkpoint = CheckpointId { attempt, count: last + 1 };
        let is_stored = self.is_committed(Change::Checkpoint(self.checkpoint))?;
        Ok(is_stored.then_some(self.checkpoint))
    }

    fn data(&mut self, data: &DataFingerprint) -> anyhow::Result<()> {
        Ok(self.commit(Change::Data(data.clone()))?)
    }

    fn architecture(&mut self, found: &SearchedArchitecture) -> anyhow::Result<()> {
        Ok(self.commit(Change::Architecture(Box::new(found.clone())))?)
    }
}
