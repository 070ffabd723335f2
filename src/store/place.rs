//! The file of a database: which one it is, and whether SQLite can work where it lies.

use super::error::StoreError;
use std::fs;
use std::path::{Path, PathBuf};

/// Tells a file from another one that took its name. The file is only looked at: opening and
/// closing it would drop the locks that SQLite holds on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|file| Self(file.dev(), file.ino()))
    }

    #[cfg(not(unix))]
    pub fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|_| Self(0, 0))
    }
}

/// The file that `path` names, which need not exist; its folder must. Symbolic links are followed,
/// so that everybody uses one name, and an absolute name survives a change of folder.
pub fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    if path.is_dir() {
        return Err(StoreError::IsFolder(path.to_owned()));
    }
    if fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        return Err(StoreError::NotAFile(path.to_owned()));
    }
    let absolute = std::path::absolute(path)
        .map_err(|e| StoreError::Other { path: path.to_owned(), cause: e.to_string() })?;
    if let Some(folder) = absolute.parent().filter(|folder| !folder.is_dir()) {
        return Err(StoreError::NoFolder { path: path.to_owned(), folder: folder.to_owned() });
    }
    let file = fs::canonicalize(&absolute).unwrap_or(absolute);
    if file.to_str().is_none() {
        return Err(StoreError::NotUtf8(path.to_owned()));
    }
    Ok(file)
}

/// Whether the file has more than one name (hard links). SQLite keeps its log beside the name that
/// it was given, so writers that use two names overwrite each other's runs.
#[cfg(unix)]
pub fn has_other_names(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(file).is_ok_and(|file| file.nlink() > 1)
}

#[cfg(not(unix))]
pub fn has_other_names(_: &Path) -> bool {
    false
}

/// File systems that are on another machine. A write-ahead log needs memory that all processes
/// share, which they do not have across machines.
const NETWORK: [&str; 19] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.gvfsd-fuse",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
];

/// The kind of the network file system that holds the file, as in `nfs4`. `None` where it is on
/// this machine, and where the system does not tell (Linux does).
pub fn network_file_system(file: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    kind_of_mount(&mounts, file).filter(|kind| NETWORK.contains(kind)).map(str::to_owned)
}

/// The file system type of the mount that holds the file; see `man 5 proc_pid_mountinfo`.
fn kind_of_mount<'a>(mounts: &'a str, file: &Path) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let (place, source) = line.split_once(" - ")?;
        let point = PathBuf::from(unescaped(place.split(' ').nth(4)?));
        file.starts_with(&point).then_some((point.components().count(), source.split(' ').next()?))
    };
    // Of two mounts on one point the later one counts.
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// `\040` and the like are characters.
fn unescaped(field: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(field.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_holds_a_file() {
        let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      40 22 0:50 / /net rw shared:2 - nfs4 server:/net rw,vers=4.2\n\
                      41 40 8:2 / /net/me/local\\040disk rw - xfs /dev/sdb1 rw\n";
        let kind = |path: &str| kind_of_mount(mounts, Path::new(path));
        assert_eq!(kind("/var/results.db"), Some("ext4"));
        assert_eq!(kind("/net/me/results.db"), Some("nfs4"));
        assert_eq!(kind("/nets/results.db"), Some("ext4"));
        assert_eq!(kind("/net/me/local disk/results.db"), Some("xfs"));
        assert_eq!(kind_of_mount("nonsense", Path::new("/x")), None);
    }

    #[test]
    #[cfg(unix)]
    fn links_are_followed_or_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let [file, soft, hard] =
            ["a.db", "soft.db", "hard.db"].map(|name| folder.path().join(name));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &soft).unwrap();
        assert_eq!(resolve(&soft).unwrap(), fs::canonicalize(&file).unwrap());
        assert!(!has_other_names(&file));
        fs::hard_link(&file, hard).unwrap();
        assert!(has_other_names(&file));
    }
}
