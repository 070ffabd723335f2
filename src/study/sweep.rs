//! The sweep of a memory study over supernets of growing spaces. A process of its own measures each
//! point, so that no memory of the previous one remains.

use super::load::{DISTURBING_CORES, LoadMeter};
use super::manifest::Study;
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

/// Steps before the timed ones: the first one allocates velocities and the tiles of threads.
const WARM_UP: usize = 1;

/// A supernet that a study measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub method: MethodName,
    pub recompute: Recompute,
    pub growth: Growth,
    pub options: usize,
}

/// What is known about a point without measuring it.
#[derive(Clone, Copy)]
struct Prediction {
    log10_candidates: f64,
    /// Peak of a step by the memory model.
    predicted_bytes: u64,
}

/// The points of one method, along each dimension from the fewest options to the most.
#[must_use]
pub fn points(study: &Study, method: MethodName) -> Vec<Point> {
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
    fn space(&self, study: &Study) -> SearchSpace {
        self.growth.space(&study.space, self.options)
    }

    fn predict(&self, study: &Study, threads: usize) -> Prediction {
        let space = self.space(study);
        let setting = StepSetting::on_cpu(study.sweep.batch_size, threads, self.recompute);
        Prediction {
            log10_candidates: space.size().total.log10(),
            predicted_bytes: cost::search_step(&space, self.method, setting).total(),
        }
    }

    /// The database row of a measurement, or of a prediction without one.
    fn row(
        &self,
        study: &Study,
        Prediction { log10_candidates, predicted_bytes }: Prediction,
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

    /// Whether this is the row of this point and repeat.
    fn is_of(&self, row: &ScalingPoint, repeat: usize) -> bool {
        row.dimension == self.growth.name()
            && row.options == self.options as u64
            && row.recompute == self.recompute.name()
            && row.repeat == repeat as u64
    }

    /// Measures steps in this process.
    ///
    /// # Errors
    /// When the data set cannot be read, or a step fails.
    pub fn measure(&self, study: &Study, data_root: &Path) -> Result<StepUsage> {
        let dataset = data::load(&study.data, data_root)?;
        let config = StepConfig::new(self.method, self.recompute, study.sweep.batch_size)
            .context("the method has no supernet")?;
        let (timed, seconds) = (study.sweep.steps, study.sweep.seconds);
        let length = Length { warm_up: WARM_UP, timed, seconds };
        let (space, seed) = (self.space(study), Seed(study.seed));
        let load = LoadMeter::start();
        let usage = bench::supernet_step(&space, &config, &dataset, seed, length)?;
        Ok(StepUsage { other_cores: load.other_cores(), ..usage })
    }
}

impl Prediction {
    /// Whether the step fits into the free memory and the limit of the study.
    fn fits(&self, study: &Study) -> bool {
        let dataset_bytes = data::describe(study.data.dataset()).bytes;
        let taken = estimated_resident(self.predicted_bytes + dataset_bytes);
        study.sweep.most_bytes.is_none_or(|most| self.predicted_bytes <= most)
            && memory::available_bytes().is_none_or(|free| taken <= free)
    }
}

/// Identifies the study, so that a process that reads the file later notices a change.
#[must_use]
pub fn fingerprint(study: &Study) -> String {
    let (space, texts) = (&study.space, (&study.text[..], &study.space_text[..]));
    manifest_record(&study.name, texts, &space.name, &space.size().total).sha256
}

/// The database entry of one method's points, before they are measured.
#[must_use]
pub fn record(
    study: &Study,
    method: MethodName,
    command: &str,
    environment: &Environment,
) -> NewRun {
    let (name, texts) = (&study.name, (&study.text[..], &study.space_text[..]));
    NewRun {
        manifest: manifest_record(name, texts, &study.space.name, &study.space.size().total),
        method: method.to_string(),
        dataset: data::describe(study.data.dataset()).name.to_owned(),
        seed: study.seed,
        command: command.to_owned(),
        environment: environment.clone(),
    }
}

/// Progress of a sweep.
#[derive(Debug)]
pub enum Event<'a> {
    /// Measurement `at.0` of `at.1` starts, or, with the bytes of a prediction, is skipped.
    Started {
        at: (usize, usize),
        point: &'a Point,
        predicted: Option<u64>,
    },
    Failed {
        point: &'a Point,
        error: &'a Error,
    },
    /// For the first time in this sweep, other programs or virtual machines kept so many cores busy meanwhile.
    Disturbed {
        point: &'a Point,
        other_cores: f64,
    },
}

