//! Header fields about caching (RFC 9111, RFC 5861), read once and strictly.
//!
//! What cannot be read counts as the cautious value: an unreadable age limit as zero, a quotation without an end as
//! `no-store`, which could stand in it. Of a directive that comes twice, the shorter one holds.

use std::time::SystemTime;

use ::http::header::{AGE, AUTHORIZATION, CACHE_CONTROL, COOKIE, DATE, EXPIRES, PRAGMA, SET_COOKIE, VARY};
use ::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use seawall_core::fallback::{Freshness, Stale};
use seawall_core::time::Span;

use super::validate;
use crate::fallback::{Left, Terms};

/// The most fields that may tell answers apart.
pub(super) const VARY_MAX: usize = 8;

/// `Cache-Control`, of a request or a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    max_age: Option<Span>,
    private: bool,
    public: bool,
    must_revalidate: bool,
    s_maxage: Option<Span>,
    stale_while_revalidate: Option<Span>,
    stale_if_error: Option<Span>,
    max_stale: Option<Span>,
    min_fresh: Option<Span>,
    only_if_cached: bool,
}

impl Control {
    pub(super) fn read(headers: &HeaderMap) -> Control {
        let mut control = Control::default();
        for value in headers.get_all(CACHE_CONTROL) {
            // Bytes beyond ASCII belong to no directive that is known here.
            directives(&String::from_utf8_lossy(value.as_bytes()), |name, value| control.take(name, value));
        }
        control
    }

    fn take(&mut self, name: &str, value: &str) {
        let shorter = |slot: &mut Option<Span>| {
            let span = seconds(value);
            *slot = Some(slot.map_or(span, |other| other.min(span)));
        };
        match name.to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            // With field names or without: there is no validating of parts here.
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "max-age" => shorter(&mut self.max_age),
            "s-maxage" => shorter(&mut self.s_maxage),
            "stale-while-revalidate" => shorter(&mut self.stale_while_revalidate),
            "stale-if-error" => shorter(&mut self.stale_if_error),
            // Without a number, any staleness will do.
            "max-stale" if value.is_empty() => _ = self.max_stale.get_or_insert(Span::MAX),
            "max-stale" => shorter(&mut self.max_stale),
            "min-fresh" => self.min_fresh = self.min_fresh.max(Some(number(value).unwrap_or(Span::MAX))),
            "only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }

    /// Which kept answers a request takes (RFC 9111, section 5.2.1).
    pub(super) fn terms(&self, headers: &HeaderMap) -> Terms {
        let pragma =
            headers.get(PRAGMA).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache"));
        let anew = self.no_cache || (pragma && !headers.contains_key(CACHE_CONTROL));
        Terms {
            anew,
            oldest: self.max_age.unwrap_or(Span::MAX),
            fresh_for: self.min_fresh.unwrap_or(Span::ZERO),
            stale_for: self.max_stale.unwrap_or(Span::ZERO),
            only_kept: self.only_if_cached,
        }
    }
}

/// Calls `each` with every directive and its value, empty when there is none.
fn directives(text: &str, mut each: impl FnMut(&str, &str)) {
    let mut rest = text;
    while !rest.is_empty() {
        let mut quoted = false;
        let mut escaped = false;
        let end = rest.find(|c: char| {
            if escaped {
                escaped = false;
            } else if c == '"' {
                quoted = !quoted;
            } else if quoted && c == '\\' {
                escaped = true;
            }
            c == ',' && !quoted
        });
        if end.is_none() && quoted {
            each("no-store", "");
        }
        let directive = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or("", |end| &rest[end + 1..]);
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if !name.trim().is_empty() {
            each(name.trim(), value.trim().trim_matches('"'));
        }
    }
}

/// The largest number of seconds (RFC 9111, section 1.2.2).
const SECONDS_MAX: u64 = 1 << 31;

/// Seconds of at most 2³¹; `None` for what is no number.
fn number(text: &str) -> Option<Span> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Span::from_secs(text.parse().unwrap_or(SECONDS_MAX).min(SECONDS_MAX)))
}

/// What is no number is zero.
fn seconds(text: &str) -> Span {
    number(text).unwrap_or(Span::ZERO)
}

/// The `Age` of an answer, zero without one; what cannot be read, or comes twice, is as old as can be.
pub(super) fn age(headers: &HeaderMap) -> Span {
    let mut ages = headers.get_all(AGE).iter();
    let read = |value: &HeaderValue| number(value.to_str().ok()?.trim());
    match (ages.next(), ages.next()) {
        (None, _) => Span::ZERO,
        (Some(age), None) => read(age).unwrap_or(Span::from_secs(SECONDS_MAX)),
        (Some(_), Some(_)) => Span::from_secs(SECONDS_MAX),
    }
}

