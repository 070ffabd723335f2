//! Space files: TOML → [`SearchSpace`].

use super::options::{
    MAX_CHANNELS, MAX_OPTIONS, RATIOS, TYPES, WIDTHS, ascending, read_expansions, read_types,
    read_widths,
};
use super::{
    Activation, BlockChoices, BlockType, ConvSpec, Expansion, ExpansionOf, SearchSpace, conv_out,
};
use crate::document::{Diagnostic, Diagnostics, Document, Entry, Section};
use std::path::Path;

// Limits far above every network of the paper. They refuse typing mistakes before memory is
// allocated.
const MAX_BLOCKS: usize = 64;
const MAX_SIDE: u64 = 1024;

const CONV_ACTIVATIONS: &[(&str, Activation)] = &[
    ("relu", Activation::Relu),
    ("hswish", Activation::Hswish),
    ("identity", Activation::Identity),
];

const EXPANSIONS_OF: &[(&str, ExpansionOf)] =
    &[("largest_input", ExpansionOf::LargestInput), ("input", ExpansionOf::Input)];

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

/// The input of the next layer, while the layers are read in order. `None` after a problem.
struct LayerInput {
    /// Side of the map at the smallest resolution, in pixels.
    side: Option<usize>,
    /// The largest number of channels.
    channels: Option<usize>,
    divisor: Option<usize>,
    expansion_of: ExpansionOf,
    /// The number of blocks so far.
    blocks: usize,
}

