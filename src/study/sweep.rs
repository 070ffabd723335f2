//! Memory scaling studies: steps of supernets of growing spaces, each measured by a process of its
//! own, so that nothing is left of the one before.

use super::manifest::Scaling;
use crate::bench::{self, Length};
use crate::cost::{self, StepSetting};
use crate::data;
use crate::env::Environment;
use crate::memory;
use crate::monitor::Interrupted;
use crate::recipe::{MethodName, Recompute, StepConfig};
use crate::record::{ScalingPoint, StepUsage};
use crate::rng::Seed;
use crate::runner::{estimated_resident, manifest_record};
use crate::space::{Growth, SearchSpace};
use crate::store::NewRun;
use anyhow::{Context, Error, Result, bail};
use std::fmt;
use std::path::Path;

/// Steps before the timed ones: the first finds neither velocities nor the tiles of threads.
const WARM_UP: usize = 1;

/// A supernet of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub method: MethodName,
    pub recompute: Recompute,
    pub growth: Growth,
    pub options: usize,
}

/// What is known of a point before it is measured.
#[derive(Clone, Copy)]
struct Expected {
    log10_candidates: f64,
    /// What the memory model says of a step.
    predicted_bytes: u64,
}

/// The points of one method, the smallest of each kind of growth first.
#[must_use]
pub fn points(study: &Scaling, method: MethodName) -> Vec<Point> {
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

    /// What the database keeps of a measurement, or of a prediction alone.
    fn kept(
        &self,
        study: &Scaling,
        Expected { log10_candidates, predicted_bytes }: Expected,
        repeat: usize,
        measured: Option<StepUsage>,
    ) -> ScalingPoint {
        ScalingPoint {
            dimension: self.growth.name().to_owned(),
            options: self.options as u64,
            recompute: self.recompute.name().to_owned(),
            repeat: repeat as u64,
            batch: study.sweep.batch_size as u64,
            log10_candidates,
            predicted_bytes,
            measured,
        }
    }

    /// Takes steps in this process.
    ///
    /// # Errors
    /// When the data set cannot be read, or a step fails.
    pub fn measure(&self, study: &Scaling, data_root: &Path) -> Result<StepUsage> {
        let dataset = data::load(&study.data, data_root)?;
        let config = StepConfig::new(self.method, self.recompute, study.sweep.batch_size)
            .context("the method has no supernet")?;
        let (timed, seconds) = (study.sweep.steps, study.sweep.seconds);
        let length = Length { warm_up: WARM_UP, timed, seconds };
        let (space, seed) = (self.space(study), Seed(study.seed));
        bench::supernet_step(&space, &config, &dataset, seed, length)
    }
}

impl Expected {
    /// Whether there is room for the step, and the study allows it.
    fn fits(&self, study: &Scaling) -> bool {
        let dataset_bytes = data::describe(study.data.dataset()).bytes;
        let taken = estimated_resident(self.predicted_bytes + dataset_bytes);
        study.sweep.most_bytes.is_none_or(|most| self.predicted_bytes <= most)
            && memory::available_bytes().is_none_or(|free| taken <= free)
    }
}

/// Tells this study from the same file as it may be read later.
#[must_use]
pub fn fingerprint(study: &Scaling) -> String {
    manifest_record(&study.name, (&study.text, &study.space_text), &study.space).sha256
}

/// What the database keeps of a method's points before they are measured.
#[must_use]
pub fn record(
    study: &Scaling,
    method: MethodName,
    command: &str,
    environment: &Environment,
) -> NewRun {
    let (name, texts) = (&study.name, (&study.text[..], &study.space_text[..]));
    NewRun {
        manifest: manifest_record(name, texts, &study.space),
        method: method.to_string(),
        dataset: data::describe(study.data.dataset()).name.to_owned(),
        seed: study.seed,
        command: command.to_owned(),
        environment: environment.clone(),
    }
}

/// What a study says while it goes on.
#[derive(Debug)]
pub enum News<'a> {
    /// The number of the measurement, of how many, and the bytes where a point is predicted alone.
    Begun {
        at: (usize, usize),
        point: &'a Point,
        predicted: Option<u64>,
    },
    Failed {
        point: &'a Point,
        error: &'a Error,
    },
}

/// When so many measurements in a row failed, the others would fail as well: the manifest or the data
/// has changed.
const HOPELESS: usize = 3;

