//! Several upstreams of a route: those that share its requests, and the one that gets copies.

use super::reader::{Field, Section};
use super::report::Malformed;
use super::route::existing;
use super::upstream::percentage;

/// The most upstreams that share the requests of a route.
const UPSTREAMS_MAX: usize = 16;
/// The largest weight.
const WEIGHT_MAX: u32 = 1_000_000;
/// All requests, in parts per million.
const ALL: u32 = 1_000_000;

/// The upstream that gets copies of requests; its answers are thrown away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its name.
    pub upstream: String,
    /// The share of requests, in parts per million; default all.
    pub share: u32,
}

/// Reads `upstream` of a route: a name, or several with their weights. The heaviest comes first.
pub(super) fn upstreams(section: &mut Section<'_>, known: &[&str]) -> Vec<(String, u32)> {
    let example = format!("\"{}\"", known.first().unwrap_or(&"NAME"));
    if !section.field("upstream").is_some_and(|field| field.is_table()) {
        let one = section.required("upstream", &example, |field| existing(field, known));
        return vec![(one.unwrap_or_default(), 1)];
    }
    let mut weights = section.tables_of_texts("upstream", |name, field| {
        Ok((super::route::named(name, known)?, field.number(0..=WEIGHT_MAX)?))
    });
    if !(1..=UPSTREAMS_MAX).contains(&weights.len()) || weights.iter().all(|(_, weight)| *weight == 0) {
        let wrong = format!("`upstream` names no upstream with a weight, or more than {UPSTREAMS_MAX}");
        section.reject(Malformed::new(wrong).help(format!("write `upstream = {example}`")));
        return vec![(String::new(), 1)];
    }
    weights.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    weights
}

/// Reads `mirror`.
pub(super) fn mirror(field: &Field<'_>, known: &[&str]) -> Option<Mirror> {
    let mut section = field.section()?;
    let example = format!("\"{}\"", known.first().unwrap_or(&"NAME"));
    let upstream = section.required("upstream", &example, |field| existing(field, known));
    let share = section.value("share", ALL, percentage);
    section.finish();
    Some(Mirror { upstream: upstream?, share })
}
