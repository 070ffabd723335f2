//! One block on the tape (FBNetV2 section 3.1): y = (Σ_t g_t · branch_t(x) + ρ x) ∘ M.
//!
//! With gates and masks it is a block of the supernet; with one branch and without gates it is a block
//! of the derived network. Each branch ends in its raw projection. One operator behind the branches
//! normalises, weights and sums them, adds the input and applies the mask.

use super::residual::{ResidualBlock, shortcut};
use crate::nn::{BatchNorm, Conv1x1, Depthwise, Params, Pass, SqueezeExcite};
use crate::ops::depthwise::Expand;
use crate::ops::gram::Gram;
use crate::ops::groups::{GroupOrder, Groups};
use crate::ops::inference::{InferenceInvertedResidual, InferenceLayer};
use crate::ops::norm::{GatedSum, PreActivation};
use crate::ops::subsample::Grid;
use crate::space::{Activation, BlockPlan, Branch};
use crate::tape::Value;
use candle_core::Result;
use std::rc::Rc;

/// The gates and masks of one block on the tape. A derived network has none of them.
#[derive(Clone, Debug, Default)]
pub struct BlockGates {
    /// The gates g_t of the branches `[t]`.
    pub branches: Option<Value>,
    /// ρ `[1]`, the factor of the input.
    pub identity: Option<Value>,
    /// Mask of the hidden channels `[mid]`.
    pub mid: Option<Value>,
    /// Mask of the squeezed channels `[squeeze]`.
    pub squeeze: Option<Value>,
    /// Mask of the output channels `[width]`.
    pub width: Option<Value>,
    /// Mask of the channels between the convolutions of a residual block `[width]`.
    pub inner: Option<Value>,
    /// Masks before batch norm instead of behind it.
    pub filters: FilterMasks,
    /// Factors of the branches for each image `[n]`, where the input is added (see [`super::drops`]).
    pub kept: Option<Value>,
}

/// Masks before a batch norm, applied to the filters of the convolution before it. Batch statistics
/// divide such a mask out again, like any factor of a channel. It exists for comparison.
#[derive(Clone, Debug, Default)]
pub struct FilterMasks {
    /// Mask of the depthwise filters `[mid]`.
    pub depthwise: Option<Value>,
    /// Mask of the last filters of every branch, and of all filters of a residual block `[width]`.
    pub project: Option<Value>,
}

/// The layers of a block.
#[derive(Debug)]
pub struct Block {
    /// All branches read the same input. Its covariance is computed once.
    branches: Vec<BranchLayers>,
    identity: bool,
    stride: usize,
    width: usize,
}

#[derive(Debug)]
enum BranchLayers {
    MbConv(Box<MbConv>),
    Projection { conv: Conv1x1, norm: BatchNorm, stride: usize },
    Residual(ResidualBlock),
}

/// Inverted residual (Sandler et al. 2018) up to its projection.
#[derive(Debug)]
struct MbConv {
    expand: Option<(Conv1x1, BatchNorm)>,
    depthwise: Depthwise,
    depthwise_norm: BatchNorm,
    squeeze_excite: Option<SqueezeExcite>,
    project: Conv1x1,
    project_norm: BatchNorm,
    activation: Activation,
}

impl Block {
    /// Adds the parameters of the block to `params`.
    ///
    /// # Errors
    /// When the device runs out of memory.
    pub fn new(params: &mut Params, plan: &BlockPlan) -> Result<Self> {
        let branches = plan.branches.iter().map(|(name, branch)| {
            let name = format!("blocks.{}.{name}", plan.label);
            match branch {
                Branch::Projection => Ok(BranchLayers::Projection {
                    conv: Conv1x1::new(params, &name, plan.input, plan.width)?,
                    norm: BatchNorm::new(params, &name, plan.width)?,
                    stride: plan.stride,
                }),
                Branch::Residual { mid } => {
                    Ok(BranchLayers::Residual(ResidualBlock::new(params, &name, plan, *mid)?))
                }
                Branch::MbConv { .. } => {
                    Ok(BranchLayers::MbConv(Box::new(MbConv::new(params, &name, plan, branch)?)))
                }
            }
        });
        let branches = branches.collect::<Result<_>>()?;
        Ok(Self { branches, identity: plan.identity, stride: plan.stride, width: plan.width })
    }

