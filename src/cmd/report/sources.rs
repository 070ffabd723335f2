//! What reports are made of: the selected runs of a database, with their measurements.

use crate::cmd::say;
use anyhow::Result;
use repro::ledger;
use repro::record::ScalingPoint;
use repro::report::render::RunDetails;
use repro::report::{self, Page, Writer};
use repro::store::{Measurement, RunRow, Store, StoredRuns};
use repro::study::report::study_pages;
use std::collections::BTreeMap;

pub struct Sources<'a> {
    store: &'a Store,
    /// The selected runs.
    pub runs: Vec<RunRow>,
    /// Those of exhaustive tables, selected or not.
    tables: Vec<RunRow>,
    /// What reports use of the measurements of all runs, if all runs are selected: one query for all is faster, but
    /// reads runs that are not selected.
    all: Option<BTreeMap<i64, Vec<Measurement>>>,
}

impl<'a> Sources<'a> {
    /// The runs of these experiments and of these ids; all runs if neither is given. Damaged runs are named.
    ///
    /// # Errors
    /// When the database cannot be read, or has no such experiment or run.
    pub fn read(store: &'a Store, experiments: &[String], ids: &[i64]) -> Result<Self> {
        let StoredRuns { rows, damaged } = store.runs()?;
        for run in &damaged {
            say(run);
        }
        let tables = report::table_runs(&rows);
        let runs = report::select(rows, experiments, ids)?;
        let everything = experiments.is_empty() && ids.is_empty();
        let all = if everything { Some(store.measurements_of(&report::metrics())?) } else { None };
        Ok(Self { store, runs, tables, all })
    }

    /// The measurements of a run.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn measurements(&self, id: i64) -> Result<Vec<Measurement>> {
        match &self.all {
            Some(all) => Ok(all.get(&id).cloned().unwrap_or_default()),
            None => Ok(self.store.measurements(id)?),
        }
    }

    /// The points of a memory study.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn points(&self, id: i64) -> Result<Vec<ScalingPoint>> {
        Ok(self.store.scaling_points(id)?)
    }

    /// A page per experiment; of all runs together also those of networks and claims.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn pages(&self, writer: Writer<'_>) -> Result<Vec<Page>> {
        let points_of = |id| self.points(id);
        let (studies, others) = study_pages(&self.runs, &points_of, writer)?;
        let mut pages = report::build(&others, &self.tables, &|id| self.measurements(id), writer)?;
        pages.extend(studies);
        if self.all.is_some() {
            pages.push(report::networks_page(&self.runs, writer)?);
            pages.push(ledger::page(&ledger::entries(&self.runs, &points_of)?, writer)?);
        }
        Ok(pages)
    }

    /// What an HTML page says about each run.
    ///
    /// # Errors
    /// When measurements cannot be read.
    pub fn details(&self) -> Result<Vec<RunDetails>> {
        let of = |run: &RunRow| Ok(RunDetails::of(run, &self.measurements(run.id)?));
        self.runs.iter().map(of).collect()
    }
}
