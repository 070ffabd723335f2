//! A simulated training step through a network, block by block in the order of `crate::net`.

use super::StepSetting;
use super::ledger::Footprint;
use super::operators::{LayerShape, SharedCovariance, SimulatedPass};
use super::state::StepState;
use super::tape::{SizeTape, SizedMap};
use crate::recipe::Recompute;
use crate::space::{BlockPlan, Branch, Head, NetworkPlan, SearchSpace, option_plans};
use std::rc::Rc;

/// Training steps with sizes instead of tensors.
pub(super) struct StepSimulation {
    state: Rc<StepState>,
}

impl StepSimulation {
    pub(super) fn new(setting: StepSetting) -> Self {
        Self { state: Rc::new(StepState::new(setting)) }
    }

    /// Starts a new step: its peak is at least what is allocated now.
    pub(super) fn reset_peak(&self) {
        self.state.ledger.reset_peak();
    }

    pub(super) fn peak(&self) -> Footprint {
        self.state.ledger.peak()
    }

    /// Allocates the weights of a network; its forward pass runs, but no reverse pass.
    pub(super) fn weights(&self, plan: &NetworkPlan) {
        let mut pass = self.pass();
        let images = pass.images(plan.resolution, plan.image_channels);
        pass.network(plan, images, &[plan.resolution]);
    }

    fn pass<'a>(&self) -> SimulatedPass<'a> {
        SimulatedPass {
            state: self.state.clone(),
            tape: SizeTape::new(&self.state.ledger),
            prefix: String::new(),
        }
    }

    /// A step of the network `plan` at several resolutions, the largest first.
    pub(super) fn network(&self, plan: &NetworkPlan, sides: &[usize]) {
        let mut pass = self.pass();
        let images = pass.images(plan.resolution, plan.image_channels);
        let logits = pass.network(plan, images.clone(), sides);
        pass.tape.backward(&logits);
    }

    /// A step of the network `plan` on images of side `side`, which are subsampled to its resolution.
    pub(super) fn derived(&self, plan: &NetworkPlan, side: usize) {
        let mut pass = self.pass();
        let images = pass.images(side, plan.image_channels);
        let seen = pass.subsample(&images, plan.resolution);
        let logits = pass.network(plan, seen, &[plan.resolution]);
        pass.tape.backward(&logits);
    }

    /// A step of the explicit supernet.
    pub(super) fn explicit(&self, space: &SearchSpace) {
        let plan = NetworkPlan::supernet(space);
        let blocks: Vec<Vec<BlockPlan>> =
            space.blocks.iter().map(|choices| option_plans(space, choices)).collect();
        let mut pass = self.pass();
        let images = pass.images(plan.resolution, plan.image_channels);
        let mut features: Option<SizedMap> = None;
        for (i, side) in space.resolutions.iter().rev().enumerate() {
            pass.prefix = if i == 0 { String::new() } else { format!("at_{side}.") };
            let seen = pass.subsample(&images, *side);
            let mut x = pass.stem(&plan, &seen);
            drop(seen);
            for (parts, block) in blocks.iter().zip(&plan.blocks) {
                x = pass.block(&x, move |pass, x| pass.options(parts, block.width, x));
            }
            let more = pass.head(&plan, &x);
            features = Some(match features {
                None => more,
                Some(sum) => pass.add(&sum, &more),
            });
        }
        let features = features.expect("there is a side");
        let logits = pass.classifier(&plan, features);
        pass.tape.backward(&logits);
    }
}

