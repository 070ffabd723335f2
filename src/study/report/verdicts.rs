//! What a memory scaling study says of the paper's claims, of the explicit supernets beside them, and of
//! the memory model.

use super::page::{STRAIGHT, has_interval, per_hundredfold, slope};
use super::{Point, Series};
use crate::claim::{self, SpaceGrowth, Verdict};
use crate::record::StepUsage;
use crate::space::{Dimension, Growth, SearchSpace};
use crate::store::{RunRow, RunStatus};
use crate::study::verdict::{Along, Scaled, Seconds, TOLERATED_BYTES, TOLERATED_SECONDS, judge};
use crate::text::{MIB, escape};

/// How far the memory model may be off.
const MODEL_TOLERATED: f64 = 0.03;

/// One line for each.
pub fn list(
    runs: &[RunRow],
    space: Option<&SearchSpace>,
    points: &[Point],
    series: &[Series],
) -> String {
    let dataset = runs.first().map_or("", |run| &run.dataset[..]);
    let mut lines = Vec::new();
    lines.extend(space.and_then(|space| of_size(dataset, space)));
    lines.extend(of_masking(dataset, series));
    lines.extend(of_explicit(series));
    lines.extend(of_model(points));
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

/// That a run ended, or goes on, without all of its points, and why.
pub fn incomplete(run: &RunRow) -> Option<String> {
    if run.status == RunStatus::Finished {
        return None;
    }
    let error = run.error.iter().flat_map(|error| error.lines());
    let why: Vec<&str> = std::iter::once(run.status.name()).chain(error).collect();
    let (id, method) = (run.id, &run.method);
    Some(format!("Not all points of {method} were measured (run {id}): {}", why.join("; ")))
}

/// C1, which a space alone decides.
fn of_size(dataset: &str, space: &SearchSpace) -> Option<String> {
    let by_widths = space.size().along(Dimension::Width).log10();
    let c1 = claim::find("C1")?;
    let verdict = c1.judge_space(SpaceGrowth { by_widths, classes: space.classes });
    Some(format!(
        "C1, \"{}\": the widths of {} multiply to 10^{by_widths:.1}: {}.",
        c1.statement.trim_end_matches('.'),
        escape(&space.name),
        verdict.unwrap_or_else(|| c1.not_measured(dataset))
    ))
}

/// That without recompute, where there is one.
fn find<'a>(series: &'a [Series], methods: &[&str], dimension: &str) -> Option<&'a Series> {
    series.iter().find(|s| methods.contains(&&s.method[..]) && s.dimension == dimension)
}

/// C2: a line for everything that grows, and one that sums them up.
fn of_masking(dataset: &str, series: &[Series]) -> Vec<String> {
    let masked = Growth::ALL.into_iter().filter_map(|growth| {
        let series = find(series, &["dmasking"], growth.name())?;
        Some((series, scaled(series, growth)?))
    });
    let masked: Vec<(&Series, Scaled)> = masked.collect();
    let mut lines: Vec<String> =
        masked.iter().filter_map(|(series, scaled)| of_growth(series, scaled)).collect();
    lines.extend(sum(dataset, &masked));
    lines
}

/// What was measured of the masked supernet as one thing grows.
fn scaled(series: &Series, growth: Growth) -> Option<Scaled> {
    let (first, last) = series.ends()?;
    let along = match growth {
        Growth::Of(Dimension::Width | Dimension::Expansion) => Along::Sizes,
        Growth::Of(Dimension::Resolution) => Along::Resolutions,
        Growth::Of(Dimension::BlockType) => Along::BlockTypes,
        Growth::All => Along::Everything,
    };
    Some(Scaled {
        along,
        options: last.options as f64 / first.options as f64,
        bytes: series.growth(Point::peak_bytes)?,
        seconds: seconds(series),
    })
}

/// The growth along the line through the seconds of all processes: the scatter between them is of both
/// signs, since a processor is at times faster than usual as well, so that no single one counts.
fn seconds(series: &Series) -> Option<Seconds> {
    let (first, last) = series.ends()?;
    let line = series.seconds_line()?;
    let (low, high) = line.interval?;
    let begins = line.intercept + line.slope * first.options as f64;
    let share = |slope: f64| slope * (last.options - first.options) as f64 / begins;
    (begins > 0.0).then_some(Seconds {
        times: series.growth(Point::seconds)?,
        growth: (share(low), share(high)),
        processes: first.repeats.len().min(last.repeats.len()),
        points: series.measured().count(),
    })
}

fn of_growth(series: &Series, scaled: &Scaled) -> Option<String> {
    let (first, last) = series.ends()?;
    let per = per_hundredfold(series).zip(claim::find("C2").and_then(|c2| c2.published.first()));
    let per = per.map_or(String::new(), |(mb, published)| {
        let (twice, mark) = (2.0 * published.value, published.mark.meaning());
        format!("; {mb:.3} MB per two orders of magnitude of space size, beside the paper's {twice} ({mark})")
    });
    Some(format!(
        "C2, {}: from {} to {} options masking needs {} memory and {} time{}{per}: {}. Recompute {} \
         (run {}).",
        series.dimension,
        first.options,
        last.options,
        grown(scaled.bytes),
        grown(series.growth(Point::seconds)?),
        tolerated(scaled),
        parts(scaled),
        series.recompute,
        first.run
    ))
}

