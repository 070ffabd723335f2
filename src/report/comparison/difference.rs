//! A method minus a random baseline, seed by seed, and what that shows.

use super::{Comparison, MethodRuns};
use crate::recipe::MethodName;
use crate::report::stats::{PairedDifferences, holm};
use crate::text::{Unit, p_value, plural, points, run_ids};

/// The methods that the others are compared with: one draw, and the best of several.
const BASELINES: [&str; 2] = [MethodName::Random.as_str(), MethodName::RandomSearch.as_str()];

/// A method minus a baseline.
pub struct Difference<'a> {
    pub method: &'a str,
    pub baseline: &'a str,
    pub paired: PairedDifferences,
    /// The p-value, corrected over all differences of the comparison.
    pub holm: Option<f64>,
    /// The method's mean search MACs over the baseline's, if both executed any.
    pub search_macs_ratio: Option<f64>,
    /// Of the runs that were compared.
    pub ids: Vec<i64>,
}

/// Whether the corrected p-value is below 0.05, and on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Significance {
    Better,
    Worse,
    NotSignificant,
}

/// Of every method to every baseline. The second baseline is also compared with the first.
pub(super) fn differences<'a>(methods: &[MethodRuns<'a>]) -> Vec<Difference<'a>> {
    let mut differences = Vec::new();
    for (i, name) in BASELINES.into_iter().enumerate() {
        let Some(baseline) = methods.iter().find(|method| method.name == name) else { continue };
        let others = methods.iter().filter(|other| !BASELINES[..=i].contains(&other.name));
        differences.extend(others.filter_map(|method| {
            let (accuracies, ids) = method.minus(baseline);
            let macs = method.mean_search_macs().zip(baseline.mean_search_macs());
            let executed = macs.filter(|(own, other)| *own > 0.0 && *other > 0.0);
            Some(Difference {
                method: method.name,
                baseline: name,
                paired: PairedDifferences::of(&accuracies)?,
                holm: None,
                search_macs_ratio: executed.map(|(own, other)| own / other),
                ids,
            })
        }));
    }
    let ps: Vec<Option<f64>> = differences.iter().map(|difference| difference.paired.p).collect();
    for (difference, corrected) in differences.iter_mut().zip(holm(&ps)) {
        difference.holm = corrected;
    }
    differences
}

impl Comparison<'_> {
    /// What it says about DMaskingNAS.
    pub fn verdicts(&self) -> impl Iterator<Item = String> {
        let own = |difference: &&Difference<'_>| difference.method == MethodName::Dmasking.as_str();
        self.differences.iter().filter(own).map(|difference| {
            let (mean, n) = (points(difference.paired.mean), difference.paired.pairs);
            format!(
                "dmasking versus {}: {}, {mean} percentage points of top-1 with {}",
                difference.baseline,
                Significance::of(difference).name(),
                plural(n, "seed")
            )
        })
    }

    /// One sentence per method and baseline.
    #[must_use]
    pub fn conclusions(&self) -> Vec<String> {
        self.differences.iter().map(Difference::conclusion).collect()
    }
}

impl Significance {
    fn of(difference: &Difference<'_>) -> Self {
        match difference.holm {
            Some(p) if p < 0.05 && difference.paired.mean > 0.0 => Self::Better,
            Some(p) if p < 0.05 => Self::Worse,
            _ => Self::NotSignificant,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Better => "significantly better",
            Self::Worse => "significantly worse",
            Self::NotSignificant => "no significant difference",
        }
    }
}

impl Difference<'_> {
    fn conclusion(&self) -> String {
        let Self { method, baseline, paired, holm, ids, .. } = self;
        let seeds = plural(paired.pairs, "seed");
        let basis = match (paired.interval, holm, paired.detectable) {
            (Some((low, high)), Some(p), Some(detectable)) => format!(
                "95 % interval {} to {}; p with Holm's correction: {}; minimum detectable effect with \
                 {seeds}: {}",
                points(low),
                points(high),
                p_value(*p),
                Unit::Percent.cell(detectable)
            ),
            _ if paired.pairs == 1 => "one seed gives no interval".to_owned(),
            _ => format!("the differences of {seeds} are all equal, which gives no interval"),
        };
        format!(
            "{method} versus {baseline}: {}, {} percentage points of top-1 ({basis}; {})",
            Significance::of(self).name(),
            points(paired.mean),
            run_ids(ids.iter().copied())
        )
    }
}
