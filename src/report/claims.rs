//! The paper's claims beside what the runs measured.

use super::results::{self, macs, params, peak_bytes, seconds, top1};
use crate::claim::{self, Evidence, SpaceSize};
use crate::recipe::MethodName;
use crate::record::Phase;
use crate::space::{Dimension, parse_space};
use crate::store::RunRow;
use crate::text::{NOTHING, Table, Unit, power_of_ten, run_ids};
use std::collections::BTreeSet;
use std::path::Path;

/// The finished runs that the claims are about: the method's, not those that it is compared with.
pub fn finished(runs: &[RunRow]) -> impl Iterator<Item = &RunRow> {
    results::finished(runs).filter(|run| run.method == MethodName::Dmasking.as_str())
}

/// One row per claim.
pub fn table(runs: &[RunRow]) -> Table {
    let mut table = Table::new(["claim", "published", "measured", "verdict"]);
    let evidence = evidence(runs);
    for claim in claim::ALL {
        let tolerance = claim.tolerance.map(|t| format!("{t} tolerated"));
        let numbers = claim.published.iter().map(ToString::to_string).chain(tolerance);
        let published = numbers.collect::<Vec<_>>().join("; ");
        table.row([
            format!("{}: {}", claim.id, claim.statement),
            if published.is_empty() { NOTHING.to_owned() } else { published },
            measured(claim.id, runs, &evidence).unwrap_or_else(|| NOTHING.to_owned()),
            claim.judge(&evidence).to_string(),
        ]);
    }
    table
}

fn evidence(runs: &[RunRow]) -> Evidence {
    let datasets = distinct(&finished(runs).collect::<Vec<_>>(), |run| run.dataset.clone());
    let largest = finished(runs)
        .filter_map(size)
        .max_by(|a, b| a.over_block_types.total_cmp(&b.over_block_types));
    Evidence { dataset: datasets, size: largest }
}

fn size(run: &RunRow) -> Option<SpaceSize> {
    let name = Path::new(&run.manifest.space_name);
    let space = parse_space(&run.manifest.space_text, name).ok()?;
    let size = space.size();
    Some(SpaceSize {
        by_widths: size.along(Dimension::Width).log10(),
        over_block_types: size.over_block_types.log10(),
        classes: space.classes,
    })
}

/// What the finished runs say on a claim, with the ids of those that say it.
fn measured(id: &str, runs: &[RunRow], evidence: &Evidence) -> Option<String> {
    let runs: Vec<&RunRow> = finished(runs).collect();
    let (text, runs) = match id {
        "C1" => {
            let SpaceSize { by_widths, over_block_types, .. } = evidence.size?;
            let (by_widths, over) = (power_of_ten(by_widths), power_of_ten(over_block_types));
            (format!("{by_widths} by widths, {over} over block types alone"), runs)
        }
        "C2" => {
            let (bytes, runs) = over(&runs, Unit::Mebibytes, |r| peak_bytes(r, Phase::Search))?;
            let sizes = distinct(&runs, |run| power_of_ten(run.manifest.space_log10));
            (format!("search peaks at {bytes} MiB for {sizes} networks"), runs)
        }
        "C3" => {
            let (macs, _) = over(&runs, Unit::Count, macs)?;
            let (params, runs) = over(&runs, Unit::Count, params)?;
            (format!("found {macs} MACs, {params} parameters"), runs)
        }
        "C4" => {
            let (seconds, runs) = over(&runs, Unit::Seconds, |r| seconds(r, Phase::Search))?;
            let devices = distinct(&runs, |run| run.environment.device.clone());
            (format!("search takes {seconds} s on {devices}"), runs)
        }
        _ => {
            let (top1, runs) = over(&runs, Unit::Percent, top1)?;
            (format!("top-1 {top1} %"), runs)
        }
    };
    Some(format!("{text} ({})", run_ids(runs.iter().map(|run| run.id))))
}

/// The range of a number, and the runs that have it.
fn over<'a>(
    runs: &[&'a RunRow],
    unit: Unit,
    of: impl Fn(&RunRow) -> Option<f64>,
) -> Option<(String, Vec<&'a RunRow>)> {
    let having = runs.iter().copied().filter(|run| of(run).is_some()).collect();
    let values: Vec<f64> = runs.iter().filter_map(|run| of(run)).collect();
    unit.range(&values).map(|range| (range, having))
}

/// Each text once.
fn distinct(runs: &[&RunRow], of: impl Fn(&RunRow) -> String) -> String {
    let texts: BTreeSet<String> = runs.iter().map(|run| of(run)).collect();
    Vec::from_iter(texts).join(", ")
}
