//! Numbers that SQLite can store.

use super::error::StoreError;

/// Refuses NaN, which SQLite would turn into NULL, and infinities.
pub fn finite(what: impl Into<String>, value: f64) -> Result<f64, StoreError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(StoreError::NotFinite { what: what.into(), value })
    }
}

/// SQLite's integers have a sign.
pub fn integer(what: impl Into<String>, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::TooLarge { what: what.into(), value })
}
