//! The refusal of a setting that is out of its range, one for all policies.

/// Which setting is out of its range, and the range.
///
/// ```
/// use seawall_core::health::{Config, Settings};
///
/// let error = Config::new(Settings { rise: 0, ..Settings::default() }).unwrap_err();
/// assert_eq!(error.key, "rise");
/// assert_eq!(error.to_string(), "`rise` must be 1 to 100");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The setting.
    pub key: &'static str,
    /// What it may be.
    pub range: &'static str,
}

impl core::fmt::Display for SettingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "`{}` must be {}", self.key, self.range)
    }
}

impl core::error::Error for SettingError {}

/// Refuses the setting `key` unless its range, in words, holds.
pub(crate) fn check(holds: bool, key: &'static str, range: &'static str) -> Result<(), SettingError> {
    if holds { Ok(()) } else { Err(SettingError { key, range }) }
}
