//! Numbers with their units.

use super::one_line;
use std::fmt::Display;

/// Bytes of a mebibyte.
pub const MIB: f64 = 1_048_576.0;

/// What a number measures, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share in 0..=1, written in percent.
    Percent,
    /// Operations, weights, images: `1.62 M`.
    Count,
    Seconds,
    /// Bytes, written in MiB.
    Mebibytes,
}

const COUNTS: [(f64, &str); 5] =
    [(1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];

impl Unit {
    /// One number, without the name of its unit: that stands in the heading.
    #[must_use]
    pub fn cell(self, value: f64) -> String {
        let (divisor, decimals, suffix) = self.scale(value);
        format!("{:.decimals$}{suffix}", value / divisor)
    }

    /// Mean and standard deviation in the same unit.
    #[must_use]
    pub fn spread(self, mean: f64, sd: f64) -> String {
        let (divisor, decimals, suffix) = self.scale(mean);
        format!("{:.decimals$} ± {:.decimals$}{suffix}", mean / divisor, sd / divisor)
    }

    /// The smallest and the largest number; `None` without numbers.
    #[must_use]
    pub fn range(self, values: &[f64]) -> Option<String> {
        let least = values.iter().copied().reduce(f64::min)?;
        let largest = values.iter().copied().reduce(f64::max)?;
        let (least, largest) = (self.cell(least), self.cell(largest));
        Some(if least == largest { least } else { format!("{least} to {largest}") })
    }

    /// Divisor, decimals and suffix for numbers of the size of `value`.
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

/// `9.61 M`: a count of operations, weights or images.
#[must_use]
pub fn count(n: u64) -> String {
    Unit::Count.cell(n as f64)
}

/// `1,234,567`: a whole number of any size, to the unit.
#[must_use]
pub fn grouped(number: &impl ToString) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `81.25 %` of a share in 0..=1.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{} %", Unit::Percent.cell(share))
}

/// `+1.30`: a difference of two shares in percentage points.
#[must_use]
pub fn points(difference: f64) -> String {
    format!("{:+.2}", 100.0 * difference)
}

/// `0.012`, `below 0.001`: a p-value.
#[must_use]
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "below 0.001".to_owned() } else { format!("{p:.3}") }
}

/// `1.23 GiB`
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, None);
    // 1023.995 KiB would round to "1024.00 KiB".
    let mut units = UNITS.into_iter();
    while value >= if unit.is_some() { 1023.995 } else { 1024.0 } {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / 1024.0, Some(next));
    }
    unit.map_or(format!("{bytes} B"), |unit| format!("{value:.2} {unit}"))
}

/// `12.3 s`, `4 min 05 s`, `1 h 02 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    // Rounded first, so that 59.96 s are not 60.0 s.
    let tenths = (seconds.max(0.0) * 10.0).round() / 10.0;
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if tenths < 60.0 => format!("{tenths:.1} s"),
        0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// A measured value: whole numbers whole, others with five significant digits.
#[must_use]
pub fn decimal(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    if value.abs() < 1e-3 || value.abs() >= 1e15 || !value.is_finite() {
        return format!("{value:.3e}");
    }
    let decimals = (4.0 - value.abs().log10().floor()).clamp(1.0, 7.0) as usize;
    format!("{value:.decimals$}")
}

/// `10^6.1`: a size by its decimal logarithm.
#[must_use]
pub fn power_of_ten(log10: f64) -> String {
    format!("10^{log10:.1}")
}

/// The number of ways to choose: the `exact` digits while there are few, else `1.23e31`.
#[must_use]
pub fn ways(exact: &str, log10: f64) -> String {
    // Otherwise the logarithm of a power of ten may fall just short.
    let log10 = log10 + 1e-12;
    if log10 < 6.0 {
        return one_line(exact);
    }
    let exponent = log10.floor();
    format!("{:.2}e{exponent}", 10_f64.powf(log10 - exponent))
}

/// Options in ascending order: `16 24 32`, or `16 to 64 by 8` where many are evenly spaced.
pub fn options<T: Copy + Into<f64> + Display>(options: &[T]) -> String {
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

/// A line of bars of eight heights. At most `width` bars, each the mean of neighbouring values.
#[must_use]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_up_to_three_digits_before_the_point() {
        let cases = [(0.0, "0"), (999.0, "999"), (1000.0, "1.00 k"), (1_620_000.0, "1.62 M")];
        for (value, expected) in cases {
            assert_eq!(Unit::Count.cell(value), expected);
        }
        assert_eq!(Unit::Count.cell(999_994.0), "999.99 k");
        assert_eq!(Unit::Count.cell(999_999.0), "1.00 M");
        assert_eq!(Unit::Count.spread(1_620_000.0, 4_000.0), "1.62 ± 0.00 M");
        assert_eq!(count(12_345_000_000), "12.35 G");
    }

    #[test]
    fn a_range_of_one_value_is_the_value() {
        assert_eq!(Unit::Percent.range(&[0.5, 0.25]).as_deref(), Some("25.00 to 50.00"));
        assert_eq!(Unit::Seconds.range(&[1.01, 0.99]).as_deref(), Some("1.0"));
        assert_eq!(Unit::Seconds.range(&[]), None);
    }

    #[test]
    fn bytes_use_binary_units() {
        let shown = [0, 1023, 1024, 1_048_575, 1 << 30, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.00 KiB", "1.00 MiB", "1.00 GiB", "16.00 EiB"]);
    }

    #[test]
    fn durations_and_large_numbers_are_short() {
        let times = [0.04, 59.94, 59.96, 245.0, 3720.0].map(duration);
        assert_eq!(times, ["0.0 s", "59.9 s", "1 min 00 s", "4 min 05 s", "1 h 02 min"]);
        assert_eq!(ways("999,000", 999_000_f64.log10()), "999,000");
        assert_eq!(ways("1,000,000", 6.0), "1.00e6");
        assert_eq!(ways("", 123_456_789_000_f64.log10()), "1.23e11");
    }

    #[test]
    fn measured_values_keep_five_digits() {
        let values = [7.0, 0.123_456_789, 2.345_678, 123_456.789, 0.000_012_3, 1e12, 1.5e20];
        let expected =
            ["7", "0.12346", "2.3457", "123456.8", "1.230e-5", "1000000000000", "1.500e20"];
        assert_eq!(values.map(decimal), expected);
    }

    #[test]
    fn evenly_spaced_options_are_a_range() {
        assert_eq!(options(&[8_u32, 12, 16]), "8 12 16");
        assert_eq!(options(&[8_u32, 12, 16, 20, 24]), "8 to 24 by 4");
        assert_eq!(options(&[0.75, 1.5, 2.25, 3.0, 3.75]), "0.75 to 3.75 by 0.75");
        assert_eq!(options(&[8_u32, 12, 16, 20, 28]), "8 12 16 20 28");
    }

    #[test]
    fn a_sparkline_keeps_to_its_width() {
        assert_eq!(sparkline(&[0.0, 1.0, 7.0], 10), "▁▂█");
        assert_eq!(sparkline(&[2.0, 2.0], 10), "▁▁");
        let long: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(sparkline(&long, 8), "▁▂▃▄▅▆▇█");
    }
}
