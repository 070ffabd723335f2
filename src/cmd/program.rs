//! This program, to start it again in a process of its own.

use anyhow::{Context, Result};
use std::path::PathBuf;

/// The program's file. On Linux the link refers to it even if the file has been replaced.
///
/// # Errors
/// When the system does not tell.
pub fn this_program() -> Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe().context("cannot find the program itself")
}
