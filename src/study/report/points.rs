//! Measured points: the repeats of one point, and the points of one supernet as its space grows.

use super::runs::StudyRun;
use crate::record::StepUsage;
use crate::report::stats::LinearFit;
use crate::space::Growth;
use crate::study::load::DISTURBING_CORES;
use crate::study::verdict::TOLERATED_BYTES;

/// Below this R² a straight line does not describe how bytes grow.
pub const STRAIGHT: f64 = 0.99;
/// With fewer points the interval of a slope says nothing.
const LEAST_POINTS: usize = 4;

/// A supernet of a space with so many options: what the memory model predicts, and what each process
/// measured.
#[derive(Clone, Debug, PartialEq)]
pub struct PointResult {
    pub run: i64,
    /// As in manifests.
    pub method: String,
    pub recompute: String,
    pub dimension: String,
    pub options: u64,
    pub batch: u64,
    pub log10_candidates: f64,
    pub predicted_bytes: u64,
    /// One per process; empty where the step does not fit.
    pub repeats: Vec<StepUsage>,
}

impl PointResult {
    pub fn median(&self, of: impl Fn(&StepUsage) -> f64) -> Option<f64> {
        let mut all: Vec<f64> = self.repeats.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let (upper, lower) = (all.get(all.len() / 2)?, all.get((all.len() - 1) / 2)?);
        Some(f64::midpoint(*upper, *lower))
    }

    /// The process with the median peak, so that the parts of the peak add up.
    pub fn typical(&self) -> Option<&StepUsage> {
        let mut all: Vec<&StepUsage> = self.repeats.iter().collect();
        all.sort_by_key(|step| step.peak_bytes);
        all.get(all.len().checked_sub(1)? / 2).copied()
    }

    pub fn range(&self, of: impl Fn(&StepUsage) -> f64) -> Option<(f64, f64)> {
        let all = || self.repeats.iter().map(&of);
        all().reduce(f64::min).zip(all().reduce(f64::max))
    }

    /// Seconds of a step: the median of the processes.
    pub fn seconds(&self) -> Option<f64> {
        self.median(|step| step.seconds)
    }

    /// Peak bytes of a step: the median of the processes, of two the lower one.
    pub fn peak_bytes(&self) -> Option<f64> {
        self.typical().map(|step| step.peak_bytes as f64)
    }

    /// The most cores that other programs kept busy during one of the processes.
    pub fn other_cores(&self) -> Option<f64> {
        self.repeats.iter().filter_map(|step| step.other_cores).reduce(f64::max)
    }

    /// Predicted bytes over measured bytes.
    pub fn model_ratio(&self) -> Option<f64> {
        self.peak_bytes().map(|bytes| self.predicted_bytes as f64 / bytes)
    }
}

/// The points of one supernet along one dimension, the fewest options first.
#[derive(Clone, Debug, PartialEq)]
pub struct GrowthCurve {
    pub method: String,
    pub recompute: String,
    pub dimension: String,
    pub points: Vec<PointResult>,
}

impl GrowthCurve {
    pub fn measured(&self) -> impl Iterator<Item = &PointResult> {
        self.points.iter().filter(|point| !point.repeats.is_empty())
    }

    /// A line through the measured points.
    pub fn line(
        &self,
        x: fn(&PointResult) -> f64,
        y: fn(&PointResult) -> Option<f64>,
    ) -> Option<LinearFit> {
        let points: Vec<_> = self.measured().filter_map(|p| Some((x(p), y(p)?))).collect();
        LinearFit::fit(&points)
    }

    /// A line through the seconds of every process over the number of options.
    pub fn seconds_line(&self) -> Option<LinearFit> {
        let steps = self.measured().flat_map(|p| p.repeats.iter().map(|s| (p.options, s.seconds)));
        let steps: Vec<_> = steps.map(|(options, seconds)| (options as f64, seconds)).collect();
        LinearFit::fit(&steps)
    }

    /// The measured points with the fewest and the most options, if those differ.
    pub fn ends(&self) -> Option<(&PointResult, &PointResult)> {
        let (first, last) = (self.measured().next()?, self.measured().last()?);
        (first.options < last.options).then_some((first, last))
    }

    /// The last measured point over the first.
    pub fn growth(&self, of: fn(&PointResult) -> Option<f64>) -> Option<f64> {
        let (first, last) = self.ends()?;
        Some(of(last)? / of(first)?)
    }

    /// Whether bytes grow, but not along a line.
    pub fn is_bent(&self) -> bool {
        let growth = self.growth(PointResult::peak_bytes);
        let grows = growth.is_some_and(|growth| growth > 1.0 + TOLERATED_BYTES);
        let line = self.line(|p| p.options as f64, PointResult::peak_bytes);
        grows && line.and_then(|line| line.r_squared).is_none_or(|r| r < STRAIGHT)
    }

    /// Whether the points are enough, and straight enough, for the interval of a slope.
    pub fn has_interval(&self) -> bool {
        self.measured().count() >= LEAST_POINTS && !self.is_bent()
    }

