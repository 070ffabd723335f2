//! SIGINT, SIGTERM and SIGHUP: the first asks the run to stop, the second ends the program.

use super::say;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::{self, IsTerminal};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// How often the flag is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// A flag that rises when the program is asked to stop. Whoever asked is told at once that it was
/// heard, since a step may take minutes.
pub struct StopFlag {
    stop: Arc<AtomicBool>,
    acknowledges: Option<JoinHandle<()>>,
}

impl Deref for StopFlag {
    type Target = AtomicBool;

    fn deref(&self) -> &AtomicBool {
        &self.stop
    }
}

impl Drop for StopFlag {
    fn drop(&mut self) {
        // Who stops faster than it was said waits for that; otherwise nobody has asked.
        if self.stop.load(Ordering::Relaxed) {
            let _ = self.acknowledges.take().map(JoinHandle::join);
        }
    }
}

/// The flag. Asked again, the program ends at once: what is in the database stays sound.
///
/// # Errors
/// When the system refuses the handlers, or a thread.
pub fn stop_flag() -> io::Result<StopFlag> {
    let stop = Arc::new(AtomicBool::new(false));
    // A shell's background job ignores SIGINT too, but whoever sends one wants the run to stop.
    let heard = |signal: &i32| [SIGINT, SIGTERM].contains(signal) || !is_ignored(*signal);
    for signal in SIGNALS.into_iter().filter(heard) {
        // In this order, so that the first signal finds the flag still down.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    let asked = Arc::clone(&stop);
    let acknowledge = move || {
        while !asked.load(Ordering::Relaxed) {
            thread::sleep(INTERVAL);
        }
        // The line of a progress bar has no end.
        let line = if io::stderr().is_terminal() { "\n" } else { "" };
        say(format_args!("{line}asked to stop; asked again, this ends at once"));
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(acknowledge)?;
    Ok(StopFlag { stop, acknowledges: Some(thread) })
}

/// Whether the program was started with the signal ignored, as `nohup` does; where the system does
/// not tell (Linux does), it counts as not ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
