//! The layers for inference: a batch equals its images one by one, and malformed layers are refused.

use crate::numbers::{assert_refused, random, random_map, row, tensor, values};
use candle_core::{Device, Result, Tensor};
use repro::ops::depthwise::Expand;
use repro::ops::inference::{
    InferenceConv, InferenceInvertedResidual, InferenceLayer, InferenceNetwork, InferenceResidual,
};
use repro::ops::norm::Norm;
use repro::ops::project::SqueezeExciteWeights;
use repro::space::Activation;

fn weight(label: &str, shape: &[usize]) -> Tensor {
    tensor(&random(label, shape.iter().product()), shape)
}

fn norm(c: usize) -> Norm {
    Norm {
        mean: row(&random("mean", c)),
        inverse: row(&vec![0.8; c]),
        gamma: row(&random("gamma", c)),
        beta: row(&random("beta", c)),
        activation: Activation::Hswish,
    }
}

fn conv(c_in: usize, c_out: usize, stride: usize) -> InferenceConv {
    InferenceConv { w: weight("conv", &[9, c_in, c_out]), kernel: 3, stride, norm: norm(c_out) }
}

fn layer(c_in: usize, c_out: usize) -> InferenceLayer {
    InferenceLayer::Conv(conv(c_in, c_out, 1))
}

/// 8 channels → 24 hidden ones → 8 channels.
fn block() -> InferenceInvertedResidual {
    InferenceInvertedResidual {
        expand: Some(Expand { w: weight("expand", &[8, 24]), norm: norm(24), gram: None }),
        filter: weight("filter", &[9, 24]),
        stride: 1,
        norm: norm(24),
        squeeze_excite: Some(SqueezeExciteWeights {
            squeeze: weight("squeeze", &[24, 4]),
            squeeze_bias: row(&random("squeeze bias", 4)),
            excite: weight("excite", &[4, 24]),
            excite_bias: row(&random("excite bias", 24)),
            mask: None,
            activation: Activation::Relu,
        }),
        project: weight("project", &[24, 8]),
        project_norm: norm(8),
        residual: true,
    }
}

fn linear(c_in: usize, bias: usize) -> InferenceLayer {
    let bias = Some(row(&random("bias", bias)));
    InferenceLayer::Linear {
        w: weight("linear", &[c_in, 10]),
        bias,
        activation: Activation::Identity,
    }
}

fn network(layers: &[InferenceLayer]) -> Result<InferenceNetwork> {
    InferenceNetwork::new(layers, &Device::Cpu)
}

#[test]
fn a_batch_equals_its_images_bit_for_bit() {
    let inner = InferenceInvertedResidual { stride: 2, residual: false, ..block() };
    let narrow = InferenceLayer::Conv1x1 { w: weight("narrow", &[8, 8]), stride: 2, norm: norm(8) };
    let blocks = [block(), inner].map(|block| InferenceLayer::InvertedResidual(Box::new(block)));
    let [first, second] = blocks;
    let dense = InferenceLayer::Residual(Box::new(InferenceResidual {
        first: conv(8, 6, 2),
        second: conv(6, 8, 1),
    }));
    let [cut, pool, last] = [InferenceLayer::Cut { width: 5 }, InferenceLayer::Pool, linear(5, 10)];
    let layers = [layer(3, 8), first, second, dense, narrow, cut, pool, last];
    let network = network(&layers).unwrap();
    // Maps of 50 KiB, so that a chunk is limited by its bytes, and a last chunk with fewer images.
    let images = random_map("images", (203, 40, 40, 3)).tensor();
    let together = network.forward(&images).unwrap();
    assert_eq!(together.dims(), [203, 10]);
    let together = values(&together);
    for (i, logits) in together.chunks(10).enumerate() {
        let alone = network.forward(&images.narrow(0, i, 1).unwrap()).unwrap();
        assert_eq!(values(&alone), logits, "image {i}");
    }
}

#[test]
fn malformed_layers_are_refused() {
    let refused =
        |layer: InferenceLayer, words: &[&str]| assert_refused(network(&[layer]).map(drop), words);
    let stride =
        |stride| InferenceLayer::Conv1x1 { w: weight("w", &[3, 4]), stride, norm: norm(4) };
    assert!(network(&[stride(1)]).is_ok());
    refused(stride(0), &["inference", "stride of 0"]);
    let short = InferenceLayer::Conv1x1 { w: weight("w", &[3, 4]), stride: 1, norm: norm(5) };
    refused(short, &["inference: a mean", "5", "4"]);
    let taps = InferenceConv { w: weight("w", &[10, 3, 4]), ..conv(3, 4, 1) };
    refused(InferenceLayer::Conv(taps), &["10 taps at stride 1 are no 3x3 filter"]);
    refused(InferenceLayer::Conv(conv(3, 4, 0)), &["inference", "stride of 0"]);
    refused(linear(6, 9), &["inference: a bias", "9", "10"]);
    let residual = |spoil: &dyn Fn(&mut InferenceInvertedResidual), words: &[&str]| {
        let mut block = block();
        spoil(&mut block);
        refused(InferenceLayer::InvertedResidual(Box::new(block)), words);
    };
    residual(&|b| b.stride = 0, &["stride of 0"]);
    residual(&|b| b.norm = norm(23), &["inference: a mean", "23", "24"]);
    residual(&|b| b.project_norm = norm(9), &["inference: a mean", "9", "8"]);
    residual(&|b| b.project = weight("project", &[23, 8]), &["project: w", "23", "24"]);
    residual(&|b| b.filter = weight("filter", &[49, 24]), &["3x3 or 5x5", "49"]);
    residual(
        &|b| b.expand = Some(Expand { w: weight("expand", &[8, 23]), norm: norm(23), gram: None }),
        &["inference: the expansion", "23", "24"],
    );
    residual(
        &|b| b.squeeze_excite.as_mut().unwrap().excite_bias = row(&[0.0; 23]),
        &["the excitation's bias", "23", "24"],
    );
}

#[test]
fn images_of_other_shapes_are_refused() {
    let refused =
        |layers: &[InferenceLayer], shape: (usize, usize, usize, usize), words: &[&str]| {
            let images = random_map("images", shape).tensor();
            assert_refused(network(layers).unwrap().forward(&images), words);
        };
    let block = |spoil: &dyn Fn(&mut InferenceInvertedResidual)| {
        let mut block = block();
        spoil(&mut block);
        InferenceLayer::InvertedResidual(Box::new(block))
    };
    refused(&[layer(3, 8)], (2, 4, 4, 4), &["inference: a map has 4 channels", "reads 3"]);
    refused(&[layer(3, 8), linear(7, 10)], (2, 4, 4, 3), &["a map has 8 channels", "reads 7"]);
    refused(&[block(&|_| ())], (2, 4, 4, 7), &["a map has 7 channels", "reads 8"]);
    refused(&[block(&|b| b.stride = 2)], (2, 4, 4, 8), &["8 channels at stride 2 cannot add"]);
    refused(&[InferenceLayer::Cut { width: 5 }], (2, 4, 4, 4), &["5 of 4 channels cannot be kept"]);
    let network = network(&[layer(3, 8)]).unwrap();
    assert_refused(network.forward(&row(&[0.0; 9])), &[]);
}
