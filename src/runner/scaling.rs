//! Memory scaling studies: steps of supernets of growing spaces, each measured by a process of its
//! own, so that nothing is left of the one before.

use super::{estimated_resident, manifest_record};
use crate::bench::{self, Length};
use crate::cost::{self, StepSetting};
use crate::data::{self, Silent};
use crate::env::Environment;
use crate::manifest::{Scaling, steps_of};
use crate::memory;
use crate::recipe::{Method, Recompute};
use crate::record::{ScalingPoint, StepUsage};
use crate::rng::Seed;
use crate::space::{Growth, SearchSpace};
use crate::store::NewRun;
use crate::watch::Interrupted;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::Path;

/// Steps before the timed ones: the first finds neither velocities nor the tiles of threads.
const WARM_UP: usize = 1;

/// A supernet of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub method: Method,
    pub recompute: Recompute,
    pub growth: Growth,
    pub options: usize,
}

/// What is known of a point before it is measured.
struct Expected {
    log10_candidates: f64,
    /// What the memory model says of a step.
    predicted_bytes: u64,
}

/// The points of one method, the smallest of each kind of growth first.
#[must_use]
pub fn points(study: &Scaling, method: Method) -> Vec<Point> {
    let growth = study.sweep.growth.iter();
    let grown = growth.flat_map(|(growth, list)| list.iter().map(|options| (*growth, *options)));
    let points = grown.flat_map(|(growth, options)| {
        let recompute = study.sweep.recompute.iter();
        recompute.map(move |&recompute| Point { method, recompute, growth, options })
    });
    points.collect()
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, recompute {}", self.growth.name(), self.options, self.recompute.name())
    }
}

impl Point {
    fn space(&self, study: &Scaling) -> SearchSpace {
        self.growth.space(&study.space, self.options)
    }

    fn expected(&self, study: &Scaling, threads: usize) -> Expected {
        let space = self.space(study);
        let setting =
            StepSetting { batch: study.sweep.batch_size, threads, recompute: self.recompute };
        Expected {
            log10_candidates: space.size().total.log10(),
            predicted_bytes: cost::search_step(&space, self.method, setting).total(),
        }
    }

    /// Takes steps in this process.
    ///
    /// # Errors
    /// When the data set cannot be read, or a step fails.
    pub fn measure(&self, study: &Scaling, data_root: &Path) -> Result<StepUsage> {
        let dataset = data::load(&study.data, data_root, &Silent)?;
        let config = steps_of(self.method, self.recompute, study.sweep.batch_size);
        let (timed, seconds) = (study.sweep.steps, study.sweep.seconds);
        let length = Length { warm_up: WARM_UP, timed, seconds };
        let (space, seed) = (self.space(study), Seed(study.seed));
        bench::supernet_step(&space, &config, &dataset, seed, length)
    }
}

/// Tells this study from the same file as it may be read later.
#[must_use]
pub fn fingerprint(study: &Scaling) -> String {
    manifest_record(&study.name, (&study.text, &study.space_text), &study.space).sha256
}

/// What the database keeps of a method's points before they are measured.
#[must_use]
pub fn record(study: &Scaling, method: Method, command: &str, environment: &Environment) -> NewRun {
    let (name, texts) = (&study.name, (&study.text[..], &study.space_text[..]));
    NewRun {
        manifest: manifest_record(name, texts, &study.space),
        method: method.name().to_owned(),
        dataset: data::describe(study.data.dataset).name.to_owned(),
        seed: study.seed,
        command: command.to_owned(),
        environment: environment.clone(),
    }
}

/// What a study says while it goes on: the number of the measurement, of how many, and the point.
pub type Announce<'a> = &'a mut dyn FnMut((usize, usize), &Point, Option<u64>);

/// Measures all points of a method by `measure`, as often as the study asks for, and hands each to
/// `keep`. Repeats are rounds through all points, so that what changes on a machine befalls all of
/// them alike. What needs more memory than is free, or than the study allows, is predicted alone, once.
///
/// # Errors
/// When a point cannot be kept, or the study is to stop; at the end, when points could not be measured.
pub fn sweep(
    study: &Scaling,
    method: Method,
    threads: usize,
    announce: Announce<'_>,
    measure: &mut dyn FnMut(&Point) -> Result<StepUsage>,
    keep: &mut dyn FnMut(&ScalingPoint) -> Result<()>,
) -> Result<()> {
    let points = points(study, method);
    let expected: Vec<Expected> =
        points.iter().map(|point| point.expected(study, threads)).collect();
    let all = points.len() * study.sweep.repeats;
    let dataset_bytes = data::describe(study.data.dataset).bytes;
    let mut failures = Vec::new();
    for repeat in 0..study.sweep.repeats {
        for (i, (point, expected)) in points.iter().zip(&expected).enumerate() {
            let Expected { log10_candidates, predicted_bytes } = *expected;
            let taken = estimated_resident(predicted_bytes + dataset_bytes);
            let fits = study.sweep.most_bytes.is_none_or(|most| predicted_bytes <= most)
                && memory::available_bytes().is_none_or(|free| taken <= free);
            if !fits && repeat > 0 {
                continue;
            }
            let at = (repeat * points.len() + i + 1, all);
            announce(at, point, (!fits).then_some(predicted_bytes));
            let measured = match fits.then(|| measure(point)).transpose() {
                Ok(measured) => measured,
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    failures.push(format!("{point}: {error:#}"));
                    None
                }
            };
            keep(&ScalingPoint {
                dimension: point.growth.name().to_owned(),
                options: point.options as u64,
                recompute: point.recompute.name().to_owned(),
                repeat: repeat as u64,
                batch: study.sweep.batch_size as u64,
                log10_candidates,
                predicted_bytes,
                measured,
            })?;
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} measurements failed, the others are kept:\n{}", failures.len(), failures.join("\n"))
}

/// What a process said that measured a point.
///
/// # Errors
/// When it failed, with its own words, or said something else.
pub fn understand(output: &std::process::Output) -> Result<StepUsage> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the process that measures it ended with {}: {}", output.status, said.trim());
    }
    serde_json::from_slice(&output.stdout).context("the process that measures it said no JSON")
}
