//! What the report of one experiment has: its sections, in order.

use super::comparison::Comparison;
use super::finished::finished;
use super::page::{Part, Section};
use super::prose::Prose;
use super::results::environment;
use super::warnings::warnings;
use super::{
    Analysis, ReportFigure, ablations, architecture, claims, exhaustive, rank, results, settings,
    space,
};
use crate::cost;
use crate::env::utc;
use crate::store::{ArchitectureRow, RunRow, RunStatus};
use crate::text::{duration, list, plural, power_of_ten, run_ids};

/// The sections about the runs of one experiment, the oldest first.
pub(super) fn sections(analysis: &Analysis<'_>, figures: &[ReportFigure]) -> Vec<Section> {
    let runs = analysis.runs;
    let mut sections = vec![origin(runs)];
    if let Some(table) = &analysis.table {
        let mut facts = exhaustive::facts(table);
        facts.parts.extend(analysis.measured.iter().flat_map(warnings).map(Part::paragraph));
        sections.push(facts);
        sections.extend(unfinished_section(runs));
        return sections;
    }
    sections.extend(analysis.judged.iter().cloned());
    sections.push(results_section(analysis));
    let mut compute = figures.iter().filter(|figure| figure.comparison.is_some());
    for (i, comparison) in analysis.comparisons.iter().enumerate() {
        let figure = compute.find(|figure| figure.comparison == Some(i));
        sections.push(comparison_section(comparison, figure));
        sections.extend(baselines(comparison));
    }
    sections.extend(unfinished_section(runs));
    if finished(runs).next().is_some() {
        sections.push(claims_section(runs));
    }
    sections.extend(ablations::section(&analysis.measured, &analysis.settings));
    let named = |kind: &str| figures.iter().find(|figure| figure.kind == kind);
    if let Some(figure) = named("search") {
        sections.push(Section::new("Search curves", vec![Part::Figure(figure.picture.clone())]));
    }
    if let Some(figure) = named("rank") {
        sections.push(rank_section(&analysis.rankings, figure));
    }
    sections.extend(space::sections(runs));
    if let Some(figure) = named("networks") {
        let parts = vec![Part::Figure(figure.picture.clone()), Part::paragraph(NETWORKS)];
        sections.push(Section::new("Derived networks", parts));
    }
    sections.extend(architectures(runs));
    sections
}

const NETWORKS: &str = "\
One row per run, one bar per block. The height of the pale bar is the square root of the hidden channels, that of \
the solid bar of the output channels; a grey dot is a skip. Numbers above the bars are the sides of the feature maps in pixels, where \
they change.";

/// The runs without a result, if there are any.
fn unfinished_section(runs: &[RunRow]) -> Option<Section> {
    let table = results::unfinished(runs);
    (!table.is_empty()).then(|| Section::new("Unfinished runs", vec![Part::Table(table)]))
}

/// What it takes to make the runs again.
pub(crate) fn origin(runs: &[RunRow]) -> Section {
    let statuses =
        [RunStatus::Finished, RunStatus::Failed, RunStatus::Interrupted, RunStatus::Running];
    let by_status = statuses.into_iter().filter_map(|status| {
        let ids: Vec<i64> = runs.iter().filter(|r| r.status == status).map(|r| r.id).collect();
        (!ids.is_empty()).then(|| Prose::from(format!("{}: {}", status.name(), run_ids(ids))))
    });
    let facts = [
        shared_facts(runs, |run| Prose::from("command: ").code(&run.command)),
        shared_facts(runs, |run| {
            let manifest = &run.manifest;
            if exhaustive::is_of_table(run) {
                return "manifest: one per network, its sha256 is in the CSV file".into();
            }
            Prose::from("manifest: sha256 ")
                .code(&manifest.sha256)
                .text(", space ")
                .code(&manifest.space_name)
                .text(format!(" of {} networks", power_of_ten(manifest.space_log10)))
        }),
        shared_facts(runs, |run| {
            format!("device and precision: {}", settings::device_and_precision(run)).into()
        }),
        shared_facts(runs, environment_line),
    ];
    let items = by_status.chain(time(runs)).chain(facts.into_iter().flatten());
    Section::opening(Part::list(items).into_iter().collect())
}

/// When the runs were made, and how long they took.
fn time(runs: &[RunRow]) -> Option<Prose> {
    let start = runs.iter().map(|run| run.started_at).reduce(f64::min)?;
    let end = runs.iter().map(|run| run.last_seen_at).reduce(f64::max)?;
    let total: f64 = runs.iter().map(|run| run.last_seen_at - run.started_at).sum();
    let (start, end, total) = (utc(start), utc(end), duration(total));
    let text = if runs.len() == 1 {
        format!("start {start}, end {end} UTC, duration {total}")
    } else {
        format!("first start {start}, last end {end} UTC, {total} of runs in total")
    };
    Some(text.into())
}

