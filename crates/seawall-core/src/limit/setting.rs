//! A setting that is out of its range.

use core::fmt;
use core::ops::RangeInclusive;

/// Which setting is out of its range, what it is, and the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The setting.
    pub key: &'static str,
    /// What it is; spans in nanoseconds.
    pub value: u64,
    /// What it may be.
    pub range: &'static str,
}

impl SettingError {
    /// Checks a value against its range; `said` is the range in words.
    pub(super) fn check<T: PartialOrd + Into<u64> + Copy>(
        key: &'static str,
        value: T,
        range: RangeInclusive<T>,
        said: &'static str,
    ) -> Result<(), SettingError> {
        if range.contains(&value) {
            Ok(())
        } else {
            Err(SettingError { key, value: value.into(), range: said })
        }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}: it must be {}", self.key, self.value, self.range)
    }
}

impl core::error::Error for SettingError {}
