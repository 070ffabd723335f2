//! Which earlier runs count when runs start.

use anyhow::Result;
use repro::store::{AcquireRules, Store};

/// The rules of `--again` and `--fresh`, with the database as it is now.
///
/// # Errors
/// When the database cannot be read.
pub fn acquire_rules(store: &Store, again: bool, fresh: bool) -> Result<AcquireRules> {
    let last = if again || fresh { store.last_run()? } else { 0 };
    let up_to = |is_set: bool| if is_set { last } else { 0 };
    let failed_before = repro::env::now();
    Ok(AcquireRules {
        again_up_to: up_to(again),
        fresh_up_to: up_to(again || fresh),
        failed_before,
        on_this_machine: false,
    })
}