/// One line per distinct fact, with the runs that it holds for.
fn shared_facts(runs: &[RunRow], fact: impl Fn(&RunRow) -> Prose) -> Vec<Prose> {
    let facts = super::groups::grouped(runs.iter().map(|run| (fact(run), run.id)), |(fact, _)| {
        fact.clone()
    });
    let line = |group: &Vec<(Prose, i64)>| {
        let all = group.len() == runs.len() && runs.len() > 1;
        let ids = run_ids(group.iter().map(|(_, id)| *id));
        group[0].0.clone().text(format!(" ({})", if all { "all runs" } else { &ids }))
    };
    facts.iter().map(line).collect()
}

fn environment_line(run: &RunRow) -> Prose {
    let e = environment(run);
    let line = Prose::from(format!("environment: repro {}, revision ", e.version));
    let line = match e.git_revision {
        Some(revision) => line.code(revision),
        None => line.text("unknown"),
    };
    let dirty = if e.git_dirty == Some(true) { " with uncommitted changes" } else { "" };
    let gib = e.memory_bytes as f64 / 1_073_741_824.0;
    let memory = if e.memory_bytes > 0 { format!("{gib:.1} GiB") } else { "unknown".to_owned() };
    let cuda = e.cuda.map_or_else(String::new, |cuda| format!("; CUDA {cuda}"));
    line.text(format!(
        "{dirty}; {}; {}; {}; {} ({}), {}, {}, memory {memory}{cuda}",
        e.rustc,
        e.libraries,
        e.os,
        e.cpu,
        e.instructions,
        plural(e.cores, "core"),
        plural(e.threads, "thread"),
    ))
}

fn results_section(analysis: &Analysis<'_>) -> Section {
    let Analysis { runs, settings, .. } = analysis;
    let table = results::results(runs, settings);
    if table.is_empty() {
        return Section::new("Results", vec![Part::paragraph("No run has finished.")]);
    }
    let notes =
        results::notes(runs, settings).into_iter().chain(settings::notes(finished(runs), settings));
    let notes = notes.chain(analysis.measured.iter().flat_map(warnings));
    let parts = [Part::Table(table), Part::marked(RESULTS)];
    Section::new("Results", parts.into_iter().chain(notes.map(Part::paragraph)).collect())
}

const RESULTS: &str = "\
Top-1 is the accuracy on the test images, which are evaluated once per training run; a run with several \
training runs shows their mean. MACs and params are those of the derived network. Space is the number of \
networks in the search space. Search MACs are what the search executed, forward and backward passes \
together; networks evaluated are those that it evaluated individually. MiB is the peak of allocated \
memory during the phase. ± is the standard deviation (n - 1).";

fn comparison_section(comparison: &Comparison<'_>, figure: Option<&ReportFigure>) -> Section {
    let about = format!(
        "Device and precision of all runs: {}. {METHODS}",
        comparison.device_and_precision()
    );
    let mut parts = vec![Part::Table(comparison.methods_table()), Part::paragraph(about)];
    if !comparison.has_budget() {
        parts.push(Part::paragraph(
            "The manifest sets no budget. The methods may have found networks of different cost, and a \
             difference in top-1 may come from that.",
        ));
    }
    parts.extend(Part::list(comparison.notes()));
    if let Some(figure) = figure {
        parts.extend([Part::Figure(figure.picture.clone()), Part::marked(COMPUTE)]);
    }
    Section::new("Comparison of methods", parts)
}

const METHODS: &str = "\
± is the standard deviation over search seeds; a run with several training runs contributes their mean. \
The sd between training runs is the root of the mean variance between training runs of one network. Memory peaks are per phase. \
They include the data set, which stays in memory and is the same for all methods (the peak of reading it \
is data_peak_bytes in the CSV file); train MiB includes the weights of all training runs. MACs count a \
forward pass once and each kind of gradient once more; activations that are recomputed to save memory \
are not counted. Weight steps are optimizer steps of the shared weights, or of all candidates \
trained separately; α steps are those of the architecture parameters; – means not recorded.";

const COMPUTE: &str = "\
Test top-1: one dot per run; the horizontal bar is a method's mean, the vertical bar its standard \
deviation. Held-out top-1 during the search: search curves, the accuracy that a method selects by over \
the multiply-accumulates executed so far, mean over seeds. This is the accuracy of the best network so far \
(trained on its own for `random_search`, with shared weights, which are trained first, for `rs_ws` and \
`evolution`), or that of the supernet on the architecture split. A curve shows how much its method still \
improves when the search ends; accuracies of different kinds are not comparable.";

