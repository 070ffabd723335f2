//! Networks on the tape against plain f64: logits in every kind of pass, and the gradients of the training
//! loss in all parameters and gates against finite differences.

use crate::harness::{named_gradients, scrambled_net};
use crate::numbers::{
    assert_close, assert_gradient, loss_of, random_map, scramble, values, weights,
};
use crate::reference::{Gates, Map, Reference, Statistics, Weights, cross_entropy, network_gates};
use crate::spaces::{
    dense, gate_values, own_input, random_probabilities, small, sparse, unexpanded,
};
use candle_core::Device;
use repro::net::{GateValues, GatedNetwork as _, NetGates, Supernet};
use repro::nn::{Params, Pass};
use repro::recipe::MaskPlace;
use repro::rng::Seed;
use repro::space::{
    Activation, ArchSpec, BlockKind, BlockSpec, ConvSpec, Head, HeadSqueeze, NetworkPlan,
    SearchSpace, SqueezeFunctions,
};

/// The tolerance of values behind a dozen f32 layers with batch norm.
const VALUE: f64 = 1e-3;
const SLOPE: (f64, f64) = (2e-3, 1e-3);
/// Batch norm divides masks before it out again, so gradients are small differences of large numbers.
const SLOPE_BEFORE_NORM: (f64, f64) = (2e-3, 2e-2);
const SMOOTHING: f64 = 0.1;

fn labels(images: &Map, classes: usize) -> Vec<u32> {
    (0..images.n).map(|i| ((i * 3 + 1) % classes) as u32).collect()
}

fn plain_loss(plan: &NetworkPlan, weights: &Weights, images: &Map, gates: &Gates) -> f64 {
    let logits = Reference::new(weights, Statistics::Batch).net(plan, images, gates);
    cross_entropy(&logits, &labels(images, plan.classes), SMOOTHING)
}

fn check_weights(
    what: &str,
    plan: &NetworkPlan,
    weights: &Weights,
    images: &Map,
    gates: &Gates,
    found: &[(String, Vec<f64>)],
    slope: (f64, f64),
) {
    let trained = weights.keys().filter(|name| !name.contains(".running_")).count();
    assert_eq!(found.len(), trained, "{what}");
    for (name, gradient) in found {
        let at = &weights[name];
        assert_gradient(&format!("{what}, {name}"), gradient, at, 1, slope, |moved| {
            let mut weights = weights.clone();
            weights.insert(name.clone(), moved.to_vec());
            plain_loss(plan, &weights, images, gates)
        });
    }
}

fn irpool_arch() -> ArchSpec {
    let mbconv =
        |label: &str, stride, width, kernel, activation, mid, expand, squeeze, residual| {
            let kind = BlockKind::MbConv {
                kernel,
                activation,
                mid,
                expand,
                squeeze,
                residual,
                groups: 1,
                squeeze_functions: SqueezeFunctions::default(),
            };
            BlockSpec { label: label.to_owned(), stride, width, kind }
        };
    let other = |label: &str, stride, width, kind| BlockSpec {
        label: label.to_owned(),
        stride,
        width,
        kind,
    };
    ArchSpec {
        resolution: 11,
        image_channels: 3,
        classes: 5,
        stem: ConvSpec { kernel: 3, stride: 2, width: 6, activation: Activation::Hswish },
        blocks: vec![
            mbconv("1.1", 1, 6, 3, Activation::Relu, 6, false, None, true),
            mbconv("2.1", 2, 8, 5, Activation::Hswish, 20, true, Some(5), false),
            mbconv("2.2", 1, 8, 3, Activation::Hswish, 12, true, Some(3), true),
            other("2.3", 1, 8, BlockKind::Identity),
            other("2.4", 1, 7, BlockKind::Identity),
            other("3.1", 2, 9, BlockKind::Projection),
            mbconv("3.2", 1, 10, 5, Activation::Relu, 17, true, None, false),
        ],
        head: Head::IrPool { mid: 18, width: 11, activation: Activation::Hswish, squeeze: None },
    }
}

fn conv_arch() -> ArchSpec {
    ArchSpec { head: Head::Conv { width: 19, activation: Activation::Relu }, ..irpool_arch() }
}

