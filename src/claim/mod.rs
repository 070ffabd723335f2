//! What the paper claims (FBNetV2, arXiv 2004.05565), and how a measurement is judged against it.
//!
//! Claims with their published numbers and their evidence are data: the files of `claims/`, which are compiled in.
//! The judges are code, a small closed set. [`Judge::ConstantCost`] is the memory study's.

mod judge;
mod wire;

pub use judge::{CostEvidence, Judge, Measure, PairedEvidence, RunFilter};

use crate::document::Diagnostics;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

/// One claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// `C1` to `C7`.
    pub id: String,
    pub statement: String,
    /// Where it is claimed: the work, and the place in it.
    pub source: String,
    /// What is estimated.
    pub estimand: String,
    pub judge: Judge,
    /// What has to be measured to judge it.
    pub needs: String,
    /// The manifests whose runs are its evidence.
    pub manifests: Vec<String>,
    pub tolerance: Option<Tolerance>,
    /// A measurement is compared with the first; the others support it.
    pub published: Vec<PublishedNumber>,
}

/// By how much a measurement may fall short of the first published number, in its unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerance {
    pub value: f64,
    pub reason: String,
}

/// A published number.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedNumber {
    pub value: f64,
    /// Its unit, and what it counts.
    pub of: String,
    pub mark: Mark,
    /// Where it is from, or how it was computed.
    pub source: String,
}

/// How certain a published number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The paper's abstract says it.
    Abstract,
    /// Computed or checked here, or read from published code.
    Computed,
    /// Several texts about the paper agree on it.
    SecondHand,
    /// Recollection of the paper, not verified.
    Recollection,
}

/// How a measurement compares with a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It reaches the published number within the tolerance.
    Reproduced,
    /// It varies too much to decide.
    Inconclusive,
    NotReproduced,
    NotComparable {
        why: String,
    },
    /// The paper does not claim this.
    NotClaimed {
        why: String,
    },
    /// No run bears on the claim.
    NotMeasured {
        /// What has to be measured.
        needs: String,
    },
}

/// How much larger a space is than that of a conventional DNAS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpaceGrowth {
    /// Decimal logarithm of the number of ways to choose all widths. The paper's spaces have 10^14
    /// of them; a conventional DNAS already searched expansions.
    pub by_widths: f64,
    pub classes: usize,
}

/// Classes of the data set that the paper's numbers are for.
const IMAGENET_CLASSES: usize = 1000;

/// Every file of `claims/`.
const FILES: [(&str, &str); 7] = [
    ("claims/c1_space_growth.toml", include_str!("../../claims/c1_space_growth.toml")),
    ("claims/c2_constant_cost.toml", include_str!("../../claims/c2_constant_cost.toml")),
    ("claims/c3_effective_shapes.toml", include_str!("../../claims/c3_effective_shapes.toml")),
    ("claims/c4_search_cost.toml", include_str!("../../claims/c4_search_cost.toml")),
    ("claims/c5_mobilenet_v3_small.toml", include_str!("../../claims/c5_mobilenet_v3_small.toml")),
    ("claims/c6_efficientnet_b0.toml", include_str!("../../claims/c6_efficientnet_b0.toml")),
    (
        "claims/c7_mobilenet_v3_params.toml",
        include_str!("../../claims/c7_mobilenet_v3_params.toml"),
    ),
];

/// The claim of that id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Claim> {
    all().iter().find(|claim| claim.id == id)
}

/// All claims, in the order of their ids.
#[must_use]
pub fn all() -> &'static [Claim] {
    static CLAIMS: OnceLock<Vec<Claim>> = OnceLock::new();
    // A test reads every file, so that none of those that are compiled in has a problem.
    CLAIMS.get_or_init(|| read().unwrap_or_default())
}

fn read() -> Result<Vec<Claim>, Diagnostics> {
    let (mut claims, mut problems) = (Vec::new(), Vec::new());
    for (path, text) in FILES {
        match wire::parse(Path::new(path), text) {
            Ok(claim) => claims.push(claim),
            Err(diagnostics) => problems.extend(diagnostics.0),
        }
    }
    if problems.is_empty() { Ok(claims) } else { Err(Diagnostics(problems)) }
}

impl Claim {
    /// The verdict of [`Judge::SpaceGrowth`]; `None` where the claim has another judge, or where the
    /// space is too small and for other data, which refutes nothing.
    #[must_use]
    pub fn judge_space(&self, space: SpaceGrowth) -> Option<Verdict> {
        if self.judge != Judge::SpaceGrowth {
            return None;
        }
        match self.compare(space.by_widths) {
            Verdict::NotReproduced if space.classes != IMAGENET_CLASSES => None,
            verdict => Some(verdict),
        }
    }

