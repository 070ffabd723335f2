//! Networks as PyTorch source: one Python file that builds the network, for a safetensors file beside it.
//!
//! The file has three parts: its head, the network as constants, and the layers that build it from them.
//! Parameters have the names of the published networks' state dicts ([`crate::net::LayerNames`]).

use super::Model;
use crate::data::Normalisation;
use crate::env;
use crate::net::LayerNames;
use crate::space::{Activation, BlockKind, BlockSpec, ConvSpec, Head, SqueezeFunctions};
use candle_core::{Result, bail};
use serde_json::json;
use std::fmt::Write;

const HEAD: &str = include_str!("head.py");
const BODY: &str = include_str!("body.py");

/// The text of the Python file.
///
/// # Errors
/// When the label of a block is not of the form `stage.block`.
pub fn source(model: &Model<'_>) -> Result<String> {
    Ok(format!("{HEAD}{}\n{BODY}", constants(model)?))
}

fn constants(model: &Model<'_>) -> Result<String> {
    let (network, arch) = (model.network(), model.arch());
    let (mean, sd) = match model.normalisation() {
        Some(Normalisation { mean, sd }) => (format!("{mean:?}"), format!("{sd:?}")),
        None => ("None".to_owned(), "None".to_owned()),
    };
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    line(&format!("NAME = {}", quoted(&network.name)));
    line(&format!("DESCRIPTION = {}", quoted(&network.description)));
    line(&format!("ARCH_ID = {}", quoted(&arch.id())));
    line(&format!("PROGRAM = {}", quoted(env::program_version())));
    line(&format!("RUN = {}", model.run().map_or("None".to_owned(), |run| run.to_string())));
    line("");
    line("# The side of the input images in pixels.");
    line(&format!("SIDE = {}", model.trained.side()));
    line(
        "# Larger images are subsampled to RESOLUTION if the network was trained so; otherwise the network",
    );
    line("# sees every pixel of images of any side.");
    line(&format!("RESOLUTION = {}", arch.resolution));
    line(&format!("SUBSAMPLES = {}", python_bool(model.trained.images.is_some())));
    line(&format!("CHANNELS = {}", arch.image_channels));
    line(
        "# The input is (pixel / 255 - MEAN) / SD, per channel: as in training, or ImageNet's mean and standard",
    );
    line(
        "# deviation where the weights do not say how they were trained; None for other channels.",
    );
    line(&format!("MEAN = {mean}"));
    line(&format!("SD = {sd}"));
    line("# The shorter side is resized to this many pixels before the centre is cropped.");
    line(&format!("RESIZE = {}", model.trained.resize()));
    line(&format!("NUM_CLASSES = {}", arch.classes));
    line("# Their names, as far as they are known.");
    let classes: Vec<String> = model.classes().iter().map(|class| quoted(class)).collect();
    line(&format!("CLASSES = [{}]", classes.join(", ")));
    line("");
    let ConvSpec { kernel, stride, width, activation } = arch.stem;
    line(&format!(
        "STEM = dict(c_out={width}, kernel={kernel}, stride={stride}, activation=\"{activation}\")"
    ));
    line("BLOCKS = [");
    for block in &arch.blocks {
        line(&format!("    ({}),", block_entry(block)?));
    }
    line("]");
    let stage = LayerNames::of(arch).head_stage();
    line(&format!("HEAD = (\"{stage}\", {})\n", head_entry(&arch.head)));
    Ok(text)
}

/// The name of the block's module, its type and its arguments.
fn block_entry(block: &BlockSpec) -> Result<String> {
    let BlockSpec { label, stride, width, kind } = block;
    let Some(stage) = LayerNames::stage(label) else {
        bail!("block {label:?} has no number of the form stage.block")
    };
    let (name, arguments) = match kind {
        BlockKind::Identity => ("identity", format!("width={width}")),
        BlockKind::Projection => ("projection", format!("width={width}, stride={stride}")),
        BlockKind::Residual => ("residual", format!("width={width}, stride={stride}")),
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
            let mut text = format!(
                "width={width}, stride={stride}, kernel={kernel}, mid={mid}, \
                 activation=\"{activation}\""
            );
            for (argument, is_given) in [
                (", expand=False".to_owned(), !expand),
                (", residual=True".to_owned(), *residual),
                (format!(", groups={groups}"), *groups > 1),
            ] {
                text.push_str(if is_given { &argument } else { "" });
            }
            if let Some(width) = squeeze {
                let squeeze = squeeze_argument(*width, *squeeze_functions, *activation);
                // Writing to a string cannot fail.
                let _ = write!(text, ", {squeeze}");
            }
            ("mbconv", text)
        }
    };
    Ok(format!("\"{stage}\", \"{name}\", dict({arguments})"))
}

fn squeeze_argument(width: usize, functions: SqueezeFunctions, block: Activation) -> String {
    let (activation, gate) = (functions.activation.unwrap_or(block), functions.gate);
    format!("squeeze=dict(width={width}, activation=\"{activation}\", gate=\"{gate}\")")
}

fn head_entry(head: &Head) -> String {
    match head {
        Head::Conv { width, activation } => {
            format!("\"conv\", dict(width={width}, activation=\"{activation}\")")
        }
        Head::IrPool { mid, width, activation, squeeze } => {
            let squeeze = squeeze.map_or(String::new(), |squeeze| {
                let squeeze = squeeze_argument(squeeze.width, squeeze.functions, *activation);
                format!(", {squeeze}")
            });
            format!(
                "\"irpool\", dict(mid={mid}, width={width}, activation=\"{activation}\"{squeeze})"
            )
        }
    }
}

fn python_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// Text as a Python literal, which JSON's are too.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}
