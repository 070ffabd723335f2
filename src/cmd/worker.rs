//! The process that measures one point of a memory study. Hidden, since `repro run` starts it.

use super::dataset::DataFolder;
use super::output::stdout;
use super::threads::start_threads;
use anyhow::{Context, Result, bail};
use repro::manifest::Overrides;
use repro::recipe::{MethodName, Recompute};
use repro::space::Growth;
use repro::study;
use repro::study::sweep::{self, Point};
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;

/// Measure one point of a study in this process and print it as JSON.
#[derive(Debug, clap::Args)]
pub struct Args {
    manifest: PathBuf,
    #[arg(long = "set")]
    sets: Vec<String>,
    #[arg(long, value_parser = parse_method)]
    method: MethodName,
    #[arg(long, value_parser = parse_recompute)]
    recompute: Recompute,
    #[arg(long, value_parser = parse_growth)]
    growth: Growth,
    #[arg(long)]
    options: usize,
    #[arg(long)]
    threads: u16,
    #[arg(long = "seed")]
    seeds: Vec<u64>,
    /// The fingerprint of the study that started this process.
    #[arg(long)]
    fingerprint: String,
}

fn parse<T: Copy>(given: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().find(|one| name(**one) == given).copied();
    found.ok_or_else(|| format!("unknown: {given}"))
}

fn parse_method(given: &str) -> Result<MethodName, String> {
    parse(given, &MethodName::ALL, MethodName::as_str)
}

fn parse_recompute(given: &str) -> Result<Recompute, String> {
    parse(given, &[Recompute::None, Recompute::Block], Recompute::name)
}

fn parse_growth(given: &str) -> Result<Growth, String> {
    parse(given, &Growth::ALL, Growth::name)
}

/// Measures the point. The process ends when its standard input does, because the parent is then gone.
///
/// # Errors
/// When the study is invalid, or a step fails.
pub fn run(args: &Args, data: &DataFolder) -> Result<()> {
    let end_with_parent = || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(1);
    };
    thread::Builder::new().spawn(end_with_parent).context("cannot start a thread")?;
    let overrides = Overrides { sets: args.sets.clone(), seeds: args.seeds.clone() };
    let study = study::load(&args.manifest, &overrides)?;
    if args.fingerprint != sweep::fingerprint(&study) {
        bail!("the manifest or its space has changed since the study started; start it again");
    }
    start_threads(Some(args.threads))?;
    let Args { method, recompute, growth, options, .. } = *args;
    let usage = Point { method, recompute, growth, options }
        .measure(&study, &data.root_for(&study.data)?)?;
    writeln!(stdout(), "{}", serde_json::to_string(&usage)?)?;
    Ok(())
}
