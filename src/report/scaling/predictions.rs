//! What the memory model says of the whole space: which accelerators it fits, and how much of it an
//! explicit supernet may have.

use crate::cost::{StepSetting, search_step};
use crate::recipe::{Method, Recompute};
use crate::report::table::{
    Align::{Left, Right},
    Table,
};
use crate::space::{Growth, SearchSpace};

/// Images of a step that predictions are made for; the paper's own number is not known.
const BATCHES: [usize; 2] = [128, 256];
/// Accelerators by their gigabytes (10^9 bytes).
const GPUS: [(u64, &str); 3] = [(16, "16 GB"), (32, "32 GB"), (80, "80 GB")];

/// Supernets by their names, and how their blocks are kept.
const SUPERNETS: [(&str, Method, Recompute); 4] = [
    ("masked", Method::Dmasking, Recompute::None),
    ("masked", Method::Dmasking, Recompute::Block),
    ("explicit", Method::Dnas, Recompute::None),
    ("explicit", Method::Dnas, Recompute::Block),
];

/// Bytes of a step.
fn need(space: &SearchSpace, method: Method, setting: StepSetting) -> u64 {
    search_step(space, method, setting).total()
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e9)
}

/// One row per supernet and batch, for the whole space.
pub fn table(space: &SearchSpace, threads: usize) -> Table {
    let mut columns =
        vec![("supernet", Left), ("recompute", Left), ("batch", Right), ("GB", Right)];
    columns.extend(GPUS.map(|(_, title)| (title, Left)));
    let mut table = Table::new(&columns);
    for (supernet, method, recompute) in SUPERNETS {
        for batch in BATCHES {
            let bytes = need(space, method, StepSetting { batch, threads, recompute });
            let mut row = vec![
                supernet.to_owned(),
                recompute.name().to_owned(),
                batch.to_string(),
                gigabytes(bytes),
            ];
            row.extend(GPUS.map(|(gpu, _)| {
                let fits = bytes <= gpu * 1_000_000_000;
                if fits { "fits".to_owned() } else { "does not fit".to_owned() }
            }));
            table.push(row);
        }
    }
    table
}

/// The reason for masking in a few lines: what the whole space needs, and how many options fit.
pub fn reason(space: &SearchSpace, threads: usize) -> String {
    let (batch, recompute) = (BATCHES[0], Recompute::None);
    let setting = StepSetting { batch, threads, recompute };
    let gb = |method| gigabytes(need(space, method, setting));
    let (limit, title) = (GPUS[0].0 * 1_000_000_000, GPUS[0].1);
    let mut parts = Vec::new();
    for growth in [Growth::All].into_iter().chain(Growth::ALL.into_iter().take(1)) {
        let fitting = (1..=growth.most(space)).rev().find_map(|options| {
            let part = growth.space(space, options);
            let bytes = need(&part, Method::Dnas, setting);
            (bytes <= limit).then(|| (options, part.size().total.log10(), bytes))
        });
        let along = match growth {
            Growth::All => "along every dimension",
            Growth::Of(_) => "of width alone, everything else decided",
        };
        parts.push(match fitting {
            Some((options, log10, bytes)) => format!(
                "with at most {options} options {along} it is 10^{log10:.1} networks and {} GB",
                gigabytes(bytes)
            ),
            None => format!("not even one option {along} fits"),
        });
    }
    format!(
        "The whole space has 10^{:.1} networks. At {batch} images a step the explicit supernet of all of \
         them needs {} GB, the masked one {} GB. The largest parts of the space that the explicit one \
         has room for in {title}: {}.",
        space.size().total.log10(),
        gb(Method::Dnas),
        gb(Method::Dmasking),
        parts.join("; ")
    )
}
