//! Network files: one architecture as TOML, for reading and writing.
//!
//! `experiments/archs/` has the published networks in this format. Sizes are numbers of channels; the rules
//! that rounded them are those of the source that each file names.

use super::{
    Activation, ArchSpec, BlockKind, BlockSpec, ConvSpec, Head, HeadSqueeze, SqueezeFunctions,
};
use crate::document::{Diagnostic, Diagnostics, Document, Entry, Section};
use std::fmt::Write;
use std::path::Path;

/// A network with what was published about it.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchFile {
    pub name: String,
    pub description: String,
    pub arch: ArchSpec,
    /// For evaluation, the shorter side of an image is resized to this many pixels before the centre is
    /// cropped. `None`: images have the network's resolution.
    pub resize: Option<usize>,
    pub published: Option<Published>,
}

/// Published numbers of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub params: u64,
    /// By the rule of the released networks: multiply-accumulates and elements read by pooling.
    pub flops: u64,
    /// The unit to which both are rounded; 1: exact.
    pub rounded_to: u64,
    /// On ImageNet's validation images, in percent.
    pub top1: Option<f64>,
    pub top5: Option<f64>,
    pub source: String,
}

/// As [`ArchSpec::check`].
const MOST_CHANNELS: u64 = 1 << 16;

const ACTIVATIONS: &[(&str, Activation)] = &[
    ("relu", Activation::Relu),
    ("hswish", Activation::Hswish),
    ("swish", Activation::Swish),
    ("identity", Activation::Identity),
];
const GATES: &[(&str, Activation)] =
    &[("hsigmoid", Activation::Hsigmoid), ("sigmoid", Activation::Sigmoid)];

#[derive(Clone, Copy)]
enum BlockOp {
    MbConv,
    Projection,
    Residual,
    Identity,
}

const BLOCKS: &[(&str, BlockOp)] = &[
    ("mbconv", BlockOp::MbConv),
    ("identity", BlockOp::Identity),
    ("projection", BlockOp::Projection),
    ("residual", BlockOp::Residual),
];

impl ArchFile {
    /// Reads a network from text; `path` is for the messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Diagnostics> {
        checked(Document::new(path, text).read(read)?, path)
    }

    /// Reads a network from a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let document = Document::load(path)?;
        for (key, what) in [("space", "a manifest"), ("types", "a search space")] {
            if document.has(key) {
                let problem = format!("is {what}, not a network");
                return Err(Diagnostic::of_file(path, problem, "give a network file").into());
            }
        }
        checked(document.read(read)?, path)
    }

    /// The text of a file that reads as this network.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write_file(self, &mut text);
        text
    }
}

/// Refuses networks that cannot be built.
fn checked(file: ArchFile, path: &Path) -> Result<ArchFile, Diagnostics> {
    match file.arch.check() {
        Ok(()) => Ok(file),
        Err(problem) => Err(Diagnostic::of_file(path, problem, "").into()),
    }
}

fn read(s: &Section<'_>) -> Option<ArchFile> {
    let name = s.identifier("name");
    let description = s.optional("description", |value| value.text("text in quotes"));
    let input = s.section("input", |s| {
        let (resolution, channels) = (s.whole("resolution", 1..=4096), s.whole("channels", 1..=16));
        let classes = s.whole("classes", 2..=MOST_CHANNELS);
        let resize = s.optional("resize", |value| value.whole(1..=8192));
        Some((resolution?, channels?, classes?, resize?))
    });
    let published = s.optional("published", |value| value.section(read_published));
    let stem = s.section("stem", |s| {
        let (kernel, stride) = (s.whole("kernel", 1..=11), s.whole("stride", 1..=8));
        let (width, activation) = (width(s), s.name("activation", ACTIVATIONS));
        Some(ConvSpec { kernel: kernel?, stride: stride?, width: width?, activation: activation? })
    });
    let stages = s.require("stage", "at least one [[stage]]").and_then(|stages| {
        let mut input = stem.as_ref().map_or(0, |stem| stem.width);
        let mut stage = 0;
        stages.list(1..=64, "1 to 64 sections [[stage]]", |entry| {
            stage += 1;
            entry.section(|s| {
                let blocks = s.require("blocks", "a list of blocks")?;
                let mut block = 0;
                blocks.list(1..=64, "1 to 64 blocks", |entry| {
                    block += 1;
                    let read = entry.section(|s| read_block(s, format!("{stage}.{block}"), input));
                    input = read.as_ref().map_or(input, |block| block.width);
                    read
                })
            })
        })
    });
    let head = s.section("head", read_head);
    let (resolution, image_channels, classes, resize) = input?;
    let blocks = stages?.into_iter().flatten().collect();
    Some(ArchFile {
        name: name?,
        description: description?.unwrap_or_default().to_owned(),
        arch: ArchSpec { resolution, image_channels, classes, stem: stem?, blocks, head: head? },
        resize,
        published: published?,
    })
}

