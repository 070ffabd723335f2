//! Records one attempt of one run, in the background.

use super::error::StoreError;
use super::process::Process;
use super::rows::{FinalResult, NewRun};
use super::session::{Database, Session};
use super::write::{self, AttemptKey, End, MeasurementRow};
use super::writer::{Change, Message, Writer};
use crate::env;
use crate::record::{FoundArchitecture, Metric, Phase, PhaseUsage, Recorder, ScalingPoint};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

/// Calls of [`Recorder::measure`] that may wait to be written before the next one waits too.
const WAITING_CALLS: usize = 1024;

/// Writes one attempt of one run. Dropped without [`RunRecorder::finish`], the attempt counts as
/// interrupted.
///
/// Measurements are written in the background; where that fails, the next call returns the error.
#[derive(Debug)]
pub struct RunRecorder {
    path: PathBuf,
    key: AttemptKey,
    messages: SyncSender<Message>,
    failure: Arc<OnceLock<StoreError>>,
    /// `None` once the attempt has ended.
    thread: Option<JoinHandle<()>>,
}

impl RunRecorder {
    /// Enters a new run and starts the thread that writes it.
    pub(super) fn begin(database: &Database, run: &NewRun) -> Result<Self, StoreError> {
        let path = database.path.clone();
        let mut session = Session::new(database.clone())?;
        let (process, now) = (Process::current(), env::now());
        let key =
            session.write(async |connection| write::begin(connection, run, &process, now).await)?;
        let (sender, receiver) = sync_channel(WAITING_CALLS);
        let failure = Arc::new(OnceLock::new());
        let writer = Writer::new(session, key, Arc::clone(&failure));
        let thread = thread::Builder::new()
            .name(format!("run {} writer", key.run))
            .spawn(move || writer.run(&receiver))
            .map_err(|e| StoreError::Other { path: path.clone(), cause: e.to_string() })?;
        Ok(Self { path, key, messages: sender, failure, thread: Some(thread) })
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
        self.end(End::Finished(Some(result.clone())))
    }

    /// The run is complete, and it was not about one network: there is nothing that was tested.
    ///
    /// # Errors
    /// As [`RunRecorder::finish`].
    pub fn finish_study(mut self) -> Result<(), StoreError> {
        self.end(End::Finished(None))
    }

    /// A point of a memory scaling study.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn scaling_point(&mut self, point: &ScalingPoint) -> Result<(), StoreError> {
        self.commit(Change::ScalingPoint(Box::new(point.clone())))
    }

    /// The run ended with an error (`{:#}` of it).
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn fail(mut self, error: &str) -> Result<(), StoreError> {
        self.end(End::Failed(error.to_owned()))
    }

    /// The run was asked to stop.
    ///
    /// # Errors
    /// When it, or a measurement before it, cannot be stored; the attempt then counts as failed.
    pub fn interrupt(mut self) -> Result<(), StoreError> {
        self.end(End::Interrupted)
    }

    fn end(&mut self, end: End) -> Result<(), StoreError> {
        let result = self.commit(Change::End(end));
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| self.writer_gone())?;
        }
        result
    }

    /// Has the thread commit what there is, and then `change`.
    fn commit(&self, change: Change) -> Result<(), StoreError> {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Change(change, reply))?;
        answer.recv().map_err(|_| self.writer_gone())?
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        self.messages.send(message).map_err(|_| self.writer_gone())
    }

    fn writer_gone(&self) -> StoreError {
        StoreError::WriterGone(self.path.clone())
    }
}

impl Drop for RunRecorder {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // Nobody is left to tell; a reader sees that the heartbeat has stopped.
            let _ = self.end(End::Interrupted);
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
            let value = write::finite(what(), value)?;
            let step = write::integer(format!("the step of metric `{metric}`"), step)?;
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

    fn architecture(&mut self, found: &FoundArchitecture) -> anyhow::Result<()> {
        Ok(self.commit(Change::Architecture(Box::new(found.clone())))?)
    }
}