    /// Whether it has branches beside its input, so that it can be left out for an image.
    pub(super) fn is_droppable(&self) -> bool {
        self.identity && !self.branches.is_empty()
    }

    /// x `[n, h, w, c_in]` → `[n, ⌈h/s⌉, ⌈w/s⌉, width]`.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Value, gates: &BlockGates) -> Result<Value> {
        self.forward_beside(pass, x, &mut None, gates)
    }

    /// [`Block::forward`] for one of several blocks that read the same input. The first that needs its
    /// covariance stores it in `gram` for the others.
    pub(super) fn forward_beside(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        gram: &mut Option<Rc<Gram>>,
        gates: &BlockGates,
    ) -> Result<Value> {
        let mut sum = GatedSum { mask: gates.width.clone(), ..GatedSum::default() };
        if self.branches.len() > 1 || gates.branches.is_some() {
            sum.gates.clone_from(&gates.branches);
        }
        for branch in &self.branches {
            sum.branches.push(branch.forward(pass, x, gram, gates)?);
        }
        if let Some(kept) = gates.kept.as_ref().filter(|_| self.is_droppable()) {
            let branch = pass.tape.gated_sum(&sum)?;
            let branch = pass.tape.scale_rows(&branch, kept)?;
            let input = shortcut(pass, x, self.stride, self.width)?;
            return pass.tape.add(&branch, &input);
        }
        if self.identity {
            let rho = match &gates.identity {
                Some(rho) => rho.clone(),
                None => pass.ones(1)?,
            };
            sum.identity = Some((shortcut(pass, x, self.stride, self.width)?, rho));
        }
        pass.tape.gated_sum(&sum)
    }

    /// The block of a decided network, for inference.
    ///
    /// # Errors
    /// When there are several branches to choose from.
    pub fn freeze(&self, params: &Params) -> Result<InferenceLayer> {
        match &self.branches[..] {
            [] => Ok(InferenceLayer::Cut { width: self.width }),
            [branch] => branch.freeze(params, self.identity),
            several => candle_core::bail!("a block with {} branches is not decided", several.len()),
        }
    }
}

impl BranchLayers {
    fn freeze(&self, params: &Params, residual: bool) -> Result<InferenceLayer> {
        match self {
            Self::MbConv(block) => block.freeze(params, residual),
            Self::Residual(block) if residual => block.freeze(params),
            Self::Residual(_) => candle_core::bail!("a residual block always adds its input"),
            Self::Projection { .. } if residual => {
                candle_core::bail!("a 1x1 skip never adds its input")
            }
            Self::Projection { conv, norm, stride } => {
                conv.freeze(params, norm, Activation::Relu, *stride)
            }
        }
    }

    fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        gram: &mut Option<Rc<Gram>>,
        gates: &BlockGates,
    ) -> Result<PreActivation<Value>> {
        match self {
            Self::MbConv(block) => block.forward(pass, x, gram, gates),
            Self::Residual(block) => {
                let (inner, filters) = (gates.inner.clone(), gates.filters.project.as_ref());
                block.forward(pass, x, inner, filters)
            }
            Self::Projection { conv, norm, stride } => {
                let (_, h, w, _) = x.tensor().dims4()?;
                let x = pass.tape.subsample(x, Grid::strided(*stride, (h, w)))?;
                let w = conv.masked_weight(pass, gates.filters.project.as_ref())?;
                let z = pass.tape.matmul(&x, &w)?;
                norm.pre_activation(pass, z, Activation::Relu)
            }
        }
    }
}