/// What the seconds are held against, and by how much they grow along their line.
fn tolerated(scaled: &Scaled) -> String {
    match (scaled.along, scaled.seconds) {
        (Along::Sizes, Some(Seconds { growth: (low, high), .. })) => format!(
            " ({:+.2} % to {:+.2} % along a line through all processes; {} % of bytes and {} % of \
             seconds are tolerated)",
            100.0 * low,
            100.0 * high,
            100.0 * TOLERATED_BYTES,
            100.0 * TOLERATED_SECONDS
        ),
        (Along::Resolutions, Some(_)) => {
            format!(
                " (its time is to grow by less than the {} times as many options)",
                scaled.options
            )
        }
        _ => String::new(),
    }
}

/// The verdicts on bytes and on seconds, as one where they agree.
fn parts(scaled: &Scaled) -> String {
    let (bytes, seconds) = (scaled.judge_bytes(), scaled.judge_seconds());
    if bytes == seconds {
        return bytes.to_string();
    }
    format!("{bytes} in bytes, {seconds} in seconds")
}

/// C2 in one sentence.
fn sum(dataset: &str, masked: &[(&Series, Scaled)]) -> Option<String> {
    if masked.is_empty() {
        return None;
    }
    let c2 = claim::find("C2")?;
    let scaled: Vec<Scaled> = masked.iter().map(|(_, scaled)| *scaled).collect();
    let verdict = judge(c2, dataset, &scaled);
    let short = |verdict: Verdict| match verdict {
        Verdict::NotComparable { .. } => "not judged".to_owned(),
        Verdict::NotClaimed { .. } => "not claimed".to_owned(),
        verdict => verdict.to_string(),
    };
    let each = masked.iter().map(|(series, scaled)| {
        let (bytes, seconds) = (short(scaled.judge_bytes()), short(scaled.judge_seconds()));
        let part = if bytes == seconds {
            bytes
        } else {
            format!("{bytes} in bytes, {seconds} in seconds")
        };
        format!("{} {part}", series.dimension)
    });
    Some(format!(
        "C2 as a whole, \"{}\": {verdict} ({}).",
        c2.statement.trim_end_matches('.'),
        each.collect::<Vec<_>>().join("; ")
    ))
}

/// In a sentence: `1.2 % more`.
fn grown(factor: f64) -> String {
    match factor {
        _ if factor >= 1.1 => format!("{factor:.2} times the"),
        _ if factor >= 1.0 => format!("{:.2} % more", 100.0 * (factor - 1.0)),
        _ => format!("{:.2} % less", 100.0 * (1.0 - factor)),
    }
}

/// What masking is compared with.
fn of_explicit(series: &[Series]) -> Option<String> {
    let explicit = find(series, &["dnas", "darts"], "width")?;
    let line = explicit.line(|p| p.options as f64, |p| p.peak_bytes().map(|b| b / MIB))?;
    let (r_squared, (first, last)) = (line.r_squared?, explicit.ends()?);
    Some(format!(
        "A block for every option: from {} to {} widths {} memory and {} time; {} MiB a width, R² \
         {r_squared:.4}: {}. Recompute {} (run {}).",
        first.options,
        last.options,
        grown(explicit.growth(Point::peak_bytes)?),
        grown(explicit.growth(Point::seconds)?),
        slope(Some(&line), has_interval(explicit)),
        if r_squared >= STRAIGHT { "linear" } else { "not a straight line" },
        explicit.recompute,
        first.run
    ))
}

