//! The section `[search.loss]`: how cross-entropy and cost are combined.

use super::keys::optional_name;
use crate::cost;
use crate::document::{Entry, Section};
use crate::recipe::{InputChannels, LossForm, Objective, SearchLoss};
use crate::space::SearchSpace;
use std::ops::Bound::{Excluded, Included};

const MAX_COST_UNIT: f64 = 1e15;
const MAX_COEFFICIENT: f64 = 1e6;

const OBJECTIVES: &[(&str, Objective)] =
    &[("macs", Objective::Macs), ("params", Objective::Params)];
const INPUT_CHANNELS: &[(&str, InputChannels)] =
    &[("effective", InputChannels::Effective), ("nominal", InputChannels::Nominal)];

#[derive(Clone, Copy)]
enum FormName {
    LogPower,
    Linear,
    Hinge,
}

impl FormName {
    const ALL: &[(&str, Self)] =
        &[("log_power", Self::LogPower), ("linear", Self::Linear), ("hinge", Self::Hinge)];
    const COEFFICIENTS: [&str; 4] = ["a", "b", "lambda", "target"];

    /// Its name, its formula and the coefficients in it.
    fn about(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::LogPower => ("log_power", "CE * a * ln(cost)^b", &["a", "b"]),
            Self::Linear => ("linear", "CE + lambda * cost", &["lambda"]),
            Self::Hinge => {
                ("hinge", "CE + lambda * max(0, cost / target - 1)", &["lambda", "target"])
            }
        }
    }
}

/// Each form has its own coefficients; those of other forms are refused.
pub(super) fn read_loss(s: &Section<'_>, space: Option<&SearchSpace>) -> Option<SearchLoss> {
    let objective = s.name("objective", OBJECTIVES);
    let input_channels = optional_name(s, "input_channels", INPUT_CHANNELS);
    let kind = s.name("form", FormName::ALL);
    for key in FormName::COEFFICIENTS {
        match kind.map(FormName::about) {
            Some((name, formula, own)) if !own.contains(&key) => {
                let problem =
                    format!("is not a coefficient of the form \"{name}\", which is {formula}");
                s.forbid(key, &problem, "remove it, or change the form");
            }
            Some(_) => {}
            // Without a form it is unknown which keys belong.
            None => drop(s.get(key)),
        }
    }
    let coefficient = |key| s.real(key, 0.0..=MAX_COEFFICIENT);
    let mut target_value = None;
    let form = match kind {
        None => None,
        Some(FormName::LogPower) => {
            let (a, b) = (coefficient("a"), coefficient("b"));
            a.zip(b).map(|(a, b)| LossForm::LogPower { a, b })
        }
        Some(FormName::Linear) => coefficient("lambda").map(|lambda| LossForm::Linear { lambda }),
        Some(FormName::Hinge) => {
            let lambda = coefficient("lambda");
            target_value = s.require(
                "target",
                "the cost above which the penalty starts, in units of cost_unit",
            );
            let range = (Excluded(0.0), Included(MAX_COST_UNIT));
            let target = target_value.as_ref().and_then(|value| value.real(range));
            lambda.zip(target).map(|(lambda, target)| LossForm::Hinge { lambda, target })
        }
    };
    let cost_unit = s.require("cost_unit", "the unit of the cost, as in 1e6 for millions");
    let cost_unit = cost_unit.and_then(|value| {
        let unit = value.real((Excluded(0.0), Included(MAX_COST_UNIT)))?;
        match (form, objective, space, &target_value) {
            (Some(LossForm::LogPower { .. }), Some(objective), Some(space), _) => {
                check_unit(&value, unit, objective, space)
            }
            (Some(LossForm::Hinge { target, .. }), Some(objective), Some(space), Some(value)) => {
                check_target(value, target, unit, objective, space).map(|()| unit)
            }
            _ => Some(unit),
        }
    });
    Some(SearchLoss {
        objective: objective?,
        form: form?,
        cost_unit: cost_unit?,
        input_channels: input_channels?,
    })
}

/// The smallest and the largest cost of a network, and what is counted.
pub(super) fn extent(space: &SearchSpace, objective: Objective) -> ((u64, u64), &'static str) {
    let counted = match objective {
        Objective::Macs => "MACs",
        Objective::Params => "parameters",
    };
    (cost::cost_range(space).of(objective), counted)
}

/// The target must lie within the costs of the space: otherwise the penalty would always act, or never.
fn check_target(
    value: &Entry<'_>,
    target: f64,
    unit: f64,
    objective: Objective,
    space: &SearchSpace,
) -> Option<()> {
    let ((least, most), counted) = extent(space, objective);
    let (least, most) = (least as f64 / unit, most as f64 / unit);
    if least < target && target < most {
        return Some(());
    }
    let problem = format!(
        "{} units of {unit:?} {counted} lie outside the space, whose networks have {least:.3} to \
         {most:.3}",
        value.given(),
    );
    value.fail(problem, "give a target between the two, or another cost_unit")
}

/// The power of the logarithm is constant below e units (see [`crate::search::loss_gradient`]): in a space
/// with no larger cost the search would ignore the cost.
fn check_unit(
    value: &Entry<'_>,
    unit: f64,
    objective: Objective,
    space: &SearchSpace,
) -> Option<f64> {
    let ((_, most), counted) = extent(space, objective);
    if most as f64 / unit > std::f64::consts::E {
        return Some(unit);
    }
    let problem = format!(
        "{} is too large: no network of the space has more than {most} {counted}, and the form \
         \"log_power\" does not distinguish costs below 2.718 units",
        value.given(),
    );
    // A power of ten, so that the largest network has at least ten units.
    let enough = 10f64.powf((most as f64).log10().floor() - 1.0);
    value.fail(problem, format!("give at most {enough:e}"))
}
