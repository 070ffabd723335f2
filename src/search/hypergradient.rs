//! How the cross-entropy on held-out images depends on the gates: with the weights held (first
//! order), or through the step that the weights are about to take (second order, DARTS section 2.3).

use crate::data::Batch;
use crate::net::{Gated, NetGates};
use crate::nn::{Params, Pass};
use crate::ops::loss::{CrossEntropy, cross_entropy};
use crate::ops::update::sum_of_squares;
use crate::recipe::Recompute;
use crate::record::Work;
use anyhow::Result;
use candle_core::Tensor;

/// The minibatch that the weights are about to learn from.
#[derive(Clone, Copy, Debug)]
pub struct NextBatch<'b> {
    pub batch: &'b Batch,
    /// ξ, the learning rate of that step.
    pub rate: f64,
}

/// Length in weight space, ε ‖v‖, of the steps that the Hessian's product with v is measured by.
const PROBE: f64 = 0.01;

/// A supernet with its gates.
pub(super) struct Point<'a, N> {
    pub net: &'a N,
    pub gates: &'a NetGates,
    pub recompute: Recompute,
    /// Multiply-accumulates of the supernet for one image.
    pub macs: u64,
}

impl<N: Gated> Point<'_, N> {
    /// The cross-entropy L on `held_out`, and ∂L/∂g; adds to `work` what it took.
    pub(super) fn first_order(
        &self,
        params: &mut Params,
        held_out: &Batch,
        work: &mut Work,
    ) -> Result<(CrossEntropy, NetGates)> {
        let (result, _, by_gates) = self.slopes(Pass::frozen(params), held_out, true)?;
        work.add_arch_gradient(self.macs, held_out.labels.len());
        Ok((result, by_gates))
    }

    /// L(w') on `held_out`, and dL(w')/dg with w' = w - ξ ∇_w T(w), T being the cross-entropy on the
    /// upcoming minibatch: ∂L/∂g - ξ ∂²T/∂g∂w · v, v = ∇L(w'). The product is taken as
    /// (∂T/∂g(w + εv) - ∂T/∂g(w - εv)) / 2ε with ε = 0.01 / ‖v‖.
    ///
    /// The step has neither momentum nor decay, as in the paper's formula (the authors' program has
    /// both).
    pub(super) fn second_order(
        &self,
        params: &mut Params,
        held_out: &Batch,
        next: NextBatch<'_>,
        work: &mut Work,
    ) -> Result<(CrossEntropy, NetGates)> {
        let NextBatch { batch, rate } = next;
        let (_, down, _) = self.slopes(Pass::training(params), batch, false)?;
        work.add_training(self.macs, batch.labels.len());
        let mut ahead = params.moved(&down, -rate)?;
        drop(down);
        let (result, v, mut total) = self.slopes(Pass::training(&mut ahead), held_out, true)?;
        work.add_training(self.macs, held_out.labels.len());
        drop(ahead);
        let epsilon = PROBE / norm(&v)?;
        // At a minimum of L there is nothing to look through the step for.
        if epsilon.is_finite() {
            for side in [epsilon, -epsilon] {
                let mut beside = params.moved(&v, side)?;
                let (_, by_gates) = self.first_order(&mut beside, batch, work)?;
                add_scaled(&mut total, -rate / (2.0 * side), &by_gates);
            }
        }
        Ok((result, total))
    }

    /// The cross-entropy on a batch, with its gradients by weights (where the pass trains them) and
    /// by gates (where they are wanted).
    fn slopes(
        &self,
        pass: Pass<'_>,
        batch: &Batch,
        gates_wanted: bool,
    ) -> Result<(CrossEntropy, Vec<Option<Tensor>>, NetGates)> {
        let mut pass = pass.recomputing(self.recompute);
        let (logits, bound) = self.net.forward(&mut pass, &batch.xs, self.gates, gates_wanted)?;
        let result = cross_entropy(logits.tensor(), &batch.labels, 0.0)?;
        let (by_weights, mut others) = pass.backward(&logits, result.dlogits.clone())?;
        let by_gates = self.net.gate_gradients(&bound, &mut others)?;
        Ok((result, by_weights, by_gates))
    }
}

/// The length of a direction in weight space.
fn norm(direction: &[Option<Tensor>]) -> Result<f64> {
    let mut squares = 0.0;
    for part in direction.iter().flatten() {
        squares += sum_of_squares(part)?;
    }
    Ok(squares.sqrt())
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
