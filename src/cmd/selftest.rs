//! `repro selftest`: whether a GPU computes what the CPU computes.

use super::device::DeviceChoice;
use super::ending::{Ending, Usage};
use super::output::{message, say, stdout};
use super::threads::start_threads;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use repro::bench::Measured;
use repro::env::Environment;
use repro::selftest::{self, Check, Smoke, SmokeResult};
use repro::text;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Check a GPU: compare operators, a short search and a step with the CPU.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro selftest --device cuda:0
  repro selftest --device cuda:0 --out report.txt

Takes some minutes. The report has every difference, the machine and the versions; attach it to a
bug report.

Exit codes: 0 everything agrees, 1 something differs or fails, 2 the command line is invalid or the
GPU cannot be used.")]
pub struct Args {
    /// What to check: cuda:N for NVIDIA GPU number N, counted from 0.
    #[arg(long, value_name = "DEVICE", default_value = "cuda:0", value_parser = DeviceChoice::parse)]
    device: DeviceChoice,
    /// Where to write the report.
    #[arg(long, value_name = "FILE", default_value = "repro-selftest.txt")]
    out: PathBuf,
    /// Number of threads of the CPU [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// The report, written line by line: what a GPU stops half-way is in the file.
struct Report {
    file: fs::File,
    /// The first error of writing it.
    problem: Option<io::Error>,
    failures: usize,
}

impl Report {
    fn line(&mut self, line: &str) {
        for line in line.split('\n') {
            say(line);
            if let Err(error) = writeln!(self.file, "{line}") {
                self.problem.get_or_insert(error);
            }
        }
    }

    fn check(&mut self, check: &Check) {
        let verdict = verdict(check.passes());
        self.failures += usize::from(!check.passes());
        self.line(&match &check.outcome {
            Ok((worst, difference)) => format!(
                "{verdict} {:54} {difference:.1e} of {:.0e}  {worst}",
                check.name, check.tolerance
            ),
            Err(error) => format!("{verdict} {}: {error}", check.name),
        });
    }

    /// Adds a failure if there is one.
    fn part<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                self.failures += 1;
                self.line(&format!("FAIL {what}: {}", message(&error)));
            })
            .ok()
    }
}

/// Runs all checks and writes the report.
///
/// # Errors
/// When the GPU cannot be used, or the report cannot be written.
pub fn run(args: &Args) -> Result<Ending> {
    if args.device == DeviceChoice::Cpu {
        let problem =
            "--device cpu: a GPU is compared with the CPU; give a GPU, as in --device cuda:0";
        bail!(Usage(problem.to_owned()));
    }
    let threads = start_threads(args.threads)?;
    let device = args.device.open()?;
    // Before the long work, and not before the GPU can be used: an old report is overwritten.
    let file = fs::File::create(&args.out)
        .map_err(|error| Usage(format!("--out {}: {error}", args.out.display())))?;
    let mut report = Report { file, problem: None, failures: 0 };
    let environment = args.device.environment(threads);
    report.line("repro selftest");
    for line in described(&environment) {
        report.line(&line);
    }
    report.line(
        "\nLargest difference from the CPU, as a share of the largest value, of what passes, and where:",
    );
    selftest::checks(&device, |check| report.check(check));
    whole(&mut report, &device);
    let last = match report.failures {
        0 => "\nEverything agrees with the CPU.".to_owned(),
        failures => format!("\n{} failed.", text::plural(failures, "check")),
    };
    report.line(&last);
    if let Some(error) = report.problem {
        return Err(error).with_context(|| args.out.display().to_string());
    }
    writeln!(stdout(), "{}", args.out.display())?;
    Ok(if report.failures == 0 { Ending::Done } else { Ending::Failed })
}

fn described(e: &Environment) -> Vec<String> {
    let revision = e.git_revision.as_deref().unwrap_or("unknown revision");
    let dirty = if e.git_dirty == Some(true) { " with uncommitted changes" } else { "" };
    let threads = text::plural(e.threads, "thread");
    vec![
        format!("program  repro {}, {revision}{dirty}; {}; {}", e.version, e.rustc, e.libraries),
        format!("device   {}", e.device_with_model()),
        format!("machine  {}; {} ({}), {threads}", e.os, e.cpu, e.instructions),
    ]
}

/// The search and the step.
fn whole(report: &mut Report, device: &Device) {
    let Some(smoke) = report.part("the pictures", Smoke::new()) else { return };
    if let Some(check) = report.part("evaluation of a network", smoke.evaluation(device)) {
        report.check(&check);
    }
    if let Some(result) = report.part("a short search", smoke.search(device)) {
        report.failures += usize::from(!result.passes());
        for line in search_lines(&result) {
            report.line(&line);
        }
    }
    if let Some((ours, cpu)) = report.part("a supernet step", smoke.step(device)) {
        report.line("\nA step of the supernet in smoke.toml, batch size 64:");
        report.line(&step_line("device", &ours));
        report.line(&step_line("cpu", &cpu));
    }
}

fn search_lines(result: &SmokeResult) -> Vec<String> {
    let verdict = verdict(result.passes());
    let mut lines = vec![format!("\n{verdict} a short search: losses of the device and the CPU")];
    let steps = result.device.iter().zip(&result.cpu).enumerate();
    lines.extend(steps.map(|(step, (device, cpu))| {
        let (difference, tolerance) = ((device - cpu).abs() / cpu, SmokeResult::tolerance(step));
        format!("     {step:2}  {device:.7}  {cpu:.7}  {difference:.1e} of {tolerance:.0e}")
    }));
    lines
}

fn verdict(passes: bool) -> &'static str {
    if passes { "ok  " } else { "FAIL" }
}

fn step_line(name: &str, m: &Measured) -> String {
    format!(
        "     {name:6}  {:.2} ms, {:.0} images/s, peak {}",
        m.step_ms,
        m.images_per_second,
        text::bytes(m.peak_bytes)
    )
}
