//! Searches where the right answer is known, because it was planted in the data: every gradient method finds it, and
//! none does when α moves along its gradient instead of against it.
//!
//! All cases share the settings of `experiments/smoke.toml` with those of [`SETTINGS`]. Each has tiny images that this
//! test draws, one block, and options of which one is right.

mod images;

use crate::spaces::parse;
use candle_core::Device;
use images::Pattern;
use repro::cost;
use repro::data::Dataset;
use repro::manifest::{self, Manifest, Overrides};
use repro::monitor::{Checkpoints, Monitor};
use repro::net::Network;
use repro::progress::Quiet;
use repro::recipe::{LossForm, Method};
use repro::record::Recorder;
use repro::rng::Seed;
use repro::search::{SearchData, search};
use repro::space::{BlockDecision, Decisions, SearchSpace};
use repro::train::{self, TrainingRun};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Half of the images train α, so that it takes as many steps as the weights.
const SETTINGS: [&str; 10] = [
    "search.epochs=12",
    "search.warmup_epochs=3",
    "search.batch_size=16",
    "search.weight_share=0.5",
    "search.augment.flip=false",
    "search.alpha.learning_rate=0.1",
    "search.temperature.decay=0.7",
    "search.images=320",
    "train.augment.flip=false",
    "train.epochs=12",
];
const IMAGES: usize = 320;
const SEEDS: u64 = 10;
/// Of ten searches.
const RECOVERED: usize = 9;
/// Fewer searches than this find the answer when the gradient's sign is turned.
const LOST: usize = 5;

/// A case: images, options, and the right one.
struct Planted {
    space: SearchSpace,
    dataset: Dataset,
    loss: LossForm,
    is_right: fn(&SearchSpace, &Decisions) -> bool,
}

/// Keeps nothing.
struct Nothing;

impl Recorder for Nothing {
    fn measure(&mut self, _: u64, _: &[(repro::record::Metric, f64)]) -> anyhow::Result<()> {
        Ok(())
    }
}

fn settings(method: &str) -> Manifest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
    let method = format!("search.method={method}");
    let sets = SETTINGS.into_iter().chain([&*method]).map(str::to_owned).collect();
    manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap_or_else(|e| panic!("{e}"))
}

/// The method with this loss. With `sign` -1, α moves along the gradient.
fn method(manifest: &Manifest, form: LossForm, sign: f64) -> Method {
    let mut method = manifest.search().unwrap().methods[0];
    let (Method::Dmasking { alpha, .. } | Method::Dnas { alpha, .. } | Method::Darts { alpha, .. }) =
        &mut method
    else {
        panic!("{method:?}")
    };
    alpha.loss.form = form;
    alpha.optimizer.learning_rate *= sign;
    method
}

impl Planted {
    fn search(&self, manifest: &Manifest, sign: f64, seed: u64) -> Decisions {
        let (mut log, stop) = (Nothing, AtomicBool::new(false));
        let indices: Vec<usize> = (0..IMAGES).collect();
        let images = SearchData { dataset: &self.dataset, indices: &indices, device: &Device::Cpu };
        let checkpoints = &mut Checkpoints::none();
        let mut monitor =
            Monitor { recorder: &mut log, progress: &Quiet, stop: &stop, checkpoints };
        let config = &manifest.search().unwrap().config;
        let method = method(manifest, self.loss, sign);
        search(&self.space, images, &method, config, Seed(seed), &mut monitor).unwrap().decisions
    }

    /// How many searches find the planted option.
    fn found(&self, name: &str, sign: f64) -> usize {
        let manifest = settings(name);
        (1..=SEEDS)
            .filter(|seed| (self.is_right)(&self.space, &self.search(&manifest, sign, *seed)))
            .count()
    }

    fn assert_found_by(&self, methods: &[&str]) {
        for name in methods {
            let (found, turned) = (self.found(name, 1.0), self.found(name, -1.0));
            assert!(found >= RECOVERED, "{name} finds it in {found} of {SEEDS} searches");
            assert!(turned < LOST, "{name} finds it in {turned} searches with the sign turned");
        }
    }

    /// The accuracy of one network, trained alone, on other images.
    fn alone(&self, decisions: &Decisions) -> f64 {
        let manifest = settings("dmasking");
        let arch = self.space.decide(decisions);
        let (net, mut params) = Network::of_arch(&arch, Seed(1), &Device::Cpu).unwrap();
        let (mut log, stop) = (Nothing, AtomicBool::new(false));
        let checkpoints = &mut Checkpoints::none();
        let mut monitor =
            Monitor { recorder: &mut log, progress: &Quiet, stop: &stop, checkpoints };
        let images: Vec<usize> = (0..IMAGES).collect();
        let training = TrainingRun {
            net: &net,
            dataset: &self.dataset,
            images: &images,
            validation: &[],
            config: &manifest.train,
            seed: Seed(1),
            label: "train",
            stage: "train",
        };
        train::train(&training, &mut params, &mut monitor).unwrap();
        let test = (&self.dataset.test, (0..self.dataset.test.len()).collect());
        train::evaluate(&net, &params, &self.dataset, test, 32, &stop).unwrap().top1
    }
}

