//! The threads that operators compute with.

use super::output::say;
use anyhow::{Result, anyhow};
use repro::env;
use repro::text;

/// Starts the threads and returns their number, at most the number of cores: more would only wait for
/// each other. Results do not depend on it.
///
/// # Errors
/// When the system refuses to start them.
pub fn start_threads(asked: Option<u16>) -> Result<usize> {
    let cores = env::cores();
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(asked) = asked.map(usize::from) {
        if asked > cores {
            let has = text::plural(cores, "core");
            say(format_args!("--threads {asked}: this machine has {has}; using {cores}"));
        }
        pool = pool.num_threads(asked.min(cores));
    }
    // Always built here, because rayon panics if it cannot build its default pool.
    pool.build_global().map_err(|error| {
        anyhow!("cannot start threads ({error}); raise the limit (`ulimit -u`) or use --threads 1")
    })?;
    Ok(rayon::current_num_threads())
}