    /// The verdict where nothing that the claim is about was measured, as on `dataset`.
    #[must_use]
    pub fn not_measured(&self, dataset: &str) -> Verdict {
        Verdict::NotComparable { why: format!("needs {}; this is {dataset}", self.needs) }
    }

    /// The published numbers with their marks, and the tolerance.
    #[must_use]
    pub fn published_numbers(&self) -> String {
        let tolerance = self.tolerance.as_ref().map(|t| format!("tolerance {}", t.value));
        let numbers = self.published.iter().map(ToString::to_string).chain(tolerance);
        numbers.collect::<Vec<_>>().join("; ")
    }

    /// The least that reproduces it: the first published number less the tolerance. Zero where no number was
    /// published, so that a direction is claimed and no size.
    #[must_use]
    pub fn margin(&self) -> f64 {
        let tolerance = self.tolerance.as_ref().map_or(0.0, |tolerance| tolerance.value);
        self.published.first().map_or(0.0, |published| published.value - tolerance)
    }

    /// Compares a number without random error with the published one.
    #[must_use]
    pub fn compare(&self, measured: f64) -> Verdict {
        if measured >= self.margin() { Verdict::Reproduced } else { Verdict::NotReproduced }
    }

    /// Compares an interval with the published number.
    #[must_use]
    pub fn compare_interval(&self, (low, high): (f64, f64)) -> Verdict {
        let margin = self.margin();
        match (low >= margin, high < margin) {
            (true, _) => Verdict::Reproduced,
            (_, true) => Verdict::NotReproduced,
            _ => Verdict::Inconclusive,
        }
    }
}

impl Mark {
    /// How certain the number is, in words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Abstract => "the paper's abstract",
            Self::Computed => "computed or checked here, or read from published code",
            Self::SecondHand => "several second-hand texts that agree",
            Self::Recollection => "recollection of the paper, not verified",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Abstract => "abstract",
            Self::Computed => "computed",
            Self::SecondHand => "second-hand",
            Self::Recollection => "recollection",
        })
    }
}

impl fmt::Display for PublishedNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.value, self.of, self.mark)
    }
}

impl Verdict {
    /// Without its reason.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Inconclusive => "inconclusive",
            Self::NotReproduced => "not reproduced",
            Self::NotComparable { .. } => "not comparable",
            Self::NotClaimed { .. } => "not claimed",
            Self::NotMeasured { .. } => "not measured",
        }
    }

    /// Why there is no judgement, where there is none.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Reproduced | Self::Inconclusive | Self::NotReproduced => None,
            Self::NotComparable { why } | Self::NotClaimed { why } => Some(why.clone()),
            Self::NotMeasured { needs } => Some(format!("needs {needs}")),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.reason().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn claims() -> Vec<Claim> {
        read().unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
    }

    #[test]
    fn every_file_of_the_folder_is_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = std::fs::read_dir(root.join("claims")).unwrap();
        let files: BTreeSet<_> =
            folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let known: BTreeSet<_> =
            FILES.iter().map(|(path, _)| path.replace("claims/", "")).collect();
        assert_eq!(files, known);
        let ids: Vec<String> = claims().into_iter().map(|claim| claim.id).collect();
        assert_eq!(ids, ["C1", "C2", "C3", "C4", "C5", "C6", "C7"]);
        for manifest in claims().iter().flat_map(|claim| &claim.manifests) {
            assert!(root.join(manifest).is_file(), "{manifest}");
        }
    }

    #[test]
    fn a_space_is_judged_by_its_widths() {
        let judge = |claim: usize, by_widths, classes| {
            claims()[claim].judge_space(SpaceGrowth { by_widths, classes })
        };
        assert_eq!(judge(0, 14.65, 1000), Some(Verdict::Reproduced));
        assert_eq!(judge(0, 13.5, 1000), Some(Verdict::Reproduced));
        assert_eq!(judge(0, 13.4, 1000), Some(Verdict::NotReproduced));
        assert_eq!(judge(0, 15.0, 10), Some(Verdict::Reproduced));
        // A smaller space for other data refutes nothing.
        assert_eq!(judge(0, 8.5, 10), None);
        assert_eq!(judge(1, 14.65, 1000), None);
    }

    #[test]
    fn an_interval_is_compared_as_a_whole() {
        // 0.9 points are published, with a tolerance of 0.3.
        let c5 = &claims()[4];
        assert_eq!(c5.margin(), 0.9 - 0.3);
        assert_eq!(c5.compare_interval((0.7, 1.0)), Verdict::Reproduced);
        assert_eq!(c5.compare_interval((0.5, 1.0)), Verdict::Inconclusive);
        assert_eq!(c5.compare_interval((-0.5, 0.5)), Verdict::NotReproduced);
        // A direction.
        assert_eq!(claims()[2].margin(), 0.0);
    }
}
