//! `repro space`: the size of a search space, the cost range of its networks, and the memory of its
//! supernets.

use super::output::stdout;
use anyhow::Result;
use repro::cost::{self, CostRange, Footprint, StepSetting};
use repro::recipe::Recompute;
use repro::report;
use repro::space::{BlockChoices, Count, SearchSpace, SpaceSize, load_space};
use repro::text::{self, Table};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;

/// Show the size of a search space, the cost of its networks and the memory of its supernets.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro space experiments/spaces/fbnetv2_f.toml
  repro space experiments/spaces/fbnetv2_f.toml --batch 128
  repro space experiments/spaces/fbnetv2_f.toml --json")]
pub struct Args {
    /// The space file.
    file: PathBuf,
    /// Batch size of the training step whose memory is predicted.
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Print one JSON object; exact numbers of networks are decimal strings.
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When the space file is invalid, or the output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let space = load_space(&args.file)?;
    let (size, range) = (space.size(), cost::cost_range(&space));
    let memory = SupernetMemory::of(&space, args.batch as usize);
    let mut out = stdout();
    if args.json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&as_json(&space, &size, range, &memory))?
        )?;
    } else {
        writeln!(out, "{}", as_text(&space, &size, range, &memory))?;
    }
    Ok(())
}

/// The predicted memory of a training step of each supernet.
struct SupernetMemory {
    batch: usize,
    masked: Predicted,
    /// `None` where there is no explicit supernet: where expansions count from a block's own input.
    explicit: Option<Predicted>,
}

/// The prediction for each `recompute` setting.
struct Predicted {
    nothing: Footprint,
    blocks: Footprint,
}

impl SupernetMemory {
    fn of(space: &SearchSpace, batch: usize) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let setting = |recompute| StepSetting::on_cpu(batch, threads, recompute);
        let predicted = |step: fn(&SearchSpace, StepSetting) -> Footprint| Predicted {
            nothing: step(space, setting(Recompute::None)),
            blocks: step(space, setting(Recompute::Block)),
        };
        let has_explicit = !space.expands_own_input();
        let explicit = has_explicit.then(|| predicted(cost::explicit_step));
        Self { batch, masked: predicted(cost::masked_step), explicit }
    }
}

fn as_text(
    space: &SearchSpace,
    size: &SpaceSize,
    range: CostRange,
    memory: &SupernetMemory,
) -> String {
    let mut sizes = Table::new(["choice", "log10", ">ways"]);
    let mut line = |name: &str, count: &Count| {
        sizes.row([name.to_owned(), format!("{:.3}", count.log10()), count.grouped()]);
    };
    for (dimension, count) in &size.by_dimension {
        line(dimension.name(), count);
    }
    line("total", &size.total);
    line("total / block types", &size.over_block_types);

    let mut costs = Table::new(["cost", ">smallest", ">largest"]);
    for (name, (least, largest)) in [("MACs", range.macs), ("params", range.params)] {
        costs.row([name.to_owned(), text::count(least), text::count(largest)]);
    }
    let title = format!("memory at batch {}", memory.batch);
    let mut needs = Table::new([&title, ">a step", ">blocks recomputed"]);
    let explicit = memory.explicit.as_ref().map(|predicted| ("explicit", predicted));
    for (name, predicted) in [("masked", &memory.masked)].into_iter().chain(explicit) {
        let bytes = |footprint: &Footprint| text::bytes(footprint.total());
        let (nothing, blocks) = (bytes(&predicted.nothing), bytes(&predicted.blocks));
        needs.row([format!("{name} supernet"), nothing, blocks]);
    }
    let blocks = report::space_table(space);
    let sides = text::options(&report::channels(&space.resolutions));
    let SearchSpace { name, image_channels, classes, stem, head, .. } = space;
    format!(
        "{name}: input side {sides} pixels, {}, {classes} classes; stem {}, head {}\n\n{sizes}\n\n\
         {costs}\n\n{needs}\n\n{blocks}",
        text::plural(image_channels, "channel"),
        text::plural(stem.width, "channel"),
        head.width
    )
}

fn as_json(
    space: &SearchSpace,
    size: &SpaceSize,
    range: CostRange,
    memory: &SupernetMemory,
) -> Value {
    let predicted =
        |p: &Predicted| json!({ "recompute_none": p.nothing, "recompute_block": p.blocks });
    let count = |c: &Count| json!({ "candidates": c.to_string(), "log10": c.log10() });
    let bounds = |(least, largest): (u64, u64)| json!({ "least": least, "largest": largest });
    let dimensions = size.by_dimension.iter();
    let by_dimension: Map<String, Value> =
        dimensions.map(|(dimension, c)| (dimension.name().to_owned(), count(c))).collect();
    json!({
        "name": space.name,
        "candidates": size.total.to_string(),
        "log10": size.total.log10(),
        "by_dimension": by_dimension,
        "over_block_types": count(&size.over_block_types),
        "macs": bounds(range.macs),
        "params": bounds(range.params),
        "memory": {
            "batch": memory.batch,
            "masked": predicted(&memory.masked),
            "explicit": memory.explicit.as_ref().map(predicted),
        },
        "expansion_of": if space.expands_own_input() { "input" } else { "largest_input" },
        "resolutions": space.resolutions,
        "image_channels": space.image_channels,
        "classes": space.classes,
        "blocks": space.blocks.iter().map(block_json).collect::<Vec<_>>(),
    })
}

fn block_json(block: &BlockChoices) -> Value {
    let (ratios, hidden) = report::expansions(block);
    json!({
        "block": block.label(),
        "stride": block.stride,
        "widths": block.widths,
        "expansions": ratios,
        "hidden": hidden,
        "types": block.types.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "candidates": report::ways(block).to_string(),
    })
}
