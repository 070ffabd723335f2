//! A supernet under gates that follow from α: `DMaskingNAS` on the masked supernet, DNAS and DARTS on
//! the explicit one.
//!
//! The methods differ in the supernet, in how α becomes gates (Gumbel-Softmax, or softmax without
//! noise), and in the order of α's gradient (constant weights, or through one step of theirs).

use super::hypergradient::{GatedNet, NextBatch};
use super::{AlphaStep, ArchParams, Relaxation, hardened, loss_gradient};
use crate::checkpoint::Stage;
use crate::cost::{Graph, Probabilities, Traced, propagate, propagate_counting};
use crate::data::Batch;
use crate::net::{ExplicitSupernet, GateGradients, GateValues, GatedNetwork, NetGates, Supernet};
use crate::nn::Params;
use crate::recipe::{
    AlphaConfig, GateKind, GateRule, MaskPlace, Recompute, ResidualRule, SearchLoss, StepConfig,
};
use crate::record::Work;
use crate::rng::Seed;
use crate::space::{BlockChoices, SearchSpace};
use crate::train::{OptimizerState, Step, restore_weights, save_weights, training_step};
use anyhow::{Result, ensure};
use candle_core::Device;

/// A supernet with its weights and architecture parameters.
pub struct Relaxed<N> {
    gates: GateRule,
    residual: ResidualRule,
    recompute: Recompute,
    seed: Seed,
    supernet: N,
    params: Params,
    alpha: ArchParams,
    optimizer: OptimizerState,
    /// Multiply-accumulates of the supernet for one image.
    macs: u64,
    work: Work,
}

/// The gradient of the search loss by the gates, and the point it was taken at.
pub struct AlphaGradient {
    /// Cross-entropy, loss and cost.
    pub at: AlphaStep,
    /// The soft gates, through whose softmax the gradient flows.
    pub soft: Probabilities<f64>,
    /// d loss / d g by the gates of the step, in full: ρ is a function of them, and its part is
    /// included.
    pub by_gates: NetGates,
}

impl Relaxed<Supernet> {
    /// An initial masked supernet, all options equally probable.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn masked(
        space: &SearchSpace,
        masks: MaskPlace,
        gates: GateRule,
        config: &StepConfig,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let (supernet, params) = Supernet::new(space, seed, device)?;
        Self::new((supernet.masked(masks), params), gates, config, seed)
    }
}

impl Relaxed<ExplicitSupernet> {
    /// An initial explicit supernet, all options equally probable.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn explicit(
        space: &SearchSpace,
        gates: GateRule,
        config: &StepConfig,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        Self::new(ExplicitSupernet::new(space, seed, device)?, gates, config, seed)
    }
}

impl<N: GatedNetwork> Relaxed<N> {
    fn new(
        (supernet, params): (N, Params),
        gates: GateRule,
        config: &StepConfig,
        seed: Seed,
    ) -> Result<Self> {
        let optimizer = OptimizerState::new(config.weights, &params)?;
        let alpha = ArchParams::new(supernet.space());
        let (macs, work) = (supernet.cost().macs, Work::default());
        let StepConfig { residual, recompute, .. } = *config;
        Ok(Self {
            gates,
            residual,
            recompute,
            seed,
            supernet,
            params,
            alpha,
            optimizer,
            macs,
            work,
        })
    }

    #[must_use]
    pub fn supernet(&self) -> &N {
        &self.supernet
    }

    /// The soft gates of one step, and the gates that the forward pass uses.
    fn gates(&self, label: &str, step: u64, tau: f64) -> (Probabilities<f64>, Probabilities<f64>) {
        let soft = match self.gates {
            GateRule::Softmax => self.alpha.softened(tau),
            GateRule::Gumbel(_) => self.alpha.gates(self.seed, label, step, tau),
        };
        let used = match self.gates {
            GateRule::Softmax | GateRule::Gumbel(GateKind::Soft) => soft.clone(),
            GateRule::Gumbel(GateKind::StraightThrough) => hardened(&soft),
        };
        (soft, used)
    }

