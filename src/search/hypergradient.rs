//! The gradient of the held-out cross-entropy by the gates: with constant weights (first order), or
//! through the next step of the weights (second order, DARTS section 2.3).

use crate::data::Batch;
use crate::net::{GatedNetwork, NetGates};
use crate::nn::{Params, Pass};
use crate::ops::gpu::Deferred;
use crate::ops::loss::{BatchLoss, cross_entropy};
use crate::ops::update::sum_of_squares;
use crate::recipe::Recompute;
use crate::record::Work;
use crate::tape::LeafGradients;
use anyhow::Result;
use candle_core::Tensor;

/// The minibatch of the weights' next step.
#[derive(Clone, Copy, Debug)]
pub struct NextBatch<'b> {
    pub batch: &'b Batch,
    /// ξ, the learning rate of that step.
    pub rate: f64,
}

/// ε ‖v‖: the length in weight space of the finite differences that approximate the product of the
/// Hessian with v.
const PROBE: f64 = 0.01;

/// A supernet and its gates.
pub(super) struct GatedNet<'a, N> {
    pub net: &'a N,
    pub gates: &'a NetGates,
    pub recompute: Recompute,
    /// Multiply-accumulates of the supernet for one image.
    pub macs: u64,
}

impl<N: GatedNetwork> GatedNet<'_, N> {
    /// The cross-entropy L on `held_out`, and ∂L/∂g; adds the compute to `work`.
    pub(super) fn first_order(
        &self,
        params: &mut Params,
        held_out: &Batch,
        work: &mut Work,
    ) -> Result<(BatchLoss, NetGates)> {
        let mut found = self.gradients(Pass::frozen(params), held_out, true)?;
        work.add_arch_gradient(self.macs, held_out.labels.len());
        let numbers = found.others.read(&[&found.loss])?;
        Ok((BatchLoss::of(&numbers[0]), self.by_gates(&mut found)?))
    }

    /// L(w') on `held_out`, and dL(w')/dg with w' = w - ξ ∇_w T(w), T being the cross-entropy on the
    /// next minibatch: ∂L/∂g - ξ ∂²T/∂g∂w · v, v = ∇L(w'). The product is taken as
    /// (∂T/∂g(w + εv) - ∂T/∂g(w - εv)) / 2ε with ε = 0.01 / ‖v‖.
    ///
    /// The step has neither momentum nor weight decay, as in the paper's formula; the authors' program
    /// has both.
    pub(super) fn second_order(
        &self,
        params: &mut Params,
        held_out: &Batch,
        next: NextBatch<'_>,
        work: &mut Work,
    ) -> Result<(BatchLoss, NetGates)> {
        let NextBatch { batch, rate } = next;
        let down = self.gradients(Pass::training(params), batch, false)?.by_weights;
        work.add_training(self.macs, batch.labels.len());
        let mut ahead = params.moved(&down, -rate)?;
        drop(down);
        let mut found = self.gradients(Pass::training(&mut ahead), held_out, true)?;
        work.add_training(self.macs, held_out.labels.len());
        drop(ahead);
        let v = std::mem::take(&mut found.by_weights);
        let squares = sum_of_squares(&v.iter().flatten().collect::<Vec<_>>())?;
        let numbers = found.others.read(&[&found.loss, &squares])?;
        let (result, mut total) = (BatchLoss::of(&numbers[0]), self.by_gates(&mut found)?);
        let epsilon = PROBE / numbers[1][0].sqrt();
        // At a minimum of L the second-order term is zero.
        if epsilon.is_finite() {
            for side in [epsilon, -epsilon] {
                let mut beside = params.moved(&v, side)?;
                let (_, by_gates) = self.first_order(&mut beside, batch, work)?;
                add_scaled(&mut total, -rate / (2.0 * side), &by_gates);
            }
        }
        Ok((result, total))
    }

    /// The gradients of the cross-entropy on a batch: by weights where the pass trains them, by gates
    /// where they are wanted. Reads nothing from the device.
    fn gradients(&self, pass: Pass<'_>, batch: &Batch, gates_wanted: bool) -> Result<Gradients<N>> {
        let mut pass = pass.recomputing(self.recompute);
        let (logits, bound) = self.net.forward(&mut pass, &batch.xs, self.gates, gates_wanted)?;
        let result = cross_entropy(logits.tensor(), &batch.labels, 0.0)?;
        let (by_weights, others) = pass.backward(&logits, result.dlogits)?;
        Ok(Gradients { loss: result.numbers, by_weights, bound, others })
    }

    fn by_gates(&self, found: &mut Gradients<N>) -> Result<NetGates> {
        Ok(self.net.gate_gradients(&found.bound, &mut found.others)?)
    }
}

/// The gradients of a pass, still on the device.
struct Gradients<N: GatedNetwork> {
    /// For [`BatchLoss::of`].
    loss: Deferred,
    by_weights: Vec<Option<Tensor>>,
    bound: N::TapeGates,
    /// Those of the gates.
    others: LeafGradients,
}

fn add_scaled(total: &mut NetGates, factor: f64, part: &NetGates) {
    let add = |total: &mut [f64], part: &[f64]| {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += factor * part);
    };
    add(&mut total.resolutions, &part.resolutions);
    for (total, part) in total.blocks.iter_mut().zip(&part.blocks) {
        add(&mut total.types, &part.types);
        add(&mut total.expansions, &part.expansions);
        add(&mut total.widths, &part.widths);
        total.identity += factor * part.identity;
    }
}
