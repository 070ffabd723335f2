//! Downloads over HTTP(S). An incomplete download resumes with a Range request, also in a later
//! fetch. Proxies come from the environment (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, ...).

use super::FetchMonitor;
use crate::data::{DataError, hash};
use crate::progress::Amount;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use ureq::{Agent, Body, Proxy, http::Response};

/// How often the stop flag is read while nothing arrives.
const POLL: Duration = Duration::from_millis(100);
/// After so many attempts in a row without data, a download fails.
const FRUITLESS_ATTEMPTS: u32 = 3;

/// A file on a server.
pub(in crate::data) struct Remote<'a> {
    pub url: &'a str,
    /// Size and fingerprint, where they are published.
    pub expected: Option<Expected>,
    /// The most bytes to write.
    pub limit: u64,
}

/// What is known about a file before it is downloaded.
#[derive(Clone, Copy)]
pub(in crate::data) struct Expected {
    pub bytes: u64,
    pub hash: hash::Published,
}

/// Makes requests.
pub(in crate::data) struct Client {
    agent: Agent,
    /// The wait after an attempt that brought something. It doubles with every further attempt in a
    /// row that brings nothing.
    pause: Duration,
}

/// Why an attempt ended without the whole file.
enum Fault {
    /// Another attempt may succeed.
    Passing(String),
    Final(String),
    /// The server's file ends before the place from which it was to be resumed.
    BeyondEnd,
    /// Not the server's.
    Local(DataError),
}

/// What the thread that reads the response sends.
enum Event {
    /// The body starts at this byte of the file. The total size, if the server sends it.
    Started {
        offset: u64,
        total: Option<u64>,
    },
    Chunk(Vec<u8>),
    Ended,
    Failed(Fault),
}

impl Client {
    /// With the proxies that the environment names.
    pub(in crate::data) fn from_environment() -> Self {
        Self::new(Duration::from_secs(30), Duration::from_secs(1), Proxy::try_from_env())
    }

