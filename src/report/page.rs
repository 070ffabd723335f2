//! The Markdown page of one experiment.

use super::comparison::Comparison;
use super::finished::finished;
use super::results::environment;
use super::warnings::warnings;
use super::{Analysis, ReportFigure, architecture, claims, exhaustive, rank, results, settings};
use crate::cost;
use crate::env::utc;
use crate::store::{ArchitectureRow, RunRow, RunStatus};
use crate::text::{code, duration, escape, list, plural, power_of_ten, run_ids};

/// The page of the runs of one experiment, the oldest first.
pub(super) fn markdown(
    analysis: &Analysis<'_>,
    figures: &[ReportFigure],
    command_line: &str,
) -> String {
    let runs = analysis.runs;
    let experiment = runs.first().map_or("", |run| run.experiment.as_str());
    let mut page = vec![format!("# {}\n", escape(experiment)), origin(runs, command_line)];
    if let Some(table) = &analysis.table {
        page.push(exhaustive::facts(table));
        page.push(analysis.measured.iter().flat_map(warnings).map(|w| note(&w)).collect());
        page.extend(unfinished_section(runs));
        return page.join("\n");
    }
    page.extend(analysis.judged.iter().cloned());
    page.push(results_section(analysis));
    let mut compute = figures.iter().filter(|figure| figure.comparison.is_some());
    for (i, comparison) in analysis.comparisons.iter().enumerate() {
        let figure = compute.find(|figure| figure.comparison == Some(i));
        page.push(comparison_section(comparison, figure));
    }
    page.extend(unfinished_section(runs));
    if finished(runs).next().is_some() {
        page.push(claims_section(runs));
    }
    let named = |kind: &str| figures.iter().find(|figure| figure.kind == kind);
    if let Some(figure) = named("search") {
        let alt = "Loss, expected cost, entropies and candidates of the searches";
        page.push(format!("## Search curves\n\n![{alt}]({})\n", figure.name));
    }
    if let Some(figure) = named("rank") {
        page.push(rank_section(&analysis.rankings, &figure.name));
    }
    page.extend(architectures(runs));
    page.join("\n")
}

/// The runs without a result, if there are any.
fn unfinished_section(runs: &[RunRow]) -> Option<String> {
    let table = results::unfinished(runs);
    (!table.is_empty()).then(|| format!("## Runs that did not finish\n\n{}", table.markdown()))
}

/// A paragraph of its own.
fn note(note: &str) -> String {
    format!("\n{}\n", escape(note))
}

/// What it takes to make the page and its runs again.
pub(crate) fn origin(runs: &[RunRow], command_line: &str) -> String {
    let written = format!(
        "Written from the results database by {}. Every number comes from the run named beside it.\n\n",
        code(command_line)
    );
    let statuses =
        [RunStatus::Finished, RunStatus::Failed, RunStatus::Interrupted, RunStatus::Running];
    let by_status = statuses.into_iter().filter_map(|status| {
        let ids: Vec<i64> = runs.iter().filter(|r| r.status == status).map(|r| r.id).collect();
        (!ids.is_empty()).then(|| format!("- {}: {}\n", status.name(), run_ids(ids)))
    });
    let facts = [
        shared_facts(runs, |run| format!("command: {}", code(&run.command))),
        shared_facts(runs, |run| {
            let manifest = &run.manifest;
            if exhaustive::is_of_table(run) {
                return "manifest: one per network, its sha256 is in the CSV file".to_owned();
            }
            format!(
                "manifest: sha256 {}, space {} of {} networks",
                code(&manifest.sha256),
                code(&manifest.space_name),
                power_of_ten(manifest.space_log10)
            )
        }),
        shared_facts(runs, |run| {
            format!("device and precision: {}", escape(&settings::device_and_precision(run)))
        }),
        shared_facts(runs, |run| format!("environment: {}", environment_line(run))),
    ];
    std::iter::once(written).chain(by_status).chain(time(runs)).chain(facts).collect()
}

/// When the runs were made, and how long they took.
fn time(runs: &[RunRow]) -> Option<String> {
    let start = runs.iter().map(|run| run.started_at).reduce(f64::min)?;
    let end = runs.iter().map(|run| run.last_seen_at).reduce(f64::max)?;
    let total: f64 = runs.iter().map(|run| run.last_seen_at - run.started_at).sum();
    let (start, end, total) = (utc(start), utc(end), duration(total));
    Some(if runs.len() == 1 {
        format!("- start {start}, end {end} UTC, duration {total}\n")
    } else {
        format!("- first start {start}, last end {end} UTC, {total} of runs in total\n")
    })
}