    /// The gradient that [`Relaxation::alpha_step`] follows; of second order where the `next` batch
    /// of the weights is given.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn alpha_gradient(
        &mut self,
        loss: &SearchLoss,
        batch: &Batch,
        next: Option<NextBatch<'_>>,
        step: u64,
        tau: f64,
    ) -> Result<AlphaGradient> {
        let (soft, used) = self.gates("gumbel/alpha", step, tau);
        let graph = Graph::default();
        let leaves = used.map(|gate| graph.leaf(*gate));
        let (space, config) = (self.supernet.space(), loss);
        let shapes = propagate_counting(space, &leaves, &graph.leaf(1.0), config.input_channels);
        let cost_node = shapes.cost.of(config.objective);
        let cost = cost_node.value() / config.cost_unit;

        // ρ as a function of the gates; `None` where it is constant.
        let residuals: Vec<Option<&Traced>> = shapes
            .blocks
            .iter()
            .zip(&space.blocks)
            .map(|(block, choices)| (!is_full(self.residual, choices)).then_some(&block.identity))
            .collect();
        let gates = net_gates(&used, residuals.iter().map(|rho| rho.map_or(1.0, Traced::value)));
        let (recompute, macs) = (self.recompute, self.macs);
        let net = GatedNet { net: &self.supernet, gates: &gates, recompute, macs };
        let (params, work) = (&mut self.params, &mut self.work);
        let (result, by_gates) = match next {
            Some(next) => net.second_order(params, batch, next, work)?,
            None => net.first_order(params, batch, work)?,
        };

        let loss = loss_gradient(config.form, result.loss, cost);
        let mut seeds = vec![(cost_node, loss.by_cost / config.cost_unit)];
        for (rho, d) in residuals.into_iter().zip(&by_gates.blocks) {
            seeds.extend(rho.map(|rho| (rho, loss.by_cross_entropy * d.identity)));
        }
        let derivatives = graph.derivatives(&seeds);
        let combine = |leaves: &[Traced], direct: &[f64]| -> Vec<f64> {
            let pairs = leaves.iter().zip(direct);
            pairs.map(|(l, d)| derivatives.to(l) + loss.by_cross_entropy * d).collect()
        };
        let blocks = leaves.blocks.iter().zip(&by_gates.blocks);
        let blocks = blocks.map(|(leaf, direct)| GateGradients {
            types: combine(&leaf.types, &direct.types),
            expansions: combine(&leaf.expansions, &direct.expansions),
            widths: combine(&leaf.widths, &direct.widths),
            identity: 0.0,
        });
        let by_gates = NetGates {
            resolutions: combine(&leaves.resolutions, &by_gates.resolutions),
            blocks: blocks.collect(),
        };
        Ok(AlphaGradient { at: AlphaStep { result, loss: loss.value, cost }, soft, by_gates })
    }
}

impl<N: GatedNetwork> Relaxation for Relaxed<N> {
    fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step> {
        let (_, used) = self.gates("gumbel/weights", step, tau);
        let Self { supernet, params, optimizer, macs, work, recompute, residual, .. } = self;
        let space = supernet.space();
        let gates = net_gates(&used, factors(*residual, space, &used));
        let target = (&batch.labels, 0.0);
        work.add_training(*macs, batch.labels.len());
        Ok(training_step(params, optimizer, rate, target, *recompute, |pass| {
            Ok(supernet.forward(pass, &batch.xs, &gates, false)?.0)
        })?)
    }

    fn alpha_step(
        &mut self,
        config: &AlphaConfig,
        batch: &Batch,
        next: Option<NextBatch<'_>>,
        step: u64,
        tau: f64,
    ) -> Result<AlphaStep> {
        let found = self.alpha_gradient(&config.loss, batch, next, step, tau)?;
        self.alpha.step(&config.optimizer, &found.soft, &found.by_gates, tau);
        Ok(found.at)
    }

