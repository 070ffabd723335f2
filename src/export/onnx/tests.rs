use super::proto::{DimensionValue, GraphProto};
use super::*;
use crate::net::Network;
use crate::rng::Seed;
use crate::space::ArchFile;
use crate::trained::{TrainedNetwork, TrainingImages};
use crate::zoo;
use candle_core::Device;
use std::collections::BTreeSet;

fn images() -> TrainingImages {
    TrainingImages {
        classes: vec!["cat".to_owned(), "dog".to_owned()],
        mean: vec![0.5; 3],
        sd: vec![0.25; 3],
        seen_share: Some(1.0),
        side: None,
        run: Some(7),
    }
}

/// The network with initial weights.
fn trained(file: &ArchFile, images: Option<TrainingImages>) -> TrainedNetwork {
    let (net, params) = Network::of_arch(&file.arch, Seed(5), &Device::Cpu).unwrap();
    TrainedNetwork { file: file.clone(), net, params, images }
}

fn exported(network: &ArchFile, images: TrainingImages, fold: bool) -> ModelProto {
    let trained = trained(network, Some(images));
    let bytes = model(&Model::new(&trained).unwrap(), fold).unwrap();
    ModelProto::decode(&bytes[..]).unwrap()
}

fn graph(network: &ArchFile, fold: bool) -> GraphProto {
    exported(network, images(), fold).graph.unwrap()
}

fn operators(graph: &GraphProto) -> BTreeSet<&str> {
    graph.node.iter().map(|node| node.op_type.as_str()).collect()
}

#[test]
fn every_value_is_defined_once_before_it_is_read() {
    for name in zoo::names().filter(|name| name.starts_with("fbnet_a") || name.contains("mnv3")) {
        let network = zoo::network(name).unwrap();
        for fold in [false, true] {
            let graph = graph(&network, fold);
            let mut known: BTreeSet<&str> = BTreeSet::from(["input"]);
            for constant in &graph.initializer {
                assert!(known.insert(&constant.name), "{name}: {} twice", constant.name);
            }
            for node in &graph.node {
                for input in &node.input {
                    assert!(known.contains(input.as_str()), "{name}: {} reads {input}", node.name);
                }
                assert!(known.insert(&node.output[0]), "{name}: {} twice", node.output[0]);
            }
            assert!(known.contains("logits"));
        }
    }
}

#[test]
fn weights_are_those_of_the_state_dict() {
    let network = zoo::network("FBNetV2_F1").unwrap();
    let trained = trained(&network, None);
    let given = Model::new(&trained).unwrap();
    let graph = graph(&network, false);
    assert_eq!(graph.initializer.len(), given.state.len());
    for (name, tensor) in &given.state {
        let found = graph.initializer.iter().find(|constant| constant.name == *name).unwrap();
        let dims: Vec<i64> = tensor.dims().iter().map(|n| *n as i64).collect();
        assert_eq!(found.dims, dims, "{name}");
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert!(found.raw_data == bytes, "{name}");
    }
}

#[test]
fn a_folded_network_has_no_batch_norm() {
    let network = zoo::network("mnv3_small").unwrap();
    let (plain, folded) = (graph(&network, false), graph(&network, true));
    assert!(operators(&plain).contains("BatchNormalization"));
    assert!(!operators(&folded).contains("BatchNormalization"));
    let convs = |graph: &GraphProto| graph.node.iter().filter(|n| n.op_type == "Conv").count();
    assert_eq!(convs(&plain), convs(&folded));
}

#[test]
fn larger_images_are_subsampled() {
    let mut network = zoo::network("mnv3_small").unwrap();
    network.arch.resolution = 3;
    let file = exported(&network, TrainingImages { side: Some(7), ..images() }, true);
    let graph = file.graph.unwrap();
    let rows = graph.initializer.iter().find(|c| c.name == "input.rows.indices").unwrap();
    let expected: Vec<u8> = [0_i64, 2, 4].iter().flat_map(|i| i.to_le_bytes()).collect();
    assert_eq!(rows.raw_data, expected);
    let shape = graph.input[0].r#type.clone().unwrap().tensor_type.unwrap().shape.unwrap();
    let sizes: Vec<DimensionValue> = shape.dim.into_iter().map(|dim| dim.value.unwrap()).collect();
    let size = DimensionValue::Size;
    assert_eq!(sizes, [DimensionValue::Named("batch".to_owned()), size(3), size(7), size(7)]);
}

#[test]
fn the_metadata_say_what_the_network_is() {
    let network = zoo::network("eff_0").unwrap();
    let file = exported(&network, images(), true);
    let value = |key: &str| {
        file.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    assert_eq!(value("name"), Some("eff_0"));
    assert_eq!(value("arch_id"), Some(network.arch.id().as_str()));
    assert_eq!(value("classes"), Some(r#"["cat","dog"]"#));
    assert_eq!(value("mean"), Some("[0.5, 0.5, 0.5]"));
    assert_eq!(value("run"), Some("7"));
    assert_eq!(file.opset_import[0].version, OPSET);
}
