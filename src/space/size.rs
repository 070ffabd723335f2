//! How many networks a space holds, exactly.
//!
//! The numbers are products of small factors, so multiplying by one `usize` and printing is all the
//! arithmetic that is needed. The crate `num-bigint` was tried: it would save about 20 of these lines,
//! adds three crates and 3.4 s of compile time, and its `to_f64` overflows above 10^308, so the
//! logarithm would stay hand-written.

use super::{BlockChoices, SearchSpace};
use std::fmt;
use std::ops::Range;

/// A non-negative integer of any size: a product of small factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Digits to the base 10^9, least significant first, without leading zeros.
    limbs: Vec<u32>,
}

/// A kind of choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Width,
    Expansion,
    BlockType,
    Resolution,
}

/// The number of ways to choose. Two choices can name the same network: a skipped block has an
/// expansion, too, which makes no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceSize {
    pub total: Count,
    /// The total is the product of these.
    pub by_dimension: [(Dimension, Count); 4],
    /// The total divided by the number of ways to choose only the block types, as a conventional
    /// DNAS does (FBNetV2, abstract).
    pub over_block_types: Count,
}

const BASE: u128 = 1_000_000_000;

impl Count {
    #[must_use]
    pub fn one() -> Self {
        Self { limbs: vec![1] }
    }

    /// Multiplies by a factor.
    pub fn multiply(&mut self, factor: usize) {
        let mut carry = 0_u128;
        for limb in &mut self.limbs {
            let product = u128::from(*limb) * factor as u128 + carry;
            *limb = (product % BASE) as u32;
            carry = product / BASE;
        }
        while carry > 0 {
            self.limbs.push((carry % BASE) as u32);
            carry /= BASE;
        }
        while self.limbs.len() > 1 && self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    /// Decimal logarithm; minus infinity for zero.
    #[must_use]
    pub fn log10(&self) -> f64 {
        let top = self.limbs.iter().rev().take(3);
        let mantissa = top.fold(0.0, |sum, limb| sum * BASE as f64 + f64::from(*limb));
        mantissa.log10() + 9.0 * self.limbs.len().saturating_sub(3) as f64
    }

    /// Decimal digits with a comma after every three.
    #[must_use]
    pub fn grouped(&self) -> String {
        crate::text::grouped(self)
    }
}

impl FromIterator<usize> for Count {
    /// The product.
    fn from_iter<I: IntoIterator<Item = usize>>(factors: I) -> Self {
        factors.into_iter().fold(Self::one(), |mut count, factor| {
            count.multiply(factor);
            count
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = String::new();
        for (i, limb) in self.limbs.iter().rev().enumerate() {
            let limb = if i == 0 { limb.to_string() } else { format!("{limb:09}") };
            digits += &limb;
        }
        f.pad_integral(true, "", &digits)
    }
}

impl Dimension {
    pub const ALL: [Self; 4] = [Self::Width, Self::Expansion, Self::BlockType, Self::Resolution];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Width => "width",
            Self::Expansion => "expansion",
            Self::BlockType => "block_type",
            Self::Resolution => "resolution",
        }
    }
}

impl BlockChoices {
    /// The number of options of the block along a dimension; 1 where there is no choice.
    #[must_use]
    pub fn options(&self, dimension: Dimension) -> usize {
        match dimension {
            Dimension::Width => self.widths.len(),
            Dimension::Expansion => self.expansions(),
            Dimension::BlockType => self.types.len(),
            Dimension::Resolution => 1,
        }
    }
}

impl SearchSpace {
    /// The number of ways to choose, in total and along each dimension.
    #[must_use]
    pub fn size(&self) -> SpaceSize {
        let product = |keep: &dyn Fn(Dimension) -> bool| -> Count {
            let factors = Dimension::ALL.into_iter().filter(|d| keep(*d));
            factors.flat_map(|dimension| self.factors(dimension)).collect()
        };
        SpaceSize {
            total: product(&|_| true),
            by_dimension: Dimension::ALL.map(|dimension| (dimension, product(&|d| d == dimension))),
            over_block_types: product(&|d| d != Dimension::BlockType),
        }
    }

    fn factors(&self, dimension: Dimension) -> Vec<usize> {
        match dimension {
            Dimension::Resolution => vec![self.resolutions.len()],
            Dimension::BlockType => {
                let first = |group: Range<usize>| self.blocks[group.start].types.len();
                self.type_groups().into_iter().map(first).collect()
            }
            _ => self.blocks.iter().map(|block| block.options(dimension)).collect(),
        }
    }
}

impl SpaceSize {
    /// The number of ways along one dimension.
    #[must_use]
    pub fn along(&self, dimension: Dimension) -> &Count {
        &self.by_dimension[dimension as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_have_known_digits() {
        let count: Count = std::iter::repeat_n(1 << 32, 4).collect();
        assert_eq!(count.to_string(), "340282366920938463463374607431768211456");
        assert_eq!(count.grouped(), "340,282,366,920,938,463,463,374,607,431,768,211,456");
        assert!((count.log10() - 128.0 * 2_f64.log10()).abs() < 1e-12);
    }

    #[test]
    fn zeros_are_handled() {
        let count: Count = [1_000_000_000, 1_000_000_000, 7].into_iter().collect();
        assert_eq!(count.to_string(), "7000000000000000000");
        let zero: Count = [1_000_000_000, 0, 5].into_iter().collect();
        assert_eq!((zero.to_string(), zero.log10()), ("0".to_owned(), f64::NEG_INFINITY));
        assert_eq!(Count::one().grouped(), "1");
    }

    #[test]
    fn large_factors_do_not_overflow() {
        let count: Count = [usize::MAX, usize::MAX].into_iter().collect();
        let expected = (usize::MAX as u128) * (usize::MAX as u128);
        assert_eq!(count.to_string(), expected.to_string());
    }
}