/// After this many failures in a row the rest would fail too: the manifest or the data has changed.
const MAX_FAILURES_IN_A_ROW: usize = 3;

/// Measures all points of a method by `measure`, in as many rounds as the study has repeats, and
/// hands each result to `keep`. Every other round runs backwards, so that a slow change of the machine
/// does not look like growth. A point that needs more memory than is free, or than the study allows,
/// is only predicted, once. A failed measurement leaves no row. Points that are `done`, by an earlier
/// attempt, are left out.
///
/// # Errors
/// When a point cannot be kept, or the study is to stop; when several measurements in a row fail; at
/// the end, when some failed.
pub fn sweep(
    study: &Study,
    method: MethodName,
    threads: usize,
    done: &[ScalingPoint],
    announce: &mut dyn FnMut(Event<'_>),
    measure: &mut dyn FnMut(&Point) -> Result<StepUsage>,
    keep: &mut dyn FnMut(&ScalingPoint) -> Result<()>,
) -> Result<()> {
    let points = points(study, method).into_iter();
    let mut points: Vec<(Point, Prediction)> =
        points.map(|point| (point, point.predict(study, threads))).collect();
    let all = points.len() * study.sweep.repeats;
    let (mut at, mut in_a_row, mut failures, mut disturbed) = (0, 0, Vec::new(), false);
    for repeat in 0..study.sweep.repeats {
        for (point, prediction) in &points {
            at += 1;
            if done.iter().any(|row| point.is_of(row, repeat)) {
                continue;
            }
            let fits = prediction.fits(study);
            if !fits && repeat > 0 {
                continue;
            }
            let predicted = (!fits).then_some(prediction.predicted_bytes);
            announce(Event::Started { at: (at, all), point, predicted });
            match fits.then(|| measure(point)).transpose() {
                Ok(step) => {
                    in_a_row = if fits { 0 } else { in_a_row };
                    let other_cores = step.and_then(|step| step.other_cores);
                    let other_cores = other_cores.filter(|cores| *cores > DISTURBING_CORES);
                    if let Some(other_cores) = other_cores.filter(|_| !disturbed) {
                        disturbed = true;
                        announce(Event::Disturbed { point, other_cores });
                    }
                    keep(&point.row(study, *prediction, repeat, step))?;
                }
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    announce(Event::Failed { point, error: &error });
                    failures.push(format!("{point}: {error:#}"));
                    in_a_row += 1;
                }
            }
            if in_a_row == MAX_FAILURES_IN_A_ROW {
                bail!(
                    "{MAX_FAILURES_IN_A_ROW} measurements in a row failed:\n{}",
                    failures.join("\n")
                );
            }
        }
        points.reverse();
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} measurements failed, the others are kept:\n{}", failures.len(), failures.join("\n"))
}

