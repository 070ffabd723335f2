//! Searches where the right answer is known, because it was planted in the data: gradient methods find it, and none
//! does when α moves along its gradient instead of against it.
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

/// The settings of DARTS as published (Liu et al. 2019, A.1.1), but for epochs and batches. Its paper has no
/// warm-up and no cost.
const PUBLISHED_DARTS: [&str; 9] = [
    "search.method=darts",
    "search.warmup_epochs=0",
    "search.weights.learning_rate=0.025",
    "search.weights.weight_decay=3e-4",
    "search.alpha.learning_rate=3e-4",
    "search.alpha.beta1=0.5",
    "search.alpha.beta2=0.999",
    "search.alpha.weight_decay=1e-3",
    "search.epochs=24",
];

fn settings(method: &str) -> Manifest {
    settings_with(&[&format!("search.method={method}")])
}

fn settings_with(others: &[&str]) -> Manifest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
    let sets = SETTINGS.iter().chain(others).map(ToString::to_string).collect();
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
    fn found(&self, manifest: &Manifest, sign: f64, seeds: u64) -> usize {
        (1..=seeds)
            .filter(|seed| (self.is_right)(&self.space, &self.search(manifest, sign, *seed)))
            .count()
    }

    fn assert_found_by(&self, methods: &[&str]) {
        for name in methods {
            self.assert_found(name, &settings(name));
        }
    }

    fn assert_found(&self, name: &str, manifest: &Manifest) {
        let [found, turned] = [1.0, -1.0].map(|sign| self.found(manifest, sign, SEEDS));
        assert!(found >= RECOVERED, "{name} finds it in {found} of {SEEDS} searches");
        assert!(turned < LOST, "{name} finds it in {turned} searches with the sign turned");
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
            config: manifest.train().unwrap(),
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

/// Four classes need three channels. One is not enough, and more than four are of no use.
fn brightest() -> Planted {
    let input = "resolutions = [16]\nchannels = 4\nclasses = 4";
    Planted {
        space: space(input, 1, "expansion = 2\nwidth = [1, 4, 16]\ntypes = ['k3_relu']"),
        dataset: images::dataset(Pattern::Brightest),
        loss: LossForm::Linear { lambda: 0.04 },
        is_right: |_, decisions| first(decisions).width == 1,
    }
}

/// DARTS is left out: its paper has no cost, and under its soft gates a small share of a wide option may pass the
/// signal.
#[test]
fn the_width_that_passes_the_signal_is_found() {
    let planted = brightest();
    let [narrow, right, wide] = [0, 1, 2].map(|width| planted.alone(&network(0, 0, width)));
    assert!(narrow < 0.7 && right > 0.9, "trained alone: {narrow}, {right} and {wide}");
    for name in ["dmasking", "dnas"] {
        let longer = ["search.epochs=20", "search.warmup_epochs=5"];
        let method = format!("search.method={name}");
        planted.assert_found(name, &settings_with(&[&method, longer[0], longer[1]]));
    }
}

#[test]
fn darts_finds_the_options_by_its_published_settings() {
    for planted in [stripes(), distant()] {
        planted.assert_found("darts", &settings_with(&PUBLISHED_DARTS));
    }
}

/// Two block types with weights of their own, and two equal masks.
#[test]
fn identical_options_are_chosen_about_equally_often() {
    const SEARCHES: u64 = 40;
    // A fair coin gives fewer or more heads with a probability below 0.01 (two-sided).
    const LIKELY: std::ops::RangeInclusive<usize> = 12..=28;
    let input = "resolutions = [6]\nchannels = 1\nclasses = 2";
    let planted = || Planted {
        space: space(input, 1, "expansion = 2\nwidth = 8\ntypes = ['k3_relu']"),
        dataset: images::dataset(Pattern::Brightness),
        loss: LossForm::Linear { lambda: 1.0 },
        is_right: |_, decisions| (first(decisions).block_type, first(decisions).width) == (0, 0),
    };
    let [mut types, mut widths] = [planted(), planted()];
    let block = &mut types.space.blocks[0];
    block.types = vec![block.types[0]; 2];
    let block = &mut widths.space.blocks[0];
    block.widths = vec![block.widths[0]; 2];
    for (what, planted) in [("types", types), ("widths", widths)] {
        for name in GRADIENT {
            let first = planted.found(&settings(name), 1.0, SEARCHES);
            assert!(
                LIKELY.contains(&first),
                "{name}: {first} of {SEARCHES} times the first of two {what}"
            );
        }
    }
}
