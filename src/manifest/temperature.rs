//! The section `[search.temperature]`: how τ moves.

use crate::document::Section;
use crate::recipe::{Temperature, TemperatureSchedule};
use std::ops::Bound::{Excluded, Included};

/// Each schedule has its own second number; that of another one is refused. No schedule, τ decays
/// exponentially.
pub(super) fn read_temperature(s: &Section<'_>) -> Option<Temperature> {
    #[derive(Clone, Copy, PartialEq)]
    enum Course {
        Exponential,
        Linear,
        Constant,
    }
    const COURSES: &[(&str, Course)] = &[
        ("exponential", Course::Exponential),
        ("linear", Course::Linear),
        ("constant", Course::Constant),
    ];
    let range = (Excluded(0.0), Included(1e6));
    let initial = s.real("initial", range);
    let course = s.optional("schedule", |value| value.name(COURSES));
    let forbid = |key, name: &str, own: &str| {
        let problem = format!("is no number of the schedule \"{name}\", which is {own}");
        s.forbid(key, &problem, "take it out, or change the schedule");
    };
    let schedule = match course.map(|course| course.unwrap_or(Course::Exponential)) {
        Some(Course::Exponential) => {
            forbid("last", "exponential", "initial * decay^epoch");
            let decay = s.real("decay", (Excluded(0.0), Included(1.0)));
            decay.map(|decay| TemperatureSchedule::Exponential { decay })
        }
        Some(Course::Linear) => {
            forbid("decay", "linear", "from initial to last in equal steps");
            s.real("last", range).map(|last| TemperatureSchedule::Linear { last })
        }
        Some(Course::Constant) => {
            forbid("decay", "constant", "initial in every epoch");
            forbid("last", "constant", "initial in every epoch");
            Some(TemperatureSchedule::Constant)
        }
        // Without a schedule it cannot be told which keys belong.
        None => {
            for key in ["decay", "last"] {
                s.get(key);
            }
            None
        }
    };
    Some(Temperature { initial: initial?, schedule: schedule? })
}