impl<'a> SimulatedPass<'a> {
    /// The logits, with every stage at each side.
    fn network(&mut self, plan: &'a NetworkPlan, images: SizedMap, sides: &[usize]) -> SizedMap {
        let whole = sides[0];
        let mut x = images;
        let stage =
            |pass: &mut Self, x: &SizedMap, is_block: bool, run: Stage<'a>| -> Vec<SizedMap> {
                let mut maps = Vec::with_capacity(sides.len());
                for (i, side) in sides.iter().enumerate() {
                    // A map shrinks by the same ratio as the image.
                    let small = if i == 0 { x.side } else { (x.side * side).div_ceil(whole) };
                    let run = run.clone();
                    let on_grid = move |pass: &mut Self, x: &SizedMap| {
                        let x = pass.subsample(x, small);
                        run(pass, &x)
                    };
                    maps.push(match (i, is_block) {
                        (0, true) => pass.block(x, on_grid),
                        (0, false) => on_grid(pass, x),
                        _ => pass.recomputed(x, on_grid),
                    });
                }
                maps
            };
        let maps = stage(self, &x, false, Rc::new(|pass, x| pass.stem(plan, x)));
        x = self.merge(&maps);
        drop(maps);
        for block in &plan.blocks {
            let run: Stage<'a> = Rc::new(move |pass, x| pass.one(block, x, &mut None));
            let maps = stage(self, &x, true, run);
            x = self.merge(&maps);
        }
        let mut features =
            stage(self, &x, false, Rc::new(|pass, x| pass.head(plan, x))).into_iter();
        drop(x);
        let mut sum = features.next().expect("there is a side");
        for more in features {
            sum = self.add(&sum, &more);
        }
        self.classifier(plan, sum)
    }

    fn block(
        &mut self,
        x: &SizedMap,
        run: impl Fn(&mut Self, &SizedMap) -> SizedMap + 'a,
    ) -> SizedMap {
        match self.state.setting.recompute {
            Recompute::None => run(self, x),
            Recompute::Block => self.recomputed(x, run),
        }
    }

    fn recomputed(
        &mut self,
        x: &SizedMap,
        run: impl Fn(&mut Self, &SizedMap) -> SizedMap + 'a,
    ) -> SizedMap {
        let mark = self.tape.mark();
        let y = run(self, x);
        let (state, x, prefix) = (self.state.clone(), x.clone(), self.prefix.clone());
        self.tape.forget(mark, move |tape| {
            let mut pass = SimulatedPass { state, tape, prefix };
            run(&mut pass, &x);
            pass.tape
        });
        y
    }

    fn stem(&mut self, plan: &NetworkPlan, images: &SizedMap) -> SizedMap {
        let (kernel, stride, channels) = (plan.stem.kernel, plan.stem.stride, plan.stem.width);
        let z = self.dense(images, &LayerShape { name: "stem", kernel, stride, channels });
        self.norm(&[(z, "stem")], None)
    }

    fn head(&mut self, plan: &NetworkPlan, x: &SizedMap) -> SizedMap {
        let (Head::Conv { width: mid, .. } | Head::IrPool { mid, .. }) = plan.head;
        let z = self.matmul(x, "head", mid);
        let y = self.norm(&[(z, "head")], None);
        self.pool(&y)
    }

    fn classifier(&mut self, plan: &NetworkPlan, mut x: SizedMap) -> SizedMap {
        if let Head::IrPool { width, .. } = plan.head {
            x = self.matmul(&x, "head.after_pool", width);
        }
        let z = self.matmul(&x, "classifier", plan.classes);
        self.bias(&z, "classifier")
    }

    /// One block of the explicit supernet: the sum of its parts.
    fn options(&mut self, parts: &[BlockPlan], width: usize, x: &SizedMap) -> SizedMap {
        let mut gram = None;
        let parts: Vec<SizedMap> = parts.iter().map(|part| self.one(part, x, &mut gram)).collect();
        self.sum_padded(&parts, width)
    }

    /// One block.
    fn one(&mut self, plan: &BlockPlan, x: &SizedMap, gram: &mut SharedCovariance) -> SizedMap {
        let mut candidates = Vec::with_capacity(plan.branches.len());
        let names: Vec<String> =
            plan.branches.iter().map(|(name, _)| format!("{}.{name}", plan.label)).collect();
        for ((_, branch), name) in plan.branches.iter().zip(&names) {
            candidates.push((self.branch(plan, branch, name, x, gram), &name[..]));
        }
        let identity = plan.identity.then(|| self.shortcut(plan, x));
        self.norm(&candidates, identity.as_ref())
    }

    /// The input in the shape in which a block adds it.
    fn shortcut(&mut self, plan: &BlockPlan, x: &SizedMap) -> SizedMap {
        let x = self.subsample(x, x.side.div_ceil(plan.stride));
        if plan.width > x.channels {
            return self.sum_padded(&[x], plan.width);
        }
        self.cut(&x, plan.width)
    }

    fn branch(
        &mut self,
        plan: &BlockPlan,
        branch: &Branch,
        name: &str,
        x: &SizedMap,
        gram: &mut SharedCovariance,
    ) -> SizedMap {
        match *branch {
            Branch::Projection => {
                let x = self.subsample(x, x.side.div_ceil(plan.stride));
                self.matmul(&x, name, plan.width)
            }
            Branch::Residual { mid } => {
                let (first, kernel) = (format!("{name}.first"), 3);
                let layer = LayerShape { name: &first, kernel, stride: plan.stride, channels: mid };
                let z = self.dense(x, &layer);
                let inner = self.norm(&[(z, &first)], None);
                let layer = LayerShape { name, kernel, stride: 1, channels: plan.width };
                self.dense(&inner, &layer)
            }
            Branch::MbConv { kernel, mid, expand, squeeze, .. } => {
                let layer = format!("{name}.depthwise");
                let (stride, channels) = (plan.stride, mid);
                let layer = LayerShape { name: &layer, kernel, stride, channels };
                let z = self.depthwise(x, &layer, expand.then_some(gram));
                self.project(&z, layer.name, squeeze, plan.width)
            }
        }
    }
}

type Stage<'a> = Rc<dyn Fn(&mut SimulatedPass<'a>, &SizedMap) -> SizedMap + 'a>;
