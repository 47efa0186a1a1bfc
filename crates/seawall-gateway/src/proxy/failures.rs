//! What the log says of hosts that do not answer.
//!
//! **Prevents** guesses: an answer says that a certificate is not believed, and not whether it has expired or who
//! signed it.
//!
//! **Mechanics.** Of each host and kind of failure the first is told at once, and after that one in [`EVERY`], with
//! how many were not.
//!
//! **Edges.** A cause is cut at [`CAUSE_MAX`] characters: others may have a say in it. Once there are more hosts than
//! [`HOSTS_MAX`], what was told is forgotten, and told again.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use seawall::core::time::{Span, Time};
use seawall::now;

use super::upstream::FailureKind;

/// How often a failure is told that goes on.
const EVERY: Span = Span::from_secs(60);
/// The longest cause, in characters.
const CAUSE_MAX: usize = 500;
/// The most hosts of which it is known what was told.
const HOSTS_MAX: usize = 1_024;

/// Why something failed, with all that led to it.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Tells that a host did not answer a request of this route, or a health check, unless that was told lately.
pub(super) fn tell(route: Option<&str>, host: &str, kind: FailureKind, cause: &(dyn Error + 'static)) {
    static TOLD: Told = Told::new();
    if let Some(untold) = TOLD.is_due(host, kind.token(), now()) {
        let (reason, cause) = (kind.token(), chain(cause));
        tracing::warn!(route, host, reason, cause, untold, "the host does not answer");
    }
}

/// An error and what led to it, in a line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| (*cause).source()) {
        let cause = cause.to_string();
        // Some say what led to them themselves.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.chars().take(CAUSE_MAX).collect()
}

/// By kind of failure, when it was told, and how many were not since.
type Kinds = BTreeMap<&'static str, (Time, u64)>;

/// What was told, by host.
struct Told(Mutex<BTreeMap<String, Kinds>>);

impl Told {
    const fn new() -> Told {
        Told(Mutex::new(BTreeMap::new()))
    }

    /// How many of these were not told, if this one is to be.
    fn is_due(&self, host: &str, kind: &'static str, now: Time) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains_key(host) {
            if told.len() >= HOSTS_MAX {
                told.clear();
            }
            told.insert(host.to_owned(), Kinds::new());
        }
        let kinds = told.get_mut(host)?;
        match kinds.get_mut(kind) {
            Some((at, untold)) if now.since(*at) < EVERY => {
                *untold += 1;
                None
            }
            told => {
                let untold = told.map_or(0, |(_, untold)| *untold);
                kinds.insert(kind, (now, 0));
                Some(untold)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failure_is_told_at_once_and_then_once_in_a_minute_with_how_many_were_not() {
        let (told, at) = (Told::new(), |secs| Time::ZERO + Span::from_secs(secs));
        let said = (0..=120).filter_map(|secs| Some((secs, told.is_due("a:1", "refused", at(secs))?)));
        assert_eq!(said.collect::<Vec<_>>(), [(0, 0), (60, 59), (120, 59)]);
        assert_eq!(told.is_due("a:1", "untrusted", at(121)), Some(0), "another failure is news");
        assert_eq!(told.is_due("b:1", "refused", at(121)), Some(0));
    }

    #[test]
    fn what_is_known_of_hosts_is_bounded() {
        let told = Told::new();
        for host in 0..3 * HOSTS_MAX {
            assert_eq!(told.is_due(&host.to_string(), "refused", Time::ZERO), Some(0));
            assert!(told.0.lock().unwrap().len() <= HOSTS_MAX);
        }
    }

    #[test]
    fn a_cause_is_told_with_what_led_to_it_and_nothing_twice() {
        #[derive(Debug)]
        struct Outer(io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("connection error")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let outer = Outer(io::Error::other("received fatal alert"));
        assert_eq!(chain(&outer), "connection error: received fatal alert");
        assert_eq!(
            chain(&io::Error::other(Outer(io::Error::other("why")))),
            "connection error: why",
            "an I/O error says what it holds"
        );
        assert_eq!(chain(&io::Error::other("x".repeat(9_000))).len(), CAUSE_MAX);
    }
}
