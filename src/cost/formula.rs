//! The cost formula (FBNetV2 section 3.3). A convolution has k² · C_in · C_out / groups weights and
//! k² · h · w · C_in · C_out / groups multiply-accumulates; a network has the sum over its layers.
//!
//! It is generic over the number type: with integers it counts a decided network, with traced reals
//! it is the differentiable cost of effective shapes.

use super::number::CostNumber;
use crate::recipe::Objective;

/// The cost of a part of a network for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost<N> {
    /// Multiply-accumulates (MACs, x1) of convolutions and fully connected layers.
    pub macs: N,
    /// Their weights, without biases and batch norm (the released networks' rule).
    pub params: N,
    /// Elements read by pooling. The published FLOP totals of the released networks are
    /// `macs + pooled`.
    pub pooled: N,
}

impl<N> Cost<N> {
    /// The number that an objective refers to.
    #[must_use]
    pub fn of(&self, objective: Objective) -> &N {
        match objective {
            Objective::Macs => &self.macs,
            Objective::Params => &self.params,
        }
    }
}

impl<N: CostNumber> Cost<N> {
    /// Zero cost.
    #[must_use]
    pub fn zero(like: &N) -> Self {
        let zero = like.constant(0);
        Self { macs: zero.clone(), params: zero.clone(), pooled: zero }
    }

    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            macs: self.macs.plus(&other.macs),
            params: self.params.plus(&other.params),
            pooled: self.pooled.plus(&other.pooled),
        }
    }

    /// Every number times `factor`.
    #[must_use]
    pub fn times(&self, factor: &N) -> Self {
        Self {
            macs: self.macs.times(factor),
            params: self.params.times(factor),
            pooled: self.pooled.times(factor),
        }
    }

    /// A convolution whose weights are each used at `pixels` output pixels.
    fn conv(weights: N, pixels: &N) -> Self {
        let zero = weights.constant(0);
        Self { macs: weights.times(pixels), params: weights, pooled: zero }
    }

    /// A fully connected layer.
    fn dense(weights: N) -> Self {
        let zero = weights.constant(0);
        Self { macs: weights.clone(), params: weights, pooled: zero }
    }

    /// Global pooling of `elements`.
    fn pool(elements: N) -> Self {
        let zero = elements.constant(0);
        Self { macs: zero.clone(), params: zero, pooled: elements }
    }
}

/// The shape of an inverted residual.
#[derive(Clone, Debug)]
pub struct MbConvShape<N> {
    pub kernel: usize,
    pub input: N,
    pub mid: N,
    pub width: N,
    /// Whether the 1x1 expanding convolution exists.
    pub expand: bool,
    /// Channels inside the squeeze-excite.
    pub squeeze: Option<N>,
    /// Pixels of the input map and of the output map.
    pub pixels: (N, N),
}

impl<N: CostNumber> MbConvShape<N> {
    #[must_use]
    pub fn cost(&self) -> Cost<N> {
        let (before, after) = &self.pixels;
        let mut cost = Cost::conv(self.mid.scaled((self.kernel * self.kernel) as u64), after);
        if self.expand {
            cost = cost.plus(&Cost::conv(self.input.times(&self.mid), before));
        }
        if let Some(squeeze) = &self.squeeze {
            cost = cost.plus(&squeeze_excite(&self.mid, squeeze, after));
        }
        cost.plus(&Cost::conv(self.mid.times(&self.width), after))
    }
}

/// A squeeze-excite of `channels` channels on a map of `pixels` pixels.
#[must_use]
pub fn squeeze_excite<N: CostNumber>(channels: &N, squeezed: &N, pixels: &N) -> Cost<N> {
    let both = channels.times(squeezed).scaled(2);
    Cost::dense(both).plus(&Cost::pool(channels.times(pixels)))
}

/// A dense k x k convolution with `pixels` output pixels.
#[must_use]
pub fn dense_conv<N: CostNumber>(kernel: usize, input: &N, width: &N, pixels: &N) -> Cost<N> {
    Cost::conv(input.times(width).scaled((kernel * kernel) as u64), pixels)
}

/// The residual block: two dense 3x3 convolutions of `width` channels with `pixels` output pixels each.
#[must_use]
pub fn residual<N: CostNumber>(input: &N, width: &N, pixels: &N) -> Cost<N> {
    dense_conv(3, input, width, pixels).plus(&dense_conv(3, width, width, pixels))
}

/// 1x1 convolution, global pooling, fully connected layer.
#[must_use]
pub fn conv_head<N: CostNumber>(input: &N, width: u64, classes: u64, pixels: &N) -> Cost<N> {
    Cost::conv(input.scaled(width), pixels)
        .plus(&Cost::pool(pixels.scaled(width)))
        .plus(&Cost::dense(input.constant(width * classes)))
}

/// The head of the released networks: 1x1 convolution, global pooling, 1x1 convolution on the single
/// pixel, fully connected layer. Their FLOP rule also counts a second pooling, of that single pixel.
#[must_use]
pub fn irpool_head<N: CostNumber>(
    input: &N,
    mid: u64,
    width: u64,
    classes: u64,
    pixels: &N,
) -> Cost<N> {
    Cost::conv(input.scaled(mid), pixels)
        .plus(&Cost::pool(pixels.scaled(mid).plus(&input.constant(width))))
        .plus(&Cost::dense(input.constant(mid * width + width * classes)))
}