/// Reads the output of a process that measured a point.
///
/// # Errors
/// When the process failed, with its message, or printed something else.
pub fn read_output(output: &std::process::Output) -> Result<StepUsage> {
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("the measuring process ended with {}: {}", output.status, message.trim());
    }
    serde_json::from_slice(&output.stdout).context("the measuring process printed no JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Overrides;
    use crate::study::load;
    use anyhow::anyhow;

    /// A study of the widths 1, 2 and 4 in two rounds.
    fn study(sets: &[&str]) -> Study {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/memory_scaling.toml");
        let width = "scaling.options.width=[1, 2, 4]";
        let sets = [&[width, "scaling.recompute=[\"none\"]", "scaling.repeats=2"], sets].concat();
        let sets = sets.into_iter().map(str::to_owned).collect();
        let mut study = load(&path, &Overrides { sets, seeds: Vec::new() })
            .unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        study.sweep.growth.truncate(1);
        study
    }

    /// The events of a sweep, by options.
    #[derive(Debug, Default)]
    struct Log {
        measured: Vec<usize>,
        failed: Vec<usize>,
        kept: Vec<(u64, u64, bool)>,
    }

    fn swept(study: &Study, measure: impl FnMut(usize) -> Result<()>) -> (Result<()>, Log) {
        swept_after(&[], study, measure)
    }

    fn swept_after(
        done: &[ScalingPoint],
        study: &Study,
        mut measure: impl FnMut(usize) -> Result<()>,
    ) -> (Result<()>, Log) {
        let (mut measured, mut failed, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let result = sweep(
            study,
            MethodName::Dnas,
            1,
            done,
            &mut |event| {
                if let Event::Failed { point, .. } = event {
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
        (result, Log { measured, failed, kept })
    }

    #[test]
    fn points_that_are_done_are_left_out() {
        let study = study(&[]);
        let (mut left, mut rows) = (3, Vec::new());
        let point = |options| Point {
            method: MethodName::Dnas,
            recompute: Recompute::None,
            growth: study.sweep.growth[0].0,
            options,
        };
        let (result, log) = swept(&study, |_| {
            left -= 1;
            if left < 0 { Err(Interrupted.into()) } else { Ok(()) }
        });
        assert!(result.unwrap_err().is::<Interrupted>());
        for (options, repeat, _) in &log.kept {
            let point = point(*options as usize);
            rows.push(point.row(&study, point.predict(&study, 1), *repeat as usize, None));
        }
        let (result, rest) = swept_after(&rows, &study, |_| Ok(()));
        result.unwrap();
        assert_eq!([log.kept, rest.kept].concat(), swept(&study, |_| Ok(())).1.kept);
    }

    #[test]
    fn the_second_round_runs_backwards() {
        let (result, log) = swept(&study(&[]), |_| Ok(()));
        result.unwrap();
        assert_eq!(log.measured, [1, 2, 4, 4, 2, 1]);
        assert_eq!(log.kept[2..4], [(4, 0, true), (4, 1, true)]);
    }

    #[test]
    fn a_failed_measurement_leaves_no_row() {
        let fail = |options| if options == 1 { Err(anyhow!("no luck")) } else { Ok(()) };
        let (result, log) = swept(&study(&[]), fail);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.starts_with("2 measurements failed, the others are kept"), "{error}");
        assert!(error.contains("width 1, recompute none: no luck"), "{error}");
        assert_eq!(log.failed, [1, 1]);
        let kept: Vec<u64> = log.kept.iter().map(|(options, ..)| *options).collect();
        assert_eq!(kept, [2, 4, 4, 2]);
    }

    #[test]
    fn three_failures_in_a_row_end_a_sweep() {
        let mut left = 1;
        let once = |_| {
            left -= 1;
            if left >= 0 { Ok(()) } else { Err(anyhow!("no luck")) }
        };
        let (result, log) = swept(&study(&[]), once);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.starts_with("3 measurements in a row failed"), "{error}");
        assert_eq!((log.measured, log.kept), (vec![1, 2, 4, 4], vec![(1, 0, true)]));
    }

    #[test]
    fn other_programs_are_announced_once() {
        let mut announced = Vec::new();
        let result = sweep(
            &study(&[]),
            MethodName::Dnas,
            1,
            &[],
            &mut |event| {
                if let Event::Disturbed { point, other_cores } = event {
                    announced.push((point.options, other_cores));
                }
            },
            &mut |point| {
                let other_cores = Some(point.options as f64 - 0.9);
                Ok(StepUsage { other_cores, ..StepUsage::default() })
            },
            &mut |_| Ok(()),
        );
        result.unwrap();
        assert_eq!(announced, [(2, 1.1)]);
    }

    #[test]
    fn an_interrupted_sweep_stops() {
        let stop = |options| if options == 2 { Err(Interrupted.into()) } else { Ok(()) };
        let (result, log) = swept(&study(&[]), stop);
        assert!(result.unwrap_err().is::<Interrupted>());
        assert_eq!((log.measured, log.failed), (vec![1, 2], vec![]));
        assert_eq!(log.kept, [(1, 0, true)]);
    }

    #[test]
    fn what_does_not_fit_is_predicted_once() {
        let bytes = |options| {
            let (method, recompute) = (MethodName::Dnas, Recompute::None);
            let growth = study(&[]).sweep.growth[0].0;
            Point { method, recompute, growth, options }.predict(&study(&[]), 1).predicted_bytes
        };
        let most = format!("scaling.most_gigabytes={}", (bytes(2) + 1) as f64 / 1e9);
        let (result, log) = swept(&study(&[&most]), |_| Ok(()));
        result.unwrap();
        assert_eq!(log.measured, [1, 2, 2, 1]);
        let fourth: Vec<_> = log.kept.iter().filter(|(options, ..)| *options == 4).collect();
        assert_eq!(fourth, [&(4, 0, false)]);
    }
}
