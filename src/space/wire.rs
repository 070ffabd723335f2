//! Space files: TOML → [`SearchSpace`].

use super::{
    Activation, BlockChoices, BlockType, ConvSpec, Expansion, SearchSpace, conv_out, make_divisible,
};
use crate::document::{Diagnostic, Diagnostics, Document, Entry, Section, nearest};
use std::ops::Bound::{Excluded, Included};
use std::path::Path;
use toml::de::DeValue;

// Limits far above any network of the paper: they refuse slips of the finger, before memory is
// asked for.
const MAX_BLOCKS: usize = 64;
const MAX_CHANNELS: u64 = 4096;
const MAX_RATIO: f64 = 16.0;
const MAX_OPTIONS: usize = 64;
const MAX_SIDE: u64 = 1024;

const WIDTHS: &str = "a width, a list of widths or { low, high, step }";
const RATIOS: &str = "1, a list of ratios or { low, high, step }";
const TYPES: &str = "\"all\" or a list of block types";

const CONV_ACTIVATIONS: &[(&str, Activation)] = &[
    ("relu", Activation::Relu),
    ("hswish", Activation::Hswish),
    ("identity", Activation::Identity),
];

/// Reads a space from text; `path` is for the messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_space(text: &str, path: &Path) -> Result<SearchSpace, Diagnostics> {
    Document::new(path, text).read(read)
}

/// Reads a space from a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_space(path: &Path) -> Result<SearchSpace, Diagnostics> {
    let document = Document::load(path)?;
    if document.has("space") && !document.has("stage") {
        let expected = "give the space file that it names";
        return Err(Diagnostic::of_file(path, "is a manifest, not a search space", expected).into());
    }
    document.read(read)
}

/// The input of the next layer while the layers are read in their order.
struct Flow {
    /// Side of the smallest resolution's map and the most channels, unless there was a diagnostic.
    side: Option<usize>,
    channels: Option<usize>,
    divisor: Option<usize>,
    blocks: usize,
}

fn read(s: &Section<'_>) -> Option<SearchSpace> {
    let name = s.identifier("name");
    let divisor = s.whole("channel_divisor", 1..=256);
    let input = s.section("input", read_input);
    let smallest = input.as_ref().and_then(|(sides, ..)| sides.first().copied());
    let mut flow = Flow { side: smallest, channels: None, divisor, blocks: 0 };
    let stem = s.section("stem", |s| read_stem(s, &mut flow));
    let types = s.optional("types", read_types);
    let share_types = s.optional("share_types", Entry::flag);
    let stages = s.require("stage", "at least one [[stage]]").and_then(|stages| {
        let mut number = 0;
        stages.list(1..=MAX_BLOCKS, "1 to 64 sections [[stage]]", |stage| {
            number += 1;
            stage.section(|s| read_stage(s, number, types.as_ref(), &mut flow))
        })
    });
    let head = s.section("head", read_head);
    let (resolutions, image_channels, classes) = input?;
    Some(SearchSpace {
        name: name?,
        resolutions,
        image_channels,
        classes,
        channel_divisor: divisor?,
        share_types: share_types?.unwrap_or_default(),
        stem: stem?,
        blocks: stages?.into_iter().flatten().collect(),
        head: head?,
    })
}

/// Resolutions, channels, classes.
fn read_input(s: &Section<'_>) -> Option<(Vec<usize>, usize, usize)> {
    const EXPECTED: &str = "a list of sides in pixels, ascending";
    let resolutions = s.require("resolutions", EXPECTED).and_then(|value| {
        let sides = value.list(1..=MAX_OPTIONS, EXPECTED, |side| side.whole(1..=MAX_SIDE))?;
        ascending(&value, sides)
    });
    let channels = s.whole("channels", 1..=16);
    let classes = s.whole("classes", 2..=100_000);
    Some((resolutions?, channels?, classes?))
}

fn read_stem(s: &Section<'_>, flow: &mut Flow) -> Option<ConvSpec> {
    let kernel = s.require("kernel", "an odd kernel size").and_then(|value| {
        let kernel = value.whole(1..=11)?;
        if kernel % 2 == 1 { Some(kernel) } else { value.refuse("an odd number from 1 to 11") }
    });
    let stride = s.require("stride", "1 or 2").and_then(|value| read_stride(&value, flow));
    let width = s.whole("width", 1..=MAX_CHANNELS);
    let activation = s.name("activation", CONV_ACTIVATIONS);
    flow.channels = width;
    Some(ConvSpec { kernel: kernel?, stride: stride?, width: width?, activation: activation? })
}

