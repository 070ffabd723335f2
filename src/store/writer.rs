//! The thread that writes one attempt.
//!
//! Measurements are collected and committed in batches; everything else is committed at once and
//! answered. The thread has its own connection, so the run waits for the disk only where a phase
//! starts or ends.

use super::error::StoreError;
use super::reserve::Reserve;
use super::scaling;
use super::transactor::Transactor;
use super::write::{self, AttemptEnd, AttemptKey, MeasurementRow};
use crate::env;
use crate::record::{
    CheckpointId, DataFingerprint, Phase, PhaseUsage, ScalingPoint, SearchedArchitecture,
};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Rows of a batch that is committed without waiting for its time.
const BATCH_ROWS: usize = 4096;
/// The first sign of life of an idle run, and the share of its age that later ones may be apart.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(100);
const HEARTBEAT_SHARE: u32 = 4;

/// What the run sends to the thread.
pub enum Message {
    Measurements(Vec<MeasurementRow>),
    Change(Change, SyncSender<Result<(), StoreError>>),
}

/// What is committed at once.
pub enum Change {
    PhaseStarted(Phase),
    PhaseFinished(Phase, PhaseUsage),
    Data(DataFingerprint),
    /// What is measured later comes after this checkpoint.
    Checkpoint(CheckpointId),
    Architecture(Box<SearchedArchitecture>),
    ScalingPoint(Box<ScalingPoint>),
    AttemptEnd(AttemptEnd),
}

/// The state of the thread.
pub struct Writer {
    transactor: Transactor,
    key: AttemptKey,
    /// The last checkpoint.
    checkpoint: CheckpointId,
    batch: Vec<MeasurementRow>,
    start: Instant,
    last_commit: Instant,
    reserve: Reserve,
    /// Why something could not be written. The recorder returns it to the run, and only the end of the
    /// attempt is written from then on.
    failure: Arc<OnceLock<StoreError>>,
}

impl Writer {
    pub fn new(
        transactor: Transactor,
        (key, checkpoint): (AttemptKey, CheckpointId),
        failure: Arc<OnceLock<StoreError>>,
        reserve: Reserve,
    ) -> Self {
        let (batch, start) = (Vec::new(), Instant::now());
        Self { transactor, key, checkpoint, batch, start, last_commit: start, reserve, failure }
    }

    /// Serves the run until the attempt ends.
    pub fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(self.time_left()) {
                Ok(Message::Measurements(rows)) => self.batch.extend(rows),
                Ok(Message::Change(Change::AttemptEnd(end), reply)) => {
                    self.commit();
                    let result = self.end(end);
                    // The database file is complete before the program continues.
                    drop(self);
                    let _ = reply.send(result);
                    return;
                }
                Ok(Message::Change(change, reply)) => {
                    self.commit();
                    let result = self.change(&change);
                    if let Err(failure) = &result {
                        // Before the answer, which comes too late if the run has stopped waiting.
                        let _ = self.failure.set(failure.clone());
                    }
                    let _ = reply.send(result);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.batch.len() >= BATCH_ROWS || self.time_left().is_zero() {
                self.commit();
            }
        }
    }

    /// Until the next commit or sign of life. An idle run that has just started gives signs more often,
    /// so that the duration of a killed one is still about right.
    fn time_left(&self) -> Duration {
        let database = &self.transactor.database;
        let idle = self.batch.is_empty();
        let heartbeat = (self.start.elapsed() / HEARTBEAT_SHARE).max(FIRST_HEARTBEAT);
        let heartbeat = heartbeat.min(database.heartbeat_every);
        let period = if idle { heartbeat } else { database.commit_every };
        period.saturating_sub(self.last_commit.elapsed())
    }

    /// Writes the batch and a sign of life.
    fn commit(&mut self) {
        let (key, batch, now) = (self.key, std::mem::take(&mut self.batch), env::now());
        if self.failure.get().is_none() {
            let checkpoint = self.checkpoint;
            let result = self.transactor.write(async |connection| {
                write::check_not_replaced(connection, key).await?;
                write::measurements(connection, key, checkpoint, &batch, now).await
            });
            if let Some(failure) = result.unwrap_or_else(Some) {
                let _ = self.failure.set(failure);
            }
        }
        self.last_commit = Instant::now();
    }

    fn change(&mut self, change: &Change) -> Result<(), StoreError> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        let (key, now) = (self.key, env::now());
        let path = self.transactor.database.path.clone();
        self.transactor.write(async |connection| {
            write::check_not_replaced(connection, key).await?;
            match change {
                Change::PhaseStarted(phase) => {
                    write::phase_started(connection, key, *phase, now).await
                }
                Change::PhaseFinished(phase, usage) => {
                    write::phase_finished(connection, key, *phase, *usage).await
                }
                Change::Data(data) => write::data(connection, key, data).await,
                // What was measured before it has been committed.
                Change::Checkpoint(id) => write::checkpoint(connection, key, *id).await,
                Change::Architecture(found) => {
                    write::architecture(connection, key, found, &path).await
                }
                Change::ScalingPoint(point) => scaling::write(connection, key, point).await,
                Change::AttemptEnd(end) => write::end(connection, key, end, now).await,
            }
        })?;
        if let Change::Checkpoint(id) = change {
            self.checkpoint = *id;
        }
        Ok(())
    }

    /// Writes how the attempt ended. It has failed if its measurements could not be written.
    fn end(&mut self, end: AttemptEnd) -> Result<(), StoreError> {
        let Some(failure) = self.failure.get().cloned() else {
            return self.change(&Change::AttemptEnd(end));
        };
        let text = failure.to_string();
        let (error, result) = match end {
            AttemptEnd::Failed(error) if error.contains(&text) => (error, Ok(())),
            AttemptEnd::Failed(error) => (format!("{error}; then: {text}"), Ok(())),
            AttemptEnd::Finished(_) | AttemptEnd::Interrupted => (text, Err(failure)),
        };
        let (key, now) = (self.key, env::now());
        self.reserve.release();
        self.transactor.disconnect();
        let end = AttemptEnd::Failed(error);
        self.transactor.write(async |connection| {
            write::check_not_replaced(connection, key).await?;
            write::end(connection, key, &end, now).await
        })?;
        result
    }
}
