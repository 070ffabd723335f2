//! Signs of life of an attempt that does not record yet.

use super::database::Database;
use super::error::StoreError;
use super::transactor::Transactor;
use super::write::{self, AttemptKey};
use crate::env;
use crate::record::CheckpointId;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};

/// Writes a heartbeat for an acquired attempt until it is dropped, so that no other machine replaces it while it
/// loads a large checkpoint.
#[derive(Debug)]
pub struct KeepAlive {
    /// Dropped to end the thread.
    sender: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KeepAlive {
    pub(super) fn start(database: &Database, key: AttemptKey) -> Result<Self, StoreError> {
        let mut transactor = Transactor::new(database.clone())?;
        let (sender, receiver) = channel::<()>();
        let period = database.heartbeat_every;
        let beat = move || {
            while receiver.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                let (checkpoint, now) = (CheckpointId::default(), env::now());
                // If it fails, the recorder meets the same error, and reports it.
                let _ = transactor.write(async |connection| {
                    write::measurements(connection, key, checkpoint, &[], now).await
                });
            }
        };
        let thread = thread::Builder::new()
            .name(format!("run {} heartbeat", key.run))
            .spawn(beat)
            .map_err(|e| StoreError::Other { path: database.path.clone(), cause: e.to_string() })?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // Even if it has panicked: the recorder starts a heartbeat of its own.
            let _ = thread.join();
        }
    }
}
