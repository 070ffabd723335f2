//! What a memory study says about the paper's claims, about explicit supernets and about the memory
//! model: a sentence or two each.

use super::points::{GrowthCurve, PointResult, STRAIGHT};
use super::tables::slope;
use crate::claim::{self, SpaceGrowth, Verdict};
use crate::record::StepUsage;
use crate::space::{Dimension, Growth, SearchSpace};
use crate::study::verdict::{
    GrowthEvidence, GrowthKind, TOLERATED_BYTES, TOLERATED_SECONDS, TimeGrowth, judge,
};
use crate::text::MIB;

/// The memory model's error up to which a prediction counts as right.
const MODEL_TOLERATED: f64 = 0.03;

/// All of them.
pub fn list(
    dataset: &str,
    space: Option<&SearchSpace>,
    points: &[PointResult],
    curves: &[GrowthCurve],
) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(space.and_then(|space| size_verdict(dataset, space)));
    lines.extend(masking_verdicts(dataset, curves));
    lines.extend(explicit_growth(curves));
    lines.extend(model_error(points));
    lines
}

/// C1, which the space alone decides.
fn size_verdict(dataset: &str, space: &SearchSpace) -> Option<String> {
    let by_widths = space.size().along(Dimension::Width).log10();
    let c1 = claim::find("C1")?;
    let verdict = c1.judge_space(SpaceGrowth { by_widths, classes: space.classes });
    Some(format!(
        "C1, \"{}\": {} has 10^{by_widths:.1} combinations of widths. Verdict: {}.",
        c1.statement.trim_end_matches('.'),
        space.name,
        verdict.unwrap_or_else(|| c1.not_measured(dataset))
    ))
}

/// The first such curve: without recompute, if there is one.
fn find<'a>(
    curves: &'a [GrowthCurve],
    methods: &[&str],
    dimension: &str,
) -> Option<&'a GrowthCurve> {
    let wanted = |c: &&GrowthCurve| methods.contains(&&c.method[..]) && c.dimension == dimension;
    curves.iter().find(wanted)
}

/// C2: one line per dimension, and one for the claim as a whole.
fn masking_verdicts(dataset: &str, curves: &[GrowthCurve]) -> Vec<String> {
    let masked = masked(curves);
    let mut lines: Vec<String> =
        masked.iter().filter_map(|(curve, evidence)| growth_verdict(curve, evidence)).collect();
    lines.extend(masking_as_a_whole(dataset, curves));
    lines
}

/// The curves of masked supernets that grow, with what they say about C2.
fn masked(curves: &[GrowthCurve]) -> Vec<(&GrowthCurve, GrowthEvidence)> {
    let of = |growth: Growth| {
        let curve = find(curves, &["dmasking"], growth.name())?;
        Some((curve, evidence(curve, growth)?))
    };
    Growth::ALL.into_iter().filter_map(of).collect()
}

/// What a curve of the masked supernet says about C2.
fn evidence(curve: &GrowthCurve, growth: Growth) -> Option<GrowthEvidence> {
    let (first, last) = curve.ends()?;
    let kind = match growth {
        Growth::Of(Dimension::Width | Dimension::Expansion) => GrowthKind::Sizes,
        Growth::Of(Dimension::Resolution) => GrowthKind::Resolutions,
        Growth::Of(Dimension::BlockType) => GrowthKind::BlockTypes,
        Growth::All => GrowthKind::Everything,
    };
    Some(GrowthEvidence {
        kind,
        options: last.options as f64 / first.options as f64,
        bytes: curve.growth(PointResult::peak_bytes)?,
        time: time_growth(curve),
    })
}

/// A line through the seconds of all processes. Processes differ by some per cent in both directions,
/// so no single one decides.
fn time_growth(curve: &GrowthCurve) -> Option<TimeGrowth> {
    let (first, last) = curve.ends()?;
    let line = curve.seconds_line()?;
    let (low, high) = line.interval?;
    let start = line.intercept + line.slope * first.options as f64;
    let share = |slope: f64| slope * (last.options - first.options) as f64 / start;
    (start > 0.0).then_some(TimeGrowth {
        times: curve.growth(PointResult::seconds)?,
        interval: (share(low), share(high)),
        processes: first.repeats.len().min(last.repeats.len()),
        points: curve.measured().count(),
    })
}

fn growth_verdict(curve: &GrowthCurve, evidence: &GrowthEvidence) -> Option<String> {
    let (first, last) = curve.ends()?;
    let per = curve.per_hundredfold().zip(claim::find("C2").and_then(|c2| c2.published.first()));
    let per = per.map_or(String::new(), |(mb, published)| {
        let (twice, mark) = (2.0 * published.value, published.mark.meaning());
        format!(
            " Memory grows by {mb:.3} MB per factor of 100 in the size of the space; the paper's \
             figure is {twice} MB ({mark})."
        )
    });
    Some(format!(
        "C2, {}: from {} to {} options, masking needs {} memory and {} time.{}{per} Verdict: {}. \
         Recompute {}, run {}.",
        curve.dimension,
        first.options,
        last.options,
        change(evidence.bytes),
        change(curve.growth(PointResult::seconds)?),
        tolerance(evidence),
        by_part(&evidence.judge_bytes().to_string(), &evidence.judge_seconds().to_string()),
        curve.recompute,
        first.run
    ))
}

