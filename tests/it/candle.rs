//! A second reference: candle-nn's own layers with candle's autograd, in its layout `[n, c, h, w]`.

use crate::harness::{block_params, block_plan, mbconv, run_block};
use crate::numbers::{assert_close, random, random_map, values};
use crate::reference::{BlockGates, Map, Weights};
use candle_core::{D, Result, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Module};
use repro::nn::Params;
use repro::space::Activation;
use std::collections::BTreeMap;

const PREFIX: &str = "blocks.2.1.branch0";

/// The block's parameters as candle's variables, under our names.
struct Vars(BTreeMap<String, Var>);

impl Vars {
    fn of(params: &Params) -> Self {
        let all = params.named().filter(|(name, _)| !name.contains("running"));
        Self(all.map(|(n, t)| (n.to_owned(), Var::from_tensor(t).unwrap())).collect())
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0[&format!("{PREFIX}.{name}")].as_tensor()
    }

    /// `[c_in, c_out]` as candle's `[c_out, c_in, 1, 1]`.
    fn pointwise(&self, name: &str) -> Result<Conv2d> {
        let w = self.get(name).t()?.contiguous()?;
        let (c_out, c_in) = w.dims2()?;
        Ok(Conv2d::new(w.reshape((c_out, c_in, 1, 1))?, None, Conv2dConfig::default()))
    }

    /// `[k·k, c]` as candle's `[c, 1, k, k]`, one group per channel.
    fn depthwise(&self, name: &str, k: usize, stride: usize) -> Result<Conv2d> {
        let w = self.get(name).t()?.contiguous()?;
        let c = w.dim(0)?;
        let config = Conv2dConfig { padding: k / 2, stride, groups: c, ..Default::default() };
        Ok(Conv2d::new(w.reshape((c, 1, k, k))?, None, config))
    }

    /// Batch norm by its definition; candle-nn's divides by n - 1.
    fn norm(&self, name: &str, z: &Tensor) -> Result<Tensor> {
        let row = |part: &str| self.get(&format!("{name}.{part}")).reshape((1, (), 1, 1));
        let mean = |x: &Tensor| x.mean_keepdim(0)?.mean_keepdim(2)?.mean_keepdim(3);
        let centred = z.broadcast_sub(&mean(z)?)?;
        let deviation = (mean(&centred.sqr()?)? + 1e-5)?.sqrt()?;
        let unit = centred.broadcast_div(&deviation)?;
        unit.broadcast_mul(&row("gamma")?)?.broadcast_add(&row("beta")?)
    }
}

fn hswish(u: &Tensor) -> Result<Tensor> {
    (u * (u + 3.0)?.clamp(0f32, 6f32)?)? / 6.0
}

/// Output of the block, and candle's gradients of Σ y · dy by our names.
fn candle_block(
    vars: &Vars,
    x: &Map,
    dy: &[f64],
    (k, stride, residual): (usize, usize, bool),
) -> Result<(Vec<f64>, Weights)> {
    let x = x.tensor().permute((0, 3, 1, 2))?.contiguous()?;
    let u = hswish(&vars.norm("expand", &vars.pointwise("expand.weight")?.forward(&x)?)?)?;
    let z = vars.depthwise("depthwise.weight", k, stride)?.forward(&u)?;
    let u = hswish(&vars.norm("depthwise", &z)?)?;
    let z = vars.pointwise("project.weight")?.forward(&u)?;
    let mut y = vars.norm("project", &z)?;
    if residual {
        y = (y + &x)?;
    }
    let y = y.permute((0, 2, 3, 1))?.contiguous()?;
    let dy: Vec<f32> = dy.iter().map(|v| *v as f32).collect();
    let dy = Tensor::from_vec(dy, y.dims(), y.device())?;
    let gradients = (&y * dy)?.flatten_all()?.sum(D::Minus1)?.backward()?;
    let of = |(name, var): (&String, &Var)| {
        (name.clone(), values(gradients.get(var.as_tensor()).unwrap()))
    };
    Ok((values(&y), vars.0.iter().map(of).collect()))
}

#[test]
fn inverted_residual_matches_candle() {
    for (k, stride, side, width) in [(3, 1, 5, 4), (5, 1, 6, 4), (3, 2, 7, 6), (5, 2, 8, 6)] {
        let what = format!("k{k} s{stride}");
        let residual = stride == 1;
        let branch = mbconv(k, Activation::Hswish, 10, true, None);
        let plan = block_plan((stride, 4, width), &[branch], residual);
        let params = block_params(&plan, &what);
        let x = random_map("x", (3, side, side, 4));
        let out = side.div_ceil(stride);
        let dy = random("dy", 3 * out * out * width);
        let ours = run_block(&plan, &params, &x, &BlockGates::default(), &dy);
        let vars = Vars::of(&params);
        let (y, theirs) = candle_block(&vars, &x, &dy, (k, stride, residual)).unwrap();
        assert_close(&format!("{what}: y"), &ours.y, &y, 1e-4);
        assert_eq!(theirs.len(), ours.weights.len());
        for (name, expected) in &theirs {
            assert_close(&format!("{what}: {name}"), &ours.weights[name], expected, 2e-4);
        }
    }
}
