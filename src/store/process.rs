//! Which process writes an attempt, and whether it is still running.

use super::rows::RunStatus;
use crate::env::ProcessStat;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::fs;

/// An attempt of another machine whose last sign of life is older than this, in seconds, counts as
/// interrupted.
const SILENT_AFTER: f64 = 60.0;

/// A process, distinguished from later ones with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunProcess {
    pub pid: u32,
    /// When it started, in clock ticks since boot, where the system reports it (Linux).
    pub started: Option<i64>,
    /// The boot and the pid namespace in which `pid` is valid, where the system reports them.
    /// Containers and machines may share a name, but not this.
    pub table: Option<String>,
}

impl RunProcess {
    pub fn current() -> Self {
        let pid = std::process::id();
        let started = stat(pid).ok().flatten().map(|stat| stat.started);
        Self { pid, started, table: process_table() }
    }

    /// The process of an attempt.
    ///
    /// # Errors
    /// When the row lacks its columns.
    pub fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            pid: row.try_get("pid")?,
            started: row.try_get("process_started")?,
            table: row.try_get("process_table")?,
        })
    }

    /// Whether the process is running. `None` where that is unknown: of another machine's process, and
    /// where the system does not report it.
    fn is_running(&self, table: Option<&str>) -> Option<bool> {
        if self.table.is_none() || self.table.as_deref() != table {
            return None;
        }
        match stat(self.pid) {
            Ok(None) => None,
            Ok(Some(stat)) if matches!(stat.state, 'Z' | 'X') => Some(false),
            Ok(Some(stat)) => self.started.map(|started| started == stat.started),
            Err(error) => (error.kind() == std::io::ErrorKind::NotFound).then_some(false),
        }
    }
}

/// `None` if it cannot be parsed.
fn stat(pid: u32) -> std::io::Result<Option<ProcessStat>> {
    Ok(ProcessStat::parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?))
}

/// See [`RunProcess::table`].
pub fn process_table() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// The status of an attempt for a reader in process table `table` at the time `now`. A process that is
/// known to be running may be silent: it writes nothing while it waits for the database's lock.
pub fn status_as_read(
    stored: RunStatus,
    process: &RunProcess,
    heartbeat_at: f64,
    table: Option<&str>,
    now: f64,
) -> RunStatus {
    let is_running = || {
        let is_heard = now - heartbeat_at <= SILENT_AFTER;
        process.is_running(table).unwrap_or(is_heard)
    };
    if stored == RunStatus::Running && !is_running() { RunStatus::Interrupted } else { stored }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_read(process: &RunProcess, silence: f64) -> RunStatus {
        let table = process_table();
        status_as_read(RunStatus::Running, process, 1000.0, table.as_deref(), 1000.0 + silence)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_living_process_may_be_silent() {
        let process = RunProcess::current();
        assert_eq!(as_read(&process, -5.0), RunStatus::Running);
        assert_eq!(as_read(&process, 3600.0), RunStatus::Running);
    }

    #[test]
    fn an_unknown_process_is_running_until_it_is_silent() {
        let process = RunProcess { table: None, ..RunProcess::current() };
        assert_eq!(as_read(&process, 59.0), RunStatus::Running);
        assert_eq!(as_read(&process, -5.0), RunStatus::Running);
        assert_eq!(as_read(&process, 61.0), RunStatus::Interrupted);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_reused_pid_is_another_process() {
        let current = RunProcess::current();
        assert!(current.started.is_some() && current.table.is_some());
        let earlier = RunProcess { started: current.started.map(|s| s - 1), ..current };
        assert_eq!(as_read(&earlier, 1.0), RunStatus::Interrupted);
    }

    #[test]
    fn a_pid_of_another_machine_is_not_looked_up() {
        let process = RunProcess { pid: u32::MAX, started: None, table: Some("elsewhere".into()) };
        assert_eq!(as_read(&process, 1.0), RunStatus::Running);
        assert_eq!(as_read(&process, 61.0), RunStatus::Interrupted);
    }

    #[test]
    fn an_ended_run_keeps_its_status() {
        let process = RunProcess { pid: u32::MAX, started: None, table: process_table() };
        let status = status_as_read(RunStatus::Finished, &process, 0.0, None, 1e9);
        assert_eq!(status, RunStatus::Finished);
    }
}