fn read_published(s: &Section<'_>) -> Option<Published> {
    let number = |key| {
        s.require(key, "a whole number").and_then(|value| value.whole_u64(1..=u64::from(u32::MAX)))
    };
    let percent = |key| s.optional(key, |value| value.real(0.0..=100.0));
    let (params, flops) = (number("params"), number("flops"));
    let unit = s.optional("rounded_to", |value| value.whole_u64(1..=1_000_000));
    let (top1, top5) = (percent("top1"), percent("top5"));
    let source = s.require("source", "where it was published");
    let source = source.and_then(|value| value.text("text in quotes"));
    Some(Published {
        params: params?,
        flops: flops?,
        rounded_to: unit?.unwrap_or(1),
        top1: top1?,
        top5: top5?,
        source: source?.to_owned(),
    })
}

fn width(s: &Section<'_>) -> Option<usize> {
    s.whole("width", 1..=MOST_CHANNELS)
}

/// The functions of a squeeze-excite, whose channels are given by another key.
fn read_functions(s: &Section<'_>) -> Option<SqueezeFunctions> {
    let activation = s.optional("squeeze_activation", |value| value.name(ACTIVATIONS));
    let gate = s.optional("gate", |value| value.name(GATES));
    let default = SqueezeFunctions::default();
    Some(SqueezeFunctions { activation: activation?, gate: gate?.unwrap_or(default.gate) })
}

/// A block with `input` input channels.
fn read_block(s: &Section<'_>, label: String, input: usize) -> Option<BlockSpec> {
    let op = s.name("op", BLOCKS);
    let width = width(s);
    let stride = match op {
        Some(BlockOp::Identity) => Some(1),
        _ => s.optional("stride", |value| value.whole(1..=8)).map(|stride| stride.unwrap_or(1)),
    };
    let kind = match op? {
        BlockOp::Identity => BlockKind::Identity,
        BlockOp::Projection => BlockKind::Projection,
        BlockOp::Residual => BlockKind::Residual,
        BlockOp::MbConv => {
            let (kernel, mid) = (s.whole("kernel", 3..=5), s.whole("mid", 1..=MOST_CHANNELS));
            let activation = s.name("activation", ACTIVATIONS);
            let squeeze = s.optional("squeeze", |value| value.whole(1..=MOST_CHANNELS));
            let functions = read_functions(s);
            let groups = s.optional("groups", |value| value.whole(1..=MOST_CHANNELS));
            let (expand, residual) =
                (s.optional("expand", Entry::flag), s.optional("residual", Entry::flag));
            let (mid, adds) = (mid?, stride? == 1 && width? == input);
            BlockKind::MbConv {
                kernel: kernel?,
                activation: activation?,
                mid,
                expand: expand?.unwrap_or(mid != input),
                squeeze: squeeze?,
                residual: residual?.unwrap_or(adds),
                groups: groups?.unwrap_or(1),
                squeeze_functions: functions?,
            }
        }
    };
    Some(BlockSpec { label, stride: stride?, width: width?, kind })
}

fn read_head(s: &Section<'_>) -> Option<Head> {
    let is_pooled = s.name("op", &[("conv", false), ("irpool", true)]);
    let (width, activation) = (width(s), s.name("activation", ACTIVATIONS));
    if !is_pooled? {
        return Some(Head::Conv { width: width?, activation: activation? });
    }
    let mid = s.whole("mid", 1..=MOST_CHANNELS);
    let squeeze = s.optional("squeeze", |value| value.whole(1..=MOST_CHANNELS));
    let functions = read_functions(s);
    let (squeeze, functions) = (squeeze?, functions?);
    let squeeze = squeeze.map(|width| HeadSqueeze { width, functions });
    Some(Head::IrPool { mid: mid?, width: width?, activation: activation?, squeeze })
}

