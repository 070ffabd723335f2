//! How far a long task is: what the loops of a run and the fetch of a data set report.

/// Shows how far a task is. The library prints nothing itself.
pub trait Progress {
    /// A task starts.
    fn started(&self, what: &str, amount: Amount);
    /// So much of it is done since `started`; `note` is a short state (`loss 1.23`) or empty.
    fn advanced(&self, done: u64, note: &str);
    /// The task has ended, successfully or not.
    fn finished(&self);
    /// Something to know that is no reason to stop, such as a source that failed.
    fn remark(&self, text: &str);
}

/// How much a task has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Steps(u64),
    Bytes(u64),
    Unknown,
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn started(&self, _: &str, _: Amount) {}
    fn advanced(&self, _: u64, _: &str) {}
    fn finished(&self) {}
    fn remark(&self, _: &str) {}
}
