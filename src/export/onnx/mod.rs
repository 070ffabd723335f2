//! Networks as ONNX files of standard operators, for inference.
//!
//! Weights have the names of the published networks' state dicts ([`crate::net::LayerNames`]), and so do the
//! nodes. The same network gives the same bytes.

mod graph;
mod layers;
mod network;
pub mod proto;
#[cfg(test)]
mod tests;

use super::Model;
use crate::data::Normalisation;
use crate::env;
use candle_core::Result;
use prost::Message;
use proto::{IR_VERSION, ModelProto, OPSET, OperatorSetIdProto, StringStringEntryProto};
use serde_json::json;

/// The bytes of an ONNX file: `input` `[batch, channels, side, side]`, normalised → `logits`
/// `[batch, classes]`. With `fold`, batch norm is folded into the convolutions.
///
/// # Errors
/// When the weights are not those of the network.
pub fn model(model: &Model<'_>, fold: bool) -> Result<Vec<u8>> {
    let graph = network::graph(model.arch(), model.trained.side(), &model.state, fold)?;
    let file = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "repro".to_owned(),
        producer_version: env::program_version().to_owned(),
        doc_string: model.network().description.clone(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata(model),
    };
    Ok(file.encode_to_vec())
}

/// What a program needs to know to use the network. Lists are JSON.
fn metadata(model: &Model<'_>) -> Vec<StringStringEntryProto> {
    let network = model.network();
    let mut entries = vec![("name", network.name.clone()), ("arch_id", network.arch.id())];
    if !model.classes().is_empty() {
        entries.push(("classes", json!(model.classes()).to_string()));
    }
    if let Some(Normalisation { mean, sd }) = model.normalisation() {
        entries.push(("mean", format!("{mean:?}")));
        entries.push(("sd", format!("{sd:?}")));
    }
    entries.push(("resize", model.trained.resize().to_string()));
    entries.extend(model.run().map(|run| ("run", run.to_string())));
    entries.push(("program", env::program_version().to_owned()));
    let entry =
        |(key, value): (&str, String)| StringStringEntryProto { key: key.to_owned(), value };
    entries.into_iter().map(entry).collect()
}
