//! The section `[search.temperature]`: how τ changes.

use crate::document::Section;
use crate::recipe::{Temperature, TemperatureSchedule};
use std::ops::Bound::{Excluded, Included};

/// Each schedule has its own second number; that of another schedule is refused. Without a schedule τ
/// decays exponentially.
pub(super) fn read_temperature(s: &Section<'_>) -> Option<Temperature> {
    #[derive(Clone, Copy, PartialEq)]
    enum ScheduleName {
        Exponential,
        Linear,
        Constant,
    }
    const SCHEDULES: &[(&str, ScheduleName)] = &[
        ("exponential", ScheduleName::Exponential),
        ("linear", ScheduleName::Linear),
        ("constant", ScheduleName::Constant),
    ];
    let range = (Excluded(0.0), Included(1e6));
    let initial = s.real("initial", range);
    let name = s.optional("schedule", |value| value.name(SCHEDULES));
    let forbid = |key, name: &str, own: &str| {
        let problem = format!("does not belong to the schedule \"{name}\", which is {own}");
        s.forbid(key, &problem, "remove it, or change the schedule");
    };
    let schedule = match name.map(|name| name.unwrap_or(ScheduleName::Exponential)) {
        Some(ScheduleName::Exponential) => {
            forbid("last", "exponential", "initial * decay^epoch");
            let decay = s.real("decay", (Excluded(0.0), Included(1.0)));
            decay.map(|decay| TemperatureSchedule::Exponential { decay })
        }
        Some(ScheduleName::Linear) => {
            forbid("decay", "linear", "from initial to last in equal steps");
            s.real("last", range).map(|last| TemperatureSchedule::Linear { last })
        }
        Some(ScheduleName::Constant) => {
            forbid("decay", "constant", "initial in all epochs");
            forbid("last", "constant", "initial in all epochs");
            Some(TemperatureSchedule::Constant)
        }
        // With a wrong schedule it is unknown which keys belong.
        None => {
            for key in ["decay", "last"] {
                s.get(key);
            }
            None
        }
    };
    Some(Temperature { initial: initial?, schedule: schedule? })
}
