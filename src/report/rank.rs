//! How well shared weights rank networks: Kendall's τ-b between the accuracies with shared weights and
//! after training from scratch, with a bootstrap interval.

use super::kendall::{bootstrap, interval, tau_b};
use super::measured::MeasuredRun;
use super::table::{Columns, ReportTable};
use crate::record::Metric;
use crate::store::RunRow;
use crate::text::{list, plural, run_ids};

/// Two accuracies of each network that is ranked.
pub const METRICS: [Metric; 2] = [Metric::RANK_SHARED_TOP1, Metric::RANK_ALONE_TOP1];

/// The networks that one run ranked. Several runs with the same seed and identical shared weights are
/// one measurement.
pub struct Ranking<'a> {
    pub runs: Vec<&'a RunRow>,
    /// Accuracies of each network, in 0..=1: with shared weights, and trained from scratch.
    pub pairs: Vec<(f64, f64)>,
}

/// The rankings of the runs that have ranked networks.
pub fn rankings<'a>(measured: &[MeasuredRun<'a>]) -> Vec<Ranking<'a>> {
    let mut rankings: Vec<Ranking<'a>> = Vec::new();
    for measured in measured {
        let run = measured.run;
        let pairs = measured.joined(METRICS[0], METRICS[1]);
        if pairs.is_empty() {
            continue;
        }
        let same = |r: &&mut Ranking<'_>| r.pairs == pairs && r.runs[0].seed == run.seed;
        match rankings.iter_mut().find(same) {
            Some(ranking) => ranking.runs.push(run),
            None => rankings.push(Ranking { runs: vec![run], pairs }),
        }
    }
    rankings
}

impl Ranking<'_> {
    fn methods(&self) -> String {
        let mut methods: Vec<&str> = self.runs.iter().map(|run| run.method.as_str()).collect();
        methods.dedup();
        list(methods)
    }

    fn ids(&self) -> Vec<i64> {
        self.runs.iter().map(|run| run.id).collect()
    }

    /// For a legend.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}: {}, seed {}", run_ids(self.ids()), self.methods(), self.runs[0].seed)
    }
}

/// One sentence per ranking.
pub fn verdicts(rankings: &[Ranking<'_>]) -> Vec<String> {
    let verdict = |ranking: &Ranking<'_>| {
        let (low, high) = interval(&ranking.pairs)?;
        Some(format!(
            "shared weights of {} (seed {}) rank {} with a τ-b of {:.2} ({low:.2} to {high:.2})",
            ranking.methods(),
            ranking.runs[0].seed,
            plural(ranking.pairs.len(), "network"),
            tau_b(&ranking.pairs)?
        ))
    };
    rankings.iter().filter_map(verdict).collect()
}

/// One row per ranking.
pub fn table(rankings: &[Ranking<'_>]) -> ReportTable {
    let two = |tau: f64| format!("{tau:.2}");
    Columns::of("rank", rankings)
        .text("method", "method", Ranking::methods)
        .whole("seed", "seed", |ranking| Some(ranking.runs[0].seed))
        .whole("networks", "networks", |ranking| Some(ranking.pairs.len() as u64))
        .number("tau_b", "τ-b", |ranking| tau_b(&ranking.pairs), two)
        .interval("interval", "95 % interval", |ranking| interval(&ranking.pairs), two)
        .runs("run", Ranking::ids)
        .table()
}

/// One sentence for any two rankings of one seed over the same networks, trained alike: the difference
/// of their τ-b with an interval.
#[must_use]
pub fn differences(rankings: &[Ranking<'_>]) -> Vec<String> {
    let mut sentences = Vec::new();
    for (i, b) in rankings.iter().enumerate() {
        sentences.extend(rankings[..i].iter().filter_map(|a| difference(a, b)));
    }
    sentences
}

fn difference(a: &Ranking<'_>, b: &Ranking<'_>) -> Option<String> {
    let alone = |ranking: &Ranking<'_>| -> Vec<f64> { ranking.pairs.iter().map(|p| p.1).collect() };
    if a.runs[0].seed != b.runs[0].seed || alone(a) != alone(b) {
        return None;
    }
    let apart = |networks: &[usize]| {
        let tau =
            |r: &Ranking<'_>| tau_b(&networks.iter().map(|i| r.pairs[*i]).collect::<Vec<_>>());
        Some(tau(a)? - tau(b)?)
    };
    let all: Vec<usize> = (0..a.pairs.len()).collect();
    let ((low, high), observed) = bootstrap(all.len(), apart).zip(apart(&all))?;
    Some(format!(
        "τ-b of {} minus τ-b of {}: {observed:+.2}, 95 % interval {low:+.2} to {high:+.2} over the \
         networks, which both have in common.",
        a.label(),
        b.label()
    ))
}