    /// Megabytes per factor of 100 in the number of networks.
    pub fn per_hundredfold(&self) -> Option<f64> {
        let line = self.line(|p| p.log10_candidates, |p| p.peak_bytes().map(|b| b / 1e6))?;
        Some(2.0 * line.slope)
    }
}

/// All points, in the order of runs, dimension, recompute and options.
pub fn points(runs: &[StudyRun<'_>]) -> Vec<PointResult> {
    let mut all: Vec<PointResult> = Vec::new();
    for (run, of_run) in runs {
        for point in of_run {
            let known = all.iter_mut().find(|known| {
                known.run == run.id
                    && (&known.recompute, &known.dimension, known.options)
                        == (&point.recompute, &point.dimension, point.options)
            });
            if let Some(known) = known {
                known.repeats.extend(point.measured);
                continue;
            }
            all.push(PointResult {
                run: run.id,
                method: run.method.clone(),
                recompute: point.recompute.clone(),
                dimension: point.dimension.clone(),
                options: point.options,
                batch: point.batch,
                log10_candidates: point.log10_candidates,
                predicted_bytes: point.predicted_bytes,
                repeats: point.measured.into_iter().collect(),
            });
        }
    }
    all
}

/// What is known about other programs and virtual machines on the machine while the points were measured.
pub enum Load {
    NotRecorded,
    /// The most cores that they kept busy on average during one process.
    Quiet(f64),
    /// So many of the processes were disturbed.
    Disturbed {
        processes: usize,
        of: usize,
        most: f64,
    },
}

impl Load {
    pub fn of(points: &[PointResult]) -> Self {
        let steps = points.iter().flat_map(|point| &point.repeats);
        let cores: Vec<f64> = steps.filter_map(|step| step.other_cores).collect();
        let processes = cores.iter().filter(|cores| **cores > DISTURBING_CORES).count();
        match cores.iter().copied().reduce(f64::max) {
            None => Self::NotRecorded,
            Some(most) if processes == 0 => Self::Quiet(most),
            Some(most) => Self::Disturbed { processes, of: cores.len(), most },
        }
    }

    /// A sentence to warn with, if there was a disturbance.
    pub fn warning(&self) -> Option<String> {
        let Self::Disturbed { processes, of, most } = self else { return None };
        Some(format!(
            "Other programs or virtual machines kept more than {DISTURBING_CORES} cores busy during \
             {processes} of {of} processes (at most {most:.1}), so the seconds are not comparable"
        ))
    }
}

/// The order of tables: by dimension, and without recompute first.
pub fn order(dimension: &str, recompute: &str) -> (Option<usize>, bool) {
    (Growth::ALL.iter().position(|growth| growth.name() == dimension), recompute != "none")
}

/// The curves that the points form, in the order of tables.
pub fn curves(points: &[PointResult]) -> Vec<GrowthCurve> {
    let mut all: Vec<GrowthCurve> = Vec::new();
    for point in points {
        let (method, recompute) = (&point.method, &point.recompute);
        let known = all.iter_mut().find(|curve| {
            (&curve.method, &curve.recompute, &curve.dimension)
                == (method, recompute, &point.dimension)
        });
        match known {
            Some(curve) => curve.points.push(point.clone()),
            None => all.push(GrowthCurve {
                method: method.clone(),
                recompute: recompute.clone(),
                dimension: point.dimension.clone(),
                points: vec![point.clone()],
            }),
        }
    }
    all.sort_by_key(|curve| order(&curve.dimension, &curve.recompute));
    all
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A curve of (options, Some((bytes, seconds))), measured by three processes each; `None` is
    /// predicted only.
    pub fn curve(
        method: &str,
        dimension: &str,
        steps: &[(u64, Option<(u64, f64)>)],
    ) -> GrowthCurve {
        let point = |&(options, step): &(u64, Option<(u64, f64)>)| PointResult {
            run: 7,
            method: method.to_owned(),
            recompute: "none".to_owned(),
            dimension: dimension.to_owned(),
            options,
            batch: 64,
            log10_candidates: 2.0 * options as f64,
            predicted_bytes: 1_000_000,
            repeats: step.map_or(Vec::new(), |(peak_bytes, seconds)| {
                vec![StepUsage { seconds, peak_bytes, ..StepUsage::default() }; 3]
            }),
        };
        let points = steps.iter().map(point).collect();
        let (method, dimension) = (method.to_owned(), dimension.to_owned());
        GrowthCurve { method, recompute: "none".to_owned(), dimension, points }
    }

    #[test]
    fn disturbed_processes_are_counted() {
        let mut points = curve("dnas", "width", &[(1, Some((1, 1.0))), (2, None)]).points;
        assert!(matches!(Load::of(&points), Load::NotRecorded));
        points[0].repeats[0].other_cores = Some(0.1);
        assert!(Load::of(&points).warning().is_none());
        points[0].repeats[1].other_cores = Some(0.96);
        let warning = Load::of(&points).warning().unwrap();
        assert!(warning.contains("during 1 of 2 processes (at most 1.0)"), "{warning}");
        assert_eq!((points[0].other_cores(), points[1].other_cores()), (Some(0.96), None));
    }
}