/// What only some published networks have: groups with a channel shuffle, and other functions.
fn variants_arch() -> ArchSpec {
    let functions =
        SqueezeFunctions { activation: Some(Activation::Relu), gate: Activation::Sigmoid };
    let block = |label: &str, (stride, width), mid, expand, groups, residual| BlockSpec {
        label: label.to_owned(),
        stride,
        width,
        kind: BlockKind::MbConv {
            kernel: 3,
            activation: Activation::Swish,
            mid,
            expand,
            squeeze: Some(4),
            residual,
            groups,
            squeeze_functions: functions,
        },
    };
    let blocks = vec![
        block("1.1", (1, 6), 6, false, 2, true),
        block("2.1", (2, 8), 12, true, 2, false),
        block("2.2", (1, 8), 16, true, 4, true),
    ];
    let squeeze = Some(HeadSqueeze { width: 3, functions });
    let head = Head::IrPool { mid: 18, width: 11, activation: Activation::Swish, squeeze };
    ArchSpec { blocks, head, ..irpool_arch() }
}

/// Residual blocks wider, narrower and as wide as their input.
fn dense_arch() -> ArchSpec {
    let block = |label: &str, stride, width| BlockSpec {
        label: label.to_owned(),
        stride,
        width,
        kind: BlockKind::Residual,
    };
    let blocks =
        vec![block("1.1", 1, 9), block("2.1", 2, 5), block("2.2", 1, 5), block("3.1", 2, 8)];
    ArchSpec { blocks, ..conv_arch() }
}

/// Residual blocks with a full block of lanes and more.
fn wide_arch() -> ArchSpec {
    let block = |label: &str, stride, width, kernel, mid, squeeze, residual| BlockSpec {
        label: label.to_owned(),
        stride,
        width,
        kind: BlockKind::MbConv {
            kernel,
            activation: Activation::Hswish,
            mid,
            expand: true,
            squeeze,
            residual,
            groups: 1,
            squeeze_functions: SqueezeFunctions::default(),
        },
    };
    let blocks = vec![
        block("1.1", 1, 36, 5, 52, None, false),
        block("1.2", 1, 36, 3, 33, Some(9), true),
        block("2.1", 2, 16, 5, 48, Some(4), false),
        block("2.2", 1, 16, 5, 17, None, true),
    ];
    ArchSpec { blocks, ..conv_arch() }
}

#[test]
fn derived_network_has_correct_gradients() {
    let archs = [
        ("irpool", irpool_arch()),
        ("conv", conv_arch()),
        ("dense", dense_arch()),
        ("variants", variants_arch()),
    ];
    for (what, arch) in archs {
        let plan = NetworkPlan::derived(&arch);
        let (net, mut params) = scrambled_net(&plan, what);
        let images = random_map("images", (3, 11, 11, 3));
        let weights = weights(&params);
        let mut pass = Pass::training(&mut params);
        let logits = net.forward(&mut pass, &images.tensor()).unwrap();
        let expected =
            Reference::new(&weights, Statistics::Batch).net(&plan, &images, &Gates::default());
        assert_close(what, &values(logits.tensor()), &expected, VALUE);
        let labels = labels(&images, arch.classes);
        let result = loss_of(logits.tensor(), &labels, SMOOTHING).unwrap();
        let (gradients, _) = pass.backward(&logits, result.dlogits).unwrap();
        let found: Vec<(String, Vec<f64>)> = named_gradients(&params, &gradients)
            .into_iter()
            .map(|(name, g)| (name, values(&g)))
            .collect();
        check_weights(what, &plan, &weights, &images, &Gates::default(), &found, SLOPE);
    }
}

#[test]
fn inference_reads_running_statistics_only() {
    let narrow = [("irpool", irpool_arch()), ("conv", conv_arch()), ("dense", dense_arch())];
    for (what, arch) in
        narrow.into_iter().chain([("wide", wide_arch()), ("variants", variants_arch())])
    {
        let plan = NetworkPlan::derived(&arch);
        let (net, mut params) = scrambled_net(&plan, what);
        let before = params.sha256().unwrap();
        let images = random_map("images", (3, 11, 11, 3));
        let mut pass = Pass::inference(&mut params);
        let logits = net.forward(&mut pass, &images.tensor()).unwrap();
        let weights = weights(&params);
        let expected =
            Reference::new(&weights, Statistics::Running).net(&plan, &images, &Gates::default());
        assert_close(what, &values(logits.tensor()), &expected, VALUE);
        let frozen = net.freeze(&params).unwrap().forward(&images.tensor()).unwrap();
        assert_close(what, &values(&frozen), &expected, VALUE);
        assert_eq!(params.sha256().unwrap(), before);
    }
}

