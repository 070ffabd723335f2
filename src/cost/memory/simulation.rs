//! A simulated training step through a network, block by block in the order of `crate::net`.

use super::gates;
use super::ledger::{Allocation, Owner};
use super::operators::{LayerShape, PassKind, SharedCovariance, SimulatedPass, SupernetGates};
use super::state::StepState;
use super::tape::{SizeTape, SizedMap};
use super::{Simulated, StepSetting};
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

    /// The peak, and what is allocated now.
    pub(super) fn result(&self) -> Simulated {
        Simulated { peak: self.state.ledger.peak(), between: self.state.ledger.now() }
    }

    fn pass<'a>(&self, kind: PassKind) -> SimulatedPass<'a> {
        SimulatedPass {
            state: self.state.clone(),
            kind,
            tape: SizeTape::new(&self.state.ledger),
            prefix: String::new(),
            factors: None,
        }
    }

    /// The factors of dropout, in one upload with those of the blocks. The CPU's of blocks are too few to
    /// count.
    fn factors(&self, plan: &NetworkPlan) -> Option<Allocation> {
        let StepSetting { batch, extras, .. } = self.state.setting;
        let (Head::Conv { width, .. } | Head::IrPool { width, .. }) = plan.head;
        let dropout = if extras.dropout { batch * width } else { 0 };
        let droppable = |block: &&BlockPlan| block.identity && !block.branches.is_empty();
        let blocks = plan.blocks.iter().filter(droppable).count();
        let blocks = if extras.drop_connect { blocks } else { 0 };
        let rows: Vec<usize> = (0..blocks).map(|_| batch).chain([dropout]).collect();
        let len = gates::buffer_len(&rows);
        self.state.uploaded(len);
        let len = if self.state.is_on_gpu() { len } else { dropout };
        let held = || self.state.ledger.hold(Owner::Activations, self.state.tensors(&[len]));
        (len > 0).then(held)
    }

    /// Gates and masks in one upload. The CPU's are too few to count.
    fn gates(&self, rows: &[usize]) -> Option<Allocation> {
        let len = gates::buffer_len(rows);
        self.state.uploaded(len);
        let held = || self.state.ledger.hold(Owner::Activations, self.state.tensors(&[len]));
        self.state.is_on_gpu().then(held)
    }

    /// The loss, the backward pass and the update of the weights.
    fn back(&self, pass: SimulatedPass<'_>, logits: &SizedMap) {
        let ledger = &self.state.ledger;
        let dlogits = Rc::new(ledger.hold(Owner::Gradients, logits.held.bytes()));
        // On a GPU they stay until the loss is read, after the update.
        let _loss = self.state.is_on_gpu().then(|| {
            let [parts, numbers] = pass.gpu_loss();
            pass.use_scratch(parts);
            (ledger.hold(Owner::Activations, numbers), dlogits.clone())
        });
        let updates = pass.kind.weights_wanted;
        let _gradients = pass.tape.backward(logits, dlogits);
        if updates {
            drop(ledger.hold(Owner::Scratch, self.state.update_scratch()));
        }
    }

    /// A step of the masked supernet.
    pub(super) fn masked(&self, space: &SearchSpace) {
        let plan = NetworkPlan::supernet(space);
        let sides: Vec<usize> = space.resolutions.iter().rev().copied().collect();
        let mut pass = self.pass(PassKind::training(SupernetGates::Masked));
        let images = pass.images(plan.resolution, plan.image_channels);
        let _gates = self.gates(&gates::masked(space));
        let logits = pass.network(&plan, images.clone(), &sides);
        self.back(pass, &logits);
    }

    /// A step of the network `plan` on images of side `side`, which are subsampled to its resolution.
    pub(super) fn derived(&self, plan: &NetworkPlan, side: usize) {
        let mut pass = self.pass(PassKind::training(SupernetGates::Absent));
        let images = pass.images(side, plan.image_channels);
        pass.factors = self.factors(plan).map(Rc::new);
        let seen = pass.subsample(&images, plan.resolution);
        let logits = pass.network(plan, seen, &[plan.resolution]);
        self.back(pass, &logits);
    }

    /// A forward pass of the network `plan`, of which nothing is kept.
    pub(super) fn forward(&self, plan: &NetworkPlan, side: usize) {
        let gates = SupernetGates::Absent;
        let kind = PassKind { gates, weights_wanted: false, gates_wanted: false };
        let mut pass = self.pass(kind);
        let images = pass.images(side, plan.image_channels);
        let seen = pass.subsample(&images, plan.resolution);
        pass.network(plan, seen, &[plan.resolution]);
    }

    /// A batch alone.
    pub(super) fn batch(&self, space: &SearchSpace) {
        let pass = self.pass(PassKind::training(SupernetGates::Absent));
        drop(pass.images(space.max_resolution(), space.image_channels));
    }

    /// What a pass of the explicit supernet leaves for the next ones of a step: gates, the loss, and a norm.
    pub(super) fn kept_of_pass(&self, space: &SearchSpace) {
        let _gates = self.gates(&gates::explicit(space));
        if self.state.is_on_gpu() {
            let numbers = self.state.tensors(&[4, 2]);
            drop(self.state.ledger.hold(Owner::Activations, numbers));
        }
    }

    /// A pass of the explicit supernet.
    pub(super) fn explicit(&self, space: &SearchSpace, kind: PassKind) {
        let plan = NetworkPlan::supernet(space);
        let blocks: Vec<(Vec<BlockPlan>, bool)> = (space.blocks.iter())
            .zip(gates::explicit_masks(space))
            .map(|(choices, is_masked)| (option_plans(space, choices), is_masked))
            .collect();
        let mut pass = self.pass(kind);
        let images = pass.images(plan.resolution, plan.image_channels);
        let _gates = self.gates(&gates::explicit(space));
        let mut features: Option<SizedMap> = None;
        for (i, side) in space.resolutions.iter().rev().enumerate() {
            pass.prefix = if i == 0 { String::new() } else { format!("at_{side}.") };
            let seen = pass.subsample(&images, *side);
            let mut x = pass.stem(&plan, &seen);
            drop(seen);
            for ((parts, is_masked), block) in blocks.iter().zip(&plan.blocks) {
                x = pass.block(&x, move |pass, x| pass.options(parts, *is_masked, block.width, x));
            }
            let more = pass.head(&plan, &x);
            features = Some(match features {
                None => more,
                Some(sum) => pass.add(&sum, &more),
            });
        }
        let features = features.expect("there is a side");
        let logits = pass.classifier(&plan, features);
        self.back(pass, &logits);
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
            let is_masked = self.kind.gates != SupernetGates::Absent;
            let run: Stage<'a> = Rc::new(move |pass, x| pass.one(block, is_masked, x, &mut None));
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
        let kind = self.kind;
        self.tape.forget(mark, move |tape| {
            let mut pass = SimulatedPass { state, kind, tape, prefix, factors: None };
            run(&mut pass, &x);
            pass.tape
        });
        y
    }

    /// Whether blocks are left out for single images.
    fn drops_blocks(&self) -> bool {
        let trains = self.kind.gates == SupernetGates::Absent && self.kind.weights_wanted;
        trains && self.state.setting.extras.drop_connect
    }

    fn stem(&mut self, plan: &NetworkPlan, images: &SizedMap) -> SizedMap {
        let (kernel, stride, channels) = (plan.stem.kernel, plan.stem.stride, plan.stem.width);
        let z = self.dense(images, &LayerShape { name: "stem", kernel, stride, channels });
        self.norm(&[(z, "stem")], None, false)
    }

    /// The statistics of a map that a product has made. The CPU's are rows, which do not count.
    fn take_moments(&self, z: &SizedMap) {
        if self.is_on_gpu() {
            self.use_scratch(self.gpu_moments(z.side, z.channels));
        }
    }

    fn head(&mut self, plan: &NetworkPlan, x: &SizedMap) -> SizedMap {
        let (Head::Conv { width: mid, .. } | Head::IrPool { mid, .. }) = plan.head;
        let z = self.matmul(x, "head", mid);
        self.take_moments(&z);
        let y = self.norm(&[(z, "head")], None, false);
        self.pool(&y)
    }

    fn classifier(&mut self, plan: &NetworkPlan, mut x: SizedMap) -> SizedMap {
        if let Head::IrPool { width, .. } = plan.head {
            x = self.matmul(&x, "head.after_pool", width);
        }
        if let Some(factors) = self.factors.clone() {
            x = self.multiply(&x, &factors);
        }
        let z = self.matmul(&x, "classifier", plan.classes);
        self.bias(&z, "classifier")
    }

    /// One block of the explicit supernet: the sum of its parts.
    fn options(
        &mut self,
        parts: &[BlockPlan],
        is_masked: bool,
        width: usize,
        x: &SizedMap,
    ) -> SizedMap {
        let mut gram = None;
        let parts = parts.iter().map(|part| self.one(part, is_masked, x, &mut gram));
        let parts: Vec<SizedMap> = parts.collect();
        self.sum_padded(&parts, width)
    }

    /// One block, whose hidden channels may have a mask.
    fn one(
        &mut self,
        plan: &BlockPlan,
        is_masked: bool,
        x: &SizedMap,
        gram: &mut SharedCovariance,
    ) -> SizedMap {
        let mut candidates = Vec::with_capacity(plan.branches.len());
        let names: Vec<String> =
            plan.branches.iter().map(|(name, _)| format!("{}.{name}", plan.label)).collect();
        for ((_, branch), name) in plan.branches.iter().zip(&names) {
            candidates.push((self.branch((plan, is_masked), (branch, name), x, gram), &name[..]));
        }
        if self.drops_blocks() && plan.identity && !candidates.is_empty() {
            let branch = self.norm(&candidates, None, true);
            let branch = self.scale_rows(&branch);
            let input = self.shortcut(plan, x);
            return self.add(&branch, &input);
        }
        let identity = plan.identity.then(|| self.shortcut(plan, x));
        self.norm(&candidates, identity.as_ref(), true)
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
        (plan, is_masked): (&BlockPlan, bool),
        (branch, name): (&Branch, &str),
        x: &SizedMap,
        gram: &mut SharedCovariance,
    ) -> SizedMap {
        match *branch {
            Branch::Projection => {
                let x = self.subsample(x, x.side.div_ceil(plan.stride));
                let z = self.matmul(&x, name, plan.width);
                self.take_moments(&z);
                z
            }
            Branch::Residual { mid } => {
                let (first, kernel) = (format!("{name}.first"), 3);
                let layer = LayerShape { name: &first, kernel, stride: plan.stride, channels: mid };
                let z = self.dense(x, &layer);
                let inner = self.norm(&[(z, &first)], None, false);
                let layer = LayerShape { name, kernel, stride: 1, channels: plan.width };
                self.dense(&inner, &layer)
            }
            Branch::MbConv { kernel, mid, expand, squeeze, .. } => {
                let layer = format!("{name}.depthwise");
                let (stride, channels) = (plan.stride, mid);
                let layer = LayerShape { name: &layer, kernel, stride, channels };
                let z = self.depthwise(x, &layer, expand.then_some(gram));
                self.project(&z, layer.name, (squeeze, is_masked), plan.width)
            }
        }
    }
}

type Stage<'a> = Rc<dyn Fn(&mut SimulatedPass<'a>, &SizedMap) -> SizedMap + 'a>;
