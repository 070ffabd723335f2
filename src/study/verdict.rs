//! Judges claim C2 on a memory study: memory and compute stay nearly constant as the space grows.

use crate::claim::{Claim, Verdict};

/// How a step of the masked supernet grows along one dimension, from the fewest to the most options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GrowthEvidence {
    pub kind: GrowthKind,
    /// The most options over the fewest.
    pub options: f64,
    /// Peak bytes with the most options over those with the fewest.
    pub bytes: f64,
    /// `None` where too little was measured.
    pub time: Option<TimeGrowth>,
}

/// What grows. The paper claims something else of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthKind {
    /// Widths or expansions, which masks are for.
    Sizes,
    Resolutions,
    BlockTypes,
    /// All of them at once.
    Everything,
}

/// How the seconds of a step grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeGrowth {
    /// The last point over the first, by medians over processes.
    pub times: f64,
    /// The 95 % interval of the growth along a straight line through all processes of all points, as
    /// a share of the line's value at the first point.
    pub interval: (f64, f64),
    /// At the end that has fewer.
    pub processes: usize,
    pub points: usize,
}

/// Growth up to which bytes and seconds count as nearly constant, as shares. Our own choice.
pub const TOLERATED_BYTES: f64 = 0.01;
pub const TOLERATED_SECONDS: f64 = 0.03;
/// Time is judged from at least so many: the same step differs by some per cent between processes.
const LEAST_PROCESSES: usize = 3;
const LEAST_POINTS: usize = 3;

/// The verdict on C2 from a study with the images of `dataset`: that of the weakest part.
#[must_use]
pub fn judge(c2: &Claim, dataset: &str, evidence: &[GrowthEvidence]) -> Verdict {
    let parts = evidence.iter().flat_map(|e| [e.judge_bytes(), e.judge_seconds()]);
    weakest(parts).unwrap_or_else(|| c2.not_measured(dataset))
}

/// The weakest verdict on what is claimed at all; `None` without verdicts.
pub fn weakest(parts: impl Iterator<Item = Verdict>) -> Option<Verdict> {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::NotReproduced => 0,
        Verdict::Inconclusive => 1,
        Verdict::NotComparable { .. } | Verdict::NotMeasured { .. } => 2,
        Verdict::Reproduced => 3,
        Verdict::NotClaimed { .. } => 4,
    };
    parts.filter(|part| !matches!(part, Verdict::NotClaimed { .. })).min_by_key(rank)
}

impl GrowthEvidence {
    /// Whether bytes stay nearly constant.
    #[must_use]
    pub fn judge_bytes(&self) -> Verdict {
        self.not_claimed().unwrap_or_else(|| {
            let constant = self.bytes <= 1.0 + TOLERATED_BYTES;
            if constant { Verdict::Reproduced } else { Verdict::NotReproduced }
        })
    }

    /// Whether seconds stay nearly constant, or, for resolutions, grow by less than their number.
    #[must_use]
    pub fn judge_seconds(&self) -> Verdict {
        if let Some(verdict) = self.not_claimed() {
            return verdict;
        }
        let enough = |t: &TimeGrowth| t.processes >= LEAST_PROCESSES && t.points >= LEAST_POINTS;
        let Some(time) = self.time.filter(enough) else {
            let why = format!(
                "fewer than {LEAST_PROCESSES} processes at an end or {LEAST_POINTS} points"
            );
            return Verdict::NotComparable { why };
        };
        let ((low, high), allowed) = match self.kind {
            GrowthKind::Resolutions => {
                let noise = time.times * TOLERATED_SECONDS;
                ((time.times - noise, time.times + noise), self.options)
            }
            _ => (time.interval, TOLERATED_SECONDS),
        };
        match (high <= allowed, low > allowed) {
            (true, _) => Verdict::Reproduced,
            (_, true) => Verdict::NotReproduced,
            _ => Verdict::Inconclusive,
        }
    }

    fn not_claimed(&self) -> Option<Verdict> {
        let why = match self.kind {
            GrowthKind::Sizes | GrowthKind::Resolutions => return None,
            GrowthKind::BlockTypes => "in the paper, too, each block type is a branch of its own",
            GrowthKind::Everything => {
                "block types grow as well, and in the paper, too, each is a branch of its own"
            }
        };
        Some(Verdict::NotClaimed { why: why.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim;

    /// From 1 to 4 options, by three processes at four points.
    fn evidence(kind: GrowthKind, bytes: f64, interval: (f64, f64)) -> GrowthEvidence {
        let times = 1.0 + f64::midpoint(interval.0, interval.1);
        let time = Some(TimeGrowth { times, interval, processes: 3, points: 4 });
        GrowthEvidence { kind, options: 4.0, bytes, time }
    }

    #[test]
    fn sizes_are_judged_by_their_tolerances() {
        let sizes = |bytes, interval| evidence(GrowthKind::Sizes, bytes, interval);
        assert_eq!(sizes(1.01, (0.0, 0.0)).judge_bytes(), Verdict::Reproduced);
        assert_eq!(sizes(1.011, (0.0, 0.0)).judge_bytes(), Verdict::NotReproduced);
        assert_eq!(sizes(1.0, (-0.01, 0.03)).judge_seconds(), Verdict::Reproduced);
        assert_eq!(sizes(1.0, (-0.01, 0.05)).judge_seconds(), Verdict::Inconclusive);
        assert_eq!(sizes(1.0, (0.031, 0.05)).judge_seconds(), Verdict::NotReproduced);
        for (processes, points) in [(2, 4), (3, 2)] {
            let time = Some(TimeGrowth { times: 1.0, interval: (0.0, 0.0), processes, points });
            let verdict = GrowthEvidence { time, ..sizes(1.0, (0.0, 0.0)) }.judge_seconds();
            assert!(matches!(verdict, Verdict::NotComparable { .. }), "{verdict}");
        }
    }

    #[test]
    fn the_time_of_resolutions_may_grow() {
        let times = |times: f64| {
            evidence(GrowthKind::Resolutions, 1.2, (times - 1.0, times - 1.0)).judge_seconds()
        };
        assert_eq!(times(3.6), Verdict::Reproduced);
        assert_eq!(times(3.95), Verdict::Inconclusive);
        assert_eq!(times(4.2), Verdict::NotReproduced);
    }

    #[test]
    fn nothing_is_claimed_of_block_types() {
        for kind in [GrowthKind::BlockTypes, GrowthKind::Everything] {
            let branches = evidence(kind, 5.0, (5.0, 6.0));
            for verdict in [branches.judge_bytes(), branches.judge_seconds()] {
                assert!(matches!(verdict, Verdict::NotClaimed { .. }), "{verdict}");
            }
        }
    }

    #[test]
    fn a_study_is_judged_by_its_weakest_part() {
        let judge =
            |evidence: Vec<GrowthEvidence>| judge(claim::find("C2").unwrap(), "cifar10", &evidence);
        let constant = evidence(GrowthKind::Sizes, 1.0, (0.0, 0.01));
        let branches = evidence(GrowthKind::BlockTypes, 5.0, (5.0, 6.0));
        assert_eq!(judge(vec![constant, branches]), Verdict::Reproduced);
        let noisy = evidence(GrowthKind::Sizes, 1.0, (0.0, 0.1));
        assert_eq!(judge(vec![constant, noisy]), Verdict::Inconclusive);
        let larger = evidence(GrowthKind::Resolutions, 1.2, (0.0, 0.1));
        assert_eq!(judge(vec![noisy, larger]), Verdict::NotReproduced);
        assert!(matches!(judge(vec![branches]), Verdict::NotComparable { .. }));
    }
}
