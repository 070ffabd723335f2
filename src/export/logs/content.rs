//! What the logs of a run consist of, in every format.

use super::timeline::Timeline;
use crate::env;
use crate::hex::hex;
use crate::record::Metric;
use crate::store::{Measurement, RunRow, RunStatus, Store, StoreError};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A run without its measurements.
pub struct RunContent<'a> {
    pub run: &'a RunRow,
    pub timeline: Timeline,
    /// The same in every database that has the run, whatever its number there.
    pub identity: String,
    /// Differs after the run was continued.
    pub state: String,
}

/// A number of a run that is not among its measurements.
pub struct Total {
    /// With `/` between its parts.
    pub name: String,
    pub value: f64,
    pub meaning: &'static str,
    /// When it was known, in seconds since 1970, UTC.
    pub at: f64,
}

impl<'a> RunContent<'a> {
    /// # Errors
    /// When the database cannot be read.
    pub fn read(store: &Store, run: &'a RunRow) -> Result<Self, StoreError> {
        let attempts = store.attempts(run.id)?;
        let first = attempts.first();
        let started_at = first.map_or(run.started_at, |attempt| attempt.started_at);
        let last_steps = store.last_steps(run.id)?;
        // As `repro db merge` recognises a run.
        let identity = hash(&[
            run.manifest.sha256.as_bytes(),
            run.method.as_bytes(),
            &run.seed.to_le_bytes(),
            &started_at.to_le_bytes(),
            &first.map_or(0, |attempt| attempt.pid).to_le_bytes(),
        ]);
        let steps = last_steps.iter().map(|(metric, step)| format!("{metric} {step}"));
        let state = hash(&[
            &run.attempt.to_le_bytes(),
            run.status.name().as_bytes(),
            &run.last_seen_at.to_le_bytes(),
            steps.collect::<Vec<_>>().join(",").as_bytes(),
        ]);
        let starts = store.phase_starts(run.id)?;
        let timeline = Timeline::new(run, started_at, &starts, last_steps);
        Ok(Self { run, timeline, identity, state })
    }

    /// As in `dmasking-seed3-run12`.
    pub fn name(&self) -> String {
        let RunRow { method, seed, id, .. } = self.run;
        format!("{method}-seed{seed}-run{id}")
    }

    /// The settings of the run, and what it computed with, by dotted names.
    pub fn hyperparameters(&self) -> Vec<(String, Value)> {
        let run = self.run;
        let own = [
            ("method", Value::from(run.method.as_str())),
            ("dataset", Value::from(run.dataset.as_str())),
            ("seed", Value::from(run.seed)),
            ("space", Value::from(run.manifest.space_name.as_str())),
            ("device", Value::from(run.environment.device_model())),
            ("precision", Value::from(run.precision())),
        ];
        let is_own = |key: &str| own.iter().any(|(name, _)| *name == key);
        let settings = run.settings.values.iter().filter(|(key, _)| !is_own(key));
        let settings = settings.map(|(key, value)| (key.clone(), value.clone()));
        own.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .chain(settings)
            .collect()
    }

