//! Output: text for people, JSON lines for programs, messages on standard error.

use anyhow::Error;
use repro::text::{printable, without_backtrace};
use serde::Serialize;
use std::cell::Cell;
use std::fmt::{self, Display};
use std::io::{self, StdoutLock, Write};

/// Writes a line to standard error. Failures are ignored: a closed standard error must not end a run.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", printable(&text.to_string()));
}

/// Standard output, with errors that name it.
pub fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

/// See [`stdout`].
pub struct Stdout(StdoutLock<'static>);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| named(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| named(&error))
    }
}

/// The same kind of error: a broken pipe stays one.
fn named(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// The text and the JSON lines of `repro run`. A failing output does not end the runs, since their
/// results are in the database.
pub struct Output {
    json: bool,
    failed: Cell<bool>,
}

impl Output {
    /// With `json`, standard output has only JSON lines.
    pub fn new(json: bool) -> Self {
        Self { json, failed: Cell::new(false) }
    }

    /// Text for people.
    pub fn text(&self, text: impl Display) {
        if self.json {
            say(text);
        } else {
            self.write(format_args!("{}", printable(&text.to_string())));
        }
    }

    /// A line for programs, if they asked for it.
    ///
    /// # Errors
    /// When `value` has no JSON form.
    pub fn json(&self, value: &impl Serialize) -> serde_json::Result<()> {
        if self.json {
            self.write(format_args!("{}", serde_json::to_string(value)?));
        }
        Ok(())
    }

    /// Whether output was lost, other than by a closed pipe.
    pub fn failed(&self) -> bool {
        self.failed.get()
    }

    /// The first failure is reported. Nothing is written after it.
    fn write(&self, line: fmt::Arguments<'_>) {
        if self.failed() {
            return;
        }
        let mut out = stdout();
        let written = writeln!(out, "{line}").and_then(|()| out.flush());
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.failed.set(true);
            say(format_args!("error: {error}; the runs continue and are stored in the database"));
        }
    }
}

/// An error with its causes. A cause that is already part of the message is not repeated.
pub fn message(error: &Error) -> String {
    let causes = error.chain().map(|cause| without_backtrace(&cause.to_string()));
    causes.fold(String::new(), |text, cause| match (text.is_empty(), text.contains(&cause)) {
        (true, _) => cause,
        (_, true) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// Whether the reader of the output has closed the pipe, as in `repro list | head -1`.
pub fn is_broken_pipe(error: &Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_repeated_cause_is_printed_once() {
        let error = anyhow!("disk full").context("cannot write x.db: disk full").context("run 3");
        assert_eq!(message(&error), "run 3: cannot write x.db: disk full");
    }

    #[test]
    fn a_backtrace_is_cut_off() {
        let error = anyhow!("x.png: no image\n   0: candle_core::error::bt\n      at error.rs:1\n");
        assert_eq!(message(&error), "x.png: no image");
        let lists = anyhow!("two problems:\n  10: one\n  20: two");
        assert_eq!(message(&lists), lists.to_string());
    }

    #[test]
    fn a_broken_pipe_is_found_below_its_context() {
        let error = Error::from(named(&io::ErrorKind::BrokenPipe.into())).context("writing");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow!("broken pipe")));
    }
}
