//! `retry` of a route: how many attempts a call has, and how long it waits between them.

use seawall_core::call;
use seawall_core::retry::backoff::{Backoff, Kind};
use seawall_core::time::Span;

use super::reader::{Field, Section};
use super::report::{Malformed, quoted};
use super::units;
use super::upstream::duration;

/// The first wait when nothing else is said.
const BASE: Span = Span::from_millis(50);
/// The longest wait when nothing else is said.
const CAP: Span = Span::from_secs(2);

/// The longest body that is kept to be sent again when nothing else is said, in bytes.
const BODY: u64 = 64 << 10;
/// The longest body that can be kept, in bytes.
const BODY_MAX: u64 = 64 << 20;

/// Which requests may be sent again beside those that are idempotent and have no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The longest body that is kept as it passes, in bytes; default 64 KiB, 0 for none.
    pub max_body: u64,
    /// Whether a request with an `Idempotency-Key` counts as idempotent; default false.
    pub idempotency_key: bool,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay { max_body: BODY, idempotency_key: false }
    }
}

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
pub(super) fn read(field: &Field<'_>) -> (call::Config, Replay) {
    read_up_to(field, call::ATTEMPTS_MAX)
}

/// The same with up to so many attempts.
pub(super) fn read_up_to(field: &Field<'_>, most: u32) -> (call::Config, Replay) {
    let (default, none) = (call::Config::default(), Replay::default());
    if field.is_off() {
        return (call::Config { attempts: 1, ..default }, none);
    }
    let Some(mut section) = field.section() else { return (default, none) };
    let config = call::Config {
        attempts: section.value("attempts", default.attempts, |field| field.number(1..=most)),
        per_attempt: section.optional("per_attempt", duration),
        backoff: section.section("backoff").map(backoff).unwrap_or_default(),
    };
    let replay = Replay {
        max_body: section.value("max_body", none.max_body, kept_body),
        idempotency_key: section.value("idempotency_key", none.idempotency_key, Field::switch),
    };
    section.finish();
    (config, replay)
}

fn kept_body(field: &Field<'_>) -> Result<u64, Malformed> {
    field.parsed("a size such as `64KiB`", |text| match units::size(text)? {
        size if size > BODY_MAX => Err(Malformed::new(format!("{} is above 64 MiB", quoted(text)))),
        size => Ok(size),
    })
}

fn backoff(mut section: Section<'_>) -> Backoff {
    let growth = section.value("kind", Growth::Exponential, growth);
    let backoff = match growth {
        Growth::None => {
            without(&mut section, &["base", "cap", "jitter", "clamp"], "none");
            Backoff::NONE
        }
        Growth::Fixed => {
            let base = section.value("base", BASE, duration);
            without(&mut section, &["cap", "jitter", "clamp"], "fixed");
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
    let backoff = Backoff::new(kind, lowest, cap).expect("the cap was compared with the base");
    if section.value("clamp", false, Field::switch) { backoff.clamping() } else { backoff }
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