/// The last convolution is always 1x1.
fn read_head(s: &Section<'_>) -> Option<ConvSpec> {
    let width = s.whole("width", 1..=MAX_CHANNELS);
    let activation = s.name("activation", CONV_ACTIVATIONS);
    Some(ConvSpec { kernel: 1, stride: 1, width: width?, activation: activation? })
}

fn read_stride(value: &Entry<'_>, flow: &mut Flow) -> Option<usize> {
    let stride = value.whole(1..=2)?;
    if flow.side.is_some_and(|side| side < stride) {
        flow.side = None;
        let problem = format!(
            "stride {stride} leaves no pixels: at the smallest resolution the map here has one"
        );
        return value.fail(problem, "give stride 1 from here on, or larger resolutions");
    }
    // Any odd kernel with its own padding gives the same side.
    flow.side = flow.side.map(|side| conv_out(side, 3, stride));
    Some(stride)
}

fn read_stage(
    s: &Section<'_>,
    number: usize,
    default_types: Option<&Option<Vec<BlockType>>>,
    flow: &mut Flow,
) -> Option<Vec<BlockChoices>> {
    let blocks = s.require("blocks", "how many blocks").and_then(|value| {
        let blocks = value.whole(1..=MAX_BLOCKS as u64)?;
        flow.blocks += blocks;
        if flow.blocks > MAX_BLOCKS {
            let problem = format!("makes {} blocks in all", flow.blocks);
            return value.fail(problem, format!("give at most {MAX_BLOCKS}"));
        }
        Some(blocks)
    });
    let stride = s.require("stride", "1 or 2").and_then(|value| read_stride(&value, flow));
    let widths = s.require("width", WIDTHS).and_then(|value| read_widths(&value));
    let width_max = widths.as_ref().and_then(|widths| widths.last().copied());
    let inputs = [flow.channels, if blocks == Some(1) { None } else { width_max }];
    let types = match (s.get("types"), default_types) {
        (Some(value), _) => read_types(&value),
        (None, Some(Some(types))) => Some(types.clone()),
        (None, Some(None)) => s.require("types", TYPES).and(None),
        (None, None) => None,
    };
    let expansions = if types.as_ref().is_some_and(|types| has_no_expansion(types)) {
        let problem = "is the hidden width of inverted residuals, and no type of this stage is one";
        s.forbid("expansion", problem, "take it out: a res3x3 is as wide inside as its width");
        Some([Some(Expansion::None), Some(Expansion::None)])
    } else {
        let value = s.require("expansion", RATIOS);
        value.and_then(|value| read_expansions(&value, inputs, flow.divisor))
    };
    let in_max = std::mem::replace(&mut flow.channels, width_max);
    let [first, later] = expansions?;
    let (blocks, stride, widths, types) = (blocks?, stride?, widths?, types?);
    let width_max = width_max?;
    let mut choices = vec![BlockChoices {
        stage: number,
        index: 0,
        stride,
        in_max: in_max?,
        expansion: first?,
        widths,
        types,
    }];
    for index in 1..blocks {
        let expansion = later.clone()?;
        let block = &choices[0];
        choices.push(BlockChoices {
            index,
            stride: 1,
            in_max: width_max,
            expansion,
            ..block.clone()
        });
    }
    Some(choices)
}

/// Whether these types are residual blocks, beside a skip perhaps.
fn has_no_expansion(types: &[BlockType]) -> bool {
    let expands = |block_type: &BlockType| matches!(block_type, BlockType::MbConv { .. });
    types.contains(&BlockType::Residual) && !types.iter().any(expands)
}

fn read_widths(value: &Entry<'_>) -> Option<Vec<usize>> {
    let widths = match value.node() {
        DeValue::Integer(_) => vec![value.whole(1..=MAX_CHANNELS)?],
        DeValue::Table(_) => {
            let [low, high, step] = value.section(|s| {
                let low = s.whole("low", 1..=MAX_CHANNELS);
                let high = s.whole("high", 1..=MAX_CHANNELS);
                let step = s.whole("step", 1..=MAX_CHANNELS);
                Some([low?, high?, step?])
            })?;
            span(value, low as f64, high as f64, step as f64)?
                .into_iter()
                .map(|width| width as usize)
                .collect()
        }
        _ => value.list(1..=MAX_OPTIONS, WIDTHS, |width| width.whole(1..=MAX_CHANNELS))?,
    };
    ascending(value, widths)
}

