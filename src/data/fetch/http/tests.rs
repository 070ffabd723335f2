//! Downloads from a server on this machine that misbehaves.

use super::*;
use crate::data::fetch::unheard;
use crate::progress::Quiet;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

const CONTENT: &[u8] = b"0123456789abcdef";
const MD5: &str = "4032af8d61035123906e58e067140cc5";

/// Answers one request per reply, in their order, and returns the requests.
struct Server {
    url: String,
    thread: JoinHandle<Vec<String>>,
}

enum Reply {
    /// Head and body, then the connection is closed.
    Send(String, Vec<u8>),
    /// The same, then silence.
    Stall(String, Vec<u8>),
}

fn send(head: impl Into<String>, body: &[u8]) -> Reply {
    Reply::Send(head.into(), body.to_vec())
}

impl Server {
    fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/set.tar.gz", listener.local_addr().unwrap());
        let thread = thread::spawn(move || {
            let mut silent = Vec::new();
            let answer = |reply| {
                let (mut stream, _) = listener.accept().unwrap();
                let request = request_of(&stream);
                let (head, body, stalls) = match reply {
                    Reply::Send(head, body) => (head, body, false),
                    Reply::Stall(head, body) => (head, body, true),
                };
                stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).unwrap();
                stream.write_all(&body).unwrap();
                if stalls {
                    silent.push(stream);
                }
                request
            };
            replies.into_iter().map(answer).collect()
        });
        Self { url, thread }
    }

    fn remote(&self) -> Remote<'_> {
        let hash = hash::Published::Md5(MD5);
        let bytes = CONTENT.len() as u64;
        Remote { url: &self.url, expected: Some(Expected { bytes, hash }), limit: bytes }
    }

    fn requests(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn request_of(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n").to_lowercase()
}

fn client() -> Client {
    Client::new(Duration::from_millis(400), Duration::from_millis(1), None)
}

fn download(server: &Server, file: &Path) -> Result<(), DataError> {
    client().download(&server.remote(), file, unheard())
}

/// The folder, and a file in it with these bytes.
fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, content).unwrap();
    (folder, file)
}

fn whole() -> Reply {
    send("200 OK\r\nContent-Length: 16", CONTENT)
}

fn rest(from: usize) -> Reply {
    let head = format!(
        "206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-15/16",
        16 - from
    );
    send(head, &CONTENT[from..])
}