/// Measures all points of a method by `measure`, as often as the study asks for, and hands each to
/// `keep`. Repeats are rounds through all points, there and back again: what changes on a machine
/// befalls all of them alike, and drift does not look like growth. What needs more memory than is free,
/// or than the study allows, is predicted alone, once. Of a failed measurement nothing is kept.
///
/// # Errors
/// When a point cannot be kept, or the study is to stop; when several measurements in a row fail; at
/// the end, when some did.
pub fn sweep(
    study: &Scaling,
    method: MethodName,
    threads: usize,
    announce: &mut dyn FnMut(News<'_>),
    measure: &mut dyn FnMut(&Point) -> Result<StepUsage>,
    keep: &mut dyn FnMut(&ScalingPoint) -> Result<()>,
) -> Result<()> {
    let points = points(study, method).into_iter();
    let mut points: Vec<(Point, Expected)> =
        points.map(|point| (point, point.expected(study, threads))).collect();
    let all = points.len() * study.sweep.repeats;
    let (mut at, mut in_a_row, mut failures) = (0, 0, Vec::new());
    for repeat in 0..study.sweep.repeats {
        for (point, expected) in &points {
            at += 1;
            let fits = expected.fits(study);
            if !fits && repeat > 0 {
                continue;
            }
            let predicted = (!fits).then_some(expected.predicted_bytes);
            announce(News::Begun { at: (at, all), point, predicted });
            match fits.then(|| measure(point)).transpose() {
                Ok(step) => {
                    in_a_row = if fits { 0 } else { in_a_row };
                    keep(&point.kept(study, *expected, repeat, step))?;
                }
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    announce(News::Failed { point, error: &error });
                    failures.push(format!("{point}: {error:#}"));
                    in_a_row += 1;
                }
            }
            if in_a_row == HOPELESS {
                bail!("{HOPELESS} measurements in a row failed:\n{}", failures.join("\n"));
            }
        }
        points.reverse();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Overrides;
    use crate::study::load;
    use anyhow::anyhow;

    /// Widths 1, 2 and 4, in two rounds.
    fn study(sets: &[&str]) -> Scaling {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/memory_scaling.toml");
        let width = "scaling.options.width=[1, 2, 4]";
        let sets = [&[width, "scaling.recompute=[\"none\"]", "scaling.repeats=2"], sets].concat();
        let sets = sets.into_iter().map(str::to_owned).collect();
        let mut study = load(&path, &Overrides { sets, seeds: Vec::new() })
            .unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        study.sweep.growth.truncate(1);
        study
    }

    /// What a sweep measured, said and kept, by options.
    #[derive(Debug, Default)]
    struct Heard {
        measured: Vec<usize>,
        failed: Vec<usize>,
        kept: Vec<(u64, u64, bool)>,
    }

    fn swept(study: &Scaling, mut measure: impl FnMut(usize) -> Result<()>) -> (Result<()>, Heard) {
        let (mut measured, mut failed, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let result = sweep(
            study,
            MethodName::Dnas,
            1,
            &mut |news| {
                if let News::Failed { point, .. } = news {
                    failed.push(point.options);
                }
            },
            &mut |point| {
                measured.push(point.options);
                measure(point.options).map(|()| StepUsage::default())
            },
            &mut |point| {
                kept.push((point.options, point.repeat, point.measured.is_some()));
                Ok(())
            },
        );
        (result, Heard { measured, failed, kept })
    }

    #[test]
    fn the_second_round_goes_back() {
        let (result, heard) = swept(&study(&[]), |_| Ok(()));
        result.unwrap();
        assert_eq!(heard.measured, [1, 2, 4, 4, 2, 1]);
        assert_eq!(heard.kept[2..4], [(4, 0, true), (4, 1, true)]);
    }

    #[test]
    fn a_failed_measurement_is_said_at_once_and_keeps_no_row_and_the_others_go_on() {
        let fail = |options| if options == 1 { Err(anyhow!("no luck")) } else { Ok(()) };
        let (result, heard) = swept(&study(&[]), fail);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.starts_with("2 measurements failed, the others are kept"), "{error}");
        assert!(error.contains("width 1, recompute none: no luck"), "{error}");
        assert_eq!(heard.failed, [1, 1]);
        let kept: Vec<u64> = heard.kept.iter().map(|(options, ..)| *options).collect();
        assert_eq!(kept, [2, 4, 4, 2]);
    }

    #[test]
    fn a_sweep_with_three_failures_in_a_row_ends() {
        let mut left = 1;
        let once = |_| {
            left -= 1;
            if left >= 0 { Ok(()) } else { Err(anyhow!("no luck")) }
        };
        let (result, heard) = swept(&study(&[]), once);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.starts_with("3 measurements in a row failed"), "{error}");
        assert_eq!((heard.measured, heard.kept), (vec![1, 2, 4, 4], vec![(1, 0, true)]));
    }

    #[test]
    fn a_sweep_that_is_to_stop_stops() {
        let stop = |options| if options == 2 { Err(Interrupted.into()) } else { Ok(()) };
        let (result, heard) = swept(&study(&[]), stop);
        assert!(result.unwrap_err().is::<Interrupted>());
        assert_eq!((heard.measured, heard.failed), (vec![1, 2], vec![]));
        assert_eq!(heard.kept, [(1, 0, true)]);
    }

    #[test]
    fn what_does_not_fit_is_predicted_once() {
        let bytes = |options| {
            let (method, recompute) = (MethodName::Dnas, Recompute::None);
            let growth = study(&[]).sweep.growth[0].0;
            Point { method, recompute, growth, options }.expected(&study(&[]), 1).predicted_bytes
        };
        let most = format!("scaling.most_gigabytes={}", (bytes(2) + 1) as f64 / 1e9);
        let (result, heard) = swept(&study(&[&most]), |_| Ok(()));
        result.unwrap();
        assert_eq!(heard.measured, [1, 2, 2, 1]);
        let fourth: Vec<_> = heard.kept.iter().filter(|(options, ..)| *options == 4).collect();
        assert_eq!(fourth, [&(4, 0, false)]);
    }
}
