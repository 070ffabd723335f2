//! How gates and masks enter a supernet.

/// What a drawn vector of Gumbel-Softmax weights becomes in the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateKind {
    /// The weights themselves: all options are mixed.
    #[default]
    Soft,
    /// One for the largest weight, zero for the others; the gradient goes to the weights as if
    /// they had been used (straight-through Gumbel-Softmax, Jang et al. 2017).
    StraightThrough,
}

/// Where the masks of a supernet's widths and hidden channels act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskPlace {
    /// After batch norm and activation.
    #[default]
    AfterNorm,
    /// Before batch norm, which divides the mask out again, like any factor of a channel.
    BeforeNorm,
}

/// With which factor a block of a supernet adds its input, where stride and largest widths let its inverted
/// residuals add it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResidualRule {
    /// ρ, the probability that the derived network adds it.
    #[default]
    Expected,
    /// 1, whatever the gates are. Under gates whose widths are unequal the derived network differs.
    Full,
}