#[test]
fn a_file_arrives_whole() {
    let (server, (_folder, file)) = (Server::start(vec![whole()]), file(b""));
    download(&server, &file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
    assert!(!server.requests()[0].contains("range"));
}

#[test]
fn a_cut_download_resumes() {
    let cut = send("200 OK\r\nContent-Length: 16", &CONTENT[..6]);
    let (server, (_folder, file)) = (Server::start(vec![cut, rest(6)]), file(b""));
    download(&server, &file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
    assert!(server.requests()[1].contains("range: bytes=6-"));
}

#[test]
fn a_later_download_resumes_the_first() {
    let (server, (_folder, file)) = (Server::start(vec![rest(3)]), file(b"012"));
    download(&server, &file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (server, (_folder, file)) = (Server::start(vec![whole()]), file(b"xyz"));
    download(&server, &file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
}

#[test]
fn a_file_that_is_there_is_not_requested() {
    let (server, (_folder, file)) = (Server::start(Vec::new()), file(CONTENT));
    download(&server, &file).unwrap();
    assert!(server.requests().is_empty());
}

#[test]
fn another_file_is_removed() {
    let (server, (_folder, file)) = (Server::start(Vec::new()), file(b"0123456789abcdeX"));
    assert!(matches!(download(&server, &file), Err(DataError::WrongHash { .. })));
    assert!(!file.exists());
}

#[test]
fn another_length_is_refused() {
    for length in [15, 17] {
        let reply = send(format!("200 OK\r\nContent-Length: {length}"), &[b'x'; 17][..length]);
        let (server, (_folder, file)) = (Server::start(vec![reply]), file(b""));
        let error = download(&server, &file).unwrap_err().to_string();
        assert!(error.contains(&format!("has {length} bytes, expected 16")), "{error}");
    }
}

#[test]
fn a_body_without_length_is_bounded() {
    let (server, (_folder, file)) = (Server::start(vec![send("200 OK", &[7; 9999])]), file(b""));
    let error = download(&server, &file).unwrap_err().to_string();
    assert!(error.contains("sends more than 16 bytes"), "{error}");
    assert!(length(&file) <= 16);
}

#[test]
fn a_missing_file_is_named() {
    let (server, (_folder, file)) = (Server::start(vec![send("404 Not Found", b"")]), file(b""));
    let error = download(&server, &file).unwrap_err().to_string();
    assert!(error.starts_with(&server.url) && error.ends_with("HTTP 404"), "{error}");
}

#[test]
fn a_busy_server_is_asked_again() {
    let busy = || send("503 Service Unavailable\r\nContent-Length: 0", b"");
    let (server, (_folder, path)) = (Server::start(vec![busy(), whole()]), file(b""));
    download(&server, &path).unwrap();
    let (server, (_folder, path)) = (Server::start(vec![busy(), busy(), busy()]), file(b""));
    let error = download(&server, &path).unwrap_err().to_string();
    assert!(error.ends_with("HTTP 503"), "{error}");
}

/// A body that arrived whole, but whose end was not marked.
fn unended() -> Reply {
    send("200 OK\r\nTransfer-Encoding: chunked", b"10\r\n0123456789abcdef\r\n")
}

fn beyond_end() -> Reply {
    send("416 Range Not Satisfiable\r\nContent-Length: 0", b"")
}

#[test]
fn a_download_of_unknown_size_starts_over_after_416() {
    let replies = vec![unended(), beyond_end(), whole()];
    let (server, (_folder, file)) = (Server::start(replies), file(b""));
    let remote = Remote { expected: None, ..server.remote() };
    client().download(&remote, &file, unheard()).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
    let requests = server.requests();
    assert!(requests[1].contains("range: bytes=16-") && !requests[2].contains("range"));
}

#[test]
fn a_server_that_never_ends_a_body_is_given_up() {
    let replies = vec![unended(), beyond_end(), unended(), beyond_end()];
    let (server, (_folder, file)) = (Server::start(replies), file(b""));
    let remote = Remote { expected: None, ..server.remote() };
    let error = client().download(&remote, &file, unheard()).unwrap_err().to_string();
    assert!(error.contains("HTTP 416"), "{error}");
}

#[test]
fn a_thread_that_dies_ends_no_download() {
    let (sender, events) = sync_channel(1);
    drop(sender);
    let event = next_event(&events, unheard()).unwrap();
    assert!(matches!(event, Event::Failed(Fault::Passing(_))));
}

#[test]
fn a_redirect_is_followed_with_the_range() {
    let (target, (_folder, file)) = (Server::start(vec![rest(5)]), file(b"01234"));
    let head = format!("302 Found\r\nContent-Length: 0\r\nLocation: {}", target.url);
    let server = Server::start(vec![send(head, b"")]);
    download(&server, &file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
    assert!(target.requests()[0].contains("range: bytes=5-"));
}

#[test]
fn a_silent_server_is_left_and_asked_again() {
    let silent = Reply::Stall("200 OK\r\nContent-Length: 16".into(), CONTENT[..4].to_vec());
    let (server, (_folder, file)) = (Server::start(vec![silent, rest(4)]), file(b""));
    let start = Instant::now();
    download(&server, &file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_stop_is_heard_while_the_server_is_silent() {
    let silent = Reply::Stall("200 OK\r\nContent-Length: 16".into(), CONTENT[..4].to_vec());
    let (server, (_folder, file)) = (Server::start(vec![silent]), file(b""));
    let stop = AtomicBool::new(false);
    let patient = Client::new(Duration::from_mins(1), Duration::from_secs(1), None);
    let start = Instant::now();
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            while length(&file) < 4 && start.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let monitor = FetchMonitor { progress: &Quiet, stop: &stop };
        patient.download(&server.remote(), &file, monitor).unwrap_err()
    });
    assert!(matches!(error, DataError::Stopped), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(fs::read(&file).unwrap(), CONTENT[..4], "for the next fetch");
}
