//! `repro verify-resume`: proves that killed and resumed runs end as uninterrupted ones.

use super::dataset::DataFolder;
use super::ending::Ending;
use super::output::{say, stdout};
use super::program::this_program;
use super::progress::Display;
use super::signals;
use anyhow::{Context, Result, bail, ensure};
use repro::child::ChildGuard;
use repro::compare::{self, Difference};
use repro::manifest::{self, Overrides};
use repro::monitor::Interrupted;
use repro::recipe::DataConfig;
use repro::rng::{Seed, Stream};
use repro::store::{RunRow, Store};
use repro::study::{self, is_study};
use repro::text;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Check that killed and resumed runs end exactly as uninterrupted ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro verify-resume experiments/smoke.toml
  repro verify-resume experiments/smoke_compare.toml --kills 50

Runs the manifest once without an interruption. Then runs it again, kills the program with SIGKILL
at random moments and resumes it each time. Compares everything that does not depend on the
machine's load: the searched architectures and their probabilities, every measurement, the hashes of
the trained weights. When the manifest is complete before all kills are done, it starts over with an
empty database.

The databases are in a temporary folder, which is removed unless --keep is given.

Exit codes: 0 all equal, 1 something differs, 2 the command line or the manifest is invalid, 130
interrupted.")]
pub struct Args {
    /// The experiment file.
    manifest: PathBuf,
    /// Override a manifest key, as in search.epochs=3; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// How often the program is killed.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// Decides the moments of the kills.
    #[arg(long, value_name = "N", default_value = "1")]
    moments: u64,
    /// Number of threads [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Keep the databases in this new folder.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// How often a child is polled.
const INTERVAL: Duration = Duration::from_millis(2);

/// Compares killed runs with uninterrupted ones.
///
/// # Errors
/// When the manifest is invalid, or its runs fail.
pub fn run(args: &Args, data: &DataFolder) -> Result<Ending> {
    let overrides = Overrides { sets: args.sets.clone(), seeds: Vec::new() };
    let images: Vec<DataConfig> = if is_study(&args.manifest) {
        vec![study::load(&args.manifest, &overrides)?.data]
    } else {
        let runs = |run| {
            Err(format!(
                "run {run} is in a database that this command does not read; give its network as a \
                 file: `repro arch {run} --toml`"
            ))
        };
        let manifests = manifest::load_points(&args.manifest, &overrides, &runs)?;
        manifests.into_iter().map(|manifest| manifest.data).collect()
    };
    let stop = signals::stop_flag().context("cannot handle signals")?;
    let data_root = data.fetch_all(images.iter(), &Display::new(), &stop)?;
    let folder = Folder::new(args.keep.as_deref())?;
    let verification =
        Verification { args, data_root: &data_root, folder: &folder.path, stop: &stop };
    let ending = verification.run();
    match ending {
        Err(error) if error.is::<Interrupted>() => Ok(Ending::Interrupted),
        ending => ending,
    }
}

/// The folder of the databases.
struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    fn new(kept: Option<&Path>) -> Result<Self> {
        let path = match kept {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(format!("repro-verify-{}", std::process::id())),
        };
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, is_kept: kept.is_some() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

struct Verification<'a> {
    args: &'a Args,
    data_root: &'a Path,
    folder: &'a Path,
    stop: &'a AtomicBool,
}

/// The results so far.
#[derive(Default)]
struct Tally {
    kills: u32,
    /// Times that the manifest was complete.
    rounds: u32,
    /// A point of a study counts as one.
    measurements: usize,
    differences: Vec<Difference>,
}

impl Verification<'_> {
    fn run(&self) -> Result<Ending> {
        let start = Instant::now();
        let reference = self.folder.join("uninterrupted.db");
        let mut child = self.start(&reference, "2")?;
        let status = self.wait(&mut child, None)?;
        let seconds = start.elapsed().as_secs_f64();
        let Some(status) = status else { bail!("the uninterrupted program was not waited for") };
        ensure!(status.success(), "{}", failure(&reference)?);
        let expected = Store::open_to_read(&reference)?;
        let expected_runs = expected.runs()?.rows;
        say(format_args!(
            "uninterrupted: {}, {}",
            text::plural(expected_runs.len(), "run"),
            text::duration(seconds)
        ));
        let mut moments = Seed(self.args.moments).stream("verify-resume", 0);
        let mut tally = Tally::default();
        while tally.kills < self.args.kills {
            let database = self.folder.join(format!("killed-{}.db", tally.rounds + 1));
            self.killed(&database, seconds, &mut moments, &mut tally)?;
            compare(&expected, &expected_runs, &database, &mut tally)?;
            tally.rounds += 1;
        }
        print(&expected_runs, &tally)?;
        Ok(if tally.differences.is_empty() { Ending::Done } else { Ending::Failed })
    }

