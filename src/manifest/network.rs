//! The keys of a manifest that trains a given network: `arch`, and what may be said about it.

use crate::document::{Entry, Section, nearest_file};
use crate::hex::hex;
use crate::space::{ArchFile, ArchSpec};
use crate::zoo;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// A network that is trained as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkTask {
    pub network: ArchFile,
    /// The text that is kept with the run and has the network: its file, or that of its space.
    pub text: String,
    /// Where training starts from; from new weights when `None`.
    pub init: Option<InitialWeights>,
}

/// A file of weights, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialWeights {
    pub path: PathBuf,
    /// Of its bytes, in hex.
    pub sha256: String,
}

/// The searched architecture of a run by its number, or why there is none.
pub type RunNetworks<'a> = &'a dyn Fn(i64) -> Result<ArchFile, String>;

/// Where a manifest finds networks: the text that is stored with a run, or else published names, files and runs.
pub(super) struct NetworkSources<'a> {
    pub stored: Option<&'a str>,
    pub runs: RunNetworks<'a>,
}

/// The key for the hash of the file that `init` names. It is stored with a run.
pub(super) const INIT_SHA256: &str = "init_sha256";
const HASH: &str = "the SHA-256 of the file of weights, in hex";
const NETWORK: &str = "the name of a published network, a network file, or the number of a run";

/// Reads `arch` and the keys that belong to it: `Some(None)` without it. `path` is the manifest's.
#[allow(clippy::option_option)]
pub(super) fn read_network(
    s: &Section<'_>,
    path: &Path,
    sources: &NetworkSources<'_>,
) -> Option<Option<NetworkTask>> {
    let network = s.optional("arch", |value| match sources.stored {
        Some(text) => s.adopt(ArchFile::parse(text, path)),
        None => find_network(s, value, path, sources.runs),
    });
    let resolution = s.optional("resolution", |value| value.whole(8..=4096));
    let classes = s.optional("classes", |value| value.whole(2..=65_536));
    let hash = s.optional(INIT_SHA256, |value| value.text(HASH));
    // Of a stored manifest, the file is opened when it is used: it may be gone when only the manifest is needed.
    let stored = sources.stored.and(hash.flatten());
    let init = s.optional("init", |value| read_init(value, path, stored));
    if s.get("init").is_none() {
        s.forbid(INIT_SHA256, "belongs to init", "remove it, or give init");
    }
    let Some(mut network) = network? else {
        for key in ["resolution", "classes", "init"] {
            let expected = "remove it, or name a network with arch";
            s.forbid(key, "applies to a given network only", expected);
        }
        return Some(None);
    };
    let init = init?;
    if let Some(init) = &init {
        check_hash(s, init)?;
    }
    let ArchSpec { resolution: side, classes: outputs, .. } = &mut network.arch;
    (*side, *outputs) = (resolution?.unwrap_or(*side), classes?.unwrap_or(*outputs));
    // These are of the network as it was published.
    (network.published, network.resize) = (None, None);
    Some(Some(NetworkTask { text: network.to_toml(), network, init }))
}

fn find_network(
    s: &Section<'_>,
    value: &Entry<'_>,
    manifest: &Path,
    runs: RunNetworks<'_>,
) -> Option<ArchFile> {
    if matches!(value.node(), DeValue::Integer(_)) {
        let run = value.whole_u64(1..=i64::MAX as u64)?;
        return match runs(run as i64) {
            Ok(network) => Some(network),
            Err(problem) => value.fail(problem, ""),
        };
    }
    let given = value.text(NETWORK)?;
    if let Some(network) = zoo::network(given) {
        return Some(network);
    }
    let path = manifest.parent().unwrap_or(Path::new("")).join(given);
    if path.is_file() {
        return s.adopt(ArchFile::load(&path));
    }
    let name = || zoo::nearest_name(given).map(str::to_owned);
    let hint = if given.contains(['/', '.']) { nearest_file(&path) } else { name() };
    let problem = format!("{} is neither a published network nor a file", value.given());
    value.fail_with_hint(problem, format!("give {NETWORK}"), hint)
}

/// The file of weights with its hash, which is `stored` or read from the file.
fn read_init(value: &Entry<'_>, manifest: &Path, stored: Option<&str>) -> Option<InitialWeights> {
    let given = value.text("the path of a file of weights, relative to the manifest's folder")?;
    let path = manifest.parent().unwrap_or(Path::new("")).join(given);
    if let Some(sha256) = stored {
        return Some(InitialWeights { path, sha256: sha256.to_owned() });
    }
    match sha256_of(&path) {
        Ok(sha256) => Some(InitialWeights { path, sha256 }),
        Err(error) => {
            let problem = format!("{} cannot be read: {error}", path.display());
            let hint = if path.exists() { None } else { nearest_file(&path) };
            value.fail_with_hint(problem, "give a file of weights", hint)
        }
    }
}

/// The SHA-256 of a regular file, in hex.
///
/// # Errors
/// When it cannot be read, or is another kind of file, which may never end.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    // Opening a FIFO waits.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Checks that the file of weights has the hash that is given.
fn check_hash(s: &Section<'_>, init: &InitialWeights) -> Option<()> {
    let Some(expected) = s.get(INIT_SHA256) else { return Some(()) };
    if expected.text(HASH)? == init.sha256 {
        return Some(());
    }
    let problem = format!("{} has the SHA-256 {}", init.path.display(), init.sha256);
    expected.fail(problem, "give the weights that the run began with")
}
