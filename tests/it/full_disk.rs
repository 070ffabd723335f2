//! A disk that fills up while runs are recorded: a message says what to do, nothing that was stored is lost, and
//! with some space the same command ends as an undisturbed run.
//!
//! The disk is a file system of a few megabytes in memory, which only root may mount: elsewhere the tests say
//! that they were left out.

use crate::cli::repro;
use crate::logs;
use crate::processes::{Running, wait_until};
use repro::store::Store;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A small file system.
struct Disk(TempDir);

impl Disk {
    /// `None` where it cannot be mounted.
    #[allow(clippy::print_stderr)]
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path());
        let mounted = command.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("LEFT OUT: no file system can be mounted here, which takes root");
        }
        mounted.then_some(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut filler =
            File::options().create(true).append(true).open(self.path("filler")).unwrap();
        loop {
            match filler.write(&[1; 4096]) {
                Ok(written) => assert!(written > 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull);
                    return;
                }
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that has just ended may still hold it for a moment.
        wait_until("the file system to be unmounted", || {
            Command::new("umount").arg(self.0.path()).output().unwrap().status.success()
        });
    }
}

/// A run of a second that writes a checkpoint after every step.
fn run(database: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("repro"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["run", "experiments/smoke.toml", "--json", "--threads", "1"]);
    command.args(["--checkpoint-minutes", "0", "--db"]).arg(database);
    let sets = [
        "search.epochs=2",
        "search.images=120",
        "search.batch_size=16",
        "train.epochs=2",
        "scale=0.5",
    ];
    command.args(sets.iter().flat_map(|set| ["--set", *set]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The run as its JSON line says, and what was printed for people.
fn ended(output: &Output) -> (Value, String) {
    let line = String::from_utf8_lossy(&output.stdout);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = line.lines().last().unwrap_or_else(|| panic!("{text}"));
    (serde_json::from_str(line).unwrap(), text)
}

fn undisturbed() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (run, text) = ended(&run(&folder.path().join("results.db")).output().unwrap());
    assert_eq!(run["status"], "finished", "{text}");
    run["weights_sha256"].clone()
}

/// The checkpoints and other files of run 1.
fn files(database: &Path) -> Vec<String> {
    let mut folder = database.as_os_str().to_owned();
    folder.push(".checkpoints/1");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn assert_whole(database: &Path) {
    let output = repro(&["db", "check", "--db", database.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Starts a run and stops its process between two checkpoints, after the first ones.
fn stopped_between_checkpoints(database: &Path) -> Running {
    let running = Running(run(database).spawn().unwrap());
    wait_until("two checkpoints, and none being written", || {
        if files(database).iter().filter(|name| name.ends_with(".safetensors")).count() < 2 {
            return false;
        }
        running.signal("-STOP");
        let status = format!("/proc/{}/stat", running.0.id());
        wait_until("the process to stop", || {
            let stat = fs::read_to_string(&status).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with('T')
        });
        let is_between = files(database).len() == 4;
        if !is_between {
            running.signal("-CONT");
        }
        is_between
    });
    running
}

/// The output of a process that ends by itself.
fn output_of(mut running: Running) -> Output {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    running.0.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    running.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status: running.wait(), stdout, stderr }
}

#[test]
fn a_run_whose_disk_fills_up_fails_and_is_continued() {
    let Some(disk) = Disk::mount("2m") else { return };
    let (database, expected) = (disk.path("results.db"), undisturbed());
    let running = stopped_between_checkpoints(&database);
    let before = files(&database);
    disk.fill();
    running.signal("-CONT");
    let output = output_of(running);
    let (failed, text) = ended(&output);
    assert_eq!((output.status.code(), &failed["status"]), (Some(1), &"failed".into()), "{text}");
    let error = failed["error"].as_str().unwrap();
    let database_name = database.to_str().unwrap();
    assert!(error.contains(database_name) && error.contains("cannot grow: the disk"), "{error}");
    assert!(error.contains("free some space") && text.contains(error), "{error}\n{text}");
    let told = text.lines().filter(|line| line.contains("cannot write a checkpoint")).count();
    assert!(told <= 1, "{text}");
    // The checkpoints are those from before, and whole.
    assert_eq!(files(&database), before);
    assert_whole(&database);

    // Without space, the command says so again and changes nothing.
    disk.fill();
    let again = run(&database).output().unwrap();
    let text = String::from_utf8_lossy(&again.stderr);
    assert!(matches!(again.status.code(), Some(1 | 2)), "{text}");
    assert!(text.contains("free some space"), "{text}");
    assert_eq!(files(&database), before);

    disk.free();
    assert_whole(&database);
    let (finished, text) = ended(&run(&database).output().unwrap());
    assert_eq!(
        (&finished["run_id"], &finished["status"]),
        (&1.into(), &"finished".into()),
        "{text}"
    );
    assert!(text.contains("continues from checkpoint"), "{text}");
    assert_eq!(finished["weights_sha256"], expected);
    assert_eq!(files(&database), Vec::<String>::new());
    assert_whole(&database);
}

#[test]
fn a_run_goes_on_where_checkpoints_do_not_fit() {
    let Some(disk) = Disk::mount("8k") else { return };
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("results.db");
    std::os::unix::fs::symlink(disk.path(""), folder.path().join("results.db.checkpoints"))
        .unwrap();
    let (run, text) = ended(&run(&database).output().unwrap());
    assert_eq!(run["status"], "finished", "{text}");
    let told: Vec<&str> =
        text.lines().filter(|line| line.contains("cannot write a checkpoint")).collect();
    assert!(told.len() == 1 && told[0].contains("free some space"), "{text}");
    assert_eq!(run["weights_sha256"], undisturbed());
    assert_eq!(files(&database), Vec::<String>::new());
    assert_whole(&database);
}

#[test]
fn weights_that_do_not_fit_are_written_by_the_same_command() {
    let Some(disk) = Disk::mount("64k") else { return };
    fs::create_dir(disk.path("weights")).unwrap();
    disk.fill();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("results.db");
    let weights = folder.path().join("results.db.weights");
    std::os::unix::fs::symlink(disk.path("weights"), &weights).unwrap();
    let output = run(&database).output().unwrap();
    let (failed, text) = ended(&output);
    assert_eq!((output.status.code(), &failed["status"]), (Some(1), &"failed".into()), "{text}");
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("results.db.weights") && error.contains("free some space"), "{error}");
    assert_whole(&database);
    disk.free();
    let (finished, text) = ended(&run(&database).output().unwrap());
    assert_eq!(
        (&finished["run_id"], &finished["status"]),
        (&1.into(), &"finished".into()),
        "{text}"
    );
    assert_eq!(finished["weights_sha256"], undisturbed());
    assert!(fs::read_dir(weights).unwrap().count() > 0);
}

#[test]
fn an_export_to_a_full_disk_keeps_the_earlier_one() {
    // The event file of run 1 is larger.
    let Some(disk) = Disk::mount("200k") else { return };
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("results.db");
    logs::record(&Store::open(&database).unwrap()).interrupt().unwrap();
    let export = |arguments: &[&str]| {
        let mut command = repro(&["export-logs", "--format", "tensorboard", "--db"]);
        command.args([database.as_path(), &disk.path("logs")]).args(arguments).output().unwrap()
    };
    assert!(export(&["--run", "4"]).status.success());
    let before = logs::files(&disk.path("logs"));
    assert_eq!(before.len(), 2, "{:?}", before.keys());
    let output = export(&[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("-run1/events.out.tfevents.") && said.contains("quota is full"),
        "{said}"
    );
    let after = logs::files(&disk.path("logs"));
    // The list of files has grown.
    let events = |all: &logs::Files| {
        let events = all.iter().filter(|(name, _)| name.contains("-run"));
        events.map(|(name, content)| (name.clone(), content.clone())).collect::<logs::Files>()
    };
    assert!(events(&before) == events(&after), "{:?}", after.keys());
    assert!(export(&["--run", "2"]).status.success());
    assert!(logs::files(&disk.path("logs")).keys().all(|name| !name.contains("-run4")));
}
