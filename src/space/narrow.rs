//! Spaces with fewer options and the same largest network, for the study of how memory grows with a
//! space.

use super::{BlockChoices, Dimension, Expansion, SearchSpace};

/// The dimension along which a space grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// One dimension; every other choice has one option.
    Of(Dimension),
    /// All dimensions at once.
    All,
}

impl Growth {
    pub const ALL: [Self; 5] = [
        Self::Of(Dimension::Width),
        Self::Of(Dimension::Expansion),
        Self::Of(Dimension::BlockType),
        Self::Of(Dimension::Resolution),
        Self::All,
    ];

    /// The name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Of(dimension) => dimension.name(),
            Self::All => "all",
        }
    }

    /// `space` with at most `options` options along this dimension.
    #[must_use]
    pub fn space(self, space: &SearchSpace, options: usize) -> SearchSpace {
        let grows = |d| self == Self::All || self == Self::Of(d);
        space.capped(Dimension::ALL.map(|d| if grows(d) { options } else { 1 }))
    }

    /// The largest number of options of `space` along this dimension.
    #[must_use]
    pub fn most(self, space: &SearchSpace) -> usize {
        let grows =
            Dimension::ALL.into_iter().filter(|d| self == Self::All || self == Self::Of(*d));
        grows.map(|dimension| space.most_options(dimension)).max().unwrap_or(1)
    }
}

impl SearchSpace {
    /// This space with at most `caps` options along the dimensions, in the order of
    /// [`Dimension::ALL`].
    ///
    /// # Panics
    /// When no option would be left.
    #[must_use]
    pub fn capped(&self, caps: [usize; 4]) -> Self {
        let dimensions = Dimension::ALL.into_iter().zip(caps);
        dimensions.fold(self.clone(), |space, (dimension, most)| space.narrowed(dimension, most))
    }

    /// This space with at most `options` options along one dimension. Of sizes the largest is kept and
    /// the others are evenly spread; of block types the first are kept.
    ///
    /// # Panics
    /// When no option would be left.
    fn narrowed(&self, dimension: Dimension, options: usize) -> Self {
        assert!(options > 0, "a choice has at least one option");
        let mut space = self.clone();
        if dimension == Dimension::Resolution {
            space.resolutions = spread(&self.resolutions, options);
        }
        for block in &mut space.blocks {
            block.narrow(dimension, options);
        }
        space
    }

    /// The largest number of options of any choice along a dimension.
    #[must_use]
    pub fn most_options(&self, dimension: Dimension) -> usize {
        match dimension {
            Dimension::Resolution => self.resolutions.len(),
            _ => self.blocks.iter().map(|block| block.options(dimension)).max().unwrap_or(1),
        }
    }
}

impl BlockChoices {
    fn narrow(&mut self, dimension: Dimension, options: usize) {
        match (dimension, &mut self.expansion) {
            (Dimension::Width, _) => self.widths = spread(&self.widths, options),
            (Dimension::Expansion, Expansion::Options { ratios, mids, .. }) => {
                *ratios = spread(ratios, options);
                *mids = spread(mids, options);
            }
            (Dimension::BlockType, _) => self.types.truncate(options),
            (Dimension::Expansion | Dimension::Resolution, _) => {}
        }
    }
}

/// `n` of the sizes, evenly spread, the last always included.
fn spread<T: Copy>(sizes: &[T], n: usize) -> Vec<T> {
    let last = sizes.len().saturating_sub(1);
    match n {
        1 => sizes[last..].to_vec(),
        n if n > last => sizes.to_vec(),
        n => (0..n).map(|i| sizes[(2 * i * last + n - 1) / (2 * (n - 1))]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_keeps_largest_sizes_and_first_types() {
        let text = include_str!("../../experiments/spaces/scaling_cifar.toml");
        let space = crate::space::parse_space(text, std::path::Path::new("s.toml")).unwrap();
        let one = Growth::Of(Dimension::Width).space(&space, 1);
        assert_eq!(one.size().total.to_string(), "1");
        let three = Growth::All.space(&space, 3);
        for (block, all) in three.blocks.iter().zip(&space.blocks) {
            assert_eq!((block.widths.len(), block.expansions(), block.types.len()), (3, 3, 3));
            assert_eq!((block.width_max(), block.mid_max()), (all.width_max(), all.mid_max()));
            assert_eq!(block.types, all.types[..3]);
        }
        assert_eq!(three.resolutions, [20, 28, 32]);
        assert_eq!(space.capped([3; 4]), three);
        let unequal = space.capped([14, 1, 2, 4]);
        let left = Dimension::ALL.map(|dimension| unequal.most_options(dimension));
        assert_eq!(left, [14, 1, 2, 4]);
        assert_eq!(Growth::All.space(&space, 14), space);
        assert_eq!(Growth::ALL.map(|growth| growth.most(&space)), [14, 7, 9, 4, 14]);
    }

    #[test]
    fn sizes_are_evenly_spread() {
        let sizes: Vec<usize> = (1..=14).collect();
        assert_eq!(spread(&sizes, 1), [14]);
        assert_eq!(spread(&sizes, 2), [1, 14]);
        assert_eq!(spread(&sizes, 4), [1, 5, 10, 14]);
        assert_eq!(spread(&sizes, 14), sizes);
        assert_eq!(spread(&sizes, 20), sizes);
        for n in 1..=14 {
            let some = spread(&sizes, n);
            assert!(some.is_sorted_by(|a, b| a < b) && some.len() == n, "{some:?}");
        }
    }
}