impl MbConv {
    fn new(params: &mut Params, name: &str, plan: &BlockPlan, branch: &Branch) -> Result<Self> {
        let Branch::MbConv { kernel, activation, mid, expand, squeeze, groups, functions } = branch
        else {
            candle_core::bail!("{name} is not an inverted residual")
        };
        let at = |part: &str| format!("{name}.{part}");
        let grouped = |order| (*groups > 1).then_some(Groups { number: *groups, order });
        let expand = if *expand {
            let groups = grouped(GroupOrder::Plain);
            let conv = Conv1x1::grouped(params, &at("expand"), (plan.input, *mid), groups)?;
            Some((conv, BatchNorm::new(params, &at("expand"), *mid)?))
        } else {
            None
        };
        let shape = (*kernel, plan.stride);
        let squeeze_excite = match squeeze {
            Some(width) => {
                let functions = (functions.activation.unwrap_or(*activation), functions.gate);
                Some(SqueezeExcite::new(params, &at("se"), *mid, *width, functions)?)
            }
            None => None,
        };
        Ok(Self {
            expand,
            depthwise: Depthwise::new(params, &at("depthwise"), *mid, shape)?,
            depthwise_norm: BatchNorm::new(params, &at("depthwise"), *mid)?,
            squeeze_excite,
            // The shuffle is before the depthwise convolution, which keeps every channel in its place.
            project: Conv1x1::grouped(
                params,
                &at("project"),
                (*mid, plan.width),
                grouped(GroupOrder::Shuffled),
            )?,
            project_norm: BatchNorm::new(params, &at("project"), plan.width)?,
            activation: *activation,
        })
    }

    fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        gram: &mut Option<Rc<Gram>>,
        gates: &BlockGates,
    ) -> Result<PreActivation<Value>> {
        let hidden = self.hidden(pass, x, gram, gates.filters.depthwise.as_ref())?;
        let squeeze_excite =
            self.squeeze_excite.as_ref().map(|layers| layers.weights(pass, gates.squeeze.clone()));
        let w = self.project.masked_weight(pass, gates.filters.project.as_ref())?;
        // A mask right before the projection (and the squeeze-excite) equals a narrower expansion,
        // because depthwise convolution and batch norm work on each channel by itself.
        let mask = gates.mid.as_ref();
        let statistics = pass.uses_batch_statistics();
        // [n, h/s, w/s, width]
        let (z, moments) =
            pass.tape.project(&hidden, mask, squeeze_excite.as_ref(), &w, statistics)?;
        let norm = self.project_norm.norm(pass, Activation::Identity, moments)?;
        Ok(PreActivation { z, norm })
    }

    fn freeze(&self, params: &Params, residual: bool) -> Result<InferenceLayer> {
        let expand = match &self.expand {
            Some((conv, norm)) => Some(Expand {
                w: conv.value(params)?,
                norm: norm.freeze(params, self.activation)?,
                gram: None,
            }),
            None => None,
        };
        Ok(InferenceLayer::InvertedResidual(Box::new(InferenceInvertedResidual {
            expand,
            filter: params.value(self.depthwise.weight).clone(),
            stride: self.depthwise.stride,
            norm: self.depthwise_norm.freeze(params, self.activation)?,
            squeeze_excite: self.squeeze_excite.as_ref().map(|layers| layers.freeze(params)),
            project: self.project.value(params)?,
            project_norm: self.project_norm.freeze(params, Activation::Identity)?,
            residual,
        })))
    }

    /// Expansion and depthwise convolution: the hidden map `[n, ⌈h/s⌉, ⌈w/s⌉, mid]`.
    fn hidden(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        gram: &mut Option<Rc<Gram>>,
        mask: Option<&Value>,
    ) -> Result<PreActivation<Value>> {
        let expand = match &self.expand {
            Some(layers) => Some(self.expand(pass, x, gram, layers)?),
            None => None,
        };
        let (z, moments) = self.depthwise.forward(pass, x, expand.as_ref(), mask)?;
        let norm = self.depthwise_norm.norm(pass, self.activation, moments)?;
        Ok(PreActivation { z, norm })
    }

    fn expand(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        gram: &mut Option<Rc<Gram>>,
        (conv, norm): &(Conv1x1, BatchNorm),
    ) -> Result<Expand<Value>> {
        let w = conv.weight(pass)?;
        let gram = match gram {
            Some(gram) => Some(gram.clone()),
            None if pass.uses_batch_statistics() => {
                Some(gram.insert(Rc::new(Gram::of(x.tensor())?)).clone())
            }
            None => None,
        };
        let moments = gram.as_ref().map(|gram| gram.moments_behind(w.tensor())).transpose()?;
        let norm = norm.norm(pass, self.activation, moments)?;
        Ok(Expand { w, norm, gram })
    }
}
