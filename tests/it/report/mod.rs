//! Reports over invented runs: what they say, that they say it deterministically, and that every number
//! is the run's.

mod comparison;
mod csv;
mod devices;
mod exhaustive;
mod files;
mod formats;
mod page;
mod results;

use repro::cost;
use repro::env::Environment;
use repro::record::{ChoiceProbabilities, Metric, Phase, PhaseUsage};
use repro::report::{self, Writer, build};
use repro::space::{BlockDecision, Decisions, parse_space};
use repro::store::{
    ArchitectureRow, FinalResult, ManifestRecord, Measurement, PhaseRow, RunRow, RunStatus,
    Settings,
};
use std::path::Path;
use std::sync::Arc;

pub const WRITER: Writer<'_> =
    Writer { command_line: "repro report --out reports", program: "0.1.0" };

pub const SPACE: &str = r#"
name = "small"
channel_divisor = 4
[input]
resolutions = [32]
channels = 3
classes = 10
[stem]
kernel = 3
stride = 1
width = 8
activation = "hswish"
[[stage]]
blocks = 1
stride = 1
expansion = 1
width = { low = 8, high = 12, step = 4 }
types = ["k3_hswish", "k5_hswish_se", "skip"]
[[stage]]
blocks = 3
stride = 2
expansion = { low = 1.5, high = 4.5, step = 1.5 }
width = { low = 8, high = 20, step = 4 }
types = ["k3_hswish", "k5_hswish_se", "skip"]
[head]
width = 64
activation = "hswish"
"#;

pub fn manifest(seeds: &str) -> ManifestRecord {
    let text = format!("name = \"small\"\nseeds = [{seeds}]\n[search]\nepochs = 2\n");
    ManifestRecord {
        sha256: sha256(&text),
        name: "small".to_owned(),
        text,
        space_name: "small".to_owned(),
        space_text: SPACE.to_owned(),
        space_candidates: "1119744".to_owned(),
        space_log10: 1_119_744_f64.log10(),
    }
}

/// As different for different texts as a hash.
fn sha256(text: &str) -> String {
    let sum: u64 = (1..).zip(text.bytes()).map(|(i, byte)| i * u64::from(byte)).sum();
    format!("{sum:0>64}")
}

/// Changes a run's manifest, as `--set` would.
pub fn set(run: &mut RunRow, from: &str, to: &str) {
    Arc::make_mut(&mut run.manifest).text = run.manifest.text.replace(from, to);
    Arc::make_mut(&mut run.manifest).sha256 = sha256(&run.manifest.text);
    run.settings = Arc::new(Settings::of(&run.manifest.text, &run.manifest.space_text));
}

pub fn environment() -> Environment {
    Environment {
        version: "0.1.0".to_owned(),
        git_revision: Some("0123456789abcdef".to_owned()),
        git_dirty: Some(true),
        rustc: "rustc 1.95.0".to_owned(),
        libraries: "candle-core 0.11.1".to_owned(),
        host: "a-secret-name".to_owned(),
        os: "linux x86_64".to_owned(),
        cpu: "Some CPU @ 2.00GHz".to_owned(),
        instructions: "AVX2+FMA".to_owned(),
        cores: 2,
        memory_bytes: 8 << 30,
        threads: 2,
        device: "cpu".to_owned(),
        gpu: None,
        cuda: None,
    }
}

/// The same run on GPU 0 of a machine.
pub fn on_gpu(model: &str, mut run: RunRow) -> RunRow {
    "cuda:0".clone_into(&mut Arc::make_mut(&mut run.environment).device);
    Arc::make_mut(&mut run.environment).gpu = Some(model.to_owned());
    Arc::make_mut(&mut run.environment).cuda = Some("driver 580.65.06, toolkit 13.0".to_owned());
    run
}

/// What a search over [`SPACE`] may derive: a block, a wider one, a skip, one with squeeze-excite.
pub fn architecture() -> ArchitectureRow {
    let space = parse_space(SPACE, Path::new("small.toml")).unwrap_or_else(|e| panic!("{e}"));
    let block = |block_type, expansion, width| BlockDecision { block_type, expansion, width };
    let blocks = vec![block(0, 0, 0), block(0, 1, 3), block(2, 2, 0), block(1, 2, 2)];
    let arch = space.decide(&Decisions { resolution: 0, blocks });
    let probabilities = space.blocks.iter().map(|block| ChoiceProbabilities {
        block: block.label(),
        types: vec![0.5, 0.3, 0.2],
        expansions: if block.expansions() == 1 { vec![1.0] } else { vec![0.1, 0.25, 0.65] },
        widths: if block.widths.len() == 2 { vec![0.55, 0.45] } else { vec![0.1, 0.1, 0.1, 0.7] },
    });
    let cost = cost::count(&arch);
    ArchitectureRow {
        id: arch.id(),
        macs: cost.macs,
        params: cost.params,
        probabilities: probabilities.collect(),
        resolutions: Vec::new(),
        arch: Arc::new(arch),
    }
}

pub fn phases(search: Option<f64>, train: f64) -> Vec<PhaseRow> {
    let usage = |seconds, peak_bytes| PhaseUsage {
        seconds,
        peak_bytes,
        images: 640,
        macs: Some(12_345_678_901),
        architectures: Some(0),
    };
    let row = |phase, usage| PhaseRow { phase, usage };
    let search = search.map(|seconds| row(Phase::Search, Some(usage(seconds, 512 << 20))));
    let train = row(Phase::Train, Some(usage(train, 100_000_001)));
    search.into_iter().chain([train]).collect()
}

