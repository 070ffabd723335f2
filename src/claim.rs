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
}

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
    /// How the evidence stands to this claim. C1 can be told from a space; the others need a memory
    /// scaling study, or comparisons that one experiment does not make.
    #[must_use]
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        match (self.id, evidence.size) {
            ("C1", None) => {
                let why = "the text of the space cannot be read".to_owned();
                Verdict::NotComparable { why }
            }
            ("C1", Some(size)) => match self.compare(size.by_widths) {
                Verdict::NotReproduced if size.classes != IMAGENET_CLASSES => {
                    self.not_measured(&evidence.dataset)
                }
                verdict => verdict,
            },
            _ => self.not_measured(&evidence.dataset),
        }
    }

    /// The verdict of an experiment on `dataset` that does not measure what the claim is about.
    #[must_use]
    pub fn not_measured(&self, dataset: &str) -> Verdict {
        Verdict::NotComparable { why: format!("needs {}; this is {dataset}", self.protocol) }
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
        Evidence { dataset: "cifar10".to_owned(), size }
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

    #[test]
    fn the_other_claims_are_not_comparable_and_say_what_they_need() {
        for claim in &ALL[1..] {
            let verdict = claim.judge(&space_of(14.65, 1000)).to_string();
            assert!(verdict.starts_with("not comparable: needs "), "{}: {verdict}", claim.id);
        }
    }
}
