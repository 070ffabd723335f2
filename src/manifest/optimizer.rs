//! The sections of optimizers: SGD for weights, Adam for architecture parameters.

use crate::document::Section;
use crate::recipe::{Adam, Schedule, Sgd};
use std::ops::Bound::{Excluded, Included};
use std::ops::RangeInclusive;

type OpenRange = (std::ops::Bound<f64>, std::ops::Bound<f64>);
const LEARNING_RATES: OpenRange = (Excluded(0.0), Included(100.0));
/// Momentum and Adam's betas.
const DECAYS: std::ops::Range<f64> = 0.0..1.0;
const WEIGHT_DECAYS: RangeInclusive<f64> = 0.0..=1.0;

const SCHEDULES: &[(&str, Schedule)] = &[
    ("constant", Schedule::Constant),
    ("cosine", Schedule::Cosine { last: 0.0 }),
    ("triangle", Schedule::Triangle),
];

pub(super) fn read_sgd(s: &Section<'_>) -> Option<Sgd> {
    let learning_rate = s.real("learning_rate", LEARNING_RATES);
    let momentum = s.real("momentum", DECAYS);
    let weight_decay = s.real("weight_decay", WEIGHT_DECAYS);
    let schedule = read_schedule(s, learning_rate);
    let clip_norm = s.optional("clip_norm", |value| value.real((Excluded(0.0), Included(1e6))));
    Some(Sgd {
        learning_rate: learning_rate?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        schedule: schedule?,
        clip_norm: clip_norm?,
    })
}

/// Only a cosine may end above zero.
fn read_schedule(s: &Section<'_>, learning_rate: Option<f64>) -> Option<Schedule> {
    let schedule = s.name("schedule", SCHEDULES);
    match schedule {
        Some(Schedule::Cosine { .. }) => {
            let last = s.optional("last", |value| {
                let last = value.real(0.0..=100.0)?;
                match learning_rate {
                    Some(first) if last > first => value.fail(
                        format!("{} is above the learning_rate, {first:?}", value.given()),
                        format!("give a number from 0 to {first:?}"),
                    ),
                    _ => Some(last),
                }
            });
            Some(Schedule::Cosine { last: last?.unwrap_or_default() })
        }
        Some(_) => {
            let problem = "applies to the schedule \"cosine\" only";
            s.forbid("last", problem, "remove it, or give schedule = \"cosine\"");
            schedule
        }
        // Without a schedule it is unknown whether the key belongs.
        None => s.get("last").and(None),
    }
}

pub(super) fn read_adam(s: &Section<'_>) -> Option<Adam> {
    let learning_rate = s.real("learning_rate", LEARNING_RATES);
    let beta1 = s.real("beta1", DECAYS);
    let beta2 = s.real("beta2", DECAYS);
    let weight_decay = s.real("weight_decay", WEIGHT_DECAYS);
    Some(Adam {
        learning_rate: learning_rate?,
        beta1: beta1?,
        beta2: beta2?,
        weight_decay: weight_decay?,
    })
}
