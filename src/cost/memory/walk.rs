//! The way of a step through a network, as `crate::net` goes it.

use super::StepSetting;
use super::ledger::Footprint;
use super::operators::{Context, Gram, Layer, Pass};
use super::tape::{Map, Tape};
use crate::recipe::Recompute;
use crate::space::{BlockPlan, Branch, Head, NetworkPlan, SearchSpace, option_plans};
use std::rc::Rc;

pub(super) struct Walk {
    cx: Rc<Context>,
}

impl Walk {
    pub(super) fn new(setting: StepSetting) -> Self {
        Self { cx: Rc::new(Context::new(setting)) }
    }

    /// The next step begins with what is held now.
    pub(super) fn begin_anew(&self) {
        self.cx.ledger.reset_peak();
    }

    pub(super) fn peak(&self) -> Footprint {
        self.cx.ledger.peak()
    }

    /// The weights of a network, and nothing else of it.
    pub(super) fn weights(&self, plan: &NetworkPlan) {
        let mut pass = self.pass();
        let images = pass.images(plan.resolution, plan.image_channels);
        pass.network(plan, images, &[plan.resolution]);
    }

    fn pass<'a>(&self) -> Pass<'a> {
        Pass { cx: self.cx.clone(), tape: Tape::new(&self.cx.ledger), prefix: String::new() }
    }

    /// A network of `plan` on images of several sides, the largest first.
    pub(super) fn network(&self, plan: &NetworkPlan, sides: &[usize]) {
        let mut pass = self.pass();
        let images = pass.images(plan.resolution, plan.image_channels);
        let logits = pass.network(plan, images.clone(), sides);
        pass.tape.backward(&logits);
    }

    /// A network of `plan` that sees images of `side` on its own grid.
    pub(super) fn derived(&self, plan: &NetworkPlan, side: usize) {
        let mut pass = self.pass();
        let images = pass.images(side, plan.image_channels);
        let seen = pass.subsample(&images, plan.resolution);
        let logits = pass.network(plan, seen, &[plan.resolution]);
        pass.tape.backward(&logits);
    }

    /// The explicit supernet.
    pub(super) fn explicit(&self, space: &SearchSpace) {
        let plan = NetworkPlan::supernet(space);
        let blocks: Vec<Vec<BlockPlan>> =
            space.blocks.iter().map(|choices| option_plans(space, choices)).collect();
        let mut pass = self.pass();
        let images = pass.images(plan.resolution, plan.image_channels);
        let mut features: Option<Map> = None;
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

impl<'a> Pass<'a> {
    /// Logits, all stages at every side.
    fn network(&mut self, plan: &'a NetworkPlan, images: Map, sides: &[usize]) -> Map {
        let whole = sides[0];
        let mut x = images;
        let stage = |pass: &mut Self, x: &Map, is_block: bool, run: Stage<'a>| -> Vec<Map> {
            let mut maps = Vec::with_capacity(sides.len());
            for (i, side) in sides.iter().enumerate() {
                // The grid of this map is as much smaller as the image's.
                let small = if i == 0 { x.side } else { (x.side * side).div_ceil(whole) };
                let run = run.clone();
                let on_grid = move |pass: &mut Self, x: &Map| {
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

    fn block(&mut self, x: &Map, run: impl Fn(&mut Self, &Map) -> Map + 'a) -> Map {
        match self.cx.setting.recompute {
            Recompute::None => run(self, x),
            Recompute::Block => self.recomputed(x, run),
        }
    }

    fn recomputed(&mut self, x: &Map, run: impl Fn(&mut Self, &Map) -> Map + 'a) -> Map {
        let mark = self.tape.mark();
        let y = run(self, x);
        let (cx, x, prefix) = (self.cx.clone(), x.clone(), self.prefix.clone());
        self.tape.forget(mark, move |tape| {
            let mut pass = Pass { cx, tape, prefix };
            run(&mut pass, &x);
            pass.tape
        });
        y
    }

    fn stem(&mut self, plan: &NetworkPlan, images: &Map) -> Map {
        let (kernel, stride, channels) = (plan.stem.kernel, plan.stem.stride, plan.stem.width);
        let z = self.dense(images, &Layer { name: "stem", kernel, stride, channels });
        self.norm(&[(z, "stem")], None)
    }

    fn head(&mut self, plan: &NetworkPlan, x: &Map) -> Map {
        let (Head::Conv { width: mid, .. } | Head::IrPool { mid, .. }) = plan.head;
        let z = self.matmul(x, "head", mid);
        let y = self.norm(&[(z, "head")], None);
        self.pool(&y)
    }

    fn classifier(&mut self, plan: &NetworkPlan, mut x: Map) -> Map {
        if let Head::IrPool { width, .. } = plan.head {
            x = self.matmul(&x, "head.after_pool", width);
        }
        let z = self.matmul(&x, "classifier", plan.classes);
        self.bias(&z, "classifier")
    }

    /// The parts of a block of the explicit supernet.
    fn options(&mut self, parts: &[BlockPlan], width: usize, x: &Map) -> Map {
        let mut gram = None;
        let parts: Vec<Map> = parts.iter().map(|part| self.one(part, x, &mut gram)).collect();
        self.sum_padded(&parts, width)
    }

    /// One block.
    fn one(&mut self, plan: &BlockPlan, x: &Map, gram: &mut Gram) -> Map {
        let mut candidates = Vec::with_capacity(plan.branches.len());
        let names: Vec<String> =
            plan.branches.iter().map(|(name, _)| format!("{}.{name}", plan.label)).collect();
        for ((_, branch), name) in plan.branches.iter().zip(&names) {
            candidates.push((self.branch(plan, branch, name, x, gram), &name[..]));
        }
        let identity = plan.identity.then(|| self.shortcut(plan, x));
        self.norm(&candidates, identity.as_ref())
    }

    /// The input as a block adds it.
    fn shortcut(&mut self, plan: &BlockPlan, x: &Map) -> Map {
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
        x: &Map,
        gram: &mut Gram,
    ) -> Map {
        match *branch {
            Branch::Projection => {
                let x = self.subsample(x, x.side.div_ceil(plan.stride));
                self.matmul(&x, name, plan.width)
            }
            Branch::Residual { mid } => {
                let (first, kernel) = (format!("{name}.first"), 3);
                let layer = Layer { name: &first, kernel, stride: plan.stride, channels: mid };
                let z = self.dense(x, &layer);
                let inner = self.norm(&[(z, &first)], None);
                let layer = Layer { name, kernel, stride: 1, channels: plan.width };
                self.dense(&inner, &layer)
            }
            Branch::MbConv { kernel, mid, expand, squeeze, .. } => {
                let layer = format!("{name}.depthwise");
                let (stride, channels) = (plan.stride, mid);
                let layer = Layer { name: &layer, kernel, stride, channels };
                let z = self.depthwise(x, &layer, expand.then_some(gram));
                self.project(&z, layer.name, squeeze, plan.width)
            }
        }
    }
}

type Stage<'a> = Rc<dyn Fn(&mut Pass<'a>, &Map) -> Map + 'a>;
