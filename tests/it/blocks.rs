//! Whole blocks on the tape against the plain formula: values, and by finite differences the gradients
//! of the input, of every parameter, and of every gate and mask.

use crate::harness::{block_params, block_plan, mbconv, run_block};
use crate::numbers::{assert_close, assert_gradient, random, random_map, weights};
use crate::reference::{BlockGates, Map, Reference, Statistics, Weights};
use repro::space::Activation::{Hswish, Relu};
use repro::space::{BlockPlan, Branch};

/// A few f32 layers with batch norm between them.
const VALUE: f64 = 2e-4;
const SLOPE: (f64, f64) = (5e-4, 1e-2);

fn loss(plan: &BlockPlan, weights: &Weights, x: &Map, gates: &BlockGates, dy: &[f64]) -> f64 {
    Reference::new(weights, Statistics::Batch).block(plan, x, gates).dot(dy)
}

/// Compares everything about one block with the reference.
fn check(what: &str, plan: &BlockPlan, (n, h, w): (usize, usize, usize), gates: &BlockGates) {
    let params = block_params(plan, what);
    let x = random_map("x", (n, h, w, plan.input));
    let weights = weights(&params);
    let expected = Reference::new(&weights, Statistics::Batch).block(plan, &x, gates);
    let dy = random("dy", expected.data.len());
    let run = run_block(plan, &params, &x, gates, &dy);
    assert_close(what, &run.y, &expected.data, VALUE);

    assert_gradient(&format!("{what}, dx"), &run.dx, &x.data, 3, SLOPE, |moved| {
        let moved = Map::new((n, h, w, plan.input), moved.to_vec());
        loss(plan, &weights, &moved, gates, &dy)
    });
    let trained = weights.iter().filter(|(name, _)| !name.contains(".running_"));
    for (name, at) in trained {
        let found = run.weights.get(name).unwrap_or_else(|| panic!("{what}: none for {name}"));
        assert_gradient(&format!("{what}, {name}"), found, at, 3, SLOPE, |moved| {
            let mut weights = weights.clone();
            weights.insert(name.clone(), moved.to_vec());
            loss(plan, &weights, &x, gates, &dy)
        });
    }
    check_gates(what, plan, &x, &weights, gates, &dy, &run.gates);
}

fn check_gates(
    what: &str,
    plan: &BlockPlan,
    x: &Map,
    weights: &Weights,
    gates: &BlockGates,
    dy: &[f64],
    found: &BlockGates,
) {
    let squeezes =
        plan.branches.iter().any(|(_, b)| matches!(b, Branch::MbConv { squeeze: Some(_), .. }));
    let check = |part: &str,
                 found: &Option<Vec<f64>>,
                 at: &Option<Vec<f64>>,
                 put: &dyn Fn(&mut BlockGates, Vec<f64>)| {
        let Some(at) = at else { return assert!(found.is_none(), "{what}: {part}") };
        let found = found.as_ref().unwrap_or_else(|| panic!("{what}: no gradient for {part}"));
        assert_gradient(&format!("{what}, {part}"), found, at, 3, SLOPE, |moved| {
            let mut gates = gates.clone();
            put(&mut gates, moved.to_vec());
            loss(plan, weights, x, &gates, dy)
        });
    };
    check("branches", &found.branches, &gates.branches, &|g, v| g.branches = Some(v));
    let one = |rho: Option<f64>| rho.map(|rho| vec![rho]);
    check("identity", &one(found.identity), &one(gates.identity), &|g, v| g.identity = Some(v[0]));
    check("mid", &found.mid, &gates.mid, &|g, v| g.mid = Some(v));
    if squeezes {
        check("squeeze", &found.squeeze, &gates.squeeze, &|g, v| g.squeeze = Some(v));
    }
    check("width", &found.width, &gates.width, &|g, v| g.width = Some(v));
    check("inner", &found.inner, &gates.inner, &|g, v| g.inner = Some(v));
    let (found_mid, at_mid) = (&found.mid_before_norm, &gates.mid_before_norm);
    check("mid before norm", found_mid, at_mid, &|g, v| g.mid_before_norm = Some(v));
    let (found_width, at_width) = (&found.width_before_norm, &gates.width_before_norm);
    check("width before norm", found_width, at_width, &|g, v| g.width_before_norm = Some(v));
}