/// What bytes and seconds are compared with.
fn tolerance(evidence: &GrowthEvidence) -> String {
    match (evidence.kind, evidence.time) {
        (GrowthKind::Sizes, Some(TimeGrowth { interval: (low, high), .. })) => format!(
            " Along a line through all processes, time grows by {:+.2} % to {:+.2} % (95 % interval). \
             Up to {} % of memory and {} % of time count as nearly constant.",
            100.0 * low,
            100.0 * high,
            100.0 * TOLERATED_BYTES,
            100.0 * TOLERATED_SECONDS
        ),
        (GrowthKind::Resolutions, Some(_)) => format!(
            " Its time should grow by less than the number of options, which grows {} times.",
            evidence.options
        ),
        _ => String::new(),
    }
}

/// The verdicts on bytes and on seconds, as one if they agree.
fn by_part(bytes: &str, seconds: &str) -> String {
    if bytes == seconds {
        return bytes.to_owned();
    }
    format!("{bytes} in bytes, {seconds} in seconds")
}

/// The verdict on C2 as a whole, and those on its parts in words; `None` where the study has no masked
/// supernet.
pub fn on_masking(dataset: &str, curves: &[GrowthCurve]) -> Option<(Verdict, String)> {
    let masked: Vec<(&GrowthCurve, GrowthEvidence)> = masked(curves);
    if masked.is_empty() {
        return None;
    }
    let evidence: Vec<GrowthEvidence> = masked.iter().map(|(_, evidence)| *evidence).collect();
    let verdict = judge(claim::find("C2")?, dataset, &evidence);
    // The lines on each dimension give the reasons.
    let short = |verdict: Verdict| match verdict {
        Verdict::NotComparable { .. } => "not judged".to_owned(),
        Verdict::NotClaimed { .. } => "not claimed".to_owned(),
        verdict => verdict.to_string(),
    };
    let each = masked.iter().map(|(curve, evidence)| {
        let (bytes, seconds) = (short(evidence.judge_bytes()), short(evidence.judge_seconds()));
        format!("{} {}", curve.dimension, by_part(&bytes, &seconds))
    });
    Some((verdict, each.collect::<Vec<_>>().join("; ")))
}

fn masking_as_a_whole(dataset: &str, curves: &[GrowthCurve]) -> Option<String> {
    let (verdict, parts) = on_masking(dataset, curves)?;
    let statement = claim::find("C2")?.statement.trim_end_matches('.');
    Some(format!("C2 as a whole, \"{statement}\": {verdict} ({parts})."))
}

/// In a sentence: `1.2 % more`.
fn change(factor: f64) -> String {
    match factor {
        _ if factor >= 1.1 => format!("{factor:.2} times the"),
        _ if factor >= 1.0 => format!("{:.2} % more", 100.0 * (factor - 1.0)),
        _ => format!("{:.2} % less", 100.0 * (1.0 - factor)),
    }
}

/// How an explicit supernet grows, with which masking is compared.
fn explicit_growth(curves: &[GrowthCurve]) -> Option<String> {
    let explicit = find(curves, &["dnas", "darts"], "width")?;
    let line = explicit.line(|p| p.options as f64, |p| p.peak_bytes().map(|b| b / MIB))?;
    let (r_squared, (first, last)) = (line.r_squared?, explicit.ends()?);
    Some(format!(
        "One block per option ({}): from {} to {} widths, {} memory and {} time; {} MiB per width, R² \
         {r_squared:.4}, {}. Recompute {}, run {}.",
        explicit.method,
        first.options,
        last.options,
        change(explicit.growth(PointResult::peak_bytes)?),
        change(explicit.growth(PointResult::seconds)?),
        slope(Some(&line), explicit.has_interval()),
        if r_squared >= STRAIGHT { "linear" } else { "not linear" },
        explicit.recompute,
        first.run
    ))
}