    /// `stall` is the longest silence of a server.
    fn new(stall: Duration, pause: Duration, proxy: Option<Proxy>) -> Self {
        let connect = stall / 2;
        let config = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .user_agent(concat!("repro/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(stall))
            .timeout_per_read(Some(stall))
            .build();
        Self { agent: config.into(), pause }
    }

    /// Downloads into `file`, and continues an earlier download. A file that is not the published one
    /// is removed.
    ///
    /// # Errors
    /// When the server cannot be reached or sends something else, when the disk refuses, or with
    /// [`DataError::Stopped`]. What has arrived stays for the next attempt.
    pub(in crate::data) fn download(
        &self,
        remote: &Remote<'_>,
        file: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<(), DataError> {
        let name = remote.url.rsplit('/').next().unwrap_or_default();
        let what = format!("downloading {name} from {}", host(remote.url));
        let amount = remote.expected.map_or(Amount::Unknown, |it| Amount::Bytes(it.bytes));
        monitor.task(&what, amount, || self.all_attempts(remote, file, monitor))?;
        let Some(expected) = remote.expected else { return Ok(()) };
        let checked = monitor.task("checking the download", Amount::Unknown, || {
            hash::check_file(file, expected.hash, "the server has a different file")
        });
        if matches!(checked, Err(DataError::WrongHash { .. })) {
            fs::remove_file(file).map_err(DataError::writing(file))?;
        }
        checked
    }

    fn all_attempts(
        &self,
        remote: &Remote<'_>,
        file: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<(), DataError> {
        let failed = |reason| DataError::Download { url: remote.url.to_owned(), reason };
        let (mut fruitless, mut longest) = (0, length(file));
        loop {
            if remote.expected.is_some_and(|it| it.bytes == length(file)) {
                return Ok(());
            }
            let reason = match self.attempt(remote, file, monitor) {
                Ok(()) => return Ok(()),
                Err(Fault::Local(error)) => return Err(error),
                Err(Fault::Final(reason)) => return Err(failed(reason)),
                Err(Fault::Passing(reason)) => reason,
                Err(Fault::BeyondEnd) => {
                    // Where no size is known, nothing says whether what is here is the whole file.
                    OpenOptions::new()
                        .write(true)
                        .open(file)
                        .and_then(|file| file.set_len(0))
                        .map_err(DataError::writing(file))?;
                    "cannot be resumed (HTTP 416)".to_owned()
                }
            };
            // Not longer than before this attempt: a file that starts over would grow again and again.
            fruitless = if length(file) > longest { 0 } else { fruitless + 1 };
            longest = longest.max(length(file));
            if fruitless == FRUITLESS_ATTEMPTS {
                return Err(failed(reason));
            }
            let mut left = self.pause * 2u32.pow(fruitless);
            while !left.is_zero() {
                monitor.check_stop()?;
                thread::sleep(POLL.min(left));
                left = left.saturating_sub(POLL);
            }
        }
    }

    /// One request, from where the file ends.
    fn attempt(
        &self,
        remote: &Remote<'_>,
        path: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<(), Fault> {
        let local = |error| Fault::Local(DataError::writing(path)(error));
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(local)?;
        let from = file.metadata().map_err(local)?.len();
        // Only a few chunks can wait, so a full disk is noticed soon.
        let (sender, events) = sync_channel(4);
        let (agent, url) = (self.agent.clone(), remote.url.to_owned());
        // In a thread of its own: a request to stop is heard while the server says nothing. The
        // thread ends by itself once nobody receives.
        thread::Builder::new()
            .spawn(move || receive(&agent, &url, from, &sender))
            .map_err(|error| Fault::Final(format!("cannot start a thread: {error}")))?;
        let mut at = from;
        loop {
            match next_event(&events, monitor).map_err(Fault::Local)? {
                Event::Started { offset, total } => {
                    check_total(remote, total)?;
                    file.set_len(offset).map_err(local)?;
                    at = offset;
                }
                Event::Chunk(bytes) => {
                    at += bytes.len() as u64;
                    if at > remote.limit {
                        let reason = format!("sends more than {} bytes", remote.limit);
                        return Err(Fault::Final(reason));
                    }
                    file.write_all(&bytes).map_err(local)?;
                    monitor.progress.advanced(at, "");
                }
                Event::Failed(fault) => return Err(fault),
                Event::Ended => return whole(remote, at, &file),
            }
        }
    }
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn check_total(remote: &Remote<'_>, total: Option<u64>) -> Result<(), Fault> {
    match (total, remote.expected) {
        (Some(total), Some(Expected { bytes: expected, .. })) if total != expected => {
            Err(Fault::Final(format!("has {total} bytes, expected {expected}: a different file")))
        }
        (Some(total), _) if total > remote.limit => {
            Err(Fault::Final(format!("has {total} bytes, more than the data set can have")))
        }
        _ => Ok(()),
    }
}

/// Whether the file is complete when its body ends at this byte.
fn whole(remote: &Remote<'_>, at: u64, file: &File) -> Result<(), Fault> {
    match remote.expected {
        Some(it) if at < it.bytes => {
            Err(Fault::Passing(format!("ended after {at} of {} bytes", it.bytes)))
        }
        Some(it) if at > it.bytes => {
            let _ = file.set_len(0);
            Err(Fault::Final(format!("sent {at} bytes, expected {}", it.bytes)))
        }
        _ => Ok(()),
    }
}

fn next_event(events: &Receiver<Event>, monitor: FetchMonitor<'_>) -> Result<Event, DataError> {
    loop {
        monitor.check_stop()?;
        match events.recv_timeout(POLL) {
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Timeout) => {}
            // The thread ended without a last word.
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Event::Failed(Fault::Passing("the download broke off".to_owned())));
            }
        }
    }
}

/// Requests the file from byte `from` on and sends what arrives.
fn receive(agent: &Agent, url: &str, from: u64, sender: &SyncSender<Event>) {
    // Sending fails when the receiver is gone, which ends this thread.
    let result = request(agent, url, from).and_then(|(mut body, started)| {
        if sender.send(started).is_err() {
            return Ok(());
        }
        let mut reader = body.as_reader();
        loop {
            let mut chunk = vec![0; 64 << 10];
            let n = reader.read(&mut chunk).map_err(|e| Fault::Passing(cause(&e.into())))?;
            chunk.truncate(n);
            if n == 0 || sender.send(Event::Chunk(chunk)).is_err() {
                return Ok(());
            }
        }
    });
    let _ = sender.send(result.map_or_else(Event::Failed, |()| Event::Ended));
}

fn request(agent: &Agent, url: &str, from: u64) -> Result<(Body, Event), Fault> {
    let mut request = agent.get(url);
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let response = request.call().map_err(|error| match error {
        error if is_unknown_host(&error) => Fault::Final(cause(&error)),
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => {
            Fault::Passing(cause(&error))
        }
        error => Fault::Final(cause(&error)),
    })?;
    let started = match response.status().as_u16() {
        200 => Event::Started { offset: 0, total: number(&response, "content-length") },
        206 => match content_range(&response) {
            Some((offset, total)) if offset == from => Event::Started { offset, total },
            _ => return Err(Fault::Final("sent a range that was not requested".to_owned())),
        },
        416 => return Err(Fault::BeyondEnd),
        status @ (429 | 500..=599) => return Err(Fault::Passing(format!("HTTP {status}"))),
        status => return Err(Fault::Final(format!("HTTP {status}"))),
    };
    Ok((response.into_body(), started))
}

fn number(response: &Response<Body>, header: &str) -> Option<u64> {
    response.headers().get(header)?.to_str().ok()?.parse().ok()
}

/// First byte and total size of `bytes FIRST-LAST/TOTAL`.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get("content-range")?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn is_unknown_host(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound => true,
        // The standard library's resolver has no error kind for it.
        ureq::Error::Io(error) => error.to_string().contains("failed to lookup address"),
        _ => false,
    }
}

/// The host of a URL.
pub(in crate::data) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// What went wrong, for the user.
fn cause(error: &ureq::Error) -> String {
    match error {
        error if is_unknown_host(error) => "not found; is there a network?".to_owned(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Timeout(phase) => format!("no answer in time ({phase})"),
        // ureq wraps its own errors while a body is read.
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