/// One line per distinct fact, with the runs that it holds for.
fn shared_facts(runs: &[RunRow], fact: impl Fn(&RunRow) -> String) -> String {
    let facts = super::groups::grouped(runs.iter().map(|run| (fact(run), run.id)), |(fact, _)| {
        fact.clone()
    });
    let line = |group: &Vec<(String, i64)>| {
        let all = group.len() == runs.len() && runs.len() > 1;
        let ids = run_ids(group.iter().map(|(_, id)| *id));
        format!("- {} ({})\n", group[0].0, if all { "all runs" } else { &ids })
    };
    facts.iter().map(line).collect()
}

fn environment_line(run: &RunRow) -> String {
    let e = environment(run);
    let revision = e.git_revision.map_or("unknown".to_owned(), |revision| code(&revision));
    let dirty = if e.git_dirty == Some(true) { " with uncommitted changes" } else { "" };
    let gib = e.memory_bytes as f64 / 1_073_741_824.0;
    let memory = if e.memory_bytes > 0 { format!("{gib:.1} GiB") } else { "unknown".to_owned() };
    let cuda = e.cuda.map_or_else(String::new, |cuda| format!("; CUDA {}", escape(&cuda)));
    format!(
        "repro {}, revision {revision}{dirty}; {}; {}; {}; {} ({}), {}, {}, memory {memory}{cuda}",
        escape(&e.version),
        escape(&e.rustc),
        escape(&e.libraries),
        escape(&e.os),
        escape(&e.cpu),
        escape(&e.instructions),
        plural(e.cores, "core"),
        plural(e.threads, "thread"),
    )
}

fn results_section(analysis: &Analysis<'_>) -> String {
    let Analysis { runs, settings, .. } = analysis;
    let table = results::results(runs, settings);
    if table.is_empty() {
        return "## Results\n\nNo run has finished.\n".to_owned();
    }
    let notes =
        results::notes(runs, settings).into_iter().chain(settings::notes(finished(runs), settings));
    let notes = notes.chain(analysis.measured.iter().flat_map(warnings));
    let notes: String = notes.map(|n| note(&n)).collect();
    format!(
        "## Results\n\n{}\nTop-1 is the accuracy on the test images, which are evaluated once per \
         training run; a run with several training runs shows their mean. MACs and params are those \
         of the derived network. Space is the number of networks in the search space. Search MACs are \
         what the search executed, forward and backward passes together; networks evaluated are those \
         that it evaluated individually. MiB is the peak of allocated memory during the phase. ± is \
         the standard deviation (n - 1).\n{notes}",
        table.markdown()
    )
}

fn comparison_section(comparison: &Comparison<'_>, figure: Option<&ReportFigure>) -> String {
    let mut parts = vec![format!(
        "## Comparison of methods\n\n{}\nDevice and precision of all runs: {}. ± is the standard deviation over search seeds, where a run counts \
         with the mean of its training runs; sd between training runs is that of one network (the root \
         of the mean variance). Memory peaks are per phase. They include the data set, which stays in \
         memory and is the same for all methods (the peak of reading it is `data_peak_bytes` in the \
         CSV file); train MiB includes the weights of all training runs. MACs count a forward pass \
         once and each kind of gradient once more; activations that are recomputed to save memory are \
         not counted. Weight steps are the optimizer steps of shared weights or of all candidates that \
         were trained alone, α steps those of the architecture parameters; – where none were \
         recorded.\n",
        comparison.methods_table().markdown(),
        escape(&comparison.device_and_precision())
    )];
    if !comparison.has_budget() {
        parts.push(
            "The manifest sets no budget. The methods may have found networks of different cost, and a \
             difference in top-1 may come from that.\n"
                .to_owned(),
        );
    }
    let notes: String =
        comparison.notes().iter().map(|note| format!("- {}\n", escape(note))).collect();
    if !notes.is_empty() {
        parts.push(notes);
    }
    parts.extend(baselines(comparison));
    parts.extend(figure.map(|figure| {
        let alt = "Test top-1, and held-out top-1 during the search, over executed multiply-accumulates";
        format!(
            "![{alt}]({})\n\nTest top-1: one dot per run; the horizontal bar is a method's mean, the \
             vertical bar its standard deviation. Held-out top-1 during the search: search curves, \
             the accuracy that a method selects by over the multiply-accumulates executed so far, \
             mean over seeds. This is the accuracy of the best network so far (trained on its own for \
             `random_search`, with shared weights, which are trained first, for `rs_ws` and \
             `evolution`), or that of the supernet on the architecture split. A curve shows how much \
             its method still improves when the search ends; accuracies of different kinds are not \
             comparable.\n",
            figure.name
        )
    }));
    parts.join("\n")
}