/// The memory model's error, over all processes.
fn model_error(points: &[PointResult]) -> Option<String> {
    let error = |point: &PointResult, step: &StepUsage| {
        point.predicted_bytes as f64 / step.peak_bytes as f64 - 1.0
    };
    let all: Vec<(&PointResult, f64)> =
        points.iter().flat_map(|p| p.repeats.iter().map(move |step| (p, error(p, step)))).collect();
    let (worst, furthest) = all.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    let within = all.iter().filter(|(_, error)| error.abs() <= MODEL_TOLERATED).count();
    Some(format!(
        "The memory model is within {} % of {within} of {} measured peaks (one per process). Its \
         largest error is {:+.1} % ({}, recompute {}, {} {}, run {}).",
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
mod tests {
    use super::super::points::tests::curve;
    use super::*;

    /// The masked supernet of 1 to 4 options, by the bytes and the seconds of each.
    fn masked(dimension: &str, bytes: [u64; 4], seconds: [f64; 4]) -> GrowthCurve {
        let steps: Vec<_> = (0..4).map(|i| (i as u64 + 1, Some((bytes[i], seconds[i])))).collect();
        curve("dmasking", dimension, &steps)
    }

    fn assert_contains(line: &str, parts: &[&str]) {
        for part in parts {
            assert!(line.contains(part), "{part} is missing: {line}");
        }
    }

    #[test]
    fn masking_is_judged_per_dimension_and_as_a_whole() {
        let width = masked("width", [1_000_000; 4], [1.0, 1.01, 1.0, 1.01]);
        let resolution = masked("resolution", [1_000_000, 1, 1, 1_250_000], [1.0, 1.9, 2.8, 3.6]);
        let types = masked("block_type", [1_000_000, 1, 1, 4_000_000], [1.0, 2.0, 3.0, 4.0]);
        let lines = masking_verdicts("cifar10", &[width, resolution, types]);
        let [width, types, resolution, whole] = &lines[..] else { panic!("{lines:?}") };
        assert_contains(
            width,
            &[
                "needs 0.00 % more memory and 1.00 % more time",
                "0.000 MB per factor of 100",
                "figure is 1 MB (recollection of the paper",
                "Verdict: reproduced. Recompute none",
            ],
        );
        assert_contains(types, &["Verdict: not claimed: in the paper, too"]);
        assert_contains(
            resolution,
            &[
                "1.25 times the memory and 3.60 times the time",
                "less than the number of options, which grows 4 times",
                "Verdict: not reproduced in bytes, reproduced in seconds",
            ],
        );
        assert_contains(
            whole,
            &["grows\": not reproduced (width reproduced; block_type not claimed"],
        );
    }

    #[test]
    fn every_process_counts() {
        let mut steady = masked("width", [1_000_000; 4], [1.0; 4]);
        let mut with_one_at = |seconds| {
            for point in &mut steady.points {
                point.repeats[0].seconds = seconds;
            }
            masking_verdicts("cifar10", std::slice::from_ref(&steady)).remove(0)
        };
        assert_contains(&with_one_at(1.01), &["0.00 % more time", "Verdict: reproduced. "]);
        let (constant, noisy) = (Verdict::Reproduced, Verdict::Inconclusive);
        let doubt = format!("Verdict: {constant} in bytes, {noisy} in seconds. ");
        assert_contains(&with_one_at(1.4), &["0.00 % more time", &doubt]);
    }

    #[test]
    fn few_processes_are_not_judged() {
        let mut steady = masked("width", [1_000_000; 4], [1.0; 4]);
        steady.points[3].repeats.truncate(2);
        let lines = masking_verdicts("cifar10", &[steady]);
        let doubt =
            "reproduced in bytes, not comparable: fewer than 3 processes at an end or 3 points";
        assert_contains(&lines[0], &[doubt]);
        assert_contains(&lines[1], &["(width reproduced in bytes, not judged in seconds)"]);
    }

    #[test]
    fn one_measured_point_is_no_growth() {
        let steps = [(1, Some((1_000_000, 1.0))), (3, None)];
        assert!(masking_verdicts("cifar10", &[curve("dmasking", "width", &steps)]).is_empty());
        assert_eq!(explicit_growth(&[curve("dnas", "width", &steps)]), None);
    }

    /// The explicit supernet of 1 to 4 widths of 1, 2, 3 MiB and `last`.
    fn explicit(last: u64) -> GrowthCurve {
        let mib = 1_048_576;
        let steps = [(1, mib), (2, 2 * mib), (3, 3 * mib), (4, last)];
        let steps = steps.map(|(options, bytes)| (options, Some((bytes, options as f64))));
        curve("dnas", "width", &steps)
    }

    #[test]
    fn a_bent_curve_is_not_linear() {
        let straight = explicit_growth(&[explicit(4 << 20)]).unwrap();
        assert_contains(&straight, &["1.000 (1.000 to 1.000) MiB per width, R² 1.0000, linear"]);
        let bent = explicit_growth(&[explicit(2 << 20)]).unwrap();
        assert_contains(&bent, &[", not linear."]);
    }

    #[test]
    fn the_error_of_the_model_is_its_largest() {
        let mut points = explicit(4 << 20).points;
        points[3].repeats[1].peak_bytes = 1_010_000;
        assert_contains(
            &model_error(&points).unwrap(),
            &[
                "within 3 % of 1 of 12 measured peaks",
                "largest error is -76.2 % (dnas, recompute none, width 4, run 7)",
            ],
        );
    }
}
