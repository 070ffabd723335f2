//! Predictions of the memory model for the whole space: which accelerators its supernets fit, and how
//! much of the space an explicit supernet can hold.

use crate::cost::{StepSetting, search_step};
use crate::recipe::{MethodName, Recompute};
use crate::report::table::{Columns, ReportTable};
use crate::space::{Dimension, SearchSpace};

use std::cell::RefCell;
use std::ops::Range;

/// Batch sizes to predict for; the paper does not give its own.
const BATCHES: [usize; 2] = [128, 256];
/// Accelerators by their memory in gigabytes (10^9 bytes).
const GPUS: [(u64, &str); 3] = [(16, "16 GB"), (32, "32 GB"), (80, "80 GB")];

/// Supernets by name, with their recompute modes.
const SUPERNETS: [(&str, MethodName, Recompute); 4] = [
    ("masked", MethodName::Dmasking, Recompute::None),
    ("masked", MethodName::Dmasking, Recompute::Block),
    ("explicit", MethodName::Dnas, Recompute::None),
    ("explicit", MethodName::Dnas, Recompute::Block),
];

/// Peak bytes of a step.
fn need(space: &SearchSpace, method: MethodName, setting: StepSetting) -> u64 {
    search_step(space, method, setting).total()
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e9)
}

/// A prediction for the whole space.
struct Prediction {
    supernet: &'static str,
    recompute: Recompute,
    batch: usize,
    bytes: u64,
}

/// One row per supernet and batch, for the whole space, which those runs searched.
pub fn table(space: &SearchSpace, threads: usize, runs: &[i64]) -> ReportTable {
    let of_batch = |batch: usize| {
        SUPERNETS.map(|(supernet, method, recompute)| {
            let bytes = need(space, method, StepSetting::on_cpu(batch, threads, recompute));
            Prediction { supernet, recompute, batch, bytes }
        })
    };
    let mut rows: Vec<Prediction> = BATCHES.into_iter().flat_map(of_batch).collect();
    rows.sort_by_key(|row| (row.supernet != SUPERNETS[0].0, row.recompute != Recompute::None));
    let columns = Columns::of("predictions", &rows)
        .text("supernet", "supernet", |row| row.supernet.to_owned())
        .text("recompute", "recompute", |row| row.recompute.name().to_owned())
        .whole("batch", "batch", |row| Some(row.batch as u64))
        .whole_as("bytes", "GB", |row| Some(row.bytes), |_, bytes| gigabytes(bytes));
    let columns = GPUS.into_iter().fold(columns, |columns, (gpu, title)| {
        columns.text(&format!("fits_{gpu}_gb"), title, |row| {
            let fits = row.bytes <= gpu * 1_000_000_000;
            if fits { "fits".to_owned() } else { "does not fit".to_owned() }
        })
    });
    columns.of_runs(|_| runs.to_vec()).table()
}

/// Why masking matters: what the whole space needs, and how much of it fits an accelerator.
pub fn reason(space: &SearchSpace, threads: usize) -> String {
    let (batch, recompute) = (BATCHES[0], Recompute::None);
    let setting = StepSetting::on_cpu(batch, threads, recompute);
    let gb = |method| gigabytes(need(space, method, setting));
    let (limit, title) = (GPUS[0].0 * 1_000_000_000, GPUS[0].1);
    let explicit = |part: &SearchSpace| need(part, MethodName::Dnas, setting);
    let fitting = match largest_part(space, |part| explicit(part) <= limit) {
        Some(caps) => {
            let part = space.capped(caps);
            let [widths, expansions, types, resolutions] = caps;
            format!(
                "The largest part of it that an explicit supernet holds in {title} has 10^{:.1} \
                 networks: at most {widths} widths, {expansions} expansions, {types} block types and \
                 {resolutions} resolutions per choice, in {} GB.",
                part.size().total.log10(),
                gigabytes(explicit(&part))
            )
        }
        None => format!("Not even one option per choice fits {title}."),
    };
    format!(
        "The whole space has 10^{:.1} networks. At a batch size of {batch}, its explicit supernet needs \
         {} GB, its masked one {} GB. {fitting}",
        space.size().total.log10(),
        gb(MethodName::Dnas),
        gb(MethodName::Dmasking),
    )
}