/// How far the model is off, of every process.
fn of_model(points: &[Point]) -> Option<String> {
    let error = |point: &Point, step: &StepUsage| {
        point.predicted_bytes as f64 / step.peak_bytes as f64 - 1.0
    };
    let all: Vec<(&Point, f64)> =
        points.iter().flat_map(|p| p.repeats.iter().map(move |step| (p, error(p, step)))).collect();
    let (worst, furthest) = all.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    let within = all.iter().filter(|(_, error)| error.abs() <= MODEL_TOLERATED).count();
    Some(format!(
        "The memory model is within {} % of {within} of {} peaks, one a process; it is furthest off by \
         {:+.1} % ({}, recompute {}, {} {}, run {}).",
        100.0 * MODEL_TOLERATED,
        all.len(),
        100.0 * furthest,
        worst.method,
        worst.recompute,
        worst.dimension,
        worst.options,
        worst.run
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Steps of so many bytes and seconds, by options, of three processes; without them, predicted.
    pub fn grown_by(method: &str, dimension: &str, steps: &[(u64, Option<(u64, f64)>)]) -> Series {
        let point = |&(options, step): &(u64, Option<(u64, f64)>)| Point {
            run: 7,
            method: method.to_owned(),
            recompute: "none".to_owned(),
            dimension: dimension.to_owned(),
            options,
            batch: 64,
            log10_candidates: 2.0 * options as f64,
            predicted_bytes: 1_000_000,
            repeats: step.map_or(Vec::new(), |(peak_bytes, seconds)| {
                vec![StepUsage { seconds, peak_bytes, ..StepUsage::default() }; 3]
            }),
        };
        let points = steps.iter().map(point).collect();
        let (method, dimension) = (method.to_owned(), dimension.to_owned());
        Series { method, recompute: "none".to_owned(), dimension, points }
    }

    /// The masked supernet of 1 to 4 options, by the bytes and the seconds of each.
    fn masked(dimension: &str, bytes: [u64; 4], seconds: [f64; 4]) -> Series {
        let steps: Vec<_> = (0..4).map(|i| (i as u64 + 1, Some((bytes[i], seconds[i])))).collect();
        grown_by("dmasking", dimension, &steps)
    }

    #[test]
    fn masking_is_judged_in_bytes_and_in_seconds_and_summed_up() {
        let width = masked("width", [1_000_000; 4], [1.0, 1.01, 1.0, 1.01]);
        let resolution = masked("resolution", [1_000_000, 1, 1, 1_250_000], [1.0, 1.9, 2.8, 3.6]);
        let types = masked("block_type", [1_000_000, 1, 1, 4_000_000], [1.0, 2.0, 3.0, 4.0]);
        let lines = of_masking("cifar10", &[width, resolution, types]);
        let [width, types, resolution, whole] = &lines[..] else { panic!("{lines:?}") };
        assert!(width.contains("needs 0.00 % more memory and 1.00 % more time"), "{width}");
        assert!(width.contains("0.000 MB per two orders of magnitude"), "{width}");
        assert!(width.contains("beside the paper's 1 (recollection of the paper"), "{width}");
        assert!(width.contains(": reproduced. Recompute none"), "{width}");
        assert!(types.contains(": not claimed: each block type"), "{types}");
        assert!(
            resolution.contains("1.25 times the memory and 3.60 times the time"),
            "{resolution}"
        );
        assert!(resolution.contains("less than the 4 times as many options"), "{resolution}");
        assert!(resolution.contains(": not reproduced in bytes, reproduced in seconds"));
        assert!(
            whole.contains("grows\": not reproduced (width reproduced; block_type not"),
            "{whole}"
        );
    }

    #[test]
    fn every_process_counts_and_few_processes_are_not_judged() {
        let mut steady = masked("width", [1_000_000; 4], [1.0; 4]);
        let with_one_at = |series: &mut Series, seconds| {
            for point in &mut series.points {
                point.repeats[0].seconds = seconds;
            }
            of_masking("cifar10", std::slice::from_ref(series)).remove(0)
        };
        let line = with_one_at(&mut steady, 1.01);
        assert!(line.contains("0.00 % more time") && line.contains(": reproduced. "), "{line}");
        let line = with_one_at(&mut steady, 1.4);
        let doubt = ": reproduced in bytes, inconclusive in seconds. ";
        assert!(line.contains("0.00 % more time") && line.contains(doubt), "{line}");
        steady.points[3].repeats.truncate(2);
        let lines = of_masking("cifar10", &[steady]);
        let doubt =
            "reproduced in bytes, not comparable: fewer than 3 processes at an end or 3 points";
        assert!(lines[0].contains(doubt), "{lines:?}");
        assert!(
            lines[1].contains("(width reproduced in bytes, not judged in seconds)"),
            "{lines:?}"
        );
    }

    #[test]
    fn one_measured_point_says_nothing_of_growth() {
        let steps = [(1, Some((1_000_000, 1.0))), (3, None)];
        assert!(of_masking("cifar10", &[grown_by("dmasking", "width", &steps)]).is_empty());
        assert_eq!(of_explicit(&[grown_by("dnas", "width", &steps)]), None);
    }

    #[test]
    fn a_straight_line_is_told_from_a_bent_one_and_the_model_from_what_was_measured() {
        let mib = 1_048_576;
        let line = |last| {
            let steps = [(1, mib), (2, 2 * mib), (3, 3 * mib), (4, last)];
            let steps = steps.map(|(options, bytes)| (options, Some((bytes, options as f64))));
            grown_by("dnas", "width", &steps)
        };
        let straight = of_explicit(&[line(4 * mib)]).unwrap();
        assert!(
            straight.contains("1.000 (1.000 to 1.000) MiB a width, R² 1.0000: linear"),
            "{straight}"
        );
        let bent = of_explicit(&[line(2 * mib)]).unwrap();
        assert!(bent.contains(": not a straight line."), "{bent}");
        let mut points = line(4 * mib).points;
        points[3].repeats[1].peak_bytes = 1_010_000;
        let model = of_model(&points).unwrap();
        assert!(model.contains("within 3 % of 1 of 12 peaks"), "{model}");
        assert!(
            model.contains("furthest off by -76.2 % (dnas, recompute none, width 4, run 7)"),
            "{model}"
        );
    }
}
