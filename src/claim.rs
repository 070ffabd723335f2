//! What the paper claims (FBNetV2, arXiv 2004.05565), as data: the published numbers, how surely
//! they are known, how far off counts as reproduced, and what has to be measured to tell.

use std::fmt;

/// One claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// `C1` to `C7`.
    pub id: &'static str,
    pub statement: &'static str,
    /// The first is what a measurement is held against, the others are what it rests on; empty
    /// where the paper gives no number.
    pub published: &'static [Published],
    /// Our own choice, in the unit of the first published number.
    pub tolerance: Option<f64>,
    /// What has to be measured to judge the claim.
    pub protocol: &'static str,
}

/// A published number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    pub value: f64,
    /// Its unit and what it counts.
    pub of: &'static str,
    pub mark: Mark,
}

/// Where a number comes from, and so how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Abstract,
    Checked,
    SecondHand,
    Recollection,
}

/// How a measurement stands to a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It reaches the published number, less the tolerance.
    Reproduced,
    /// What was measured varies too much to tell.
    WithinNoise,
    NotReproduced,
    NotComparable {
        why: String,
    },
    /// The paper does not say so.
    NotClaimed {
        why: String,
    },
}

/// How much larger a space is than what a conventional DNAS searches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpaceSize {
    /// Decimal logarithm of the number of ways to choose all widths. The paper's spaces have 10^14
    /// of them; that DNAS searched expansions already.
    pub by_widths: f64,
    /// Decimal logarithm of the space's size over the number of ways to choose block types alone.
    pub over_block_types: f64,
    pub classes: usize,
}

/// What a claim is judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// As in manifests, for example `cifar10`.
    pub dataset: String,
    /// Of the largest space, if its text can be read.
    pub size: Option<SpaceSize>,
    /// What a memory scaling study measured of masking; empty without one.
    pub scaled: Vec<Scaled>,
}

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

/// Classes of the data set that the paper's numbers are for.
const IMAGENET_CLASSES: usize = 1000;

use Mark::{Abstract, Checked, Recollection, SecondHand};

/// All of them.
pub const ALL: [Claim; 7] = [
    Claim {
        id: "C1",
        statement: "The search space grows up to 10^14 times over conventional DNAS.",
        published: &[
            Published { value: 14.0, of: "orders of magnitude", mark: Abstract },
            Published { value: 14.65, of: "orders by the F space's widths", mark: Checked },
        ],
        tolerance: Some(0.5),
        protocol: "counting the width choices of a space of the paper's scale",
    },
    Claim {
        id: "C2",
        statement: "Memory and compute stay nearly constant as the space grows.",
        published: &[Published { value: 0.5, of: "MB per order of magnitude", mark: Recollection }],
        tolerance: Some(0.5),
        protocol: "searches over spaces of several sizes, all else equal",
    },
    Claim {
        id: "C3",
        statement: "Effective shapes let the search aim at accuracy per FLOP or per parameter.",
        published: &[],
        tolerance: None,
        protocol: "searches for each objective, compared at equal cost",
    },
    Claim {
        id: "C4",
        statement: "The search costs up to 421 times less.",
        published: &[
            Published { value: 421.0, of: "times less than MnasNet's", mark: Abstract },
            Published { value: 216.0, of: "GPU-hours", mark: SecondHand },
            Published { value: 91_000.0, of: "GPU-hours of MnasNet", mark: SecondHand },
        ],
        tolerance: Some(42.0),
        protocol: "a MnasNet search on the same hardware and ImageNet",
    },
    Claim {
        id: "C5",
        statement: "+0.9 top-1 and 15 % fewer FLOPs than MobileNetV3-Small.",
        published: &[
            Published { value: 0.9, of: "points of top-1 more", mark: Abstract },
            Published { value: 15.0, of: "% fewer FLOPs", mark: Abstract },
            Published { value: 67.4, of: "% top-1 of MobileNetV3-Small", mark: Recollection },
            Published { value: 66.0, of: "M FLOPs of MobileNetV3-Small", mark: Recollection },
        ],
        tolerance: Some(0.3),
        protocol: "ImageNet, and MobileNetV3-Small trained by the same recipe",
    },
    Claim {
        id: "C6",
        statement: "EfficientNet-B0's accuracy with 20 % fewer FLOPs.",
        published: &[
            Published { value: 20.0, of: "% fewer FLOPs", mark: Abstract },
            Published { value: 77.3, of: "% top-1 of B0", mark: Recollection },
            Published { value: 390.0, of: "M FLOPs of B0", mark: Recollection },
        ],
        tolerance: Some(5.0),
        protocol: "ImageNet, and EfficientNet-B0 trained by the same recipe",
    },
    Claim {
        id: "C7",
        statement: "+2.6 top-1 over MobileNetV3 at equal model size.",
        published: &[
            Published { value: 2.6, of: "points of top-1 more", mark: Abstract },
            Published { value: 75.9, of: "% top-1 of P3, 4.0 M parameters", mark: SecondHand },
            Published {
                value: 73.3,
                of: "% top-1 of MobileNetV3, 4.0 M parameters",
                mark: Recollection,
            },
        ],
        tolerance: Some(0.3),
        protocol: "ImageNet, and MobileNetV3 trained by the same recipe",
    },
];