/// Whether an ordinary answer to this request is to be kept, whatever its size: how long, and what tells it from
/// others. `unmarked` is how long an answer is fresh that does not say.
pub(super) fn keeps<RB>(
    request: &HeaderMap,
    response: &Response<RB>,
    unmarked: Option<Span>,
) -> Result<(Freshness, Vec<HeaderName>), Left> {
    let (status, headers) = (response.status(), response.headers());
    if status.is_server_error() || matches!(status.as_u16(), 206 | 304 | 408 | 429) {
        return Err(Left::Unrelated);
    }
    let freshness = freshness(request, status, headers, unmarked);
    freshness.and_then(|freshness| Some((freshness, vary(headers)?))).ok_or(Left::Apart)
}

/// How long an answer to this request may be kept by a cache that many share, and used; `None` when
/// it may not. `unmarked` is how long an answer is fresh that does not say.
pub(super) fn freshness(
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    unmarked: Option<Span>,
) -> Option<Freshness> {
    // Many answers say nothing of it: that is seen soonest.
    let says = |name: &HeaderName| matches!(name.as_str(), "cache-control" | "expires");
    if unmarked.is_none() && !response.keys().any(says) {
        return None;
    }
    let control = Control::read(response);
    let authorized = request.contains_key(AUTHORIZATION);
    let for_many = control.public || control.s_maxage.is_some();
    if control.no_store
        || (control.no_cache && !validate::is_confirmable(response))
        || control.private
        || (authorized && !for_many)
        || response.contains_key(SET_COOKIE)
        || !is_kept(status)
    {
        return None;
    }
    let said = control.s_maxage.or(control.max_age).or_else(|| expires(response, SystemTime::now()));
    let anonymous = !authorized && !request.contains_key(COOKIE);
    let unmarked = unmarked.filter(|_| anonymous && status == StatusCode::OK);
    let fresh = if control.no_cache { Span::ZERO } else { said.or(unmarked)? };
    let stale = if control.no_cache || control.must_revalidate || control.s_maxage.is_some() {
        Stale::Forbidden
    } else {
        Stale::Allowed {
            while_revalidate: control.stale_while_revalidate.unwrap_or(Span::ZERO),
            if_error: control.stale_if_error,
        }
    };
    Some(Freshness { fresh, stale })
}

/// `Expires` less `Date`; in the past, or unreadable, it is zero. An answer without `Date` is of when it was received
/// (RFC 9110, section 6.6.1).
fn expires(headers: &HeaderMap, received: SystemTime) -> Option<Span> {
    let read = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    let expires = read(headers.get(EXPIRES)?);
    let date = headers.get(DATE).map_or(Some(received), read);
    let fresh = expires.zip(date).and_then(|(expires, date)| expires.duration_since(date).ok());
    Some(fresh.map_or(Span::ZERO, Span::from))
}

/// Final statuses whose answers mean the same to everybody who asks.
fn is_kept(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 302 | 307 | 308 | 404 | 405 | 410 | 414)
}

/// The fields that tell answers apart, sorted; `None` when nothing but the answer itself knows.
pub(super) fn vary(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for value in headers.get_all(VARY) {
        for name in value.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            names.push(HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| name.as_str() != "*")?);
        }
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    (names.len() <= VARY_MAX).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_date_expires_from_when_it_was_received() {
        let received = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        let fresh = |fields: &[(HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            expires(&fields.collect(), received)
        };
        let (then, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:37 GMT");
        assert_eq!(fresh(&[(EXPIRES, later)]), Some(Span::from_secs(60)));
        assert_eq!(fresh(&[(EXPIRES, then)]), Some(Span::ZERO));
        assert_eq!(fresh(&[(EXPIRES, later), (DATE, later)]), Some(Span::ZERO));
        assert_eq!(fresh(&[(EXPIRES, later), (DATE, "today")]), Some(Span::ZERO));
        assert_eq!(fresh(&[(DATE, then)]), None);
    }

    #[test]
    fn a_quotation_without_an_end_hides_nothing() {
        let no_store = |line: &'static str| {
            Control::read(&HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(line))])).no_store
        };
        assert!(no_store("max-age=1, a=\"b, no-store") && no_store("a=\"b, private") && no_store("a=\"\\\""));
        assert!(!no_store("max-age=1, a=\"b, no-store\"") && no_store("a=\"b\", no-store"));
    }
}
