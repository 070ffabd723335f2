//! `repro serve`: the HTML report in a browser, updated while runs go on.

use super::command_line::command_line;
use super::report::Sources;
use anyhow::{Context, Result};
use repro::env::program_version;
use repro::report::Writer;
use repro::report::render::live_document;
use repro::store::Store;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Show the HTML report in a browser, updated while runs go on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro serve
  repro serve --experiment compare_cifar10 --port 8080

The database is only read: running experiments are not disturbed. The page reloads itself when measurements
come, except while a run is open or a table is filtered. Only this machine can reach the default address.
With --host 0.0.0.0, everyone on the network can read the report; there is no password. Ctrl-C ends the server.")]
pub struct Args {
    /// The address to listen on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,
    /// Show only this experiment; may be repeated.
    #[arg(long, value_name = "NAME")]
    experiment: Vec<String>,
}

/// Longer requests are refused.
const MOST_BYTES: u64 = 8192;
/// A client that sends nothing for so long is disconnected.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that are served at once.
const MOST_CLIENTS: usize = 16;

/// Nothing is loaded from elsewhere, and nothing is sent elsewhere.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";

/// The last page that was made.
#[derive(Default)]
struct Shown {
    version: String,
    html: String,
}

struct Server<'a> {
    args: &'a Args,
    store: &'a Store,
    address: SocketAddr,
    shown: Mutex<Shown>,
    clients: AtomicUsize,
}

/// # Errors
/// When nothing can listen on the address, or there is no such experiment.
pub fn run(args: &Args, store: &Store) -> Result<()> {
    let wanted = SocketAddr::new(args.host, args.port);
    // A name that no run has is refused at once.
    Sources::read(store, &args.experiment, &[])?;
    let listener = TcpListener::bind(wanted).with_context(|| {
        format!(
            "cannot listen on {wanted}; --port 0 takes a free port, --host names another address"
        )
    })?;
    let address = listener.local_addr()?;
    let mut out = io::stdout().lock();
    writeln!(out, "serving http://{address}/ (Ctrl-C ends it)")?;
    out.flush()?;
    let clients = AtomicUsize::new(0);
    let server = Server { args, store, address, shown: Mutex::default(), clients };
    thread::scope(|scope| {
        for client in listener.incoming().flatten() {
            if server.clients.fetch_add(1, Ordering::Relaxed) >= MOST_CLIENTS {
                server.clients.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            scope.spawn(|| {
                // A client that has gone needs no answer.
                let _ = server.answer(client);
                server.clients.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

/// What is sent back.
struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }
}

impl Server<'_> {
    fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(PATIENCE))?;
        let (line, host) = request(&client)?;
        let answer = self.respond(&line, &host);
        let Answer { status, kind, body } = &answer;
        write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: {POLICY}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
             Connection: close\r\n\r\n",
            body.len()
        )?;
        if !line.starts_with("HEAD ") {
            client.write_all(body.as_bytes())?;
        }
        client.flush()
    }

    fn respond(&self, line: &str, host: &str) -> Answer {
        let mut words = line.split_ascii_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !["GET", "HEAD"].contains(&method) {
            return Answer::text("405 Method Not Allowed", "only GET and HEAD\n");
        }
        if !self.is_own(host) {
            // Another site's name that was made to point here could read the page otherwise.
            return Answer::text("421 Misdirected Request", "this server has another name\n");
        }
        match path {
            "/" => match self.page() {
                Ok(body) => Answer { status: "200 OK", kind: "text/html; charset=utf-8", body },
                Err(error) => Answer::text("500 Internal Server Error", format!("{error:#}\n")),
            },
            "/version" => match self.store.version() {
                Ok(version) => Answer::text("200 OK", version),
                Err(error) => Answer::text("500 Internal Server Error", format!("{error}\n")),
            },
            _ => Answer::text("404 Not Found", "the report is at /\n"),
        }
    }

    /// Whether a request was meant for this server. One that listens on all addresses has no name to compare with.
    fn is_own(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let ip: Option<IpAddr> = name.parse().ok();
        self.address.ip().is_unspecified()
            || ip == Some(self.address.ip())
            || (name.eq_ignore_ascii_case("localhost") && self.address.ip().is_loopback())
    }

    /// The page, which is made again only when the database has changed.
    fn page(&self) -> Result<String> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.store.version()?;
        if shown.version != version || shown.html.is_empty() {
            let sources = Sources::read(self.store, &self.args.experiment, &[])?;
            let command = command_line();
            let writer = Writer { command_line: &command, program: program_version() };
            let (pages, details) = (sources.pages(writer)?, sources.details()?);
            let html = live_document(&pages, &details, &version);
            *shown = Shown { version, html };
        }
        Ok(shown.html.clone())
    }
}

/// The first line of a request, and the host that it names.
fn request(client: &TcpStream) -> io::Result<(String, String)> {
    let mut lines = BufReader::new(client.take(MOST_BYTES)).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    let mut host = String::new();
    for header in lines {
        let header = header?;
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("host")
        {
            value.trim().clone_into(&mut host);
        }
    }
    Ok((line, host))
}