/// Gates and masks with no entry zero, the masks decreasing as in a search.
fn all_gates(plan: &BlockPlan) -> BlockGates {
    let falling = |n: usize| Some((0..n).map(|c| 1.0 - 0.7 * c as f64 / n as f64).collect());
    let mut gates = BlockGates {
        branches: Some(random("branches", plan.branches.len())),
        identity: plan.identity.then_some(0.6),
        width: falling(plan.width),
        ..BlockGates::default()
    };
    for (_, branch) in &plan.branches {
        match branch {
            Branch::MbConv { mid, squeeze, .. } => {
                gates.mid = falling(*mid);
                if let Some(squeeze) = squeeze {
                    gates.squeeze = falling(*squeeze);
                }
            }
            Branch::Residual { mid } => gates.inner = falling(*mid),
            Branch::Projection => {}
        }
    }
    gates
}

#[test]
fn inverted_residuals_match_the_reference() {
    for kernel in [3, 5] {
        for activation in [Relu, Hswish] {
            for squeeze in [None, Some(3)] {
                for expand in [true, false] {
                    for stride in [1, 2] {
                        let (input, mid) = if expand { (5, 17) } else { (12, 12) };
                        let residual = stride == 1 && kernel == 3;
                        let width = if residual { input } else { 7 };
                        let branch = mbconv(kernel, activation, mid, expand, squeeze);
                        let plan = block_plan((stride, input, width), &[branch], residual);
                        let what = format!(
                            "k{kernel} {activation} s{stride}, squeeze {squeeze:?}, expand {expand}"
                        );
                        check(&what, &plan, (2, 5, 7), &BlockGates::default());
                        check(&format!("masked {what}"), &plan, (3, 6, 5), &all_gates(&plan));
                    }
                }
            }
        }
    }
}

#[test]
fn residual_blocks_match_the_reference() {
    for (stride, input, width) in [(1, 5, 5), (1, 4, 9), (1, 9, 4), (2, 6, 6), (2, 3, 7), (2, 7, 3)]
    {
        let plan = block_plan((stride, input, width), &[Branch::Residual { mid: width }], true);
        let what = format!("residual s{stride}, {input} to {width}");
        check(&what, &plan, (2, 5, 7), &BlockGates::default());
        check(&format!("masked {what}"), &plan, (3, 6, 5), &all_gates(&plan));
    }
    let mixed = [mbconv(3, Hswish, 10, true, Some(3)), Branch::Residual { mid: 8 }];
    let plan = block_plan((1, 6, 8), &mixed, true);
    check("a residual block beside another type", &plan, (2, 5, 7), &all_gates(&plan));
}

#[test]
fn wide_blocks_with_few_pixels_match_the_reference() {
    let branch = mbconv(5, Hswish, 52, true, Some(13));
    for (side, stride) in [((4, 1, 1), 1), ((3, 2, 1), 2), ((2, 3, 3), 2)] {
        let plan = block_plan((stride, 33, 21), std::slice::from_ref(&branch), false);
        check(&format!("wide block on {side:?}"), &plan, side, &all_gates(&plan));
    }
}

#[test]
fn sums_of_all_branch_kinds_match_the_reference() {
    let branches = [
        mbconv(3, Relu, 10, true, None),
        mbconv(5, Hswish, 10, true, Some(3)),
        Branch::Projection,
        mbconv(3, Hswish, 10, true, Some(3)),
    ];
    for (stride, input, width, identity) in [(1, 6, 6, true), (2, 6, 9, false), (1, 4, 9, false)] {
        let plan = block_plan((stride, input, width), &branches, identity);
        let what = format!("four branches, stride {stride}, {input} to {width}");
        check(&what, &plan, (2, 5, 7), &all_gates(&plan));
        check(&format!("ungated {what}"), &plan, (2, 5, 7), &BlockGates::default());
    }
}