/// The expansions of the first block and of the later ones, which differ in their input.
fn read_expansions(
    value: &Entry<'_>,
    inputs: [Option<usize>; 2],
    divisor: Option<usize>,
) -> Option<[Option<Expansion>; 2]> {
    let range = || (Excluded(0.0), Included(MAX_RATIO));
    let ratios = match value.node() {
        DeValue::Integer(_) | DeValue::Float(_) => {
            let ratio = value.real(range())?;
            if ratio == 1.0 {
                return Some([Some(Expansion::None), Some(Expansion::None)]);
            }
            vec![ratio]
        }
        DeValue::Table(_) => {
            let [low, high, step] = value.section(|s| {
                let low = s.real("low", range());
                let high = s.real("high", range());
                let step = s.real("step", range());
                Some([low?, high?, step?])
            })?;
            span(value, low, high, step)?
        }
        _ => value.list(1..=MAX_OPTIONS, RATIOS, |ratio| ratio.real(range()))?,
    };
    let ratios = ascending(value, ratios)?;
    let divisor = divisor?;
    let mut complained = false;
    Some(inputs.map(|in_max| {
        // One diagnostic says it for both.
        if complained {
            return None;
        }
        let expansion = expand(value, &ratios, in_max?, divisor);
        complained = expansion.is_none();
        expansion
    }))
}

fn expand(value: &Entry<'_>, ratios: &[f64], in_max: usize, divisor: usize) -> Option<Expansion> {
    let mids: Vec<usize> =
        ratios.iter().map(|ratio| make_divisible(ratio * in_max as f64, divisor)).collect();
    if let Some(i) = mids.windows(2).position(|pair| pair[0] >= pair[1]) {
        let problem = format!(
            "ratios {} and {} of {in_max} channels are both {} hidden channels, \
             in multiples of {divisor}",
            ratios[i],
            ratios[i + 1],
            mids[i],
        );
        return value.fail(problem, "give ratios further apart, or a smaller channel_divisor");
    }
    Some(Expansion::Options { ratios: ratios.to_vec(), mids })
}

/// `low`, `low + step`, … to `high`, which must be one of them.
fn span(value: &Entry<'_>, low: f64, high: f64, step: f64) -> Option<Vec<f64>> {
    if low > high {
        let problem = format!("is empty: low {low} is above high {high}");
        return value.fail(problem, "give a high of at least low");
    }
    // Decimal fractions are not exact in binary: 0.1 + 2 * 0.1 is not 0.3.
    let tidy = |x: f64| (x * 1e9).round() / 1e9;
    let steps = ((high - low) / step).round();
    if steps >= MAX_OPTIONS as f64 {
        let problem = format!("steps of {step:?} from {low} to {high} make too many options");
        return value.fail(problem, format!("give at most {MAX_OPTIONS} options"));
    }
    if tidy(low + steps * step) != tidy(high) {
        let below = tidy(low + ((high - low) / step).floor() * step);
        let problem = format!("steps of {step} from {low} miss {high}");
        let expected = format!("give a high of {below} or {}", tidy(below + step));
        return value.fail(problem, expected);
    }
    Some((0..=steps as usize).map(|i| tidy(low + i as f64 * step)).collect())
}

/// Options are told apart by their place, so that there must be no two alike.
fn ascending<T: PartialOrd + std::fmt::Display>(
    value: &Entry<'_>,
    options: Vec<T>,
) -> Option<Vec<T>> {
    match options.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) if pair[0] == pair[1] => {
            value.fail(format!("{} is given twice", pair[0]), "give each option once")
        }
        Some(pair) => {
            let problem = format!("{} stands before {}", pair[0], pair[1]);
            value.fail(problem, "give the options in ascending order")
        }
        None => Some(options),
    }
}

