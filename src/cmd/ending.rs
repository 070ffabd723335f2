//! How a command ends.

/// How a command ended that returned no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// Something failed that was reported already.
    Failed,
    Interrupted,
}

/// A mistake on the command line that its parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);
