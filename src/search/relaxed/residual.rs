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

/// Compares the gradient that α follows with its parts: the direct gradients of the gates, and that of the factor
/// of the input times its central differences, where it is not constant. Returns the latter for the types of
/// block 2.2, the only one with a residual.
fn check_gradient<N: GatedNetwork>(
    search: &mut Relaxed<N>,
    space: &SearchSpace,
    config: &SearchLoss,
) -> Vec<f64> {
    const STEP: f64 = 1e-4;
    type Of = fn(&mut BlockProbabilities<f64>) -> &mut Vec<f64>;
    let batch = batch(space);
    let found = search.alpha_gradient(config, &batch, None, 3, 2.0).unwrap();
    let residual = search.residual;
    let gates = net_gates(&found.soft, factors(residual, space, &found.soft));
    let Relaxed { supernet, params, .. } = search;
    let mut pass = Pass::frozen(params);
    let (logits, bound) = supernet.forward(&mut pass, &batch.xs, &gates, true).unwrap();
    let result = cross_entropy(logits.tensor(), &batch.labels, 0.0).unwrap();
    let (_, mut others) = pass.backward(&logits, result.dlogits).unwrap();
    let direct = supernet.gate_gradients(&bound, &mut others).unwrap().blocks;
    let by_factor = direct[2].identity;
    assert!(by_factor.abs() > 1e-3, "{by_factor}");
    let places: [(usize, Of, &[f64], &[f64]); 4] = [
        (1, |block| &mut block.widths, &found.by_gates.blocks[1].widths, &direct[1].widths),
        (1, |block| &mut block.types, &found.by_gates.blocks[1].types, &direct[1].types),
        (2, |block| &mut block.widths, &found.by_gates.blocks[2].widths, &direct[2].widths),
        (2, |block| &mut block.types, &found.by_gates.blocks[2].types, &direct[2].types),
    ];
    let mut through_factor = Vec::new();
    for (block, of, found_slopes, direct_slopes) in places {
        through_factor.clear();
        for (option, (slope, direct)) in found_slopes.iter().zip(direct_slopes).enumerate() {
            let factor = |by: f64| {
                let mut p = found.soft.clone();
                of(&mut p.blocks[block])[option] += by;
                factors(residual, space, &p).nth(2).unwrap()
            };
            let own = by_factor * (factor(STEP) - factor(-STEP)) / (2.0 * STEP);
            let apart = (slope - direct - own).abs();
            assert!(apart < 1e-6, "{block} {option}: {slope} is not {direct} + {own}");
            through_factor.push(own);
        }
    }
    through_factor
}

#[test]
fn gradients_go_through_the_factor_of_the_input_unless_it_is_constant() {
    for rule in RULES {
        let (space, config, loss) = setting(rule);
        assert_eq!(space.blocks.iter().filter(|block| block.can_be_residual()).count(), 1);
        let (device, place) = (&Device::Cpu, MaskPlace::AfterNorm);
        let mut masked = Relaxed::masked(&space, place, GUMBEL, &config, Seed(5), device).unwrap();
        let mut explicit = Relaxed::explicit(&space, GUMBEL, &config, Seed(5), device).unwrap();
        let of_types = [
            check_gradient(&mut masked, &space, &loss),
            check_gradient(&mut explicit, &space, &loss),
        ];
        for of_types in of_types {
            let is_constant = of_types.iter().all(|slope| *slope == 0.0);
            assert_eq!(is_constant, rule == ResidualRule::Full, "{rule:?}: {of_types:?}");
        }
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
