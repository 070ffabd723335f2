//! What a memory scaling study says of the claim that memory and compute stay nearly constant.

use crate::claim::{Claim, Verdict};

/// What a step of the masked supernet takes as one thing grows, from the fewest to the most options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    pub along: Along,
    /// How many times as many options there are in the end.
    pub options: f64,
    /// How many times the bytes.
    pub bytes: f64,
    pub seconds: Option<Seconds>,
}

/// What grows, by what the paper says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// Widths, or expansions: what masks are for.
    Sizes,
    Resolutions,
    BlockTypes,
    /// All of them at once.
    Everything,
}

/// How the seconds of a step grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds {
    /// How many times the seconds of the first point the last one takes, by the medians of processes.
    pub times: f64,
    /// The 95 % interval of the growth along a straight line through all processes of all points, as a
    /// share of what it begins with.
    pub growth: (f64, f64),
    /// Of the end that has fewer.
    pub processes: usize,
    pub points: usize,
}

/// By how much the bytes and the seconds of a step may grow and still be nearly constant: our own
/// choice.
pub const TOLERATED_BYTES: f64 = 0.01;
pub const TOLERATED_SECONDS: f64 = 0.03;
/// With fewer of either nothing is said of seconds: one and the same step differs by some per cent
/// between processes.
const LEAST_PROCESSES: usize = 3;
const LEAST_POINTS: usize = 3;

/// How what was measured of masking on `dataset` stands to C2: as its weakest part.
#[must_use]
pub fn judge(c2: &Claim, dataset: &str, scaled: &[Scaled]) -> Verdict {
    let parts = scaled.iter().flat_map(|s| [s.judge_bytes(), s.judge_seconds()]);
    weakest(parts).unwrap_or_else(|| c2.not_measured(dataset))
}

/// The verdict on a claim of several parts, of those that are claimed.
fn weakest(parts: impl Iterator<Item = Verdict>) -> Option<Verdict> {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::NotReproduced => 0,
        Verdict::Inconclusive => 1,
        Verdict::NotComparable { .. } => 2,
        Verdict::Reproduced => 3,
        Verdict::NotClaimed { .. } => 4,
    };
    parts.filter(|part| !matches!(part, Verdict::NotClaimed { .. })).min_by_key(rank)
}

impl Scaled {
    /// Bytes that stay nearly constant.
    #[must_use]
    pub fn judge_bytes(&self) -> Verdict {
        self.not_claimed().unwrap_or_else(|| {
            let constant = self.bytes <= 1.0 + TOLERATED_BYTES;
            if constant { Verdict::Reproduced } else { Verdict::NotReproduced }
        })
    }

    /// Seconds that stay nearly constant, or that grow by less than the number of resolutions.
    #[must_use]
    pub fn judge_seconds(&self) -> Verdict {
        if let Some(verdict) = self.not_claimed() {
            return verdict;
        }
        let enough = |s: &Seconds| s.processes >= LEAST_PROCESSES && s.points >= LEAST_POINTS;
        let Some(seconds) = self.seconds.filter(enough) else {
            let why = format!(
                "fewer than {LEAST_PROCESSES} processes at an end or {LEAST_POINTS} points"
            );
            return Verdict::NotComparable { why };
        };
        // The growth, its interval, and how much of it the paper allows.
        let ((low, high), most) = match self.along {
            Along::Resolutions => {
                let times = seconds.times;
                let noise = times * TOLERATED_SECONDS;
                ((times - noise, times + noise), self.options)
            }
            _ => (seconds.growth, TOLERATED_SECONDS),
        };
        match (high <= most, low > most) {
            (true, _) => Verdict::Reproduced,
            (_, true) => Verdict::NotReproduced,
            _ => Verdict::Inconclusive,
        }
    }

    fn not_claimed(&self) -> Option<Verdict> {
        let why = match self.along {
            Along::Sizes | Along::Resolutions => return None,
            Along::BlockTypes => "each block type is a branch of its own, in the paper, too",
            Along::Everything => "block types, which are branches in the paper, too, grow as well",
        };
        Some(Verdict::NotClaimed { why: why.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim;

    fn scaled(along: Along, bytes: f64, growth: (f64, f64)) -> Scaled {
        let times = 1.0 + f64::midpoint(growth.0, growth.1);
        let seconds = Some(Seconds { times, growth, processes: 3, points: 4 });
        Scaled { along, options: 4.0, bytes, seconds }
    }

    #[test]
    fn what_stays_nearly_constant_is_reproduced_and_what_varies_too_much_is_inconclusive() {
        let sizes = |bytes, growth| scaled(Along::Sizes, bytes, growth);
        assert_eq!(sizes(1.01, (0.0, 0.0)).judge_bytes(), Verdict::Reproduced);
        assert_eq!(sizes(1.011, (0.0, 0.0)).judge_bytes(), Verdict::NotReproduced);
        assert_eq!(sizes(1.0, (-0.01, 0.03)).judge_seconds(), Verdict::Reproduced);
        assert_eq!(sizes(1.0, (-0.01, 0.05)).judge_seconds(), Verdict::Inconclusive);
        assert_eq!(sizes(1.0, (0.031, 0.05)).judge_seconds(), Verdict::NotReproduced);
        for (processes, points) in [(2, 4), (3, 2)] {
            let seconds = Some(Seconds { times: 1.0, growth: (0.0, 0.0), processes, points });
            let verdict = Scaled { seconds, ..sizes(1.0, (0.0, 0.0)) }.judge_seconds();
            assert!(matches!(verdict, Verdict::NotComparable { .. }), "{verdict}");
        }
    }

    #[test]
    fn the_time_of_resolutions_grows_by_less_than_their_number_and_block_types_claim_nothing() {
        let times = |times: f64| {
            scaled(Along::Resolutions, 1.2, (times - 1.0, times - 1.0)).judge_seconds()
        };
        assert_eq!(times(3.6), Verdict::Reproduced);
        assert_eq!(times(3.95), Verdict::Inconclusive);
        assert_eq!(times(4.2), Verdict::NotReproduced);
        for along in [Along::BlockTypes, Along::Everything] {
            let branches = scaled(along, 5.0, (5.0, 6.0));
            for verdict in [branches.judge_bytes(), branches.judge_seconds()] {
                assert!(matches!(verdict, Verdict::NotClaimed { .. }), "{verdict}");
            }
        }
    }

    #[test]
    fn a_study_is_judged_by_the_weakest_part_of_what_is_claimed() {
        let judge = |scaled: Vec<Scaled>| judge(claim::find("C2").unwrap(), "cifar10", &scaled);
        let constant = scaled(Along::Sizes, 1.0, (0.0, 0.01));
        let branches = scaled(Along::BlockTypes, 5.0, (5.0, 6.0));
        assert_eq!(judge(vec![constant, branches]), Verdict::Reproduced);
        let noisy = scaled(Along::Sizes, 1.0, (0.0, 0.1));
        assert_eq!(judge(vec![constant, noisy]), Verdict::Inconclusive);
        let larger = scaled(Along::Resolutions, 1.2, (0.0, 0.1));
        assert_eq!(judge(vec![noisy, larger]), Verdict::NotReproduced);
        assert!(matches!(judge(vec![branches]), Verdict::NotComparable { .. }));
    }
}