/// The comparison with random baselines, where there are any.
fn baselines(comparison: &Comparison<'_>) -> Option<Section> {
    let conclusions = comparison.conclusions();
    if conclusions.is_empty() {
        return None;
    }
    let parts = [Part::Table(comparison.differences_table()), Part::marked(BASELINES)];
    let parts = parts.into_iter().chain(Part::list(conclusions)).collect();
    Some(Section::below("Versus random baselines", parts))
}

const BASELINES: &str = "\
The difference is a method's test top-1 minus the baseline's with the same seed, and so with the same image \
splits, in percentage points. The baselines are `random`, a single draw, and `random_search`, the best of \
several. The search MACs ratio is relative to the baseline; `random` draws one network without a search, so \
every search costs more. The interval is Student's t interval of the mean difference, and p the p-value of \
the paired t test. A difference is significant if its p-value with Holm's correction over all rows is below \
0.05; an interval is not corrected, so it may exclude zero where the difference is not significant. The minimum detectable effect is the \
true difference that a test without correction would find with a power of 0.8 (two-sided level 0.05, \
noncentral t), if the observed sd were the true one; from few seeds it is a rough estimate.";

fn claims_section(runs: &[RunRow]) -> Section {
    let table = claims::table(runs);
    let part = if table.is_empty() {
        Part::marked(
            "None of the paper's claims can be judged from these runs. The files in `claims/` say which runs \
             each claim needs.",
        )
    } else {
        Part::Table(table)
    };
    Section::new("The paper's claims", vec![part])
}

fn rank_section(rankings: &[rank::Ranking<'_>], figure: &ReportFigure) -> Section {
    let about = Part::paragraph(
        "Kendall's τ-b between two accuracies of the same networks: with the search's shared weights on \
         its held-out images, and trained from scratch on the validation images. The interval is the \
         percentile bootstrap over networks. Runs with the same seed and identical shared weights are \
         one measurement.",
    );
    let parts = [Part::Table(rank::table(rankings)), about].into_iter();
    let parts = parts.chain(Part::list(rank::differences(rankings)));
    let parts = parts.chain([Part::Figure(figure.picture.clone())]);
    Section::new("Rank correlation", parts.collect())
}

/// A section and its parts; nothing where no run has derived a network. Those of a table are in its CSV file.
fn architectures(runs: &[RunRow]) -> Vec<Section> {
    let own = finished(runs).filter(|run| exhaustive::lookup_of(run).is_none());
    let derived: Vec<(&RunRow, &ArchitectureRow)> =
        own.filter_map(|run| Some((run, run.architecture.as_ref()?))).collect();
    if derived.len() > MOST_ARCHITECTURES {
        let text = format!(
            "{} runs derived a network, too many to show here; `repro show RUN` shows that of a run.",
            derived.len()
        );
        return vec![Section::new("Architectures", vec![Part::marked(&text)])];
    }
    let mut sections: Vec<Section> = derived
        .into_iter()
        .map(|(run, derived)| {
            let table = architecture::table(&derived.arch, &derived.probabilities, &[run.id]);
            let parts = input(derived).into_iter().chain([Part::Table(table)]);
            let heading = Prose::from(format!("Run {}: ", run.id)).code(&derived.id);
            Section::below(heading, parts.chain(recount(derived)).collect())
        })
        .collect();
    if !sections.is_empty() {
        sections.insert(0, Section::new("Architectures", vec![Part::paragraph(ARCHITECTURES)]));
    }
    sections
}

/// A page with more is too long to read.
const MOST_ARCHITECTURES: usize = 100;

const ARCHITECTURES: &str = "\
hidden: hidden channels (ratio to the input channels). side: pixels. p: final probability of the argmax \
option (number of options). The argmax option was chosen unless the projection onto the budget changed it.";

/// The resolution, where it was searched.
fn input(derived: &ArchitectureRow) -> Option<Part> {
    let side = derived.arch.resolution;
    let chosen = derived.resolutions.iter().find(|r| r.side == side)?;
    Some(Part::paragraph(format!(
        "Input {side} pixels a side, with p = {:.2}, chosen from {}.",
        chosen.probability,
        list(derived.resolutions.iter().map(|r| r.side))
    )))
}

/// A note where this version of the program counts costs differently from the one that made the run.
fn recount(derived: &ArchitectureRow) -> Option<Part> {
    let counted = cost::count(&derived.arch);
    let differs = (counted.macs, counted.params) != (derived.macs, derived.params);
    differs.then(|| {
        Part::paragraph(format!(
            "The run counted {} MACs and {} parameters; this version of the program counts {} and {}.",
            derived.macs, derived.params, counted.macs, counted.params
        ))
    })
}