/// A space with this input, stem kernel, and stage.
fn space(input: &str, kernel: usize, stage: &str) -> SearchSpace {
    parse(&format!(
        "name = 'planted'\nchannel_divisor = 1\n\
         [input]\n{input}\n\
         [stem]\nkernel = {kernel}\nstride = 1\nwidth = 8\nactivation = 'relu'\n\
         [[stage]]\nblocks = 1\nstride = 1\n{stage}\n\
         [head]\nwidth = 24\nactivation = 'relu'\n"
    ))
}

fn first(decisions: &Decisions) -> BlockDecision {
    decisions.blocks[0]
}

/// The network of these choices of its only block.
fn network(resolution: usize, block_type: usize, width: usize) -> Decisions {
    Decisions { resolution, blocks: vec![BlockDecision { block_type, expansion: 0, width }] }
}

const GRADIENT: [&str; 3] = ["dmasking", "dnas", "darts"];
/// Hardly any.
const NO_COST: LossForm = LossForm::Linear { lambda: 1e-9 };

/// Stripes of one pixel with a random phase: every second pixel of them is one colour.
fn stripes() -> Planted {
    let input = "resolutions = [4, 8]\nchannels = 1\nclasses = 2";
    Planted {
        space: space(input, 3, "expansion = 2\nwidth = 8\ntypes = ['k3_relu']"),
        dataset: images::dataset(Pattern::Stripes),
        loss: NO_COST,
        is_right: |_, decisions| decisions.resolution == 1,
    }
}

#[test]
fn the_resolution_that_shows_the_classes_is_found() {
    let planted = stripes();
    let (low, high) = (planted.alone(&network(0, 0, 0)), planted.alone(&network(1, 0, 0)));
    assert!(low < 0.65 && high > 0.9, "trained alone: {low} and {high}");
    planted.assert_found_by(&GRADIENT);
}

/// Pixels that agree or disagree with those four columns on, which one 3x3 filter cannot see.
fn distant() -> Planted {
    let input = "resolutions = [12]\nchannels = 1\nclasses = 2";
    Planted {
        space: space(input, 1, "expansion = 2\nwidth = 8\ntypes = ['k3_relu', 'k5_relu']"),
        dataset: images::dataset(Pattern::Distant),
        loss: NO_COST,
        is_right: |_, decisions| first(decisions).block_type == 1,
    }
}

#[test]
fn the_kernel_that_reaches_far_enough_is_found() {
    let planted = distant();
    let (small, large) = (planted.alone(&network(0, 0, 0)), planted.alone(&network(0, 1, 0)));
    assert!(small < 0.65 && large > 0.8, "trained alone: {small} and {large}");
    planted.assert_found_by(&GRADIENT);
}

/// The mean of the image decides: a block is of no use, and costs something.
fn brightness() -> Planted {
    let input = "resolutions = [6]\nchannels = 1\nclasses = 2";
    Planted {
        space: space(input, 1, "expansion = 2\nwidth = 8\ntypes = ['k3_relu', 'skip']"),
        dataset: images::dataset(Pattern::Brightness),
        loss: LossForm::Linear { lambda: 10.0 },
        is_right: |_, decisions| first(decisions).block_type == 1,
    }
}

#[test]
fn a_block_that_cannot_help_is_skipped() {
    let planted = brightness();
    assert!(planted.alone(&network(0, 1, 0)) > 0.9);
    planted.assert_found_by(&GRADIENT);
}

#[test]
fn a_huge_cost_weight_chooses_the_cheapest_network() {
    let input = "resolutions = [4, 8]\nchannels = 1\nclasses = 2";
    let stage = "expansion = [1.5, 3]\nwidth = [4, 8]\ntypes = ['k3_relu', 'k5_relu']";
    let planted = Planted {
        space: space(input, 3, stage),
        dataset: images::dataset(Pattern::Stripes),
        loss: LossForm::Linear { lambda: 1e4 },
        is_right: |space, decisions| {
            let macs = |arch: &_| cost::count(arch).macs;
            let least = space.networks(64).unwrap().iter().map(macs).min();
            Some(macs(&space.decide(decisions))) == least
        },
    };
    planted.assert_found_by(&GRADIENT);
}
