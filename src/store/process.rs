//! Which process writes an attempt, and whether it is still running.

use super::rows::RunStatus;
use std::fs;

/// An attempt whose last sign of life is older than this, in seconds, counts as interrupted.
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
        let started = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let started = started.as_deref().and_then(parse_stat).map(|(_, started)| started);
        Self { pid, started, table: process_table() }
    }

    /// Whether the process has ended for certain, which is unknown of another machine's.
    fn is_gone(&self, table: Option<&str>) -> bool {
        if self.table.is_none() || self.table.as_deref() != table {
            return false;
        }
        match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => parse_stat(&stat).is_some_and(|(state, started)| {
                matches!(state, 'Z' | 'X') || self.started.is_some_and(|s| s != started)
            }),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

/// See [`RunProcess::table`].
pub fn process_table() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// State and start time of `/proc/PID/stat`. The command's name, in parentheses, may itself hold
/// spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(char, i64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The status of an attempt for a reader in process table `table` at the time `now`.
pub fn status_as_read(
    stored: RunStatus,
    process: &RunProcess,
    heartbeat_at: f64,
    table: Option<&str>,
    now: f64,
) -> RunStatus {
    let silent = now - heartbeat_at > SILENT_AFTER;
    if stored == RunStatus::Running && (silent || process.is_gone(table)) {
        return RunStatus::Interrupted;
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_read(process: &RunProcess, silence: f64) -> RunStatus {
        let table = process_table();
        status_as_read(RunStatus::Running, process, 1000.0, table.as_deref(), 1000.0 + silence)
    }

    #[test]
    fn a_process_is_running_until_it_is_silent() {
        let process = RunProcess::current();
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

    #[test]
    fn a_command_name_may_hold_parentheses() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4 9 0 0 0 0 0 0 0 20 0 1 0 185198 3133440 350";
        assert_eq!(parse_stat(stat), Some(('S', 185_198)));
    }
}