/// The comparison with random baselines, where there are any.
fn baselines(comparison: &Comparison<'_>) -> Option<String> {
    let table = comparison.differences_table();
    let conclusions = comparison.conclusions();
    if conclusions.is_empty() {
        return None;
    }
    let sentences: String = conclusions.iter().map(|c| format!("- {}\n", escape(c))).collect();
    let false_positive = (5 * conclusions.len()).min(100);
    Some(format!(
        "### Versus random baselines\n\n{}\nThe difference is a method's test top-1 minus the baseline's \
         with the same seed, and so with the same image splits, in percentage points. The baselines \
         are `random`, a single draw, and `random_search`, the best of several. The search MACs ratio \
         is relative to the baseline; a single draw searches nothing, so every search costs more than \
         `random`. The interval is Student's t interval of the mean difference. A difference is \
         significant if the interval excludes zero. The minimum detectable effect is the true \
         difference that would be significant with a power of 0.8 (two-sided level 0.05, noncentral \
         t), if the observed sd were the true one; from few seeds it is a rough estimate. The tests \
         are not corrected for multiple comparisons: with {} of them, the probability of at least one \
         false positive is up to {false_positive} %.\n\n{sentences}",
        table.markdown(),
        conclusions.len(),
    ))
}

fn claims_section(runs: &[RunRow]) -> String {
    let table = claims::table(runs);
    if table.is_empty() {
        return "## The paper's claims\n\nThese runs bear on none of them; the files in `claims/` say \
                what each needs.\n"
            .to_owned();
    }
    format!("## The paper's claims\n\n{}", table.markdown())
}

fn rank_section(rankings: &[rank::Ranking<'_>], figure: &str) -> String {
    let alt = "Accuracy with shared weights and trained from scratch";
    let mut differences: String =
        rank::differences(rankings).iter().map(|d| format!("- {}\n", escape(d))).collect();
    if !differences.is_empty() {
        differences.push('\n');
    }
    format!(
        "## Rank correlation\n\n{}\nKendall's τ-b between two accuracies of the same networks: with the \
         search's shared weights on its held-out images, and trained from scratch on the validation \
         images. The interval is the percentile bootstrap over networks. Runs with the same seed and \
         identical shared weights are one measurement.\n\n{differences}![{alt}]({figure})\n",
        rank::table(rankings).markdown()
    )
}

/// A section and its parts; nothing where no run has derived a network. Those of a table are in its CSV file.
fn architectures(runs: &[RunRow]) -> Vec<String> {
    let title = "## Architectures\n\nhidden is the number of hidden channels and its ratio to the \
                 input's; side is in pixels; p is the final probability of the argmax option, which \
                 was chosen unless the projection onto the budget changed it, with the number of \
                 options in brackets.\n";
    let own = finished(runs).filter(|run| exhaustive::lookup_of(run).is_none());
    let derived = own.filter_map(|run| Some((run, run.architecture.as_ref()?)));
    let mut parts: Vec<String> = derived
        .map(|(run, derived)| {
            let table = architecture::table(&derived.arch, &derived.probabilities).markdown();
            let recount = recount(derived).unwrap_or_default();
            let input = input(derived).unwrap_or_default();
            format!("### Run {}: {}\n\n{input}{table}{recount}", run.id, code(&derived.id))
        })
        .collect();
    if !parts.is_empty() {
        parts.insert(0, title.to_owned());
    }
    parts
}

/// The resolution, where it was searched.
fn input(derived: &ArchitectureRow) -> Option<String> {
    let side = derived.arch.resolution;
    let chosen = derived.resolutions.iter().find(|r| r.side == side)?;
    Some(format!(
        "Input {side} pixels a side, with p = {:.2}, chosen from {}.\n\n",
        chosen.probability,
        list(derived.resolutions.iter().map(|r| r.side))
    ))
}

/// A note where this version of the program counts costs differently from the one that made the run.
fn recount(derived: &ArchitectureRow) -> Option<String> {
    let counted = cost::count(&derived.arch);
    let differs = (counted.macs, counted.params) != (derived.macs, derived.params);
    differs.then(|| {
        format!(
            "\nThe run counted {} MACs and {} parameters; this version of the program counts {} \
             and {}.\n",
            derived.macs, derived.params, counted.macs, counted.params
        )
    })
}
