//! What a key may hold, in the words of a message.

use std::ops::{Bound, RangeBounds, RangeInclusive};

pub(super) fn whole_number(range: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

pub(super) fn real_number(range: &impl RangeBounds<f64>) -> String {
    let low = match range.start_bound() {
        Bound::Included(low) => format!(" of at least {}", short(*low)),
        Bound::Excluded(low) => format!(" above {}", short(*low)),
        Bound::Unbounded => String::new(),
    };
    let high = match range.end_bound() {
        Bound::Included(high) => format!(" and at most {}", short(*high)),
        Bound::Excluded(high) => format!(" and below {}", short(*high)),
        Bound::Unbounded => String::new(),
    };
    format!("a finite number{low}{high}")
}

/// Scientific notation where there would be a long row of zeros.
fn short(number: f64) -> String {
    if number.abs() >= 1e5 { format!("{number:e}") } else { number.to_string() }
}

pub(super) fn one_of<T>(names: &[(&str, T)]) -> String {
    let names: Vec<String> = names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    match names.as_slice() {
        [one] => one.clone(),
        _ => format!("one of {}", names.join(", ")),
    }
}
