//! How a command ends.

/// How a command ended that returned no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// Something failed and has been reported.
    Failed,
    Interrupted,
}

/// A mistake on the command line that the parser does not detect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);
