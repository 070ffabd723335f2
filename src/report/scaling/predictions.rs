//! What the memory model says of the whole space: which accelerators it fits, and how much of it an
//! explicit supernet may have.

use crate::cost::{StepSetting, explicit_step, masked_step};
use crate::recipe::Recompute;
use crate::report::table::{
    Align::{Left, Right},
    Table,
};
use crate::space::{Growth, SearchSpace};

/// Images of a step that predictions are made for; the paper's own number is not known.
pub const BATCHES: [usize; 2] = [128, 256];
/// Gigabytes (10^9 bytes) of accelerators.
pub const GPUS: [u64; 3] = [16, 32, 80];

/// A supernet by its name, and how its blocks are kept.
const SUPERNETS: [(&str, Recompute); 4] = [
    ("masked", Recompute::None),
    ("masked", Recompute::Block),
    ("explicit", Recompute::None),
    ("explicit", Recompute::Block),
];

/// Bytes of a step.
fn need(space: &SearchSpace, supernet: &str, setting: StepSetting) -> u64 {
    match supernet {
        "masked" => masked_step(space, setting).total(),
        _ => explicit_step(space, setting).total(),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e9)
}

/// One row per supernet and batch, for the whole space.
pub fn table(space: &SearchSpace, threads: usize) -> Table {
    let mut columns =
        vec![("supernet", Left), ("recompute", Left), ("batch", Right), ("GB", Right)];
    columns.extend([("16 GB", Left), ("32 GB", Left), ("80 GB", Left)]);
    let mut table = Table::new(&columns);
    for (supernet, recompute) in SUPERNETS {
        for batch in BATCHES {
            let bytes = need(space, supernet, StepSetting { batch, threads, recompute });
            let mut row = vec![
                supernet.to_owned(),
                recompute.name().to_owned(),
                batch.to_string(),
                gigabytes(bytes),
            ];
            row.extend(GPUS.map(|gpu| {
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
    let gb = |supernet| gigabytes(need(space, supernet, setting));
    let limit = GPUS[0] * 1_000_000_000;
    let mut parts = Vec::new();
    for growth in [Growth::All].into_iter().chain(Growth::ALL.into_iter().take(1)) {
        let fitting = (1..=growth.most(space)).rev().find_map(|options| {
            let part = growth.space(space, options);
            let bytes = need(&part, "explicit", setting);
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
         has room for in {} GB: {}.",
        space.size().total.log10(),
        gb("explicit"),
        gb("masked"),
        GPUS[0],
        parts.join("; ")
    )
}