/// The part of a space with the most networks that fits, by its caps on the options of each dimension,
/// in the order of [`Dimension::ALL`]. More options never need less memory. So for each combination of
/// the other caps, the search starts with the fewest widths that beat the best part so far, and skips
/// every part that contains one that did not fit.
fn largest_part(space: &SearchSpace, fits: impl Fn(&SearchSpace) -> bool) -> Option<[usize; 4]> {
    let most = Dimension::ALL.map(|dimension| space.most_options(dimension));
    let networks = |caps| space.capped(caps).size().total.log10();
    let too_much = RefCell::new(Vec::<[usize; 4]>::new());
    let fit = |caps: [usize; 4]| {
        let within = |small: &[usize; 4]| small.iter().zip(caps).all(|(small, cap)| *small <= cap);
        let fit = !too_much.borrow().iter().any(within) && fits(&space.capped(caps));
        if !fit {
            too_much.borrow_mut().push(caps);
        }
        fit
    };
    // Starting from the best part with equal caps leaves little to try.
    let equal = |options| most.map(|most| most.min(options));
    let widest = most.into_iter().max().unwrap_or(1);
    let mut best = equal(last_that(1..widest + 1, |options| fit(equal(options)))?);
    for resolutions in 1..=most[3] {
        for types in 1..=most[2] {
            for expansions in 1..=most[1] {
                let caps = |widths| [widths, expansions, types, resolutions];
                let known = networks(best);
                let better = (1..=most[0]).find(|widths| networks(caps(*widths)) > known);
                let Some(fewest) = better else { continue };
                if let Some(widths) = last_that(fewest..most[0] + 1, |widths| fit(caps(widths))) {
                    best = caps(widths);
                }
            }
        }
    }
    Some(best)
}

/// The last number of a range for which `holds`, if it holds up to some number and not beyond.
fn last_that(range: Range<usize>, holds: impl Fn(usize) -> bool) -> Option<usize> {
    if !holds(range.start) {
        return None;
    }
    let (mut held, mut not) = (range.start, range.end);
    while not - held > 1 {
        let middle = usize::midpoint(held, not);
        if holds(middle) { held = middle } else { not = middle }
    }
    Some(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::parse_space;
    use std::path::Path;

    fn part(text: &str, batch: usize, limit: u64) {
        let space = parse_space(text, Path::new("space.toml")).unwrap();
        let setting = StepSetting::on_cpu(batch, 2, Recompute::None);
        let fits = |part: &SearchSpace| need(part, MethodName::Dnas, setting) <= limit;
        let caps = largest_part(&space, fits).unwrap();
        assert!(fits(&space.capped(caps)), "{caps:?}");
        let networks = space.capped(caps).size().total.log10();
        let most = Dimension::ALL.map(|dimension| space.most_options(dimension));
        for i in 0..4 {
            let mut more = caps;
            more[i] += 1;
            assert!(more[i] > most[i] || !fits(&space.capped(more)), "{more:?} fits as well");
        }
        // Better than the same cap for everything.
        for options in 1..=14 {
            let part = space.capped([options; 4]);
            assert!(!fits(&part) || part.size().total.log10() <= networks, "{options} {caps:?}");
        }
        assert_eq!(largest_part(&space, |_| false), None);
        assert_eq!(largest_part(&space, |_| true), Some(most));
    }

    #[test]
    fn the_largest_part_cannot_grow() {
        part(include_str!("../../../experiments/spaces/scaling_cifar.toml"), 128, 16_000_000_000);
    }

    #[test]
    fn the_largest_part_of_the_f_space() {
        part(include_str!("../../../experiments/spaces/fbnetv2_f.toml"), 128, 16_000_000_000);
    }

    #[test]
    fn the_last_number_that_holds() {
        assert_eq!(last_that(3..15, |n| n <= 9), Some(9));
        assert_eq!(last_that(3..15, |n| n < 3), None);
        assert_eq!(last_that(3..15, |_| true), Some(14));
    }
}