#[test]
fn frozen_outputs_do_not_depend_on_the_batch() {
    let plan = NetworkPlan::derived(&irpool_arch());
    let (net, params) = scrambled_net(&plan, "company");
    let frozen = net.freeze(&params).unwrap();
    // Chunks of two and of three images; the last one is short.
    for n in [17, 33] {
        let images = random_map("images", (n, 11, 11, 3));
        let together = values(&frozen.forward(&images.tensor()).unwrap());
        let expected = Reference::new(&weights(&params), Statistics::Running).net(
            &plan,
            &images,
            &Gates::default(),
        );
        assert_close("company", &together, &expected, VALUE);
        let classes = together.len() / n;
        for (i, row) in together.chunks_exact(classes).enumerate() {
            let alone = images.tensor().narrow(0, i, 1).unwrap().contiguous().unwrap();
            assert_eq!(values(&frozen.forward(&alone).unwrap()), row, "image {i} of {n}");
        }
    }
}

#[test]
fn freezing_refuses_supernets_and_wrong_maps() {
    let s = GatedRun::new(small(), "freeze");
    let (net, params) = scrambled_net(&s.plan, "freeze");
    let error = net.freeze(&params).err().unwrap().to_string();
    assert!(error.contains("not decided"), "{error}");
    let (net, params) = scrambled_net(&NetworkPlan::derived(&irpool_arch()), "freeze");
    let images = random_map("images", (2, 11, 11, 4)).tensor();
    let error = net.freeze(&params).unwrap().forward(&images).err().unwrap().to_string();
    assert!(error.contains("reads"), "{error}");
}

#[test]
fn running_statistics_follow_the_batch() {
    let plan = NetworkPlan::derived(&irpool_arch());
    let (net, mut params) = scrambled_net(&plan, "statistics");
    let (before, images) = (weights(&params), random_map("images", (3, 11, 11, 3)));
    net.forward(&mut Pass::training(&mut params), &images.tensor()).unwrap();
    let after = weights(&params);
    let reference = Reference::new(&before, Statistics::Batch);
    reference.net(&plan, &images, &Gates::default());
    let seen = reference.seen.borrow();
    assert_eq!(seen.len(), before.keys().filter(|n| n.ends_with(".running_mean")).count());
    for (name, m) in seen.iter() {
        let mean = format!("{name}.running_mean");
        let moved = before[&mean].iter().zip(&m.mean).map(|(a, b)| 0.9 * a + 0.1 * b);
        assert_close(&mean, &after[&mean], &moved.collect::<Vec<_>>(), VALUE);
    }
}

struct GatedRun {
    space: SearchSpace,
    plan: NetworkPlan,
    net: Supernet,
    params: Params,
    images: Map,
    gates: NetGates,
    place: MaskPlace,
}

impl GatedRun {
    fn new(space: SearchSpace, label: &str) -> Self {
        let (net, mut params) = Supernet::new(&space, Seed(1), &Device::Cpu).unwrap();
        scramble(&mut params, label);
        let side = space.max_resolution();
        let images = random_map("images", (2, side, side, space.image_channels));
        let mut gates = gate_values(&space, &random_probabilities(&space, label));
        for (i, gate) in gates.blocks.iter_mut().enumerate() {
            // An arbitrary ρ, to check that it is used as given.
            if gate.identity != 0.0 {
                gate.identity += 0.1 * (i + 1) as f64;
            }
        }
        let place = MaskPlace::AfterNorm;
        Self { plan: NetworkPlan::supernet(&space), space, net, params, images, gates, place }
    }

    fn masked(self, place: MaskPlace) -> Self {
        Self { net: self.net.masked(place), place, ..self }
    }

    fn slope(&self) -> (f64, f64) {
        if self.place == MaskPlace::AfterNorm { SLOPE } else { SLOPE_BEFORE_NORM }
    }

    fn plain_gates(&self, gates: &NetGates) -> Gates {
        network_gates(&self.space, gates, self.place)
    }

    fn loss_at(&self, weights: &Weights, gates: &NetGates) -> f64 {
        plain_loss(&self.plan, weights, &self.images, &self.plain_gates(gates))
    }

    /// Compares the gradient of every gate.
    fn check_gates(&self, what: &str, weights: &Weights, found: &NetGates) {
        type Part = fn(&mut GateValues) -> Vec<&mut f64>;
        let parts: [(&str, Part); 4] = [
            ("types", |g| g.types.iter_mut().collect()),
            ("expansions", |g| g.expansions.iter_mut().collect()),
            ("widths", |g| g.widths.iter_mut().collect()),
            ("identity", |g| vec![&mut g.identity]),
        ];
        for i in 0..self.gates.blocks.len() {
            for (name, part) in parts {
                let numbers = |mut gate: GateValues| -> Vec<f64> {
                    part(&mut gate).into_iter().map(|v| *v).collect()
                };
                let what = format!("{what}, block {i}, {name}");
                let (found, at) =
                    (numbers(found.blocks[i].clone()), numbers(self.gates.blocks[i].clone()));
                assert_gradient(&what, &found, &at, 2, self.slope(), |moved| {
                    let mut gates = self.gates.clone();
                    for (to, from) in part(&mut gates.blocks[i]).into_iter().zip(moved) {
                        *to = *from;
                    }
                    self.loss_at(weights, &gates)
                });
            }
        }
        if self.space.resolutions.len() > 1 {
            let (found, at) = (&found.resolutions, &self.gates.resolutions);
            assert_gradient(&format!("{what}, resolutions"), found, at, 2, self.slope(), |moved| {
                let gates = NetGates { resolutions: moved.to_vec(), ..self.gates.clone() };
                self.loss_at(weights, &gates)
            });
        }
    }
}

