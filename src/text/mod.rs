//! Text for people: numbers with units, lists of runs, tables, and escaping. Every number that the
//! program prints or writes into a report is formatted here.

mod escape;
mod numbers;
mod table;

pub use escape::{
    code, escape, fenced, one_line, printable, printable_name, without_backtrace, xml,
};
pub use numbers::{
    MIB, Unit, bytes, count, decimal, duration, grouped, options, p_value, percent, points,
    power_of_ten, sparkline, ways,
};
pub use table::Table;

use std::fmt::{Display, Write};

/// Stands where there is no value.
pub const NOTHING: &str = "–";

/// A value, or a dash.
pub fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// `1 seed`, `3 seeds`, `2.1 million seeds`.
#[must_use]
pub fn plural(n: impl Display, noun: &str) -> String {
    let n = n.to_string();
    let ending = if n == "1" { "" } else { "s" };
    format!("{n} {noun}{ending}")
}

/// `1, 2, 5`
pub fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// `run 3`, `runs 1 to 4, 7`; the ids are ascending.
#[must_use]
pub fn run_ids(ids: impl IntoIterator<Item = i64>) -> String {
    let ids: Vec<i64> = ids.into_iter().collect();
    format!("{} {}", if ids.len() == 1 { "run" } else { "runs" }, ranges(&ids))
}

/// Ascending ids: `1 to 4, 7`. Two neighbours stay `1, 2`.
#[must_use]
pub fn ranges(ids: &[i64]) -> String {
    let mut text = String::new();
    for range in ids.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = match range {
            [first, _, .., last] => write!(text, "{separator}{first} to {last}"),
            _ => write!(text, "{separator}{}", list(range)),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_listed_by_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 4]), "1 to 4");
        assert_eq!(ranges(&[1, 3, 4, 9]), "1, 3, 4, 9");
        assert_eq!(ranges(&[1, 3, 4, 5, i64::MAX]), format!("1, 3 to 5, {}", i64::MAX));
        assert_eq!(run_ids([7]), "run 7");
        assert_eq!(run_ids([1, 2, 3, 9]), "runs 1 to 3, 9");
    }
}
