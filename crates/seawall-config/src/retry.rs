//! `retry` of a route: how many attempts a call has, and how long it waits between them.

use seawall_core::call;
use seawall_core::retry::backoff::{Backoff, Kind};
use seawall_core::time::Span;

use super::reader::{Field, Section};
use super::report::Malformed;
use super::upstream::duration;

/// The first wait when nothing else is said.
const BASE: Span = Span::from_millis(50);
/// The longest wait when nothing else is said.
const CAP: Span = Span::from_secs(2);

/// How waits grow, as the file says it; core's [`Kind`] is this and the spread in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Growth {
    None,
    Fixed,
    Exponential,
}

const JITTERS: [(&str, Kind); 5] = [
    ("none", Kind::Exponential),
    ("full", Kind::Full),
    ("equal", Kind::Equal),
    ("decorrelated", Kind::Decorrelated),
    ("additive", Kind::Additive),
];

/// Reads `retry`; `false` leaves one attempt.
pub(super) fn read(field: &Field<'_>) -> call::Config {
    let default = call::Config::default();
    if field.is_off() {
        return call::Config { attempts: 1, ..default };
    }
    let Some(mut section) = field.section() else { return default };
    let config = call::Config {
        attempts: section.value("attempts", default.attempts, |field| field.number(1..=call::ATTEMPTS_MAX)),
        per_attempt: section.optional("per_attempt", duration),
        backoff: section.section("backoff").map(backoff).unwrap_or_default(),
    };
    section.finish();
    config
}

fn backoff(mut section: Section<'_>) -> Backoff {
    let growth = section.value("kind", Growth::Exponential, growth);
    let backoff = match growth {
        Growth::None => {
            without(&mut section, &["base", "cap", "jitter"], "none");
            Backoff::NONE
        }
        Growth::Fixed => {
            let base = section.value("base", BASE, duration);
            without(&mut section, &["cap", "jitter"], "fixed");
            Backoff::new(Kind::Fixed, base, base).expect("the cap is the base")
        }
        Growth::Exponential => exponential(&mut section),
    };
    section.finish();
    backoff
}

fn growth(field: &Field<'_>) -> Result<Growth, Malformed> {
    let kinds = [("exponential", Growth::Exponential), ("fixed", Growth::Fixed), ("none", Growth::None)];
    field.word(&kinds).map_err(|malformed| match field.text() {
        Some(text) if JITTERS.iter().any(|&(jitter, _)| jitter == text) => {
            malformed.help(format!("write `kind = \"exponential\", jitter = \"{text}\"`"))
        }
        _ => malformed,
    })
}

fn exponential(section: &mut Section<'_>) -> Backoff {
    let kind = section.value("jitter", Kind::default(), |field| field.word(&JITTERS));
    let base = section.optional("base", duration);
    // A base above the default cap raises it; only a cap that was written can be too low.
    let lowest = base.unwrap_or(BASE);
    let cap = section.optional("cap", |field| match duration(field)? {
        cap if cap < lowest => Err(Malformed::new(format!("`{cap}` is below the base, `{lowest}`"))),
        cap => Ok(cap),
    });
    let cap = cap.unwrap_or(CAP.max(lowest));
    Backoff::new(kind, lowest, cap).expect("the cap was compared with the base")
}

/// Reports keys that mean nothing for this kind of backoff.
fn without(section: &mut Section<'_>, keys: &[&'static str], kind: &str) {
    for key in keys {
        if let Some(field) = section.field(key) {
            let malformed = Malformed::new(format!("a backoff of kind `{kind}` has none"));
            field.reject(malformed.help("remove it, or write `kind = \"exponential\"`"));
        }
    }
}