pub fn finished(id: i64, seed: u64, top1: f64) -> RunRow {
    RunRow {
        id,
        experiment: "small".to_owned(),
        manifest: Arc::new(manifest("1")),
        settings: Arc::new(Settings::of(&manifest("1").text, SPACE)),
        data: None,
        method: "dmasking".to_owned(),
        dataset: "cifar10".to_owned(),
        seed,
        attempt: 1,
        status: RunStatus::Finished,
        error: None,
        started_at: 1_772_323_200.25 + id as f64,
        last_seen_at: 1_772_326_800.5,
        command: "repro run small.toml".to_owned(),
        environment: Arc::new(environment()),
        phases: phases(Some(100.0 + id as f64), 50.125),
        architecture: Some(architecture()),
        result: Some(FinalResult {
            test_top1: top1,
            test_loss: 0.1 + 0.2,
            test_images: 10_000,
            weights_sha256: "ab".repeat(32),
        }),
    }
}

pub fn unfinished(
    id: i64,
    status: RunStatus,
    error: Option<&str>,
    phases: Vec<PhaseRow>,
) -> RunRow {
    let error = error.map(str::to_owned);
    RunRow { status, error, phases, architecture: None, result: None, ..finished(id, 4, 0.0) }
}

/// Three seeds, one of them chosen on the command line, the last resumed after its search; one run that
/// failed during its search, and one that was killed before its first phase.
pub fn small() -> Vec<RunRow> {
    let chosen = RunRow { manifest: Arc::new(manifest("1, 2")), ..finished(2, 2, 0.8123) };
    let resumed = RunRow { phases: phases(None, 49.0), attempt: 2, ..finished(3, 3, 0.7999) };
    let error = "search: the loss became NaN at step 3;\na \"lower\" learning_rate | `clip_norm`, \
                 <b>helps</b> \u{1b}[31m";
    let searching = vec![PhaseRow { phase: Phase::Search, usage: None }];
    let failed = unfinished(4, RunStatus::Failed, Some(error), searching);
    vec![
        finished(1, 1, 0.8),
        chosen,
        resumed,
        failed,
        unfinished(5, RunStatus::Interrupted, None, vec![]),
    ]
}

/// Names and numbers that no manifest would allow.
pub fn odd() -> RunRow {
    let mut run = finished(i64::MAX, u64::MAX, 1e-300);
    "odd|name, \"quoted\"/../_x_".clone_into(&mut run.experiment);
    "not a space".clone_into(&mut Arc::make_mut(&mut run.manifest).space_text);
    Arc::make_mut(&mut run.manifest).space_log10 = 1234.5;
    Arc::make_mut(&mut run.manifest).space_candidates = "9".repeat(100);
    Arc::make_mut(&mut run.environment).git_revision = None;
    Arc::make_mut(&mut run.environment).git_dirty = None;
    "repro run 'odd`name.toml' --set x=\"\"".clone_into(&mut run.command);
    let usage = PhaseUsage {
        seconds: 1e15,
        peak_bytes: u64::MAX,
        images: u64::MAX,
        macs: None,
        architectures: Some(u64::MAX),
    };
    run.phases = vec![PhaseRow { phase: Phase::Search, usage: Some(usage) }];
    if let Some(found) = &mut run.architecture {
        (found.macs, found.params) = (u64::MAX, 1);
    }
    run
}

/// Three epochs of a search, for the runs that got that far.
#[allow(clippy::unnecessary_wraps)]
pub fn measurements(id: i64) -> anyhow::Result<Vec<Measurement>> {
    let searched = if matches!(id, 1 | 2) { 3 } else { 0 };
    let epochs = (0..searched).flat_map(|step| {
        let x = (step as f64) / 3.0 + id as f64 / 10.0;
        [
            value(Metric::SEARCH_LOSS, step, 2.3 - x),
            value(Metric::SEARCH_EXPECTED_MACS, step, 2e6 - 5e5 * x),
            value(Metric::SEARCH_ENTROPY_TYPE, step, 1.0 - x / 2.0),
            value(Metric::TRAIN_LOSS, step, 1.0),
        ]
    });
    Ok(epochs.collect())
}

pub fn report_of(runs: &[RunRow]) -> report::Page {
    let mut reports = build(runs, &[], &measurements, WRITER).unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

/// A run of a method.
pub fn by(method: &str, id: i64, seed: u64, top1: f64) -> RunRow {
    RunRow { method: method.to_owned(), ..finished(id, seed, top1) }
}

pub fn value(metric: Metric, step: u64, value: f64) -> Measurement {
    Measurement { metric, step, value }
}

/// The test accuracies of the training runs of these runs.
pub fn tests_of(
    top1s: &'static [(i64, &'static [f64])],
) -> impl Fn(i64) -> anyhow::Result<Vec<Measurement>> {
    move |id| {
        let (_, top1s) = top1s.iter().find(|(of, _)| *of == id).unwrap();
        Ok((0..).zip(*top1s).map(|(i, top1)| value(Metric::TEST_TOP1, i, *top1)).collect())
    }
}

/// The first figure of that kind.
pub fn svg<'a>(page: &'a report::Page, kind: &str) -> &'a str {
    let figure = page.figures().find(|figure| figure.file.ends_with(&format!("-{kind}.svg")));
    &figure.unwrap_or_else(|| panic!("no figure {kind}")).svg
}