#[test]
fn supernet_has_correct_gradients() {
    assert_correct_gradients(&[small(), sparse(), unexpanded(), dense()]);
}

#[test]
fn gradients_go_through_expansions_and_input_widths() {
    assert_correct_gradients(&[own_input()]);
}

fn assert_correct_gradients(spaces: &[SearchSpace]) {
    let places = [MaskPlace::AfterNorm, MaskPlace::BeforeNorm];
    for (space, place) in spaces.iter().flat_map(|s| places.map(|place| (s.clone(), place))) {
        let what = format!("{}, {place:?}", space.name);
        let what = what.as_str();
        let mut s = GatedRun::new(space, what).masked(place);
        let weights = weights(&s.params);
        let labels = labels(&s.images, s.space.classes);
        let gates = s.plain_gates(&s.gates);
        let expected = Reference::new(&weights, Statistics::Batch).net(&s.plan, &s.images, &gates);

        let mut pass = Pass::training(&mut s.params);
        let (logits, bound) = s.net.forward(&mut pass, &s.images.tensor(), &s.gates, true).unwrap();
        assert_close(what, &values(logits.tensor()), &expected, VALUE);
        let result = loss_of(logits.tensor(), &labels, SMOOTHING).unwrap();
        let (gradients, mut others) = pass.backward(&logits, result.dlogits).unwrap();
        let by_gates = s.net.gate_gradients(&bound, &mut others).unwrap();
        let found: Vec<(String, Vec<f64>)> = named_gradients(&s.params, &gradients)
            .into_iter()
            .map(|(name, g)| (name, values(&g)))
            .collect();
        check_weights(what, &s.plan, &weights, &s.images, &gates, &found, s.slope());
        s.check_gates(what, &weights, &by_gates);
    }
}

#[test]
fn frozen_pass_has_gate_gradients_only() {
    let mut s = GatedRun::new(small(), "frozen");
    let weights = weights(&s.params);
    let labels = labels(&s.images, s.space.classes);
    let mut pass = Pass::frozen(&mut s.params);
    let (logits, bound) = s.net.forward(&mut pass, &s.images.tensor(), &s.gates, true).unwrap();
    let result = loss_of(logits.tensor(), &labels, SMOOTHING).unwrap();
    let (gradients, mut others) = pass.backward(&logits, result.dlogits).unwrap();
    assert!(gradients.iter().all(Option::is_none));
    let by_gates = s.net.gate_gradients(&bound, &mut others).unwrap();
    s.check_gates("frozen", &weights, &by_gates);
}

#[test]
fn gates_have_no_gradient_unless_requested() {
    let mut s = GatedRun::new(small(), "unwanted");
    let mut pass = Pass::training(&mut s.params);
    let (logits, bound) = s.net.forward(&mut pass, &s.images.tensor(), &s.gates, false).unwrap();
    let ones = logits.tensor().ones_like().unwrap();
    let (_, mut others) = pass.backward(&logits, ones).unwrap();
    let found = s.net.gate_gradients(&bound, &mut others).unwrap();
    assert!(found.resolutions.iter().all(|g| *g == 0.0));
    for gate in found.blocks {
        let all = gate.types.iter().chain(&gate.expansions).chain(&gate.widths);
        assert!(all.chain([&gate.identity]).all(|g| *g == 0.0));
    }
}

#[test]
fn supernet_inference_uses_running_statistics() {
    let mut s = GatedRun::new(small(), "inference");
    let mut pass = Pass::inference(&mut s.params);
    let (logits, _) = s.net.forward(&mut pass, &s.images.tensor(), &s.gates, false).unwrap();
    let found = values(logits.tensor());
    let (weights, gates) = (weights(&s.params), s.plain_gates(&s.gates));
    let expected = Reference::new(&weights, Statistics::Running).net(&s.plan, &s.images, &gates);
    assert_close("supernet", &found, &expected, VALUE);
}
