//! The names that other tables may use.

use seawall_config::reader::Field;
use seawall_config::report::{Malformed, quoted, suggestion};

/// Names by their place.
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n String>) -> Names {
        Names(names.cloned().collect())
    }

    /// The place of a name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known == name)
    }

    /// The place of the name that stands here; `what` says what has names.
    pub(super) fn find(&self, field: &Field<'_>, what: &str) -> Result<usize, Malformed> {
        let Some(name) = field.text() else { return Err(field.is_not(&format!("the name of {what}"))) };
        self.place(name).ok_or_else(|| {
            let missing = Malformed::new(format!("there is no {what} {}", quoted(name)));
            missing.help(suggestion(name, self.0.iter().map(String::as_str)))
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(String::as_str)
    }
}
