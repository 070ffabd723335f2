//! Numbers and names as they stand in a cell.

/// What stands where there is nothing to say.
pub const NOTHING: &str = "–";

/// Bytes of a mebibyte.
pub const MIB: f64 = 1_048_576.0;

/// What a number counts, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share in 0..=1, written in percent.
    Percent,
    /// Operations, weights: `1.62 M`.
    Count,
    Seconds,
    /// Bytes, written in MiB.
    Mebibytes,
}

const COUNTS: [(f64, &str); 5] =
    [(1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];

impl Unit {
    /// One number.
    #[must_use]
    pub fn cell(self, value: f64) -> String {
        let (divisor, decimals, suffix) = self.scale(value);
        format!("{:.decimals$}{suffix}", value / divisor)
    }

    /// Mean and standard deviation in one unit.
    #[must_use]
    pub fn spread(self, mean: f64, sd: f64) -> String {
        let (divisor, decimals, suffix) = self.scale(mean);
        format!("{:.decimals$} ± {:.decimals$}{suffix}", mean / divisor, sd / divisor)
    }

    /// The least and the largest of some numbers.
    #[must_use]
    pub fn range(self, values: &[f64]) -> Option<String> {
        let least = values.iter().copied().reduce(f64::min)?;
        let largest = values.iter().copied().reduce(f64::max)?;
        let (least, largest) = (self.cell(least), self.cell(largest));
        Some(if least == largest { least } else { format!("{least} to {largest}") })
    }

    /// Divisor, decimals and suffix for numbers about as large as `value`.
    fn scale(self, value: f64) -> (f64, usize, &'static str) {
        match self {
            Self::Percent => (0.01, 2, ""),
            Self::Seconds => (1.0, 1, ""),
            Self::Mebibytes => (MIB, 1, ""),
            Self::Count => {
                // 999,995 would round to "1000.00 k".
                let fits = |(unit, _): &(f64, &str)| value >= unit * 0.999_995;
                let unit = COUNTS.into_iter().find(fits);
                unit.map_or((1.0, 0, ""), |(unit, suffix)| (unit, 2, suffix))
            }
        }
    }
}

/// A size by its logarithm.
#[must_use]
pub fn power_of_ten(log10: f64) -> String {
    format!("10^{log10:.1}")
}

/// `run 3`, `runs 1, 2`.
#[must_use]
pub fn run_ids(ids: impl IntoIterator<Item = i64>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    format!("{} {}", if ids.len() == 1 { "run" } else { "runs" }, ids.join(", "))
}

/// The text on one line, without control characters.
#[must_use]
pub fn one_line(text: &str) -> String {
    let spaced = text.replace(char::is_control, " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text so that Markdown shows it as it is, also in a table.
#[must_use]
pub fn escape(text: &str) -> String {
    let text: Vec<char> = one_line(text).chars().collect();
    let inner = |i: usize| text.get(i).is_some_and(|c| c.is_alphanumeric());
    let mut escaped = String::new();
    for (i, c) in text.iter().enumerate() {
        // An underscore within a word stands for itself.
        let within_word = i > 0 && inner(i - 1) && inner(i + 1);
        if matches!(c, '\\' | '|' | '`' | '*' | '<' | '[' | ']' | '~' | '&')
            || *c == '_' && !within_word
        {
            escaped.push('\\');
        }
        escaped.push(*c);
    }
    escaped
}

/// The text as inline code.
#[must_use]
pub fn code(text: &str) -> String {
    let text = one_line(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    if longest == 0 {
        return format!("`{text}`");
    }
    let fence = "`".repeat(longest + 1);
    format!("{fence} {text} {fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_unit_that_leaves_up_to_three_digits_before_the_point() {
        let cases = [(0.0, "0"), (999.0, "999"), (1000.0, "1.00 k"), (1_620_000.0, "1.62 M")];
        for (value, expected) in cases {
            assert_eq!(Unit::Count.cell(value), expected);
        }
        assert_eq!(Unit::Count.cell(999_994.0), "999.99 k");
        assert_eq!(Unit::Count.cell(999_999.0), "1.00 M");
        assert_eq!(Unit::Count.spread(1_620_000.0, 4_000.0), "1.62 ± 0.00 M");
    }

    #[test]
    fn a_range_of_one_value_is_the_value() {
        assert_eq!(Unit::Percent.range(&[0.5, 0.25]).as_deref(), Some("25.00 to 50.00"));
        assert_eq!(Unit::Seconds.range(&[1.01, 0.99]).as_deref(), Some("1.0"));
        assert_eq!(Unit::Seconds.range(&[]), None);
    }

    #[test]
    fn markdown_shows_the_text_as_it_is() {
        assert_eq!(escape("a_b _c_ x|y `z` <b> 2*3"), r"a_b \_c\_ x\|y \`z\` \<b> 2\*3");
        assert_eq!(escape("two\nlines\tand \u{1b}[31mred"), r"two lines and \[31mred");
        assert_eq!(code("echo `id`"), "`` echo `id` ``");
        assert_eq!(code("plain"), "`plain`");
    }
}
