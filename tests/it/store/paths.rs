//! Where a database may be, and what cannot be one.

use super::{folder, new_run, other_process, record_many, result};
use repro::record::{Metric, Recorder};
use repro::store::{Store, StoreError};
use std::fs;
use std::path::Path;

#[test]
fn paths_that_cannot_be_databases_are_refused() {
    let (folder, path) = folder();
    let text = |path: &Path| {
        let error = Store::open(path).unwrap_err().to_string();
        error.replace(&*folder.path().to_string_lossy(), "FOLDER")
    };
    assert_eq!(
        text(&folder.path().join("no/such.db")),
        "FOLDER/no/such.db: the folder FOLDER/no does not exist; create it, or name a database in a \
         folder that does"
    );
    assert!(!folder.path().join("no").exists());
    assert_eq!(
        text(folder.path()),
        "FOLDER is a folder; name a file for the database, as in FOLDER/results.db"
    );
    fs::write(&path, "metric,step,value\n".repeat(100)).unwrap();
    assert_eq!(
        text(&path),
        "FOLDER/results.db is not an SQLite database and was left as it is; name another file"
    );
    assert_eq!(fs::read(&path).unwrap().len(), 1800);
}

#[test]
fn a_damaged_database_says_so() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    record_many(&store, 1).finish(&result()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0x55);
    fs::write(&path, bytes).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert_eq!(
        error.replace(&*path.to_string_lossy(), "DB"),
        "DB is damaged (database disk image is malformed, SQLite code 11); replace it by a backup, \
         or save what can be read with `sqlite3 DB .recover`"
    );
}

#[test]
#[cfg(unix)]
fn what_cannot_be_written_is_only_read() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let (folder, path) = folder();
    let mut recorder = Store::open(&path).unwrap().begin(&new_run(1)).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
    recorder.interrupt().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // Permissions say nothing to the superuser, so that one asks as somebody else.
    let mut command = other_process("open what cannot be written", folder.path());
    let superuser = fs::metadata(&path).unwrap().uid() == 0;
    if superuser {
        command.uid(65534).gid(65534);
    }
    for mode in [0o777, 0o555] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        match command.output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            // Somebody else may not reach this program, or not exist.
            Err(error) => assert!(superuser, "{error}"),
        }
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// `folder` holds a database that is read-only; in the second round the folder is, too.
pub fn open_what_cannot_be_written(folder: &Path) {
    let mut paths = vec![folder.join("results.db")];
    if fs::write(folder.join("probe"), "").is_ok() {
        fs::remove_file(folder.join("probe")).unwrap();
    } else {
        paths.push(folder.join("new.db"));
    }
    for path in paths {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{} cannot be written (", path.display())), "{text}");
        assert!(!folder.join("new.db").exists());
    }
    let path = folder.join("results.db");
    let store = Store::open_to_read(&path).unwrap();
    let note = format!("{} cannot be written here, so it is only read", path.display());
    assert_eq!(store.note(), Some(note));
    assert_eq!(store.runs().unwrap().rows.len(), 1);
    assert_eq!(store.measurements(1).unwrap().len(), 1);
    let error = store.begin(&new_run(1)).unwrap_err();
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
}

#[test]
#[cfg(unix)]
fn one_file_has_one_name() {
    let (folder, path) = folder();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let store = Store::open(&path).unwrap();
    let by_name = store.begin(&new_run(1)).unwrap();
    let by_link = Store::open(&link).unwrap().begin(&new_run(2)).unwrap();
    for recorder in [by_name, by_link] {
        recorder.interrupt().unwrap();
    }
    assert_eq!(store.runs().unwrap().rows.len(), 2);
    fs::hard_link(&path, folder.path().join("hard.db")).unwrap();
    let expected = "results.db has more than one name (hard links), so two writers could overwrite \
                    each other's runs; remove the other names or copy the file, and name the copy";
    for open in [Store::open, Store::open_to_read] {
        let error = open(&path).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn names_that_sqlite_cannot_open_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let (folder, _) = folder();
    let path = folder.path().join(OsStr::from_bytes(b"caf\xe9.db"));
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error, StoreError::NotUtf8(path.clone()));
    assert!(error.to_string().contains(r"caf\xE9.db"), "{error}");
    let device = Path::new("/dev/null");
    assert_eq!(Store::open(device).unwrap_err(), StoreError::NotAFile(device.to_owned()));
}
