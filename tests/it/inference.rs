//! The layers for inference: a batch equals its images one by one, and malformed layers are refused.

use crate::numbers::{assert_close, assert_refused, random, random_map, row, tensor, values};
use crate::reference;
use candle_core::{Device, Result, Tensor};
use repro::ops::depthwise::Expand;
use repro::ops::gpu::on_host;
use repro::ops::inference::{
    InferenceConv, InferenceInvertedResidual, InferenceLayer, InferenceNetwork, InferenceResidual,
};
use repro::ops::norm::Norm;
use repro::ops::project::SqueezeExciteWeights;
use repro::ops::update;
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
            gate: Activation::Hsigmoid,
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

/// Every kind of layer, from 3 channels to 10 numbers.
fn all_layers() -> Vec<InferenceLayer> {
    let inner = InferenceInvertedResidual { stride: 2, residual: false, ..block() };
    let narrow = InferenceLayer::Conv1x1 { w: weight("narrow", &[8, 8]), stride: 2, norm: norm(8) };
    let blocks = [block(), inner].map(|block| InferenceLayer::InvertedResidual(Box::new(block)));
    let [first, second] = blocks;
    let dense = InferenceLayer::Residual(Box::new(InferenceResidual {
        first: conv(8, 6, 2),
        second: conv(6, 8, 1),
    }));
    let [cut, pool, last] = [InferenceLayer::Cut { width: 5 }, InferenceLayer::Pool, linear(5, 10)];
    vec![layer(3, 8), first, second, dense, narrow, cut, pool, last]
}

/// 8 channels → `hidden` ones → 8 channels, with a 5x5 filter of this stride.
fn wider_block(hidden: usize, stride: usize) -> InferenceLayer {
    InferenceLayer::InvertedResidual(Box::new(InferenceInvertedResidual {
        expand: Some(Expand { w: weight("expand", &[8, hidden]), norm: norm(hidden), gram: None }),
        filter: weight("filter", &[25, hidden]),
        stride,
        norm: norm(hidden),
        squeeze_excite: None,
        project: weight("project", &[hidden, 8]),
        project_norm: norm(8),
        residual: stride == 1,
    }))
}

/// Threads share an image where there are fewer images than threads.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            on_host(|| {
                let layers = [layer(3, 8), wider_block(72, 1), block_layer(), wider_block(40, 2)];
                let images = random_map("images", (1, 40, 31, 3)).tensor();
                values(&network(&layers).unwrap().forward(&images).unwrap())
            })
        })
    };
    let alone = with(1);
    assert_eq!(with(2), alone);
    assert_eq!(with(4), alone);
}

fn block_layer() -> InferenceLayer {
    InferenceLayer::InvertedResidual(Box::new(block()))
}

/// On a GPU, the parts of the sums over pixels depend on the number of images.
#[test]
fn a_batch_equals_its_images_bit_for_bit_on_the_cpu() {
    // Maps of 50 KiB, so that a chunk is limited by its bytes, and a last chunk with fewer images.
    let images = random_map("images", (203, 40, 40, 3)).tensor();
    on_host(|| {
        let network = network(&all_layers()).unwrap();
        let together = network.forward(&images).unwrap();
        assert_eq!(together.dims(), [203, 10]);
        let together = values(&together);
        for (i, logits) in together.chunks(10).enumerate() {
            let alone = network.forward(&images.narrow(0, i, 1).unwrap()).unwrap();
            assert_eq!(values(&alone), logits, "image {i}");
        }
    });
}

/// On the emulator this compares the code for a GPU with the CPU's.
#[test]
fn both_devices_agree() {
    let check = |what: &str, layers: &[InferenceLayer], shape: (usize, usize, usize, usize)| {
        let images = random_map("images", shape).tensor();
        let found = network(layers).unwrap().forward(&images).unwrap();
        let expected = on_host(|| network(layers).unwrap().forward(&images).unwrap());
        assert_eq!(found.dims(), expected.dims(), "{what}");
        assert_close(what, &values(&found), &values(&expected), 1e-5);
    };
    check("all layers", &all_layers(), (3, 13, 11, 3));
    for (i, layer) in all_layers().into_iter().enumerate().skip(1).take(5) {
        check(&format!("layer {i}"), &[layer], (3, 9, 6, 8));
    }
    let without_squeeze = InferenceInvertedResidual { squeeze_excite: None, ..block() };
    let mut without_expand = block();
    without_expand.expand = None;
    without_expand.filter = weight("filter", &[25, 24]);
    let strided = InferenceInvertedResidual { stride: 3, residual: false, ..block() };
    for (what, block, c) in [
        ("without squeeze", without_squeeze, 8),
        ("without expand", without_expand, 24),
        ("stride 3", strided, 8),
    ] {
        check(what, &[InferenceLayer::InvertedResidual(Box::new(block))], (3, 9, 6, c));
    }
    // Rows of 7 and of 16 pixels, which the CPU's kernels take in groups, and an image that threads share.
    for (n, h, w) in [(2, 14, 7), (1, 40, 16)] {
        check(&format!("{h}x{w}"), &[block_layer()], (n, h, w, 8));
    }
    // One block of hidden channels beyond whole panels, and two.
    for (hidden, stride) in [(40, 2), (72, 1), (56, 1)] {
        check(&format!("{hidden} hidden channels"), &[wider_block(hidden, stride)], (2, 9, 11, 8));
    }
    // More channels than a block has threads, and a shortcut that has fewer than the output.
    let wide = InferenceResidual { first: conv(3, 2, 1), second: conv(2, 1030, 1) };
    check("wide", &[InferenceLayer::Residual(Box::new(wide))], (2, 2, 3, 3));
    let strided = InferenceLayer::Conv(conv(5, 7, 2));
    check("strided", &[strided], (2, 7, 4, 5));
}