    fn alpha(&self) -> &ArchParams {
        &self.alpha
    }

    fn params(&self) -> &Params {
        &self.params
    }

    fn work(&self) -> Work {
        self.work
    }

    fn save(&self, stage: &mut Stage) -> Result<()> {
        stage.put("alpha", &self.alpha)?;
        stage.put("work", &self.work)?;
        save_weights(stage, &self.params);
        self.optimizer.save(stage, &self.params);
        Ok(())
    }

    fn restore(&mut self, stage: &Stage) -> Result<()> {
        let alpha: ArchParams = stage.get("alpha")?;
        ensure!(alpha.has_choices_of(&self.alpha), "the architecture parameters of another space");
        restore_weights(stage, "weights", &mut self.params)?;
        self.optimizer = self.optimizer.continued(stage, &self.params)?;
        (self.alpha, self.work) = (alpha, stage.get("work")?);
        Ok(())
    }
}

/// Whether the block adds its input with factor 1, whatever the gates are.
fn is_full(residual: ResidualRule, choices: &BlockChoices) -> bool {
    residual == ResidualRule::Full && choices.can_be_residual()
}

/// The factor of the input of each block under these gates.
fn factors(
    residual: ResidualRule,
    space: &SearchSpace,
    gates: &Probabilities<f64>,
) -> impl Iterator<Item = f64> {
    let shapes = propagate(space, gates, &1.0).blocks.into_iter().zip(&space.blocks);
    shapes.map(
        move |(shape, choices)| {
            if is_full(residual, choices) { 1.0 } else { shape.identity }
        },
    )
}

fn net_gates(drawn: &Probabilities<f64>, identities: impl Iterator<Item = f64>) -> NetGates {
    let blocks = drawn.blocks.iter().zip(identities).map(|(block, identity)| GateValues {
        types: block.types.clone(),
        expansions: block.expansions.clone(),
        widths: block.widths.clone(),
        identity,
    });
    NetGates { resolutions: drawn.resolutions.clone(), blocks: blocks.collect() }
}

