//! SIGINT, SIGTERM and SIGHUP: the first asks the run to stop, the second ends the program.

use super::say;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// How often the flag is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// A flag that rises when the program is asked to stop. Asked again, the program ends at once: what
/// is in the database stays sound.
///
/// # Errors
/// When the system refuses the handlers.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    // A shell's background job ignores SIGINT too, but whoever sends one wants the run to stop.
    let heard = |signal: &i32| [SIGINT, SIGTERM].contains(signal) || !is_ignored(*signal);
    for signal in SIGNALS.into_iter().filter(heard) {
        // In this order, so that the first signal finds the flag still down.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    acknowledge(Arc::clone(&stop))?;
    Ok(stop)
}

/// A step may take minutes: whoever asked is told at once.
fn acknowledge(stop: Arc<AtomicBool>) -> io::Result<()> {
    let wait = move || {
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(INTERVAL);
        }
        say("asked to stop: this ends with the step at work; asked again, at once");
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Whether the program was started with the signal ignored, as `nohup` does; where the system does
/// not tell (Linux does), it counts as not ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