    /// Executes the manifest once, with kills while there are some left.
    fn killed(
        &self,
        database: &Path,
        seconds: f64,
        moments: &mut Stream,
        tally: &mut Tally,
    ) -> Result<()> {
        loop {
            let is_last = tally.kills >= self.args.kills;
            // Twice the mean: the program's start, and its share of an uninterrupted execution.
            let longest = 2.0 * (0.1 + seconds / f64::from(self.args.kills).min(20.0));
            let moment = Duration::from_secs_f64(moments.uniform() * longest);
            let mut child = self.start(database, "0")?;
            match self.wait(&mut child, (!is_last).then_some(moment))? {
                Some(status) => {
                    ensure!(status.success(), "{}", failure(database)?);
                    return Ok(());
                }
                None => tally.kills += 1,
            }
        }
    }

    /// Starts the program on this database, with a log beside it.
    fn start(&self, database: &Path, checkpoint_minutes: &str) -> Result<ChildGuard> {
        let mut command = Command::new(this_program()?);
        command.arg("run").arg(&self.args.manifest).arg("--db").arg(database);
        command.args(["--checkpoint-minutes", checkpoint_minutes, "--json"]);
        if !self.data_root.as_os_str().is_empty() {
            command.arg("--data").arg(self.data_root);
        }
        for set in &self.args.sets {
            command.args(["--set", set]);
        }
        if let Some(threads) = self.args.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        let log = File::create(log_of(database)).context("cannot create a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        ChildGuard::spawn(&mut command).context("cannot start the program itself")
    }

    /// Waits for the end of a child; after so long, kills it and returns `None`.
    fn wait(&self, child: &mut ChildGuard, kill: Option<Duration>) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            if kill.is_some_and(|kill| start.elapsed() >= kill) {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            thread::sleep(INTERVAL);
        }
    }
}

/// What the program said on this database.
fn failure(database: &Path) -> Result<String> {
    let log = fs::read_to_string(log_of(database))?;
    Ok(format!("the program failed:\n{}", log.trim()))
}

/// Compares the runs of a database with those that were not interrupted.
fn compare(
    expected: &Store,
    expected_runs: &[RunRow],
    database: &Path,
    tally: &mut Tally,
) -> Result<()> {
    let found = Store::open_to_read(database)?;
    let problems = found.problems()?;
    ensure!(problems.is_empty(), "{}: {}", database.display(), problems.join("; "));
    let runs = found.runs()?.rows;
    let round = tally.rounds + 1;
    if runs.len() != expected_runs.len() {
        let values = [expected_runs.len(), runs.len()].map(|n| n.to_string());
        tally.differences.push(Difference { what: format!("runs of round {round}"), values });
        return Ok(());
    }
    for (a, b) in expected_runs.iter().zip(&runs) {
        let (measured, count) =
            compare::measurements(&expected.measurements(a.id)?, &found.measurements(b.id)?);
        tally.measurements += count;
        let expected_points = expected.scaling_points(a.id)?;
        tally.measurements += expected_points.len();
        let points = compare::points(&expected_points, &found.scaling_points(b.id)?);
        let all = compare::results(a, b).into_iter().chain(measured).chain(points);
        tally.differences.extend(all.map(|difference| Difference {
            what: format!("round {round}, {} seed {}: {}", a.method, a.seed, difference.what),
            ..difference
        }));
    }
    Ok(())
}

fn print(expected: &[RunRow], tally: &Tally) -> Result<()> {
    /// Differences that are printed.
    const SHOWN: usize = 20;
    let Tally { kills, rounds, measurements, differences } = tally;
    let mut out = stdout();
    writeln!(
        out,
        "killed {} in {}, resumed each time",
        text::plural(*kills as usize, "time"),
        text::plural(*rounds as usize, "round")
    )?;
    writeln!(out, "compared {}", text::plural(*measurements, "measurement"))?;
    for run in expected {
        if let Some(result) = &run.result {
            writeln!(out, "  {} seed {}: weights {}", run.method, run.seed, result.weights_sha256)?;
        }
    }
    for difference in differences.iter().take(SHOWN) {
        writeln!(out, "differs: {difference}")?;
    }
    let verdict = match differences.len() {
        0 => "identical to the bit".to_owned(),
        n => format!("{} from the uninterrupted runs", text::plural(n, "difference")),
    };
    writeln!(out, "verdict: {verdict}")?;
    Ok(())
}

fn log_of(database: &Path) -> PathBuf {
    database.with_extension("log")
}