    /// What identifies the run and its result, by name. What is unknown is left out.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let run = self.run;
        let (found, result) = (run.architecture.as_ref(), run.result.as_ref());
        let facts = [
            ("run", Some(run.id.to_string())),
            ("experiment", Some(run.experiment.clone())),
            ("status", Some(run.status.name().to_owned())),
            ("error", run.error.clone()),
            ("attempts", Some(run.attempt.to_string())),
            ("started", Some(format!("{} UTC", env::utc(self.timeline.whole.0)))),
            ("command", Some(run.command.clone())),
            ("arch_id", found.map(|found| found.id.clone())),
            ("weights_sha256", result.map(|result| result.weights_sha256.clone())),
            ("manifest_sha256", Some(run.manifest.sha256.clone())),
            ("settings_sha256", Some(run.settings.sha256.clone())),
            ("data_sha256", run.data.as_ref().map(|data| data.sha256.clone())),
        ];
        present(facts)
    }

    /// The program and the machine of the run, by name. The machine's own name is left out, as in reports.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let e = &self.run.environment;
        let dirty = if e.git_dirty == Some(true) { ", with uncommitted changes" } else { "" };
        let revision = e.git_revision.as_ref().map(|revision| format!("{revision}{dirty}"));
        let environment = [
            ("version", Some(e.version.clone())),
            ("revision", revision),
            ("rustc", Some(e.rustc.clone())),
            ("libraries", Some(e.libraries.clone())),
            ("os", Some(e.os.clone())),
            ("cpu", Some(e.cpu.clone())),
            ("instructions", Some(e.instructions.clone())),
            ("cores", Some(e.cores.to_string())),
            ("memory_bytes", Some(e.memory_bytes.to_string())),
            ("threads", Some(e.threads.to_string())),
            ("device", Some(e.device_with_model())),
            ("cuda", e.cuda.clone()),
        ];
        present(environment)
    }

    /// The result, the cost of the network, and what the phases used.
    pub fn totals(&self) -> Vec<Total> {
        let (run, end) = (self.run, self.timeline.whole.1);
        let mut totals = Vec::new();
        let mut add = |name: &str, value: f64, meaning, at| {
            totals.push(Total { name: name.to_owned(), value, meaning, at });
        };
        if let Some(found) = &run.architecture {
            add("cost/macs", found.macs as f64, "Multiply-accumulates for one image.", end);
            let meaning = "Weights of convolutions and fully connected layers.";
            add("cost/params", found.params as f64, meaning, end);
        }
        for row in &run.phases {
            let Some(usage) = row.usage else { continue };
            let (phase, at) = (row.phase.name(), self.timeline.end_of(row.phase));
            let mut add = |what: &str, value: f64, meaning| {
                add(&format!("phase/{phase}/{what}"), value, meaning, at);
            };
            add("seconds", usage.seconds, "Duration of the phase.");
            let meaning = "Largest number of bytes allocated at once during the phase.";
            add("peak_bytes", usage.peak_bytes as f64, meaning);
            add("images", usage.images as f64, "Images processed.");
            if let Some(macs) = usage.macs {
                add("macs", macs as f64, "Multiply-accumulates executed.");
            }
        }
        if let Some(result) = &run.result {
            let meaning = "Accuracy on the test images: the mean over the training runs.";
            add("result/test_top1", result.test_top1, meaning, end);
            add("result/test_loss", result.test_loss, "Loss on the test images.", end);
        }
        totals
    }

    /// The texts that tell how to run it again, and the network, as files with their names.
    pub fn texts(&self) -> Vec<(&'static str, String)> {
        let manifest = &self.run.manifest;
        let mut texts = vec![
            ("manifest.toml", manifest.text.clone()),
            ("space.toml", manifest.space_text.clone()),
        ];
        let arch = self.run.architecture.as_ref();
        texts
            .extend(arch.map(|found| ("architecture.json", format!("{}\n", found.arch.to_json()))));
        texts
    }

    /// When the run ended; `None` while it is running.
    pub fn ended_at(&self) -> Option<f64> {
        (self.run.status != RunStatus::Running).then_some(self.timeline.whole.1)
    }

    /// Passes the measurements to `take` in parts, each of one metric.
    ///
    /// # Errors
    /// When the database cannot be read, or `take` fails.
    pub fn measurements<E: From<StoreError>>(
        &self,
        store: &Store,
        mut take: impl FnMut(Metric, &[Measurement]) -> Result<(), E>,
    ) -> Result<(), E> {
        store.for_each_measurement(self.run.id, |page| {
            let mut series = page.chunk_by(|a, b| a.metric == b.metric);
            series.try_for_each(|points| take(points[0].metric, points))
        })?
    }
}

/// The name of a metric in trackers, which group by the part before the first `/`.
pub fn series_name(metric: Metric) -> String {
    metric.name().replace('.', "/")
}

fn present<const N: usize>(
    values: [(&'static str, Option<String>); N],
) -> Vec<(&'static str, String)> {
    values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// 32 hex digits for a sequence of values.
fn hash(parts: &[&[u8]]) -> String {
    let digest = parts.iter().fold(Sha256::new(), |digest, part| {
        digest.chain_update((part.len() as u64).to_le_bytes()).chain_update(part)
    });
    hex(&digest.finalize())[..32].to_owned()
}