#[test]
fn masks_before_batch_norm_match_the_reference() {
    for (stride, input, width, identity) in [(1, 6, 6, true), (2, 6, 9, false)] {
        let residual = Branch::Residual { mid: width };
        let branches = [mbconv(3, Hswish, 10, true, Some(3)), Branch::Projection, residual];
        let plan = block_plan((stride, input, width), &branches, identity);
        let all = all_gates(&plan);
        // So small that the ε of batch norm matters; without it these masks would have no gradient.
        let small = |mask: &Option<Vec<f64>>| {
            mask.as_ref().map(|mask| mask.iter().map(|m| 0.01 * m).collect())
        };
        let gates = BlockGates {
            mid_before_norm: small(&all.mid),
            width_before_norm: small(&all.width),
            mid: None,
            width: None,
            inner: None,
            ..all
        };
        check(&format!("masks before norm, stride {stride}"), &plan, (2, 5, 7), &gates);
    }
}

#[test]
fn batch_norm_cancels_masks_in_front_of_it() {
    let plan = block_plan((1, 6, 9), &[mbconv(3, Relu, 10, true, None)], false);
    let (params, x) = (block_params(&plan, "cancelled"), random_map("x", (3, 5, 7, 6)));
    let dy = random("dy", 3 * 5 * 7 * 9);
    let run = |gates: &BlockGates| run_block(&plan, &params, &x, gates, &dy).y;
    let (plain, mask) = (run(&BlockGates::default()), vec![0.5; 9]);
    let none = BlockGates::default;
    let before = run(&BlockGates { width_before_norm: Some(mask.clone()), ..none() });
    let behind = run(&BlockGates { width: Some(mask), ..none() });
    assert_close("in front", &before, &plain, 1e-3);
    let halves: Vec<f64> = plain.iter().map(|y| 0.5 * y).collect();
    assert_close("behind", &behind, &halves, 1e-5);
}

#[test]
fn skips_match_the_reference() {
    for (stride, input, width) in [(1, 5, 9), (2, 5, 9), (2, 17, 4)] {
        let plan = block_plan((stride, input, width), &[Branch::Projection], false);
        check(&format!("projection s{stride}"), &plan, (2, 5, 7), &BlockGates::default());
        check(&format!("gated projection s{stride}"), &plan, (2, 5, 7), &all_gates(&plan));
    }
    for width in [5, 3] {
        let plan = block_plan((1, 5, width), &[], true);
        check("the input itself", &plan, (2, 3, 4), &BlockGates::default());
        let gates = BlockGates { branches: None, ..all_gates(&plan) };
        check("the input weighed", &plan, (2, 3, 4), &gates);
    }
}

#[test]
fn running_statistics_follow_the_batch() {
    let branches = [mbconv(3, Relu, 10, true, Some(3)), Branch::Projection];
    let plan = block_plan((2, 6, 9), &branches, false);
    let params = block_params(&plan, "statistics");
    let (before, x) = (weights(&params), random_map("x", (3, 5, 7, 6)));
    let reference = Reference::new(&before, Statistics::Batch);
    let dy = reference.block(&plan, &x, &BlockGates::default()).data;
    let run = run_block(&plan, &params, &x, &BlockGates::default(), &dy);
    let seen = reference.seen.borrow();
    assert_eq!(seen.len(), 4);
    for (name, moments) in seen.iter() {
        let moved = |part: &str, batch: Vec<f64>| {
            let key = format!("{name}.{part}");
            let expected: Vec<f64> =
                before[&key].iter().zip(batch).map(|(old, new)| 0.9 * old + 0.1 * new).collect();
            assert_close(&key, &run.after[&key], &expected, VALUE);
        };
        let unbiased = moments.count as f64 / (moments.count as f64 - 1.0);
        moved("running_mean", moments.mean.clone());
        moved("running_var", moments.variance.iter().map(|v| v * unbiased).collect());
    }
}
