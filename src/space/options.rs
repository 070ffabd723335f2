//! The options of a choice in a space file: widths, expansion ratios and block types.

use super::{BlockType, Expansion, ExpansionOf, make_divisible};
use crate::document::{Entry, nearest};
use std::fmt::Display;
use std::ops::Bound::{Excluded, Included};
use toml::de::DeValue;

pub(super) const MAX_CHANNELS: u64 = 4096;
pub(super) const MAX_OPTIONS: usize = 64;
const MAX_RATIO: f64 = 16.0;

pub(super) const WIDTHS: &str = "a width, a list of widths or { low, high, step }";
pub(super) const RATIOS: &str = "1, a list of ratios or { low, high, step }";
pub(super) const TYPES: &str = "\"all\" or a list of block types";

/// Widths in channels.
pub(super) fn read_widths(value: &Entry<'_>) -> Option<Vec<usize>> {
    let widths = match value.node() {
        DeValue::Integer(_) => vec![value.whole(1..=MAX_CHANNELS)?],
        DeValue::Table(_) => {
            let [low, high, step] = value.section(|s| {
                let low = s.whole("low", 1..=MAX_CHANNELS);
                let high = s.whole("high", 1..=MAX_CHANNELS);
                let step = s.whole("step", 1..=MAX_CHANNELS);
                Some([low?, high?, step?])
            })?;
            span(value, low as f64, high as f64, step as f64)?
                .into_iter()
                .map(|width| width as usize)
                .collect()
        }
        _ => value.list(1..=MAX_OPTIONS, WIDTHS, |width| width.whole(1..=MAX_CHANNELS))?,
    };
    ascending(value, widths)
}

/// The expansions of the first block of a stage and of the later ones, whose inputs differ.
/// `inputs` are the largest input widths of both, in channels.
pub(super) fn read_expansions(
    value: &Entry<'_>,
    inputs: [Option<usize>; 2],
    divisor: Option<usize>,
    of: ExpansionOf,
) -> Option<[Option<Expansion>; 2]> {
    let range = || (Excluded(0.0), Included(MAX_RATIO));
    let ratios = match value.node() {
        DeValue::Integer(_) | DeValue::Float(_) => {
            let ratio = value.real(range())?;
            if ratio == 1.0 {
                return Some([Some(Expansion::None), Some(Expansion::None)]);
            }
            vec![ratio]
        }
        DeValue::Table(_) => {
            let [low, high, step] = value.section(|s| {
                let low = s.real("low", range());
                let high = s.real("high", range());
                let step = s.real("step", range());
                Some([low?, high?, step?])
            })?;
            span(value, low, high, step)?
        }
        _ => value.list(1..=MAX_OPTIONS, RATIOS, |ratio| ratio.real(range()))?,
    };
    let ratios = ascending(value, ratios)?;
    let divisor = divisor?;
    let mut has_failed = false;
    Some(inputs.map(|in_max| {
        // One message is enough for both.
        if has_failed {
            return None;
        }
        let expansion = expand(value, &ratios, in_max?, divisor, of);
        has_failed = expansion.is_none();
        expansion
    }))
}

/// Hidden widths for the ratios of `in_max` channels, in multiples of `divisor`; all must differ.
fn expand(
    value: &Entry<'_>,
    ratios: &[f64],
    in_max: usize,
    divisor: usize,
    of: ExpansionOf,
) -> Option<Expansion> {
    let mids: Vec<usize> =
        ratios.iter().map(|ratio| make_divisible(ratio * in_max as f64, divisor)).collect();
    if let Some(i) = mids.windows(2).position(|pair| pair[0] >= pair[1]) {
        let problem = format!(
            "ratios {} and {} of {in_max} channels both give {} hidden channels, \
             in multiples of {divisor}",
            ratios[i],
            ratios[i + 1],
            mids[i],
        );
        return value.fail(problem, "give ratios further apart, or a smaller channel_divisor");
    }
    Some(Expansion::Options { ratios: ratios.to_vec(), mids, of })
}

/// `low`, `low + step`, … up to `high`, which must be one of them.
fn span(value: &Entry<'_>, low: f64, high: f64, step: f64) -> Option<Vec<f64>> {
    if low > high {
        let problem = format!("is empty: low {low} is above high {high}");
        return value.fail(problem, "give a high of at least low");
    }
    // Decimal fractions are not exact in binary: 0.1 + 2 * 0.1 is not 0.3.
    let round = |x: f64| (x * 1e9).round() / 1e9;
    let steps = ((high - low) / step).round();
    if steps >= MAX_OPTIONS as f64 {
        let problem = format!("steps of {step:?} from {low} to {high} make too many options");
        return value.fail(problem, format!("give at most {MAX_OPTIONS} options"));
    }
    if round(low + steps * step) != round(high) {
        let below = round(low + ((high - low) / step).floor() * step);
        let problem = format!("steps of {step} from {low} miss {high}");
        let expected = format!("give a high of {below} or {}", round(below + step));
        return value.fail(problem, expected);
    }
    Some((0..=steps as usize).map(|i| round(low + i as f64 * step)).collect())
}

/// Refuses options that are equal or not in ascending order: an option is known by its position.
pub(super) fn ascending<T: PartialOrd + Display>(
    value: &Entry<'_>,
    options: Vec<T>,
) -> Option<Vec<T>> {
    match options.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) if pair[0] == pair[1] => {
            value.fail(format!("{} is given twice", pair[0]), "give each option once")
        }
        Some(pair) => {
            let problem = format!("{} comes before {}", pair[0], pair[1]);
            value.fail(problem, "give the options in ascending order")
        }
        None => Some(options),
    }
}

pub(super) fn read_types(value: &Entry<'_>) -> Option<Vec<BlockType>> {
    let names = BlockType::ALL.map(BlockType::name);
    let one_of_them = format!("one of {}", names.join(", "));
    if let DeValue::String(text) = value.node() {
        if text == "all" {
            return Some(BlockType::FBNETV2.to_vec());
        }
        let problem = format!("{} is not a list", value.given());
        if BlockType::from_name(text).is_some() {
            return value.fail(problem, format!("give {TYPES}, as in [\"{text}\"]"));
        }
        return value.fail_with_hint(problem, format!("give {TYPES}"), nearest(text, ["all"]));
    }
    let mut seen = Vec::new();
    value.list(1..=BlockType::ALL.len(), TYPES, |member| {
        let name = member.text(&one_of_them)?;
        let Some(kind) = BlockType::from_name(name) else {
            let problem = format!("{} is not a block type", member.given());
            let expected = format!("give {one_of_them}");
            return member.fail_with_hint(problem, expected, nearest(name, names));
        };
        if seen.contains(&kind) {
            let problem = format!("\"{name}\" is given twice");
            return member.fail(problem, "give each type once");
        }
        seen.push(kind);
        Some(kind)
    })
}
