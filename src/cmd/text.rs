//! Text for people: numbers with units, tables, sparklines.

use indicatif::HumanBytes;
use repro::space::Count;
use repro::store::RunRow;
use std::fmt;

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// A value, or a dash.
pub fn or_dash(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// `9.61 M`: a count of operations or weights, three digits.
pub fn count(n: u64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let n = n as f64;
    match units.into_iter().find(|(unit, _)| n >= *unit) {
        Some((unit, name)) => {
            let value = n / unit;
            let decimals = 2_usize.saturating_sub(value.log10() as usize);
            format!("{value:.decimals$} {name}")
        }
        None => format!("{n}"),
    }
}

/// `81.25 %` of a share in 0..=1.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// `1.23 GiB`
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// `12.3 s`, `4 min 05 s`, `1 h 02 min`.
pub fn seconds(seconds: f64) -> String {
    // Rounded first, so that 59.96 s are not 60.0 s.
    let tenths = (seconds.max(0.0) * 10.0).round() / 10.0;
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if tenths < 60.0 => format!("{tenths:.1} s"),
        0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// A number of ways to choose: exact while it is short, else `1.23e31`.
pub fn ways(count: &Count) -> String {
    // So that the logarithm of a power of ten is not a little less.
    let log10 = count.log10() + 1e-12;
    if log10 < 6.0 {
        return count.grouped();
    }
    let exponent = log10.floor();
    format!("{:.2}e{exponent}", 10_f64.powf(log10 - exponent))
}

/// Options in ascending order: `16 24 32`, or `16 to 64 by 8` where many are evenly spaced.
pub fn options<T: Copy + Into<f64> + fmt::Display>(options: &[T]) -> String {
    const MANY: usize = 5;
    let steps = options.windows(2).map(|pair| pair[1].into() - pair[0].into());
    let steps: Vec<f64> = steps.collect();
    match (options, &steps[..]) {
        ([first, .., last], [step, rest @ ..])
            if options.len() >= MANY && rest.iter().all(|s| (s - step).abs() < 1e-9) =>
        {
            format!("{first} to {last} by {step}")
        }
        _ => options.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

/// Eight heights; at most `width` of them, each the mean of its neighbours.
pub fn sparkline(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let n = values.len().min(width);
    let mean = |i: usize| {
        let part = &values[i * values.len() / n..(i + 1) * values.len() / n];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..n).map(mean).collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |v: &f64| {
        let height = if high > low { (v - low) / (high - low) } else { 0.0 };
        BARS[((height * 7.0).round() as usize).min(7)]
    };
    means.iter().map(bar).collect()
}

/// Columns as wide as their widest cell; numbers stand to the right.
pub struct Table {
    rows: Vec<Vec<String>>,
    to_the_right: Vec<bool>,
}

impl Table {
    /// A column whose heading begins with `>` stands to the right.
    pub fn new(headings: &[&str]) -> Self {
        let names = headings.iter().map(|h| h.trim_start_matches('>').to_owned());
        Self {
            rows: vec![names.collect()],
            to_the_right: headings.iter().map(|h| h.starts_with('>')).collect(),
        }
    }

    /// One cell per column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |c: usize| self.rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.to_the_right.len()).map(width).collect();
        for (i, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).zip(&self.to_the_right);
            let padded = cells.map(|((cell, width), right)| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = padded.collect::<Vec<_>>().join("  ");
            write!(f, "{}{}", if i == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}

/// The largest of the phases' peaks.
pub fn peak_bytes(run: &RunRow) -> Option<u64> {
    run.phases.iter().filter_map(|row| row.usage).map(|usage| usage.peak_bytes).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_their_unit() {
        let counts = [999, 1_000, 9_614_000, 961_400_000, 12_345_000_000].map(count);
        assert_eq!(counts, ["999", "1.00 k", "9.61 M", "961 M", "12.3 G"]);
        let times = [0.04, 59.94, 59.96, 245.0, 3720.0].map(seconds);
        assert_eq!(times, ["0.0 s", "59.9 s", "1 min 00 s", "4 min 05 s", "1 h 02 min"]);
        let counts = [[999, 1000], [1000, 1000], [123_456_789, 1000]];
        let counts = counts.map(|factors| ways(&factors.into_iter().collect()));
        assert_eq!(counts, ["999,000", "1.00e6", "1.23e11"]);
    }

    #[test]
    fn many_evenly_spaced_options_are_a_range() {
        assert_eq!(options(&[8_u32, 12, 16]), "8 12 16");
        assert_eq!(options(&[8_u32, 12, 16, 20, 24]), "8 to 24 by 4");
        assert_eq!(options(&[0.75, 1.5, 2.25, 3.0, 3.75]), "0.75 to 3.75 by 0.75");
        assert_eq!(options(&[8_u32, 12, 16, 20, 28]), "8 12 16 20 28");
    }

    #[test]
    fn a_sparkline_spans_the_values_and_stays_within_its_width() {
        assert_eq!(sparkline(&[0.0, 1.0, 7.0], 10), "▁▂█");
        assert_eq!(sparkline(&[2.0, 2.0], 10), "▁▁");
        let long: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(sparkline(&long, 8), "▁▂▃▄▅▆▇█");
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells() {
        let mut table = Table::new(&[">n", "name"]);
        table.row(["7".to_owned(), "smoke".to_owned()]);
        table.row(["12".to_owned(), "x".to_owned()]);
        assert_eq!(table.to_string(), " n  name\n 7  smoke\n12  x");
    }
}
