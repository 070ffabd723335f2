//! The least and the largest cost of a space.

use super::{all_networks, spaces, tiny};
use crate::spaces::{decisions, random_probabilities};
use repro::cost::{Cost, cost_range, count};
use repro::space::{Decisions, SearchSpace};

#[test]
fn all_networks_cost_within_the_range() {
    for space in spaces() {
        let bounds = cost_range(&space);
        for made in decisions(&space, "extent", 300) {
            let cost = count(&space.decide(&made));
            assert!((bounds.macs.0..=bounds.macs.1).contains(&cost.macs), "{made:?}");
            assert!((bounds.params.0..=bounds.params.1).contains(&cost.params), "{made:?}");
        }
    }
    let space = tiny();
    let p = random_probabilities(&space, "any");
    let costs: Vec<Cost<u64>> =
        all_networks(&space, &p).iter().map(|(made, _)| count(&space.decide(made))).collect();
    let range = |of: &dyn Fn(&Cost<u64>) -> u64| {
        (costs.iter().map(of).min().unwrap(), costs.iter().map(of).max().unwrap())
    };
    assert_eq!(cost_range(&space).macs, range(&|cost| cost.macs));
    assert_eq!(cost_range(&space).params, range(&|cost| cost.params));
}

#[test]
fn range_respects_shared_types() {
    let space = SearchSpace { share_types: true, ..tiny() };
    let p = random_probabilities(&space, "any");
    let alike = |made: &Decisions| {
        made.blocks.iter().all(|block| block.block_type == made.blocks[0].block_type)
    };
    let costs: Vec<u64> = all_networks(&space, &p)
        .iter()
        .filter(|(made, _)| alike(made))
        .map(|(made, _)| count(&space.decide(made)).macs)
        .collect();
    let range = (*costs.iter().min().unwrap(), *costs.iter().max().unwrap());
    assert_eq!(cost_range(&space).macs, range);
}
