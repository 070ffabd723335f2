//! The sections of optimizers: SGD or RMSProp for weights, Adam for architecture parameters.

use super::keys::{MAX_EPOCHS, optional_name};
use crate::document::Section;
use crate::recipe::{Adam, Optimizer, RmsProp, Schedule, Sgd};
use std::ops::Bound::{Excluded, Included};
use std::ops::RangeInclusive;

type OpenRange = (std::ops::Bound<f64>, std::ops::Bound<f64>);
const LEARNING_RATES: OpenRange = (Excluded(0.0), Included(100.0));
/// Momentum and Adam's betas.
const DECAYS: std::ops::Range<f64> = 0.0..1.0;
const WEIGHT_DECAYS: RangeInclusive<f64> = 0.0..=1.0;

#[derive(Clone, Copy, PartialEq)]
enum ScheduleName {
    Constant,
    Cosine,
    Triangle,
    Steps,
}

const SCHEDULES: &[(&str, ScheduleName)] = &[
    ("constant", ScheduleName::Constant),
    ("cosine", ScheduleName::Cosine),
    ("triangle", ScheduleName::Triangle),
    ("steps", ScheduleName::Steps),
];

/// The optimizer of a loop of so many `epochs`.
pub(super) fn read_sgd(s: &Section<'_>, epochs: Option<usize>) -> Option<Sgd> {
    let learning_rate = s.real("learning_rate", LEARNING_RATES);
    let momentum = s.real("momentum", DECAYS);
    let weight_decay = s.real("weight_decay", WEIGHT_DECAYS);
    let schedule = read_schedule(s, learning_rate);
    let warmup_epochs = read_warmup(s, epochs);
    let clip_norm = s.optional("clip_norm", |value| value.real((Excluded(0.0), Included(1e6))));
    Some(Sgd {
        learning_rate: learning_rate?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        schedule: schedule?,
        warmup_epochs: warmup_epochs?,
        clip_norm: clip_norm?,
    })
}

#[derive(Clone, Copy, Default, PartialEq)]
enum OptimizerKind {
    #[default]
    Sgd,
    RmsProp,
}

const KINDS: &[(&str, OptimizerKind)] =
    &[("sgd", OptimizerKind::Sgd), ("rmsprop", OptimizerKind::RmsProp)];

/// SGD without the key `kind`.
pub(super) fn read_optimizer(s: &Section<'_>, epochs: Option<usize>) -> Option<Optimizer> {
    let kind = optional_name(s, "kind", KINDS);
    let sgd = read_sgd(s, epochs);
    let rmsprop = match kind {
        Some(OptimizerKind::RmsProp) => {
            let rho = s.real("rho", DECAYS);
            let epsilon = s.real("epsilon", (Excluded(0.0), Included(1.0)));
            Some(RmsProp { rho: rho?, epsilon: epsilon? })
        }
        Some(OptimizerKind::Sgd) => {
            for key in ["rho", "epsilon"] {
                let problem = "applies to RMSProp only";
                s.forbid(key, problem, "remove it, or give kind = \"rmsprop\"");
            }
            None
        }
        // Without a kind it is unknown whether the keys belong.
        None => {
            for key in ["rho", "epsilon"] {
                s.get(key);
            }
            None
        }
    };
    kind?;
    Some(Optimizer { sgd: sgd?, rmsprop })
}

/// Each schedule has its own keys; those of another one are refused.
fn read_schedule(s: &Section<'_>, learning_rate: Option<f64>) -> Option<Schedule> {
    const OWN: [(&str, ScheduleName, &str); 3] = [
        ("last", ScheduleName::Cosine, "cosine"),
        ("every_epochs", ScheduleName::Steps, "steps"),
        ("decay", ScheduleName::Steps, "steps"),
    ];
    let name = s.name("schedule", SCHEDULES);
    for (key, schedule, text) in OWN {
        match name {
            Some(name) if name == schedule => {}
            Some(_) => {
                let problem = format!("applies to the schedule \"{text}\" only");
                s.forbid(key, &problem, &format!("remove it, or give schedule = \"{text}\""));
            }
            // Without a schedule it is unknown which keys belong.
            None => drop(s.get(key)),
        }
    }
    Some(match name? {
        ScheduleName::Constant => Schedule::Constant,
        ScheduleName::Triangle => Schedule::Triangle,
        ScheduleName::Cosine => Schedule::Cosine { last: read_last(s, learning_rate)? },
        ScheduleName::Steps => {
            let every_epochs = s.real("every_epochs", (Excluded(0.0), Included(MAX_EPOCHS as f64)));
            let decay = s.real("decay", (Excluded(0.0), Included(1.0)));
            Schedule::Steps { every_epochs: every_epochs?, decay: decay? }
        }
    })
}

/// The rate at which a cosine ends: zero without the key.
fn read_last(s: &Section<'_>, learning_rate: Option<f64>) -> Option<f64> {
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
    last.map(Option::unwrap_or_default)
}

/// The warm-up ends before the loop does.
fn read_warmup(s: &Section<'_>, epochs: Option<usize>) -> Option<f64> {
    let warmup = s.optional("warmup_epochs", |value| {
        let warmup = value.real(0.0..=MAX_EPOCHS as f64)?;
        match epochs {
            Some(epochs) if warmup >= epochs as f64 => value.fail(
                format!("{} leaves nothing of the {epochs} epochs to the schedule", value.given()),
                format!("give a number of at least 0 and below {epochs}"),
            ),
            _ => Some(warmup),
        }
    });
    warmup.map(Option::unwrap_or_default)
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
