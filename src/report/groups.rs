//! Grouping by a key.
//!
//! By hand and not by polars: what is grouped are structs with nested lists, so that a polars group-by
//! would have to go through columns of indices, which is longer than this and needs further features
//! of a library that is half of the build time.

use std::collections::BTreeMap;

/// The items of each key, in the order in which the keys first appear.
pub fn grouped<T, K: Ord>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<Vec<T>> {
    let (mut places, mut groups) = (BTreeMap::new(), Vec::<Vec<T>>::new());
    for item in items {
        let place = *places.entry(key(&item)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(item);
    }
    groups
}

/// One run per seed, by seed: a seed that was run more than once counts by its last run.
pub fn last_per_seed<T: Copy>(items: &[T], run: impl Fn(T) -> (u64, i64)) -> Vec<T> {
    let mut last: BTreeMap<u64, (i64, T)> = BTreeMap::new();
    for item in items {
        let (seed, id) = run(*item);
        if last.get(&seed).is_none_or(|(known, _)| *known < id) {
            last.insert(seed, (id, *item));
        }
    }
    last.into_values().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_the_order_of_appearance() {
        let groups = grouped([3, 1, 4, 1, 5, 9, 2, 6], |n| n % 3);
        assert_eq!(groups, [vec![3, 9, 6], vec![1, 4, 1], vec![5, 2]]);
    }

    #[test]
    fn a_seed_counts_by_its_last_run() {
        let runs = [(2, 5), (1, 7), (2, 9), (1, 3)];
        assert_eq!(last_per_seed(&runs, |run| run), [(1, 7), (2, 9)]);
    }
}
