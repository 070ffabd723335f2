//! Panics become errors of one sentence, stored and reported like any other failure.

use super::output::say;
use anyhow::{Result, anyhow};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Mutex;
use std::thread;

/// Where the last panic happened.
static PLACE: Mutex<Option<String>> = Mutex::new(None);

/// Replaces the message that a panic prints by default. [`catch_panic`] reports a panic of the main
/// thread and of the threads that compute for it. With `RUST_BACKTRACE` set, the default stays.
pub fn install_hook() {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        panic::set_hook(Box::new(keep_place));
    }
}

fn keep_place(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    let is_caught =
        thread::current().name() == Some("main") || rayon::current_thread_index().is_some();
    if !is_caught {
        let text = info.payload_as_str().unwrap_or("no message");
        say(format_args!("panic at {}: {text}", place.as_deref().unwrap_or("an unknown place")));
    }
    if let Ok(mut last) = PLACE.lock() {
        *last = place;
    }
}

/// Executes `work` and turns a panic into an error.
///
/// # Errors
/// Those of `work`, or the panic.
pub fn catch_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let place = PLACE.lock().ok().and_then(|mut last| last.take());
        let at = place.map(|place| format!(" at {place}")).unwrap_or_default();
        Err(anyhow!("the program panicked{at}, which is a bug in it: {text}"))
    })
}
