//! SIGINT, SIGTERM and SIGHUP: the first one stops the run, the second one ends the program.

use super::output::say;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::{self, IsTerminal};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// How often the acknowledging thread checks the flags.
const INTERVAL: Duration = Duration::from_millis(20);

/// A signal this soon after the first one is the same request: `timeout` and others signal the process
/// and its group.
const REPETITION: Duration = Duration::from_millis(500);

/// A flag that is set when the program is asked to stop. A thread acknowledges the signal at once,
/// because the current step may take minutes.
pub struct StopFlag {
    stop: Arc<AtomicBool>,
    /// That the program is done, so that the thread need not wait.
    done: Arc<AtomicBool>,
    acknowledgement: Option<JoinHandle<()>>,
}

impl StopFlag {
    /// The flag for another thread.
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }
}

impl Deref for StopFlag {
    type Target = AtomicBool;

    fn deref(&self) -> &AtomicBool {
        &self.stop
    }
}

impl Drop for StopFlag {
    fn drop(&mut self) {
        // A program that stops within the interval waits for the acknowledgement. Without a signal,
        // the thread never ends by itself.
        self.done.store(true, Ordering::Relaxed);
        if self.stop.load(Ordering::Relaxed) {
            let _ = self.acknowledgement.take().map(JoinHandle::join);
        }
    }
}

/// Installs the handlers. A second signal ends the program at once; the database stays intact.
///
/// # Errors
/// When the system refuses the handlers, or a thread.
pub fn stop_flag() -> io::Result<StopFlag> {
    let [stop, ends, done] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    // SIGHUP stays ignored under `nohup`. A shell's background job ignores SIGINT too, but its
    // sender wants the run to stop.
    let is_handled = |signal: &i32| [SIGINT, SIGTERM].contains(signal) || !is_ignored(*signal);
    for signal in SIGNALS.into_iter().filter(is_handled) {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&ends))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    let (asked, is_done) = (Arc::clone(&stop), Arc::clone(&done));
    let acknowledge = move || {
        while !asked.load(Ordering::Relaxed) {
            thread::sleep(INTERVAL);
        }
        // A progress bar does not end its line.
        let line = if io::stderr().is_terminal() { "\n" } else { "" };
        say(format_args!(
            "{line}stopping after the current step; interrupt again to end the program at once"
        ));
        let start = Instant::now();
        while start.elapsed() < REPETITION && !is_done.load(Ordering::Relaxed) {
            thread::sleep(INTERVAL);
        }
        ends.store(true, Ordering::Relaxed);
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(acknowledge)?;
    Ok(StopFlag { stop, done, acknowledgement: Some(thread) })
}

/// Makes writes beyond a file size limit (`ulimit -f`) fail with an error. By default SIGXFSZ ends
/// the program without a message. A process that this one starts gets the default back.
///
/// # Errors
/// When the system refuses the handler.
pub fn report_file_size_limit() -> io::Result<()> {
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

/// Whether the program was started with the signal ignored, as `nohup` does. This is known
/// on Linux only; elsewhere it is false.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