#[cfg(test)]
mod residual;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::manifest::{self, Overrides};
    use crate::net::SharedWeights;
    use crate::nn::Pass;
    use crate::ops::loss::cross_entropy;
    use crate::recipe::{GradientSearch, LossForm, Objective, StepKind, SupernetKind};
    use crate::space::{BlockDecision, Decisions};
    use candle_core::Tensor;
    use std::path::Path;

    pub(super) fn batch(space: &SearchSpace) -> Batch {
        let (side, channels) = (space.max_resolution(), space.image_channels);
        let mut noise = Seed(3).stream("images", 0);
        let pixels: Vec<f32> =
            (0..4 * side * side * channels).map(|_| noise.normal() as f32).collect();
        let xs = Tensor::from_vec(pixels, (4, side, side, channels), &Device::Cpu).unwrap();
        Batch { xs, labels: vec![0, 1, 2, 3].into() }
    }

    /// The options whose gates are one.
    fn decisions(hard: &Probabilities<f64>) -> Decisions {
        let one = |gates: &[f64]| gates.iter().position(|g| *g == 1.0).unwrap();
        let blocks = hard.blocks.iter().map(|block| BlockDecision {
            block_type: one(&block.types),
            expansion: one(&block.expansions),
            width: one(&block.widths),
        });
        Decisions { resolution: one(&hard.resolutions), blocks: blocks.collect() }
    }

    pub(super) fn load(name: &str) -> Manifest {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments").join(name);
        manifest::load(&path, &Overrides::default()).unwrap()
    }

    /// The settings of a step of the masked supernet, and of α.
    pub(super) fn settings(manifest: &Manifest) -> (StepConfig, GradientSearch) {
        let method = &manifest.search().unwrap().methods[0];
        (manifest.search().unwrap().config.step(method).unwrap(), method.gradient().unwrap())
    }

    fn masked(space: &SearchSpace, config: &StepConfig) -> Relaxed<Supernet> {
        let StepKind::Gated(SupernetKind::Masked(masks), gates) = config.kind else {
            panic!("{config:?}")
        };
        Relaxed::masked(space, masks, gates, config, Seed(5), &Device::Cpu).unwrap()
    }

    /// The cost, and its gradient by the gates of the first block's widths.
    fn cost_gradient(
        objective: Objective,
        loss: SearchLoss,
        config: &StepConfig,
        space: &SearchSpace,
    ) -> CostGradient {
        let gradient = |lambda| {
            let form = LossForm::Linear { lambda };
            let loss = SearchLoss { objective, form, ..loss };
            masked(space, config).alpha_gradient(&loss, &batch(space), None, 3, 2.0).unwrap()
        };
        let (with, without) = (gradient(1.0), gradient(0.0));
        let widths = |found: &AlphaGradient| found.by_gates.blocks[0].widths.clone();
        let pairs = widths(&with).into_iter().zip(widths(&without));
        CostGradient {
            cost: with.at.cost,
            by_widths: pairs.map(|(a, b)| a - b).collect(),
            at: with.soft,
        }
    }

    struct CostGradient {
        cost: f64,
        by_widths: Vec<f64>,
        at: Probabilities<f64>,
    }

    #[test]
    fn the_gradient_of_the_cost_follows_the_objective() {
        let manifest = load("smoke.toml");
        let (config, gradient) = settings(&manifest);
        let (space, loss) = (&manifest.search().unwrap().space, gradient.alpha.loss);
        let found = [Objective::Macs, Objective::Params].map(|objective| {
            let found = cost_gradient(objective, loss, &config, space);
            let cost = |p: &Probabilities<f64>| {
                propagate(space, p, &1.0).cost.of(objective) / loss.cost_unit
            };
            assert!((found.cost - cost(&found.at)).abs() < 1e-9 * found.cost, "{objective:?}");
            for (i, slope) in found.by_widths.iter().enumerate() {
                let mut moved = [found.at.clone(), found.at.clone()];
                moved[0].blocks[0].widths[i] += 1e-4;
                moved[1].blocks[0].widths[i] -= 1e-4;
                let expected = (cost(&moved[0]) - cost(&moved[1])) / 2e-4;
                assert!((slope - expected).abs() < 1e-5 * expected.abs(), "{slope} {expected}");
            }
            found.by_widths
        });
        assert!(found[0].len() > 1 && found[0] != found[1]);
    }

    #[test]
    fn straight_through_gates_run_the_drawn_network() {
        let manifest = load("smoke_resolutions.toml");
        let (config, _) = settings(&manifest);
        let space = &manifest.search().unwrap().space;
        let batch = batch(space);
        let losses = [GateKind::StraightThrough, GateKind::Soft].map(|kind| {
            let supernet = SupernetKind::Masked(MaskPlace::AfterNorm);
            let kind = StepKind::Gated(supernet, GateRule::Gumbel(kind));
            let mut search = masked(space, &StepConfig { kind, ..config });
            let (soft, _) = search.gates("gumbel/weights", 7, 2.0);
            let shared = SharedWeights::of(space, search.params().clone());
            let mut cut = shared.extract(&decisions(&hardened(&soft))).unwrap();
            let mut pass = Pass::training(&mut cut.params);
            let logits = cut.net.forward(&mut pass, &batch.xs).unwrap();
            let alone = cross_entropy(logits.tensor(), &batch.labels, 0.0).unwrap();
            let alone = alone.read().unwrap().loss;
            let step = search.weight_step(&batch, 7, 2.0, 0.1).unwrap();
            (step.result.loss, alone)
        });
        let [(hard, of_drawn), (soft, _)] = losses;
        assert!((hard - of_drawn).abs() < 1e-4, "{hard} {of_drawn}");
        assert!((soft - of_drawn).abs() > 1e-3, "{soft} {of_drawn}");
    }
}