impl Claim {
    /// How the evidence stands to this claim. C1 can be told from a space, and C2 from a memory
    /// scaling study; the others need comparisons that one experiment does not make.
    #[must_use]
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let missing = || {
            let why = format!("needs {}; this is {}", self.protocol, evidence.dataset);
            Verdict::NotComparable { why }
        };
        match (self.id, evidence.size) {
            ("C1", None) => {
                let why = "the text of the space cannot be read".to_owned();
                Verdict::NotComparable { why }
            }
            ("C1", Some(size)) => match self.compare(size.by_widths) {
                Verdict::NotReproduced if size.classes != IMAGENET_CLASSES => missing(),
                verdict => verdict,
            },
            ("C2", _) => {
                let parts =
                    evidence.scaled.iter().flat_map(|s| [s.judge_bytes(), s.judge_seconds()]);
                weakest(parts).unwrap_or_else(missing)
            }
            _ => missing(),
        }
    }

    /// Holds a number that no chance moves against the published one.
    fn compare(&self, measured: f64) -> Verdict {
        let (Some(published), Some(tolerance)) = (self.published.first(), self.tolerance) else {
            return Verdict::NotComparable { why: "no number was published".to_owned() };
        };
        let short = published.value - measured;
        if short <= tolerance { Verdict::Reproduced } else { Verdict::NotReproduced }
    }
}

/// The verdict on a claim of several parts, of those that are claimed.
fn weakest(parts: impl Iterator<Item = Verdict>) -> Option<Verdict> {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::NotReproduced => 0,
        Verdict::WithinNoise => 1,
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
            _ => Verdict::WithinNoise,
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

impl Mark {
    pub const ALL: [Self; 4] = [Abstract, Checked, SecondHand, Recollection];

    /// What the mark says.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Abstract => "the paper's abstract",
            Checked => "computed or checked here, or read from published code",
            SecondHand => "agreeing second-hand texts",
            Recollection => "recollection of the paper, unverified",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Abstract => "[A]",
            Checked => "[C]",
            SecondHand => "[2]",
            Recollection => "[M]",
        })
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.value, self.of, self.mark)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reproduced => f.write_str("reproduced"),
            Self::WithinNoise => f.write_str("within noise"),
            Self::NotReproduced => f.write_str("not reproduced"),
            Self::NotComparable { why } => write!(f, "not comparable: {why}"),
            Self::NotClaimed { why } => write!(f, "not claimed: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space_of(by_widths: f64, classes: usize) -> Evidence {
        let size = Some(SpaceSize { by_widths, over_block_types: by_widths + 8.0, classes });
        Evidence { dataset: "cifar10".to_owned(), size, scaled: Vec::new() }
    }

    #[test]
    fn a_space_of_the_papers_scale_is_judged_by_its_widths() {
        assert_eq!(ALL[0].judge(&space_of(14.65, 1000)), Verdict::Reproduced);
        assert_eq!(ALL[0].judge(&space_of(13.5, 1000)), Verdict::Reproduced);
        assert_eq!(ALL[0].judge(&space_of(13.4, 1000)), Verdict::NotReproduced);
    }

    #[test]
    fn a_smaller_space_for_other_data_refutes_nothing() {
        let verdict = ALL[0].judge(&space_of(8.5, 10));
        assert!(matches!(&verdict, Verdict::NotComparable { why } if why.contains("cifar10")));
        assert_eq!(ALL[0].judge(&space_of(15.0, 10)), Verdict::Reproduced);
    }

    #[test]
    fn a_claim_without_a_number_is_not_comparable() {
        assert_eq!(ALL[4].compare(0.7), Verdict::Reproduced);
        assert_eq!(ALL[4].compare(0.5), Verdict::NotReproduced);
        assert!(matches!(ALL[2].compare(1.0), Verdict::NotComparable { .. }));
    }

    fn scaled(along: Along, bytes: f64, growth: (f64, f64)) -> Scaled {
        let times = 1.0 + f64::midpoint(growth.0, growth.1);
        let seconds = Some(Seconds { times, growth, processes: 3, points: 4 });
        Scaled { along, options: 4.0, bytes, seconds }
    }

    #[test]
    fn what_stays_nearly_constant_is_reproduced_and_what_varies_too_much_is_within_noise() {
        let sizes = |bytes, growth| scaled(Along::Sizes, bytes, growth);
        assert_eq!(sizes(1.01, (0.0, 0.0)).judge_bytes(), Verdict::Reproduced);
        assert_eq!(sizes(1.011, (0.0, 0.0)).judge_bytes(), Verdict::NotReproduced);
        assert_eq!(sizes(1.0, (-0.01, 0.03)).judge_seconds(), Verdict::Reproduced);
        assert_eq!(sizes(1.0, (-0.01, 0.05)).judge_seconds(), Verdict::WithinNoise);
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
        assert_eq!(times(3.95), Verdict::WithinNoise);
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
        let judge = |scaled: Vec<Scaled>| ALL[1].judge(&Evidence { scaled, ..space_of(5.0, 10) });
        let constant = scaled(Along::Sizes, 1.0, (0.0, 0.01));
        let branches = scaled(Along::BlockTypes, 5.0, (5.0, 6.0));
        assert_eq!(judge(vec![constant, branches]), Verdict::Reproduced);
        let noisy = scaled(Along::Sizes, 1.0, (0.0, 0.1));
        assert_eq!(judge(vec![constant, noisy]), Verdict::WithinNoise);
        let larger = scaled(Along::Resolutions, 1.2, (0.0, 0.1));
        assert_eq!(judge(vec![noisy, larger]), Verdict::NotReproduced);
        assert!(matches!(judge(vec![branches]), Verdict::NotComparable { .. }));
    }

    #[test]
    fn the_other_claims_are_not_comparable_and_say_what_they_need() {
        for claim in &ALL[1..] {
            let verdict = claim.judge(&space_of(14.65, 1000)).to_string();
            assert!(verdict.starts_with("not comparable: needs "), "{}: {verdict}", claim.id);
        }
    }
}
