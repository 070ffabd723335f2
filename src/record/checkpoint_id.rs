//! The name of a checkpoint.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Identifies a checkpoint of a run by the attempt that wrote it and its count in that attempt, from 1. Later
/// ones are greater. The default is before the first checkpoint.
///
/// Attempts never share one: if a process that counted as dead wakes up, it cannot replace a checkpoint of
/// the process that continues its run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CheckpointId {
    pub attempt: u32,
    pub count: u32,
}

impl CheckpointId {
    /// The number in the database.
    #[must_use]
    pub fn to_number(self) -> u64 {
        u64::from(self.attempt) << 32 | u64::from(self.count)
    }

    /// The checkpoint of this number in the database.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self { attempt: (number >> 32) as u32, count: number as u32 }
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:06}", self.attempt, self.count)
    }
}

impl FromStr for CheckpointId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (attempt, count) = text.split_once('-').ok_or(())?;
        let number = |text: &str| text.parse().map_err(|_| ());
        Ok(Self { attempt: number(attempt)?, count: number(count)? })
    }
}

/// The checkpoints of a run from which it can be continued, as the database knows them: of each attempt that its
/// state comes from, the last one that belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownCheckpoints(pub Vec<CheckpointId>);

impl KnownCheckpoints {
    /// Whether the measurements before this checkpoint are in the database. Attempts may have written others
    /// after they were replaced.
    #[must_use]
    pub fn contains(&self, id: CheckpointId) -> bool {
        self.0.iter().any(|last| id.attempt == last.attempt && (1..=last.count).contains(&id.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(attempt: u32, count: u32) -> CheckpointId {
        CheckpointId { attempt, count }
    }

    #[test]
    fn names_and_numbers_are_read_back() {
        for id in [id(0, 0), id(1, 1), id(2, 1_234_567), id(u32::MAX, u32::MAX)] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(CheckpointId::from_number(id.to_number()), id);
        }
        assert_eq!(id(2, 12).to_string(), "2-000012");
        for text in ["", "12", "a-1", "1-", "1-2-3", "-1-2"] {
            assert_eq!(text.parse::<CheckpointId>(), Err(()), "{text}");
        }
        assert!(id(1, 9).to_number() < id(2, 0).to_number());
    }

    #[test]
    fn only_checkpoints_of_the_current_state_are_known() {
        // Attempt 3 continued attempt 2, which had continued attempt 1.
        let known = KnownCheckpoints(vec![id(3, 2), id(2, 2), id(1, 4)]);
        for is_known in [id(1, 3), id(1, 4), id(2, 1), id(3, 1), id(3, 2)] {
            assert!(known.contains(is_known), "{is_known}");
        }
        // Written by replaced attempts, or after a copy of the database was made.
        for is_unknown in [id(0, 0), id(1, 0), id(1, 5), id(2, 3), id(3, 3), id(4, 1)] {
            assert!(!known.contains(is_unknown), "{is_unknown}");
        }
    }
}
