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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_the_order_of_appearance() {
        let groups = grouped([3, 1, 4, 1, 5, 9, 2, 6], |n| n % 3);
        assert_eq!(groups, [vec![3, 9, 6], vec![1, 4, 1], vec![5, 2]]);
    }
}
