//! The process that measures one point of a memory scaling study; hidden, since `repro run` starts it.

use super::execution::set_threads;
use anyhow::{Result, bail};
use repro::manifest::Overrides;
use repro::recipe::{MethodName, Recompute};
use repro::space::Growth;
use repro::study;
use repro::study::sweep::{self, Point};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
    /// Of the study that asks.
    #[arg(long)]
    fingerprint: String,
}

fn parse<T: Copy>(given: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().find(|one| name(**one) == given).copied();
    found.ok_or_else(|| format!("{given} is not known"))
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

/// Measures the point. Ends the process when standard input does: whoever asked is gone then.
///
/// # Errors
/// When the study is not right, or the step fails.
pub fn run(args: &Args, data_root: &Path) -> Result<()> {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(1);
    });
    let overrides = Overrides { sets: args.sets.clone(), seeds: args.seeds.clone() };
    let study = study::load(&args.manifest, &overrides)?;
    if args.fingerprint != sweep::fingerprint(&study) {
        bail!("the manifest or its space has changed since the study began; begin it anew");
    }
    set_threads(Some(args.threads))?;
    let Args { method, recompute, growth, options, .. } = *args;
    let usage = Point { method, recompute, growth, options }.measure(&study, data_root)?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&usage)?)?;
    Ok(())
}
