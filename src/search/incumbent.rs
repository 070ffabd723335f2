//! The networks that a search has looked at, and the best of them so far.

use super::score::better;
use crate::cost;
use crate::space::{Decisions, SearchSpace};
use crate::train::{Score, ensure_finite};
use crate::watch::Watch;
use anyhow::{Context, Result};

/// The best network so far.
pub struct Incumbent<'s> {
    space: &'s SearchSpace,
    seen: u64,
    best: Option<(Decisions, Score)>,
}

impl<'s> Incumbent<'s> {
    #[must_use]
    pub fn new(space: &'s SearchSpace) -> Self {
        Self { space, seen: 0, best: None }
    }

    /// Looks at one more network, records its score, its cost, and the best score so far, and shows
    /// how far the search is.
    ///
    /// # Errors
    /// When the score is not a number, the recorder fails, or the run was asked to stop.
    pub fn meet(
        &mut self,
        decisions: &Decisions,
        score: Score,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        ensure_finite(score.loss, "candidate", self.seen)?;
        if self.best.as_ref().is_none_or(|(_, best)| better(&score, best)) {
            self.best = Some((decisions.clone(), score));
        }
        let best = self.best.as_ref().map_or(score, |(_, best)| *best);
        let cost = cost::count(&self.space.decide(decisions));
        watch.measure(
            self.seen,
            &[
                ("search.candidate.top1", score.top1),
                ("search.candidate.loss", score.loss),
                ("search.candidate.macs", cost.macs as f64),
                ("search.candidate.params", cost.params as f64),
                ("search.best.top1", best.top1),
            ],
        )?;
        self.seen += 1;
        watch.progress.advanced(self.seen, &format!("top-1 {:.1} %", 100.0 * score.top1));
        Ok(())
    }

    /// The best of all.
    ///
    /// # Errors
    /// When none was looked at.
    pub fn into_best(self) -> Result<Decisions> {
        Ok(self.best.context("the search looked at no network")?.0)
    }
}