fn read(s: &Section<'_>) -> Option<SearchSpace> {
    let name = s.identifier("name");
    let divisor = s.whole("channel_divisor", 1..=256);
    let input = s.section("input", read_input);
    let smallest = input.as_ref().and_then(|(sides, ..)| sides.first().copied());
    let expansion_of = s.optional("expansion_of", |value| value.name(EXPANSIONS_OF));
    let mut flow = LayerInput {
        side: smallest,
        channels: None,
        divisor,
        expansion_of: expansion_of.flatten().unwrap_or_default(),
        blocks: 0,
    };
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
    expansion_of?;
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

/// The resolutions in pixels, the image channels and the classes.
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

fn read_stem(s: &Section<'_>, flow: &mut LayerInput) -> Option<ConvSpec> {
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

/// The convolution of the head is always 1x1.
fn read_head(s: &Section<'_>) -> Option<ConvSpec> {
    let width = s.whole("width", 1..=MAX_CHANNELS);
    let activation = s.name("activation", CONV_ACTIVATIONS);
    Some(ConvSpec { kernel: 1, stride: 1, width: width?, activation: activation? })
}

fn read_stride(value: &Entry<'_>, flow: &mut LayerInput) -> Option<usize> {
    let stride = value.whole(1..=2)?;
    if flow.side.is_some_and(|side| side < stride) {
        flow.side = None;
        let problem = format!(
            "stride {stride} leaves no pixels: at the smallest resolution this map has one pixel"
        );
        return value.fail(problem, "give stride 1 from here on, or larger resolutions");
    }
    // Every odd kernel gives the same side, because the padding is half the kernel.
    flow.side = flow.side.map(|side| conv_out(side, 3, stride));
    Some(stride)
}

fn read_stage(
    s: &Section<'_>,
    number: usize,
    default_types: Option<&Option<Vec<BlockType>>>,
    flow: &mut LayerInput,
) -> Option<Vec<BlockChoices>> {
    let blocks = s.require("blocks", "how many blocks").and_then(|value| read_blocks(&value, flow));
    let stride = s.require("stride", "1 or 2").and_then(|value| read_stride(&value, flow));
    let widths = s.require("width", WIDTHS).and_then(|value| read_widths(&value));
    let width_max = widths.as_ref().and_then(|widths| widths.last().copied());
    let types = match (s.get("types"), default_types) {
        (Some(value), _) => read_types(&value),
        (None, Some(Some(types))) => Some(types.clone()),
        (None, Some(None)) => s.require("types", TYPES).and(None),
        (None, None) => None,
    };
    let expansions = if types.as_ref().is_some_and(|types| has_no_expansion(types)) {
        let problem = "applies to inverted residuals, and this stage has none";
        s.forbid(
            "expansion",
            problem,
            "remove it; the inner width of a res3x3 is its output width",
        );
        Some([Some(Expansion::None), Some(Expansion::None)])
    } else {
        let inputs = [flow.channels, if blocks == Some(1) { None } else { width_max }];
        let value = s.require("expansion", RATIOS);
        value.and_then(|value| read_expansions(&value, inputs, flow.divisor, flow.expansion_of))
    };
    let in_max = std::mem::replace(&mut flow.channels, width_max);
    let [first, later] = expansions?;
    let (blocks, stride, widths, types) = (blocks?, stride?, widths?, types?);
    let width_max = width_max?;
    let first = BlockChoices {
        stage: number,
        index: 0,
        stride,
        in_max: in_max?,
        expansion: first?,
        widths,
        types,
    };
    let mut choices = vec![first.clone()];
    for index in 1..blocks {
        let (expansion, in_max) = (later.clone()?, width_max);
        choices.push(BlockChoices { index, stride: 1, in_max, expansion, ..first.clone() });
    }
    Some(choices)
}

/// The number of blocks of a stage.
fn read_blocks(value: &Entry<'_>, flow: &mut LayerInput) -> Option<usize> {
    let blocks = value.whole(1..=MAX_BLOCKS as u64)?;
    flow.blocks += blocks;
    if flow.blocks > MAX_BLOCKS {
        let problem = format!("makes {} blocks in total", flow.blocks);
        return value.fail(problem, format!("give at most {MAX_BLOCKS}"));
    }
    Some(blocks)
}

/// Whether none of these types has hidden channels: only residual blocks and skips.
fn has_no_expansion(types: &[BlockType]) -> bool {
    let expands = |block_type: &BlockType| matches!(block_type, BlockType::MbConv { .. });
    types.contains(&BlockType::Residual) && !types.iter().any(expands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{Dimension, make_divisible};

    fn shipped(name: &str) -> SearchSpace {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces").join(name);
        load_space(&path).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
    }

    #[test]
    fn f_space_has_published_size() {
        let space = shipped("fbnetv2_f.toml");
        assert_eq!(space.blocks.len(), 18);
        let size = space.size();
        assert_eq!(size.along(Dimension::Width).to_string(), "442136281481216");
        assert_eq!(size.along(Dimension::BlockType).to_string(), "531441"); // 9^6
        assert_eq!(size.along(Dimension::Resolution).to_string(), "1");
        assert_eq!(format!("{:.1}", size.total.log10()), "34.2");
        let log10 = size.total.log10() - size.along(Dimension::BlockType).log10();
        assert!((size.over_block_types.log10() - log10).abs() < 1e-9);
    }

    #[test]
    fn a_type_per_block_is_the_only_difference_of_the_variant() {
        let (shared, variant) = (shipped("fbnetv2_f.toml"), shipped("fbnetv2_f_per_block.toml"));
        let size = variant.size();
        assert_eq!(size.along(Dimension::BlockType).to_string(), "150094635296999121"); // 9^18
        assert_eq!(format!("{:.1}", size.total.log10()), "45.7");
        assert!(!variant.share_types);
        assert_eq!(SearchSpace { share_types: true, name: shared.name.clone(), ..variant }, shared);
    }

    #[test]
    fn p_space_has_known_options() {
        let space = shipped("fbnetv2_p.toml");
        assert_eq!((space.blocks.len(), space.max_resolution()), (18, 288));
        assert!(space.blocks.iter().any(|block| block.widths == [16, 20, 24, 28]));
        for block in &space.blocks[1..] {
            let Expansion::Options { ratios, .. } = &block.expansion else { panic!("{block:?}") };
            assert_eq!(ratios, &[0.75, 1.5, 2.25, 3.0, 3.75, 4.5]);
        }
        let size = space.size();
        assert_eq!(size.along(Dimension::Expansion).to_string(), "16926659444736"); // 6^17
        // The other widths are those of the F space.
        assert_eq!(size.along(Dimension::Width).to_string(), "442136281481216");
        assert_eq!(size.along(Dimension::BlockType).to_string(), "150094635296999121"); // 9^18
    }

    #[test]
    fn size_space_has_five_widths_of_eight() {
        let space = shipped("nats_size.toml");
        assert_eq!(space.size().total.to_string(), "32768"); // 8^5
        assert_eq!(space.size().along(Dimension::Width).to_string(), "32768");
        let strides: Vec<usize> = space.blocks.iter().map(|block| block.stride).collect();
        assert_eq!(strides, [1, 2, 1, 2, 1]);
        assert!(space.blocks.iter().all(|block| block.types == [BlockType::Residual]));
    }

    #[test]
    fn ratios_are_relative_to_the_widest_input() {
        let space = shipped("fbnetv2_f.toml");
        let first = &space.blocks[1];
        assert_eq!((first.label().as_str(), first.in_max, first.stride), ("2.1", 16, 2));
        let Expansion::Options { ratios, mids, .. } = &first.expansion else { panic!("{first:?}") };
        assert_eq!(ratios, &[0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75]);
        assert_eq!(mids, &[16, 24, 32, 40, 48, 56, 64]);
        let second = &space.blocks[2];
        assert_eq!((second.in_max, second.stride, second.widths.len()), (28, 1, 4));
        assert_eq!(second.mid_max(), 104); // 3.75 * 28 = 105
    }

    #[test]
    fn few_channels_are_rounded_to_the_divisor() {
        assert_eq!([1.5, 2.0, 4.0, 8.4, 8.5].map(|c| make_divisible(c, 8)), [8, 8, 8, 8, 16]);
        assert_eq!(crate::space::squeeze_width(8, 8), 8);
    }

    #[test]
    fn cifar_space_divides_the_side_by_eight() {
        let space = shipped("fbnetv2_f_cifar.toml");
        assert_eq!((space.blocks.len(), space.max_resolution(), space.stem_width()), (11, 32, 16));
        let strides: usize = space.blocks.iter().map(|block| block.stride).product();
        assert_eq!(strides * space.stem.stride, 8);
        assert_eq!(space.blocks[0].expansion, Expansion::None);
        assert!(!space.blocks[0].can_be_residual());
        assert!(space.blocks[2].can_be_residual());
    }
}
