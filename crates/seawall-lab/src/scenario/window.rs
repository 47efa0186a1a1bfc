//! `[[window]]`: a part of the time that assertions look at, besides the phases that follow from the trigger.

use seawall_config::duration;
use seawall_config::reader::{Field, Section};
use seawall_config::report::{Malformed, quoted};
use seawall_core::time::Span;

use super::{PHASES, name_in, tables};

/// Where a window may end.
const SECONDS_MAX: u64 = 24 * 3_600;

/// A part of the time, in whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its name.
    pub name: String,
    /// Its first second.
    pub from: u64,
    /// The second at which it is over.
    pub to: u64,
}

pub(super) fn read_all(root: &mut Section<'_>) -> Vec<Window> {
    tables(root, "window", "name = \"settled\"", |section| {
        let name = name_in(section, "\"settled\"");
        let from = section.required("from", "\"61s\"", second);
        let to = section.required("to", "\"90s\"", second);
        let (name, from, to) = (name?, from?, to?);
        if PHASES.iter().any(|(phase, _)| *phase == name) {
            section.reject(Malformed::new(format!("{} is the name of a phase", quoted(&name))));
        } else if to <= from {
            section.reject(Malformed::new(format!("the window {} is over before it begins", quoted(&name))));
        }
        Some(Window { name, from, to })
    })
}

/// Counts are by the second.
fn second(field: &Field<'_>) -> Result<u64, Malformed> {
    let at = duration(field)?;
    match at.as_secs_ceil() {
        whole if whole <= SECONDS_MAX && Span::from_secs(whole) == at => Ok(whole),
        _ => Err(field.is_not("a whole second of at most `24h`")),
    }
}

/// Nothing is measured during the warm-up.
pub(super) fn check(windows: &[Window], warmup: Span) -> Result<(), Malformed> {
    match windows.iter().find(|window| Span::from_secs(window.from) < warmup) {
        None => Ok(()),
        Some(window) => Err(Malformed::new(format!(
            "the window {} begins before the warm-up of {warmup} is over",
            quoted(&window.name)
        ))),
    }
}
