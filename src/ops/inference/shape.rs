//! The shapes of maps and layers at inference, on every device.

use super::{InferenceConv, InferenceInvertedResidual, InferenceLayer};
use crate::ops::depthwise::kernel_of;
use crate::ops::host::expect;
use crate::ops::project;
use crate::space::conv_out;
use candle_core::{Result, Tensor, bail};

/// Height, width and channels of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) struct MapShape {
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl MapShape {
    pub(super) fn pixels(self) -> usize {
        self.h * self.w
    }

    pub(super) fn len(self) -> usize {
        self.pixels() * self.c
    }
}

/// What maps a layer reads, and which it makes of them.
pub(super) enum LayerShape {
    Convs(Vec<ConvShape>),
    InvertedResidual { conv: ConvShape, residual: bool },
    Cut { width: usize },
    Pool,
    SqueezeExcite { c: usize },
}

/// A convolution, or what has its shape: a fully connected layer is a 1x1 convolution, an inverted
/// residual a convolution of its depthwise kernel's size.
pub(super) struct ConvShape {
    c_in: usize,
    c_out: usize,
    kernel: usize,
    stride: usize,
}

impl LayerShape {
    /// # Errors
    /// When the shapes of the layer's tensors do not fit each other.
    pub(super) fn of(layer: &InferenceLayer) -> Result<Self> {
        Ok(match layer {
            InferenceLayer::Conv(conv) => Self::Convs(vec![ConvShape::of(conv)?]),
            InferenceLayer::Conv1x1 { w, stride, norm } => {
                let conv = ConvShape::of_matrix(w, *stride)?;
                norm.check("inference", conv.c_out)?;
                Self::Convs(vec![conv])
            }
            InferenceLayer::InvertedResidual(block) => {
                let conv = ConvShape::of_inverted_residual(block)?;
                Self::InvertedResidual { conv, residual: block.residual }
            }
            InferenceLayer::Residual(block) => {
                if block.second.stride != 1 {
                    bail!("inference: the second convolution of a residual block has a stride");
                }
                if [&block.first, &block.second].iter().any(|conv| conv.kernel.is_multiple_of(2)) {
                    bail!(
                        "inference: a kernel of a residual block is even, its map has another size"
                    );
                }
                Self::Convs(vec![ConvShape::of(&block.first)?, ConvShape::of(&block.second)?])
            }
            InferenceLayer::Cut { width } => Self::Cut { width: *width },
            InferenceLayer::Pool => Self::Pool,
            InferenceLayer::SqueezeExcite(layers) => {
                let (c, squeezed) = layers.squeeze.dims2()?;
                expect("inference", "the excitation", &layers.excite, &[squeezed, c])?;
                expect("inference", "a bias", &layers.squeeze_bias, &[squeezed])?;
                expect("inference", "a bias", &layers.excite_bias, &[c])?;
                Self::SqueezeExcite { c }
            }
            InferenceLayer::Linear { w, bias, .. } => {
                let conv = ConvShape::of_matrix(w, 1)?;
                if let Some(bias) = bias {
                    expect("inference", "a bias", bias, &[conv.c_out])?;
                }
                Self::Convs(vec![conv])
            }
        })
    }

    /// The shape of the output for an input of this shape.
    ///
    /// # Errors
    /// When the layer cannot read such an input.
    pub(super) fn behind(&self, shape: MapShape) -> Result<MapShape> {
        match self {
            Self::Convs(convs) => convs.iter().try_fold(shape, |shape, conv| conv.behind(shape)),
            Self::InvertedResidual { conv, residual } => {
                let behind = conv.behind(shape)?;
                let (c, stride) = (conv.c_out, conv.stride);
                if *residual && (stride != 1 || c > shape.c) {
                    bail!("inference: {c} channels at stride {stride} cannot add their input");
                }
                Ok(behind)
            }
            Self::Cut { width } if *width > shape.c || *width == 0 => {
                bail!("inference: {width} of {} channels cannot be kept", shape.c)
            }
            Self::Cut { width } => Ok(MapShape { c: *width, ..shape }),
            Self::Pool if shape.pixels() == 0 => {
                bail!("inference: there is no pixel to take the mean of")
            }
            Self::Pool => Ok(MapShape { h: 1, w: 1, ..shape }),
            Self::SqueezeExcite { c } if *c != shape.c || shape.pixels() != 1 => {
                bail!("inference: a squeeze-excite of {c} channels needs {c} pooled features")
            }
            Self::SqueezeExcite { .. } => Ok(shape),
        }
    }
}

impl ConvShape {
    fn of(conv: &InferenceConv) -> Result<Self> {
        let InferenceConv { kernel, stride, .. } = *conv;
        let (taps, c_in, c_out) = conv.w.dims3()?;
        if stride == 0 || taps != kernel * kernel {
            bail!("inference: {taps} taps at stride {stride} are no {kernel}x{kernel} filter");
        }
        conv.norm.check("inference", c_out)?;
        Ok(Self { c_in, c_out, kernel, stride })
    }

    fn of_matrix(w: &Tensor, stride: usize) -> Result<Self> {
        let (c_in, c_out) = w.dims2()?;
        Ok(Self { c_in, c_out, kernel: 1, stride })
    }

    fn of_inverted_residual(block: &InferenceInvertedResidual) -> Result<Self> {
        let hidden = block.filter.dim(1)?;
        block.norm.check("inference", hidden)?;
        let c_out = project::check(hidden, None, block.squeeze_excite.as_ref(), &block.project)?;
        let mut c_in = hidden;
        if let Some(expand) = &block.expand {
            c_in = expand.w.dim(0)?;
            expect("inference", "the expansion", &expand.w, &[c_in, hidden])?;
            expand.norm.check("inference", hidden)?;
        }
        let kernel = kernel_of(&block.filter)?;
        block.project_norm.check("inference", c_out)?;
        Ok(Self { c_in, c_out, kernel, stride: block.stride })
    }

    fn behind(&self, shape: MapShape) -> Result<MapShape> {
        if shape.c != self.c_in {
            bail!("inference: a map has {} channels, its layer reads {}", shape.c, self.c_in);
        }
        let [h, w] = [shape.h, shape.w].map(|side| match self.kernel {
            // Also of a map without pixels.
            1 => side.div_ceil(self.stride),
            kernel => conv_out(side, kernel, self.stride),
        });
        Ok(MapShape { h, w, c: self.c_out })
    }
}
