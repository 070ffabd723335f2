//! With one-hot gates the explicit supernet equals the derived network.

use super::{Explicit, small};
use crate::harness::named_gradients;
use crate::invariants::cut;
use crate::numbers::{assert_close, loss_of, values};
use crate::spaces::{decisions, dense, gate_values, one_hot, sparse, unexpanded};
use candle_core::{Device, Tensor};
use repro::net::Network;
use repro::nn::Pass;
use repro::rng::Seed;
use repro::space::{Decisions, Expansion, SearchSpace};

/// The name in the explicit supernet of a tensor of the derived network.
fn option_name(space: &SearchSpace, made: &Decisions, name: &str) -> String {
    for (choices, decision) in space.blocks.iter().zip(&made.blocks) {
        let (label, width) = (choices.label(), choices.widths[decision.width]);
        let block_type = choices.types[decision.block_type];
        let option = format!("blocks.{label}.w{width}.{block_type}");
        for alone in ["skip", "residual"] {
            if let Some(rest) = name.strip_prefix(&format!("blocks.{label}.{alone}.")) {
                return format!("{option}.{rest}");
            }
        }
        if let Some(rest) = name.strip_prefix(&format!("blocks.{label}.mbconv.")) {
            return match &choices.expansion {
                Expansion::None => format!("{option}.{rest}"),
                Expansion::Options { mids, .. } => {
                    format!("{option}.m{}.{rest}", mids[decision.expansion])
                }
            };
        }
    }
    name.to_owned()
}

#[test]
fn one_hot_equals_the_derived_network() {
    for space in [small(), sparse(), unexpanded(), dense()] {
        let made = decisions(&space, "one-hot", 20);
        let mut s = Explicit::new(space, 4);
        for made in &made {
            let what = format!("{}: {made:?}", s.space.name);
            let arch = s.space.decide(made);
            let gates = gate_values(&s.space, &one_hot(&s.space, made, &0.0, &1.0));
            let (net, mut own) = Network::of_arch(&arch, Seed(0), &Device::Cpu).unwrap();
            let names: Vec<(String, Vec<usize>)> =
                own.named().map(|(n, t)| (n.to_owned(), t.dims().to_vec())).collect();
            for (name, dims) in &names {
                let source = option_name(&s.space, made, name);
                let (_, tensor) = s.params.named().find(|(n, _)| *n == source).unwrap();
                own.set(name, &cut(tensor, dims)).unwrap();
            }
            let found = s.run(&gates);
            let mut pass = Pass::training(&mut own);
            let derived = net.forward(&mut pass, &s.images.tensor()).unwrap();
            let result = loss_of(derived.tensor(), &s.labels, 0.0).unwrap();
            let (gradients, _) = pass.backward(&derived, result.dlogits).unwrap();
            assert_close(&what, &found.logits, &values(derived.tensor()), 2e-3);

            let squares = |x: &Tensor| values(x).iter().map(|v| v * v).sum::<f64>();
            let expected = named_gradients(&own, &gradients);
            let norm = expected.iter().map(|(_, g)| squares(g)).sum::<f64>().sqrt();
            let mut inside = 0.0;
            for (name, gradient) in &expected {
                let source = option_name(&s.space, made, name);
                let (_, found) = found.weights.iter().find(|(n, _)| *n == source).unwrap();
                let apart = squares(&(cut(found, gradient.dims()) - gradient).unwrap()).sqrt();
                let scale = squares(gradient).sqrt().max(0.01 * norm);
                assert!(apart <= 2e-3 * scale, "{what}: {name} is {apart} apart of {scale}");
                inside += squares(&cut(found, gradient.dims()));
            }
            let all: f64 = found.weights.iter().map(|(_, g)| squares(g)).sum();
            let left = (all - inside).max(0.0).sqrt();
            assert!(left <= 2e-3 * norm, "{what}: {left} of {norm} goes to unused weights");
        }
    }
}