fn read_types(value: &Entry<'_>) -> Option<Vec<BlockType>> {
    let names = BlockType::ALL.map(BlockType::name);
    let one_of_them = format!("one of {}", names.join(", "));
    if let DeValue::String(text) = value.node() {
        if text == "all" {
            return Some(BlockType::FBNETV2.to_vec());
        }
        let problem = format!("{} is not a list", value.given());
        if BlockType::from_name(text).is_some() {
            return value.fail(problem, format!("give {TYPES}, as in [\"{text}\"]"));
        }
        return value.fail_with_hint(problem, format!("give {TYPES}"), nearest(text, ["all"]));
    }
    let mut seen = Vec::new();
    value.list(1..=BlockType::ALL.len(), TYPES, |member| {
        let name = member.text(&one_of_them)?;
        let Some(kind) = BlockType::from_name(name) else {
            let problem = format!("{} is not a block type", member.given());
            let expected = format!("give {one_of_them}");
            return member.fail_with_hint(problem, expected, nearest(name, names));
        };
        if seen.contains(&kind) {
            let problem = format!("\"{name}\" is given twice");
            return member.fail(problem, "give each type once");
        }
        seen.push(kind);
        Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Dimension;

    fn shipped(name: &str) -> SearchSpace {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces").join(name);
        load_space(&path).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
    }

    #[test]
    fn the_f_space_has_as_many_widths_as_the_paper_claims() {
        let space = shipped("fbnetv2_f.toml");
        assert_eq!(space.blocks.len(), 18);
        let size = space.size();
        assert_eq!(size.along(Dimension::Width).to_string(), "442136281481216");
        assert_eq!(size.along(Dimension::BlockType).to_string(), "150094635296999121"); // 9^18
        assert_eq!(size.along(Dimension::Resolution).to_string(), "1");
        let log10 = size.total.log10() - size.along(Dimension::BlockType).log10();
        assert!((size.over_block_types.log10() - log10).abs() < 1e-9);
    }

    #[test]
    fn the_p_space_has_what_is_known_of_it() {
        let space = shipped("fbnetv2_p.toml");
        assert_eq!((space.blocks.len(), space.max_resolution()), (18, 288));
        assert!(space.blocks.iter().any(|block| block.widths == [16, 20, 24, 28]));
        for block in &space.blocks[1..] {
            let Expansion::Options { ratios, .. } = &block.expansion else { panic!("{block:?}") };
            assert_eq!(ratios, &[0.75, 1.5, 2.25, 3.0, 3.75, 4.5]);
        }
        let size = space.size();
        assert_eq!(size.along(Dimension::Expansion).to_string(), "16926659444736"); // 6^17
        // The other widths are the F space's.
        assert_eq!(size.along(Dimension::Width).to_string(), "442136281481216");
        assert_eq!(size.along(Dimension::BlockType).to_string(), "150094635296999121"); // 9^18
    }

    #[test]
    fn the_size_space_is_five_widths_of_eight() {
        let space = shipped("nats_size.toml");
        assert_eq!(space.size().total.to_string(), "32768"); // 8^5
        assert_eq!(space.size().along(Dimension::Width).to_string(), "32768");
        let strides: Vec<usize> = space.blocks.iter().map(|block| block.stride).collect();
        assert_eq!(strides, [1, 2, 1, 2, 1]);
        assert!(space.blocks.iter().all(|block| block.types == [BlockType::Residual]));
    }

    #[test]
    fn hidden_widths_count_from_the_widest_input() {
        let space = shipped("fbnetv2_f.toml");
        let first = &space.blocks[1];
        assert_eq!((first.label().as_str(), first.in_max, first.stride), ("2.1", 16, 2));
        let Expansion::Options { ratios, mids } = &first.expansion else { panic!("{first:?}") };
        assert_eq!(ratios, &[0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75]);
        assert_eq!(mids, &[16, 24, 32, 40, 48, 56, 64]);
        let second = &space.blocks[2];
        assert_eq!((second.in_max, second.stride, second.widths.len()), (28, 1, 4));
        assert_eq!(second.mid_max(), 104); // 3.75 * 28 = 105
    }

    #[test]
    fn few_channels_become_one_multiple_of_the_divisor() {
        assert_eq!([1.5, 2.0, 4.0, 8.4, 8.5].map(|c| make_divisible(c, 8)), [8, 8, 8, 8, 16]);
        assert_eq!(crate::space::squeeze_width(8, 8), 8);
    }

    #[test]
    fn the_small_space_divides_the_side_by_eight() {
        let space = shipped("fbnetv2_f_cifar.toml");
        assert_eq!((space.blocks.len(), space.max_resolution(), space.stem_width()), (11, 32, 16));
        let strides: usize = space.blocks.iter().map(|block| block.stride).product();
        assert_eq!(strides * space.stem.stride, 8);
        assert_eq!(space.blocks[0].expansion, Expansion::None);
        assert!(!space.blocks[0].can_be_residual());
        assert!(space.blocks[2].can_be_residual());
    }
}