/// The optimizer changes weights in place.
#[test]
fn a_network_keeps_its_weights() {
    for (i, layer) in all_layers().into_iter().enumerate() {
        let images = random_map("images", (2, 6, 6, [3, 8, 8, 8, 8, 8, 8, 5][i])).tensor();
        let network = network(std::slice::from_ref(&layer)).unwrap();
        let before = values(&network.forward(&images).unwrap());
        for tensor in tensors(&layer) {
            update::accumulate(tensor, &tensor.ones_like().unwrap()).unwrap();
        }
        assert_eq!(values(&network.forward(&images).unwrap()), before, "layer {i}");
    }
}

fn of_norm(norm: &Norm) -> [&Tensor; 4] {
    [&norm.mean, &norm.inverse, &norm.gamma, &norm.beta]
}

fn of_conv(conv: &InferenceConv) -> Vec<&Tensor> {
    [&[&conv.w][..], &of_norm(&conv.norm)].concat()
}

/// All operands of a layer.
fn tensors(layer: &InferenceLayer) -> Vec<&Tensor> {
    match layer {
        InferenceLayer::Conv(conv) => of_conv(conv),
        InferenceLayer::Conv1x1 { w, norm, .. } => [&[w][..], &of_norm(norm)].concat(),
        InferenceLayer::InvertedResidual(block) => {
            let (expand, se) =
                (block.expand.as_ref().unwrap(), block.squeeze_excite.as_ref().unwrap());
            let se = [&se.squeeze, &se.squeeze_bias, &se.excite, &se.excite_bias];
            let norms = [&expand.norm, &block.norm, &block.project_norm].map(of_norm);
            [&[&expand.w, &block.filter, &block.project], &se[..], &norms.concat()].concat()
        }
        InferenceLayer::Residual(block) => [of_conv(&block.first), of_conv(&block.second)].concat(),
        InferenceLayer::Cut { .. } | InferenceLayer::Pool => Vec::new(),
        InferenceLayer::SqueezeExcite(se) => {
            vec![&se.squeeze, &se.squeeze_bias, &se.excite, &se.excite_bias]
        }
        InferenceLayer::Linear { w, bias, .. } => vec![w, bias.as_ref().unwrap()],
    }
}

#[test]
fn pooled_features_are_squeezed_and_excited() {
    let (n, c, squeezed) = (3, 37, 5);
    let [w1, b1] = [random("squeeze", c * squeezed), random("squeeze bias", squeezed)];
    let [w2, b2] = [random("excite", squeezed * c), random("excite bias", c)];
    let layer = InferenceLayer::SqueezeExcite(SqueezeExciteWeights {
        squeeze: weight("squeeze", &[c, squeezed]),
        squeeze_bias: row(&b1),
        excite: weight("excite", &[squeezed, c]),
        excite_bias: row(&b2),
        mask: None,
        activation: Activation::Swish,
        gate: Activation::Sigmoid,
    });
    let images = random_map("images", (n, 2, 2, c));
    let found = network(&[InferenceLayer::Pool, layer]).unwrap();
    let found = values(&found.forward(&images.tensor()).unwrap());
    let pooled = reference::pool(&images);
    let inner = reference::convolve(&pooled, &w1, 1, 1, squeezed);
    let inner = inner.by_channel(|j, v| reference::activate(Activation::Swish, v + b1[j]));
    let gates = reference::convolve(&inner, &w2, 1, 1, c);
    let gates = gates.by_channel(|j, v| reference::activate(Activation::Sigmoid, v + b2[j]));
    let expected: Vec<f64> = pooled.data.iter().zip(&gates.data).map(|(a, g)| a * g).collect();
    assert_close("squeezed features", &found, &expected, 1e-5);
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
    let even = InferenceConv { w: weight("w", &[4, 3, 4]), kernel: 2, ..conv(3, 4, 1) };
    let even = InferenceResidual { first: even, second: conv(4, 3, 1) };
    refused(InferenceLayer::Residual(Box::new(even)), &["a kernel of a residual block is even"]);
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
    refused(&[InferenceLayer::Cut { width: 0 }], (2, 4, 4, 4), &["0 of 4 channels cannot be kept"]);
    let network = network(&[layer(3, 8)]).unwrap();
    assert_refused(network.forward(&row(&[0.0; 9])), &[]);
}
