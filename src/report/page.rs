//! The Markdown page of one experiment.

use super::comparison::Comparison;
use super::rank::{self, Ranking};
use super::results::{environment, finished, notes, results, settings_notes, unfinished};
use super::{architecture, claims};
use crate::cost;
use crate::env::utc;
use crate::store::{ArchitectureRow, RunRow, RunStatus};
use crate::text::{code, escape, power_of_ten, run_ids};

/// The names of the pictures' files, of those there are.
pub struct Pictures {
    pub search: Option<String>,
    pub rank: Option<String>,
    /// Of each comparison.
    pub compute: Vec<Option<String>>,
}

/// All of it. `runs` are those of one experiment, the oldest first; `diverged` says whose networks
/// did.
pub fn markdown(
    runs: &[RunRow],
    diverged: &[String],
    rankings: &[Ranking<'_>],
    comparisons: &[Comparison<'_>],
    pictures: &Pictures,
    command_line: &str,
) -> String {
    let experiment = runs.first().map_or("", |run| run.experiment.as_str());
    let mut page = vec![format!("# {}\n", escape(experiment)), origin(runs, command_line)];
    page.push(results_section(runs, diverged));
    let compared = comparisons.iter().zip(&pictures.compute);
    page.extend(compared.map(|(compared, figure)| comparison_section(compared, figure.as_deref())));
    let unfinished = unfinished(runs);
    if !unfinished.is_empty() {
        page.push(format!("## Runs that did not finish\n\n{}", unfinished.markdown()));
    }
    if finished(runs).next().is_some() {
        page.push(claims_section(runs));
    }
    if let Some(figure) = &pictures.search {
        let alt = "Loss, expected cost, entropies and candidates of the searches";
        page.push(format!("## Search\n\n![{alt}]({figure})\n"));
    }
    if let Some(figure) = &pictures.rank {
        page.push(rank_section(rankings, figure));
    }
    page.extend(architectures(runs));
    page.join("\n")
}

/// What it takes to make the page and its runs again.
pub(crate) fn origin(runs: &[RunRow], command_line: &str) -> String {
    let written = format!(
        "Written from the results database by {}. Every number comes from the run that is named \
         beside it.\n\n",
        code(command_line)
    );
    let statuses =
        [RunStatus::Finished, RunStatus::Failed, RunStatus::Interrupted, RunStatus::Running];
    let by_status = statuses.into_iter().filter_map(|status| {
        let ids: Vec<i64> = runs.iter().filter(|r| r.status == status).map(|r| r.id).collect();
        (!ids.is_empty()).then(|| format!("- {}: {}\n", status.name(), run_ids(ids)))
    });
    let begun = runs.iter().map(|run| run.started_at);
    let begun = begun.clone().reduce(f64::min).zip(begun.reduce(f64::max));
    let begun =
        begun.map(|(first, last)| format!("- begun: {} to {} UTC\n", utc(first), utc(last)));
    let facts = [
        alike(runs, |run| format!("command: {}", code(&run.command))),
        alike(runs, |run| {
            let manifest = &run.manifest;
            format!(
                "manifest: sha256 {}, space {} of {} networks",
                code(&manifest.sha256),
                code(&manifest.space_name),
                power_of_ten(manifest.space_log10)
            )
        }),
        alike(runs, |run| format!("environment: {}", environment_line(run))),
    ];
    std::iter::once(written).chain(by_status).chain(begun).chain(facts).collect()
}

/// One line per distinct fact, with the runs that it holds for.
fn alike(runs: &[RunRow], fact: impl Fn(&RunRow) -> String) -> String {
    let mut facts: Vec<(String, Vec<i64>)> = Vec::new();
    for run in runs {
        let of_run = fact(run);
        match facts.iter_mut().find(|(fact, _)| *fact == of_run) {
            Some((_, ids)) => ids.push(run.id),
            None => facts.push((of_run, vec![run.id])),
        }
    }
    facts.into_iter().map(|(fact, ids)| format!("- {fact} ({})\n", run_ids(ids))).collect()
}

fn environment_line(run: &RunRow) -> String {
    let e = environment(run);
    let revision = e.git_revision.map_or("unknown".to_owned(), |revision| code(&revision));
    let dirty = if e.git_dirty == Some(true) { " with uncommitted changes" } else { "" };
    let gib = e.memory_bytes as f64 / 1_073_741_824.0;
    let memory = if e.memory_bytes > 0 { format!("{gib:.1} GiB") } else { "unknown".to_owned() };
    format!(
        "repro {}, revision {revision}{dirty}; {}; {}; {}; {} ({}), {} cores, {} threads, memory \
         {memory}; device {}",
        escape(&e.version),
        escape(&e.rustc),
        escape(&e.libraries),
        escape(&e.os),
        escape(&e.cpu),
        escape(&e.instructions),
        e.cores,
        e.threads,
        escape(&e.device),
    )
}

fn results_section(runs: &[RunRow], diverged: &[String]) -> String {
    let table = results(runs);
    if table.is_empty() {
        return "## Results\n\nNo run has finished.\n".to_owned();
    }
    let notes = notes(runs).into_iter().chain(settings_notes(runs));
    let notes = notes.chain(diverged.iter().cloned());
    let notes: String = notes.map(|note| format!("\n{}\n", escape(&note))).collect();
    format!(
        "## Results\n\n{}\nTop-1 is on the test images, looked at once a training, the \
         mean of a run's trainings. MACs and parameters are of \
         the derived network. Search MACs are what the search executed, forward and backward; \
         networks is how many it evaluated one by one. Space is the number of networks in it. MiB is the largest \
         allocation during the phase. sd is with n - 1.\n{notes}",
        table.markdown()
    )
}

/// The law of this section is `Paired`'s; here stands what a reader has to know of it.
fn comparison_section(compared: &Comparison<'_>, figure: Option<&str>) -> String {
    let mut parts = vec![format!(
        "## Comparison of methods\n\n{}\n± is the standard deviation over search seeds of what is first \
         averaged over the trainings of a run; sd of trainings is that between trainings of one \
         network (the root of its mean variance). Peaks are those of a phase, with the data set, which \
         stays in memory and is the same for all methods (reading it has a peak of its own, \
         `data_peak_bytes` in the CSV); train MiB holds the weights of all trainings of a run. MACs \
         are counted once a way forward and once more for each kind of gradient; what is computed \
         again instead of being kept is not counted.\n",
        compared.methods_table().markdown()
    )];
    if !compared.has_budget() {
        parts.push(
            "The manifest sets no budget: the methods may have found networks of different cost, and \
             what differs in top-1 may differ because of that.\n"
                .to_owned(),
        );
    }
    let notes: String =
        compared.notes().iter().map(|note| format!("- {}\n", escape(note))).collect();
    if !notes.is_empty() {
        parts.push(notes);
    }
    parts.extend(differences(compared));
    parts.extend(figure.map(|figure| {
        let alt = "Test top-1, and held-out top-1 while searching, over multiply-accumulates executed";
        format!(
            "![{alt}]({figure})\n\nTest top-1: one dot per run; the line across is a method's mean, the \
             line along its standard deviation. Held-out top-1 while searching: what a method steers \
             by, over what it had executed until then, mean over seeds. That is the accuracy of the \
             best network so far (trained by itself for `random_search`, under shared weights, whose \
             training comes first, for `rs_ws` and `evolution`), or of the supernet on the images of \
             the architecture parameters. A line shows how far its method still moves when the search \
             ends; the heights of different kinds of accuracy are not comparable.\n"
        )
    }));
    parts.join("\n")
}

/// Against chance, where there are baselines.
fn differences(compared: &Comparison<'_>) -> Option<String> {
    let table = compared.differences_table();
    let verdicts = compared.verdicts();
    if verdicts.is_empty() {
        return None;
    }
    let sentences: String = verdicts.iter().map(|v| format!("- {}\n", escape(v))).collect();
    let by_chance = (5 * verdicts.len()).min(100);
    Some(format!(
        "### Against chance\n\n{}\nA method's top-1 less that of `random`, one draw, or of \
         `random_search`, the best of several, with the same seed, so with the same images for every \
         purpose, in points. Search MACs are set against the baseline's; a single draw searches \
         nothing, so every search costs more than `random`. The interval is Student's t interval \
         of the mean; better and worse mean that it leaves out zero. The smallest visible difference \
         is the true one that the interval would leave zero out for in 8 of 10 such comparisons \
         (two-sided level 0.05, power 0.8, non-central t), if the sd that was observed were the true \
         one; from few seeds that is a rough guess. Each sentence stands for itself: with {} of them \
         the chance that at least one finds a difference where there is none is up to {by_chance} %.\n\n\
         {sentences}",
        table.markdown(),
        verdicts.len(),
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

fn rank_section(rankings: &[Ranking<'_>], figure: &str) -> String {
    let alt = "Accuracy with shared weights and trained from scratch";
    let mut differences: String =
        rank::differences(rankings).iter().map(|d| format!("- {}\n", escape(d))).collect();
    if !differences.is_empty() {
        differences.push('\n');
    }
    format!(
        "## Rank correlation\n\n{}\nKendall's τ-b between the accuracy of networks under the search's \
         shared weights, on the images that it held out, and of the same networks trained from \
         scratch, on the validation images. The interval is the percentile bootstrap's over \
         networks. Runs that found the very same, with the same shared weights, are one \
         measurement.\n\n{differences}![{alt}]({figure})\n",
        rank::table(rankings).markdown()
    )
}

/// A section and its parts; nothing where no run has found an architecture.
fn architectures(runs: &[RunRow]) -> Vec<String> {
    let title = "## Architectures\n\nhidden is the number of hidden channels and its ratio to the \
                 input's; side is in pixels; p is the search's final probability of the \
                 likeliest option, which is what was chosen unless a budget asked for another, with \
                 the number of options in brackets.\n";
    let found = finished(runs).filter_map(|run| Some((run, run.architecture.as_ref()?)));
    let mut parts: Vec<String> = found
        .map(|(run, found)| {
            let table = architecture::table(found).markdown();
            let doubt = recount(found).unwrap_or_default();
            let input = input(found).unwrap_or_default();
            format!("### Run {}: {}\n\n{input}{table}{doubt}", run.id, code(&found.id))
        })
        .collect();
    if !parts.is_empty() {
        parts.insert(0, title.to_owned());
    }
    parts
}

/// The resolution, where it was chosen.
fn input(found: &ArchitectureRow) -> Option<String> {
    let side = found.arch.resolution;
    let sides: Vec<String> = found.resolutions.iter().map(|r| r.side.to_string()).collect();
    let chosen = found.resolutions.iter().find(|r| r.side == side)?;
    Some(format!(
        "Input {side} pixels a side, with p = {:.2}, chosen of {}.\n\n",
        chosen.probability,
        sides.join(", ")
    ))
}

/// What to say where this program counts otherwise than the one that made the run.
fn recount(found: &ArchitectureRow) -> Option<String> {
    let counted = cost::count(&found.arch);
    let differs = (counted.macs, counted.params) != (found.macs, found.params);
    differs.then(|| {
        format!(
            "\nThe run counted {} MACs and {} parameters; this version of the program counts {} \
             and {}.\n",
            found.macs, found.params, counted.macs, counted.params
        )
    })
}
