//! The factor of a block's input under both rules: its gradient, and the network that one-hot gates give.

use super::tests::{batch, load, settings};
use super::{Relaxed, factors, net_gates};
use crate::cost::{BlockProbabilities, Probabilities};
use crate::data::Batch;
use crate::net::{GatedNetwork, SharedWeights};
use crate::nn::Pass;
use crate::ops::loss::cross_entropy;
use crate::recipe::{
    GateKind, GateRule, LossForm, MaskPlace, ResidualRule, SearchLoss, StepConfig,
};
use crate::rng::Seed;
use crate::space::{BlockDecision, Decisions, SearchSpace};
use candle_core::Device;

const RULES: [ResidualRule; 2] = [ResidualRule::Expected, ResidualRule::Full];
const GUMBEL: GateRule = GateRule::Gumbel(GateKind::Soft);

/// The smoke space, with the settings of a step under this rule, and a loss without a cost.
fn setting(residual: ResidualRule) -> (SearchSpace, StepConfig, SearchLoss) {
    let manifest = load("smoke.toml");
    let (config, gradient) = settings(&manifest);
    let loss = SearchLoss { form: LossForm::Linear { lambda: 0.0 }, ..gradient.alpha.loss };
    (manifest.search().unwrap().space.clone(), StepConfig { residual, ..config }, loss)
}

/// The loss of the supernet under these gates and the factors that they give.
fn loss<N: GatedNetwork>(search: &mut Relaxed<N>, batch: &Batch, p: &Probabilities<f64>) -> f64 {
    let Relaxed { supernet, params, residual, .. } = search;
    let gates = net_gates(p, factors(*residual, supernet.space(), p));
    let mut pass = Pass::training(params);
    let (logits, _) = supernet.forward(&mut pass, &batch.xs, &gates, false).unwrap();
    cross_entropy(logits.tensor(), &batch.labels, 0.0).unwrap().read().unwrap().loss
}

/// Compares the gradients of the types and widths before and in the block with a residual, block 2.2, with central
/// differences. Returns those of its types.
fn check_gradient<N: GatedNetwork>(
    search: &mut Relaxed<N>,
    space: &SearchSpace,
    config: &SearchLoss,
) -> Vec<f64> {
    const STEP: f64 = 0.01;
    type Of = fn(&mut BlockProbabilities<f64>) -> &mut Vec<f64>;
    let batch = batch(space);
    let found = search.alpha_gradient(config, &batch, None, 3, 2.0).unwrap();
    let places: [(usize, Of, &[f64]); 4] = [
        (1, |block| &mut block.widths, &found.by_gates.blocks[1].widths),
        (1, |block| &mut block.expansions, &found.by_gates.blocks[1].expansions),
        (2, |block| &mut block.widths, &found.by_gates.blocks[2].widths),
        (2, |block| &mut block.types, &found.by_gates.blocks[2].types),
    ];
    for (block, of, slopes) in places {
        for (option, slope) in slopes.iter().enumerate() {
            let mut moved = |by: f64| {
                let mut p = found.soft.clone();
                of(&mut p.blocks[block])[option] += by;
                loss(search, &batch, &p)
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let apart = (slope - expected).abs();
            assert!(apart < 0.02 * expected.abs() + 2e-3, "{block} {option}: {slope} {expected}");
        }
    }
    found.by_gates.blocks[2].types.clone()
}

#[test]
fn gradients_of_gates_equal_central_differences_under_both_rules() {
    let [expected, full] = RULES.map(|rule| {
        let (space, config, loss) = setting(rule);
        assert_eq!(space.blocks.iter().filter(|block| block.can_be_residual()).count(), 1);
        let device = &Device::Cpu;
        let mut masked =
            Relaxed::masked(&space, MaskPlace::AfterNorm, GUMBEL, &config, Seed(5), device)
                .unwrap();
        let mut explicit = Relaxed::explicit(&space, GUMBEL, &config, Seed(5), device).unwrap();
        let masked = check_gradient(&mut masked, &space, &loss);
        [masked, check_gradient(&mut explicit, &space, &loss)]
    });
    for (expected, full) in expected.iter().zip(&full) {
        // Only by the first rule the gradient of a skip includes that of the input's factor.
        let apart = expected.iter().zip(full).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart > 5e-3, "{expected:?} {full:?}");
    }
}

/// Probability one for each decision.
fn one_hot(space: &SearchSpace, made: &Decisions) -> Probabilities<f64> {
    let of = |options: usize, chosen: usize| {
        (0..options).map(|option| if option == chosen { 1.0 } else { 0.0 }).collect()
    };
    let blocks = space.blocks.iter().zip(&made.blocks).map(|(choices, made)| BlockProbabilities {
        types: of(choices.types.len(), made.block_type),
        expansions: of(choices.expansions(), made.expansion),
        widths: of(choices.widths.len(), made.width),
    });
    Probabilities { resolutions: vec![1.0], blocks: blocks.collect() }
}

#[test]
fn one_hot_gates_equal_the_derived_network_where_widths_are_equal() {
    // Block 2.2 gets 12 channels and has 12, or 16.
    for (width, is_equal) in [(1, true), (2, false)] {
        for rule in RULES {
            let (space, config, _) = setting(rule);
            let choose = |width| BlockDecision { block_type: 0, expansion: 0, width };
            let mut blocks = vec![choose(0), choose(1), choose(width), choose(1)];
            blocks[0].block_type = 1;
            let made = Decisions { resolution: 0, blocks };
            let mut search = Relaxed::masked(
                &space,
                MaskPlace::AfterNorm,
                GUMBEL,
                &config,
                Seed(5),
                &Device::Cpu,
            )
            .unwrap();
            let batch = batch(&space);
            let shared = SharedWeights::of(&space, search.params.clone());
            let found = loss(&mut search, &batch, &one_hot(&space, &made));
            let mut cut = shared.extract(&made).unwrap();
            let mut pass = Pass::training(&mut cut.params);
            let logits = cut.net.forward(&mut pass, &batch.xs).unwrap();
            let derived = cross_entropy(logits.tensor(), &batch.labels, 0.0).unwrap();
            let apart = (found - derived.read().unwrap().loss).abs();
            let equals = is_equal || rule == ResidualRule::Expected;
            assert_eq!(apart < 1e-4, equals, "{rule:?}, {width}: {apart}");
        }
    }
}
