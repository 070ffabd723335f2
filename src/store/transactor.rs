//! One connection to the database, used in whole transactions. This is where async ends, and where
//! locks of other processes are waited for.

use super::database::Database;
use super::error::{Fault, StoreError};
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Pause between two tries where SQLite reports a lock without waiting.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// How long a run that is in a hurry still waits for a lock.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// A connection that is opened when needed, and opened again after every error, so that nothing of a
/// failed transaction is left for the next one.
pub struct Transactor {
    pub database: Database,
    runtime: Runtime,
    connection: Option<SqliteConnection>,
    /// Set for a run, which waits for locks without end, until the flag is set.
    pub hurry: Option<Arc<AtomicBool>>,
}

/// A transaction that waits for a lock.
struct LockWait {
    start: Instant,
    /// When the hurry was first noticed.
    hurried: Option<Instant>,
    is_reported: bool,
}

impl Transactor {
    pub fn new(database: Database) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| StoreError::Other { path: database.path.clone(), cause: e.to_string() })?;
        Ok(Self { database, runtime, connection: None, hurry: None })
    }

    /// The one of a run, which waits for locks until `hurry` is set.
    pub fn patient(database: Database, hurry: Arc<AtomicBool>) -> Result<Self, StoreError> {
        let mut transactor = Self::new(database)?;
        transactor.hurry = Some(hurry);
        Ok(transactor)
    }

    /// Reads one consistent state.
    pub fn read<T>(
        &mut self,
        work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.transaction("BEGIN", work)
    }

    /// Writes all or nothing. `IMMEDIATE`: the lock is taken, and waited for, before anything is
    /// read, so that no transaction fails halfway because another one was faster.
    pub fn write<T>(
        &mut self,
        work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.transaction("BEGIN IMMEDIATE", work)
    }

    fn transaction<T>(
        &mut self,
        begin: &'static str,
        mut work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.outside_transaction(async |connection| {
            let mut transaction = connection.begin_with(begin).await?;
            let value = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok(value)
        })
    }

    /// Runs `work` until it succeeds, as long as only locks are in its way.
    pub fn outside_transaction<T>(
        &mut self,
        mut work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut wait = LockWait { start: Instant::now(), hurried: None, is_reported: false };
        loop {
            let fault = match self.attempt(&mut work) {
                Ok(value) => {
                    if wait.is_reported {
                        let path = self.database.path.display();
                        self.database.listener.notify(&format!("{path} is free again; continuing"));
                    }
                    return Ok(value);
                }
                Err(fault) => fault,
            };
            self.disconnect();
            if !fault.is_busy() || self.is_over(&mut wait) {
                let Database { path, lock_wait, .. } = &self.database;
                let lock_wait = if self.hurry.is_some() { LAST_WAIT } else { *lock_wait };
                return Err(fault.explain(path, lock_wait, self.database.is_pinned()));
            }
            self.report(&mut wait);
            thread::sleep(RETRY_AFTER);
        }
    }

    /// Whether it has waited for long enough.
    fn is_over(&self, wait: &mut LockWait) -> bool {
        match &self.hurry {
            None => wait.start.elapsed() >= self.database.lock_wait,
            Some(hurry) if hurry.load(Ordering::Relaxed) => {
                let hurried = wait.hurried.get_or_insert_with(Instant::now);
                hurried.elapsed() >= LAST_WAIT.min(self.database.lock_wait)
            }
            Some(_) => false,
        }
    }

    /// Says once that a run waits.
    fn report(&self, wait: &mut LockWait) {
        let due = wait.start.elapsed() >= self.database.notice_after;
        if self.hurry.is_some() && due && !wait.is_reported {
            wait.is_reported = true;
            let path = self.database.path.display();
            self.database.listener.notify(&format!(
                "{path} is locked by another program; waiting for it, with new measurements kept in \
                 memory (`fuser -v {path}` shows who has it open)"
            ));
        }
    }

    fn attempt<T>(
        &mut self,
        work: &mut impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.database.check_in_place()?;
        let value = self.runtime.block_on(async {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(self.database.options.connect().await?),
            };
            work(connection).await
        })?;
        self.database.check_in_place()?;
        Ok(value)
    }

    /// The last connection to close takes the log into the database and deletes it.
    pub fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            // What is left undone here, the next one to open the database does.
            let _ = self.runtime.block_on(connection.close());
        }
    }
}

impl Drop for Transactor {
    fn drop(&mut self) {
        self.disconnect();
    }
}