fn write_file(file: &ArchFile, to: &mut String) -> std::fmt::Result {
    let ArchFile { name, description, arch, resize, published } = file;
    writeln!(to, "name = {}\ndescription = {}\n", quoted(name), quoted(description))?;
    writeln!(to, "[input]\nresolution = {}\nchannels = {}", arch.resolution, arch.image_channels)?;
    writeln!(to, "classes = {}", arch.classes)?;
    if let Some(resize) = resize {
        writeln!(to, "resize = {resize}")?;
    }
    if let Some(Published { params, flops, rounded_to, top1, top5, source }) = published {
        writeln!(to, "\n[published]\nparams = {params}\nflops = {flops}")?;
        writeln!(to, "rounded_to = {rounded_to}")?;
        for (key, value) in [("top1", top1), ("top5", top5)] {
            if let Some(value) = value {
                writeln!(to, "{key} = {value:?}")?;
            }
        }
        writeln!(to, "source = {}", quoted(source))?;
    }
    let ConvSpec { kernel, stride, width, activation } = arch.stem;
    writeln!(to, "\n[stem]\nkernel = {kernel}\nstride = {stride}\nwidth = {width}")?;
    writeln!(to, "activation = \"{activation}\"")?;
    let mut input = width;
    let stage_of = |block: &BlockSpec| block.label.split('.').next().map(str::to_owned);
    for blocks in arch.blocks.chunk_by(|a, b| stage_of(a) == stage_of(b)) {
        writeln!(to, "\n[[stage]]\nblocks = [")?;
        for block in blocks {
            writeln!(to, "  {{ {} }},", keys_of(block, input).join(", "))?;
            input = block.width;
        }
        writeln!(to, "]")?;
    }
    match &arch.head {
        Head::Conv { width, activation } => {
            writeln!(to, "\n[head]\nop = \"conv\"\nwidth = {width}\nactivation = \"{activation}\"")
        }
        Head::IrPool { mid, width, activation, squeeze } => {
            writeln!(to, "\n[head]\nop = \"irpool\"\nmid = {mid}\nwidth = {width}")?;
            writeln!(to, "activation = \"{activation}\"")?;
            let Some(HeadSqueeze { width, functions }) = squeeze else { return Ok(()) };
            let keys = [format!("squeeze = {width}")].into_iter().chain(functions_of(*functions));
            keys.into_iter().try_for_each(|key| writeln!(to, "{key}"))
        }
    }
}

/// The keys of a block with `input` input channels; those that have their defaults are left out.
fn keys_of(block: &BlockSpec, input: usize) -> Vec<String> {
    let BlockSpec { stride, width, kind, .. } = block;
    match kind {
        BlockKind::Identity => vec!["op = \"identity\"".to_owned(), format!("width = {width}")],
        BlockKind::Projection | BlockKind::Residual => {
            let op = if *kind == BlockKind::Residual { "residual" } else { "projection" };
            vec![format!("op = \"{op}\""), format!("stride = {stride}"), format!("width = {width}")]
        }
        BlockKind::MbConv {
            kernel,
            activation,
            mid,
            expand,
            squeeze,
            residual,
            groups,
            squeeze_functions,
        } => {
            let mut keys = vec![
                "op = \"mbconv\"".to_owned(),
                format!("kernel = {kernel}"),
                format!("stride = {stride}"),
                format!("mid = {mid}"),
                format!("width = {width}"),
                format!("activation = \"{activation}\""),
            ];
            keys.extend(squeeze.map(|squeeze| format!("squeeze = {squeeze}")));
            keys.extend(functions_of(*squeeze_functions));
            if *groups != 1 {
                keys.push(format!("groups = {groups}"));
            }
            if *expand != (*mid != input) {
                keys.push(format!("expand = {expand}"));
            }
            if *residual != (*stride == 1 && *width == input) {
                keys.push(format!("residual = {residual}"));
            }
            keys
        }
    }
}

fn functions_of(functions: SqueezeFunctions) -> Vec<String> {
    let SqueezeFunctions { activation, gate } = functions;
    let mut keys = Vec::new();
    keys.extend(activation.map(|activation| format!("squeeze_activation = \"{activation}\"")));
    if gate != SqueezeFunctions::default().gate {
        keys.push(format!("gate = \"{gate}\""));
    }
    keys
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
