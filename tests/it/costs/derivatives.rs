//! Derivatives of expected costs against finite differences.

use super::{flat, shaped, spaces, tiny};
use crate::numbers::assert_gradient;
use crate::spaces::random_probabilities;
use repro::cost::{Graph, Probabilities, Traced, propagate, propagate_counting};

#[test]
fn traced_costs_have_correct_derivatives() {
    for space in spaces() {
        let p = random_probabilities(&space, "slopes");
        let at = flat(&p);
        let graph = Graph::default();
        let leaves: Vec<Traced> = at.iter().map(|v| graph.leaf(*v)).collect();
        let traced = propagate(&space, &shaped(&p, &leaves), &graph.leaf(1.0));
        let plain = propagate(&space, &p, &1.0);
        assert_eq!(traced.cost.macs.value(), plain.cost.macs);

        // A weighted sum of everything, like the loss of a search.
        let mut seeds = vec![
            (&traced.cost.macs, 1.0 / plain.cost.macs),
            (&traced.cost.params, -0.4 / plain.cost.params),
            (&traced.cost.pooled, 0.3 / plain.cost.pooled),
        ];
        for (i, block) in traced.blocks.iter().enumerate() {
            seeds.push((&block.identity, 0.2 * (i + 1) as f64));
            seeds.push((&block.width, 0.01));
            seeds.push((&block.mid, -0.01));
        }
        let derivatives = graph.derivatives(&seeds);
        let found: Vec<f64> = leaves.iter().map(|leaf| derivatives.to(leaf)).collect();
        let value = |flat: &[f64]| {
            let now = propagate(&space, &shaped(&p, flat), &1.0);
            let shapes =
                now.blocks.iter().enumerate().map(|(i, b)| {
                    0.2 * (i + 1) as f64 * b.identity + 0.01 * b.width - 0.01 * b.mid
                });
            now.cost.macs / plain.cost.macs - 0.4 * now.cost.params / plain.cost.params
                + 0.3 * now.cost.pooled / plain.cost.pooled
                + shapes.sum::<f64>()
        };
        for i in 0..at.len() {
            let only: Vec<f64> = vec![found[i]];
            assert_gradient(
                &format!("{} {i}", space.name),
                &only,
                &at[i..=i],
                1,
                (1e-7, 1.0),
                |v| {
                    let mut moved = at.clone();
                    moved[i] = v[0];
                    value(&moved)
                },
            );
        }
    }
}

#[test]
fn nominal_inputs_ignore_the_width_before() {
    use repro::recipe::InputChannels::{Effective, Nominal};
    let space = tiny();
    let graph = Graph::default();
    let p = random_probabilities(&space, "inputs");
    let leaves = p.map(|v| graph.leaf(*v));
    let macs =
        |p: &Probabilities<f64>, inputs| propagate_counting(&space, p, &1.0, inputs).cost.macs;
    assert_eq!(macs(&p, Effective), propagate(&space, &p, &1.0).cost.macs);
    assert!(macs(&p, Nominal) > macs(&p, Effective));
    // With the largest widths and no skip, nominal channels are the effective ones.
    let mut widest = p.clone();
    for block in &mut widest.blocks {
        (block.widths, block.types) = (vec![0.0, 1.0], vec![0.3, 0.7, 0.0]);
    }
    assert_eq!(macs(&widest, Nominal), macs(&widest, Effective));
    for inputs in [Effective, Nominal] {
        let cost = propagate_counting(&space, &leaves, &graph.leaf(1.0), inputs).cost.macs;
        let derivatives = graph.derivatives(&[(&cost, 1.0)]);
        let mut by_leaf = vec![];
        let _ = leaves.map(|leaf| by_leaf.push(derivatives.to(leaf)));
        let at = flat(&p);
        assert_gradient(&format!("{inputs:?}"), &by_leaf, &at, 4, (1e-7, 1.0), |moved| {
            macs(&shaped(&p, moved), inputs)
        });
    }
    // The cost of the width of the first block in the expansion of the second.
    let slope = |inputs| {
        let mut narrow = p.clone();
        narrow.blocks[0].widths = vec![1.0, 0.0];
        let mut wide = p.clone();
        wide.blocks[0].widths = vec![0.0, 1.0];
        macs(&wide, inputs) - macs(&narrow, inputs)
    };
    assert!(slope(Nominal) < 0.8 * slope(Effective), "{} {}", slope(Nominal), slope(Effective));
}
