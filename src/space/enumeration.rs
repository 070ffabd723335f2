//! All networks of a small space, in a fixed order.

use super::{ArchSpec, BlockDecision, Decisions, SearchSpace};
use std::collections::BTreeSet;

impl SearchSpace {
    /// All different networks, with the last choice changing fastest; `None` if there are more than `most` ways to
    /// choose.
    #[must_use]
    pub fn networks(&self, most: usize) -> Option<Vec<ArchSpec>> {
        let radixes = self.radixes();
        let ways = radixes.iter().try_fold(1_usize, |ways, radix| ways.checked_mul(*radix))?;
        if ways > most {
            return None;
        }
        let mut seen = BTreeSet::new();
        let mut networks = Vec::new();
        let mut digits = vec![0; radixes.len()];
        for _ in 0..ways {
            let arch = self.decide(&self.decisions_of(&digits));
            if seen.insert(arch.id()) {
                networks.push(arch);
            }
            advance(&mut digits, &radixes);
        }
        Some(networks)
    }

    /// The number of options of each choice: the resolution, the type of each group of blocks, then expansion and
    /// width of each block.
    fn radixes(&self) -> Vec<usize> {
        let groups = self.type_groups();
        let types = groups.iter().map(|group| self.blocks[group.start].types.len());
        let sizes = self.blocks.iter().flat_map(|block| [block.expansions(), block.widths.len()]);
        [self.resolutions.len()].into_iter().chain(types).chain(sizes).collect()
    }

    /// The inverse of [`Self::radixes`]: one index per choice.
    fn decisions_of(&self, digits: &[usize]) -> Decisions {
        let groups = self.type_groups();
        let (types, sizes) = digits[1..].split_at(groups.len());
        let types = groups.iter().zip(types).flat_map(|(group, t)| group.clone().map(move |_| *t));
        let blocks = types.zip(sizes.as_chunks::<2>().0).map(|(block_type, sizes)| BlockDecision {
            block_type,
            expansion: sizes[0],
            width: sizes[1],
        });
        Decisions { resolution: digits[0], blocks: blocks.collect() }
    }
}

/// Counts up by one, like an odometer.
fn advance(digits: &mut [usize], radixes: &[usize]) {
    for (digit, radix) in digits.iter_mut().zip(radixes).rev() {
        *digit += 1;
        if *digit < *radix {
            return;
        }
        *digit = 0;
    }
}

#[cfg(test)]
mod tests {
    use crate::space::{ArchSpec, load_space};
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_network_appears_once_and_in_order() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces/nats_size.toml");
        let space = load_space(&path).unwrap();
        assert!(space.networks(32_767).is_none());
        let networks = space.networks(32_768).unwrap();
        assert_eq!(networks.len(), 32_768);
        let widths = |i: usize| networks[i].blocks.iter().map(|b| b.width).collect::<Vec<_>>();
        assert_eq!(widths(0), [8; 5]);
        assert_eq!(widths(1), [8, 8, 8, 8, 16]);
        assert_eq!(widths(32_767), [64; 5]);
        let ids: BTreeSet<String> = networks.iter().map(ArchSpec::id).collect();
        assert_eq!(ids.len(), 32_768);
    }

    #[test]
    fn choices_without_effect_give_one_network() {
        // A skipped block has an expansion that makes no difference.
        let text = "name = 'a'\nchannel_divisor = 8\n\
                    [input]\nresolutions = [8]\nchannels = 3\nclasses = 10\n\
                    [stem]\nkernel = 3\nstride = 1\nwidth = 8\nactivation = 'relu'\n\
                    [[stage]]\nblocks = 1\nstride = 1\nwidth = [8]\nexpansion = [2, 4]\n\
                    types = ['k3_relu', 'skip']\n\
                    [head]\nwidth = 16\nactivation = 'relu'\n";
        let space = crate::space::parse_space(text, Path::new("a.toml")).unwrap();
        assert_eq!(space.size().total.to_string(), "4");
        assert_eq!(space.networks(4).unwrap().len(), 3);
    }
}
