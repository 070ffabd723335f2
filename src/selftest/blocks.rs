//! Blocks of networks, forward and backward: depthwise convolution with and without an expansion,
//! covariance, projection with and without squeeze-excite, batch norm and gated sum.

use super::{Check, Outputs, compare, random};
use crate::net::{Block, BlockGates};
use crate::nn::{Params, Pass};
use crate::rng::Seed;
use crate::space::{Activation, BlockPlan, Branch, SqueezeFunctions};
use candle_core::{Device, Result};

/// What passes: eight times the largest difference on the emulator, over several inputs and instruction
/// sets of the CPU (5.0e-6, in the gradient of the input's factor, a sum whose terms nearly cancel).
const TOLERANCE: f64 = 4e-5;

/// A block with several branches, and its input.
struct Case {
    name: &'static str,
    /// Images, side, channels.
    input: [usize; 3],
    stride: usize,
    width: usize,
    branches: Vec<Branch>,
    /// Whether the block adds its input and has gates and a mask, as in a supernet.
    gated: bool,
}

fn residual(kernel: usize, mid: usize, squeeze: Option<usize>, expand: bool) -> Branch {
    Branch::MbConv {
        kernel,
        activation: Activation::Hswish,
        mid,
        expand,
        squeeze,
        groups: 1,
        functions: SqueezeFunctions::default(),
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "inverted residual, 3x3",
            input: [3, 9, 12],
            stride: 1,
            width: 20,
            branches: vec![residual(3, 37, None, true)],
            gated: false,
        },
        Case {
            name: "inverted residual, 5x5, stride 2, squeeze-excite",
            input: [4, 15, 20],
            stride: 2,
            width: 24,
            branches: vec![residual(5, 80, Some(12), true)],
            gated: false,
        },
        Case {
            name: "inverted residual without expansion",
            input: [2, 28, 16],
            stride: 1,
            width: 16,
            branches: vec![residual(3, 16, Some(8), false)],
            gated: true,
        },
        Case {
            name: "many channels on a small map",
            input: [2, 4, 200],
            stride: 1,
            width: 200,
            branches: vec![residual(5, 1100, Some(48), true)],
            gated: true,
        },
        Case {
            name: "several branches with gates and a mask",
            input: [3, 11, 24],
            stride: 1,
            width: 24,
            branches: vec![
                residual(3, 72, None, true),
                residual(5, 72, Some(20), true),
                Branch::Projection,
            ],
            gated: true,
        },
        Case {
            name: "two dense convolutions",
            input: [3, 10, 16],
            stride: 2,
            width: 24,
            branches: vec![Branch::Residual { mid: 24 }],
            gated: false,
        },
    ]
}

pub(super) fn run(device: &Device, add: &mut dyn FnMut(Check)) {
    for case in cases() {
        let name = format!("block: {}", case.name);
        add(compare((name, TOLERANCE), device, |device| case.run(device)));
    }
}

impl Case {
    fn run(&self, device: &Device) -> Result<Outputs> {
        let [n, side, c] = self.input;
        let branches = self.branches.iter().enumerate();
        let plan = BlockPlan {
            label: "1.1".to_owned(),
            stride: self.stride,
            input: c,
            width: self.width,
            branches: branches.map(|(t, b)| (format!("branch{t}"), b.clone())).collect(),
            identity: self.gated,
        };
        let mut params = Params::new(Seed(1), device);
        let block = Block::new(&mut params, &plan)?;
        let mut pass = Pass::training(&mut params);
        let x = pass.tape.watch(&random("x", &[n, side, side, c], device)?);
        let gates = if self.gated { self.gates(&mut pass)? } else { BlockGates::default() };
        let y = block.forward(&mut pass, &x, &gates)?;
        let dy = random("dy", y.tensor().dims(), device)?;
        let mut outputs = vec![("y", y.tensor().clone())];
        let (weights, mut others) = pass.backward(&y, dy)?;
        outputs.extend(weights.into_iter().flatten().map(|g| ("a weight's gradient", g)));
        let watched = [
            ("dx", Some(&x)),
            ("gradient of gates", gates.branches.as_ref()),
            ("gradient of the mask", gates.width.as_ref()),
            ("gradient of the input's factor", gates.identity.as_ref()),
        ];
        let watched = watched.into_iter().filter_map(|(name, value)| Some((name, value?)));
        outputs.extend(watched.filter_map(|(name, value)| Some((name, others.take(value)?))));
        Ok(outputs)
    }

    /// Gates of all branches and of the input, and a mask with closed channels.
    fn gates(&self, pass: &mut Pass<'_>) -> Result<BlockGates> {
        let count = self.branches.len();
        let of_branches: Vec<f64> = (0..count).map(|t| 0.9 / (t + 1) as f64).collect();
        let mask: Vec<f64> = (0..self.width).map(|j| (j % 5) as f64 / 4.0).collect();
        pass.rows(true, |rows| BlockGates {
            branches: Some(rows.row(&of_branches)),
            identity: Some(rows.row(&[0.7])),
            width: Some(rows.row(&mask)),
            ..BlockGates::default()
        })
    }
}
