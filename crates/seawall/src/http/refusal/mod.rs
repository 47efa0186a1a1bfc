//! Answers for refusals: status, `Retry-After`, reason, quota fields and a problem body.
//!
//! | reason | status | problem type |
//! |---|---|---|
//! | throttled | 429 | quota-exceeded |
//! | shed, full, open, no_host, blocked | 503 | temporary-reduced-capacity |
//! | expired | 504 | about:blank |
//!
//! The quota fields are those of draft-ietf-httpapi-ratelimit-headers (revision 11): Structured
//! Field Lists of quoted names. `Retry-After` is in whole seconds, rounded up, at least 1 and
//! jittered, so that those who were refused together do not come back together; `t` carries the
//! same jitter, so `Retry-After` is never earlier.

use std::sync::atomic::{AtomicU64, Ordering};

use ::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use ::http::{HeaderMap, HeaderValue, Response, StatusCode};
use seawall_core::decision::{Reason, Rejection, Standing};
use seawall_core::measure::bucket::Quota;
use seawall_core::rng::mix;
use seawall_core::setting::SettingError;
use seawall_core::time::Span;

use super::body::Full;
use super::grpc;

const REASON: HeaderName = HeaderName::from_static("x-seawall-reason");
const POLICY: HeaderName = HeaderName::from_static("x-seawall-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const YES: HeaderValue = HeaderValue::from_static("true");

/// Fields that an answer may have: for so many its map is made.
const FIELDS: usize = 12;

/// What is said when asking again can never help.
const NEVER: Span = Span::from_secs(300);

/// Which families of header fields are sent. `Retry-After` and the reason always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// `RateLimit` and `RateLimit-Policy`; default on.
    pub rate_limit: bool,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`; default off.
    pub legacy_rate_limit: bool,
    /// `Proxy-Status`; default off.
    pub proxy_status: bool,
    /// `x-envoy-overloaded`; default off.
    pub envoy: bool,
}

impl Default for Families {
    fn default() -> Families {
        Families { rate_limit: true, legacy_rate_limit: false, proxy_status: false, envoy: false }
    }
}

/// A quota and the name that it goes by in header fields and problem bodies.
#[derive(Clone, Debug)]
pub struct NamedQuota {
    name: String,
    /// The name, as it is sent.
    field: HeaderValue,
    quota: Quota,
}

impl NamedQuota {
    /// `quota` under this name, which is printable ASCII without `"` and `\`, and not empty.
    ///
    /// ```
    /// use seawall::core::measure::bucket::{Quota, Rate};
    /// use seawall::http::NamedQuota;
    ///
    /// let quota = Quota::new(Rate::per_second(50), 100).unwrap();
    /// assert!(NamedQuota::new("user", quota).is_ok());
    /// let error = NamedQuota::new("each \"user\"", quota).unwrap_err();
    /// assert_eq!(error.to_string(), "`name` must be printable ASCII without `\"` and `\\`, and not empty");
    /// ```
    pub fn new(name: impl Into<String>, quota: Quota) -> Result<NamedQuota, SettingError> {
        let name = name.into();
        let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        match HeaderValue::from_str(&name) {
            Ok(field) if !name.is_empty() && name.bytes().all(is_plain) => {
                Ok(NamedQuota { name, field, quota })
            }
            _ => {
                let range = "printable ASCII without `\"` and `\\`, and not empty";
                Err(SettingError { key: "name", range })
            }
        }
    }
}

/// Writes answers for the refusals of one gate.
#[derive(Debug)]
pub struct Refusals {
    families: Families,
    quotas: Vec<NamedQuota>,
    /// What users of plans have instead, by quota and plan, from plan 1 on.
    plans: Vec<Vec<Quota>>,
    /// By plan.
    policy_fields: Vec<Option<HeaderValue>>,
    seed: u64,
    answered: AtomicU64,
}

impl Refusals {
    /// Answers that name `quotas`, one for each of the gate's throttles and in their order. Who stands worst
    /// with a throttle beyond them is told none of the quota fields, and is refused by `throttle`.
    /// `seed` spreads `Retry-After`: draw it at random, outside of tests.
    pub fn new(quotas: Vec<NamedQuota>, families: Families, seed: u64) -> Refusals {
        let answered = AtomicU64::new(0);
        Refusals { families, quotas, plans: Vec::new(), policy_fields: Vec::new(), seed, answered }
            .with_plans(Vec::new())
    }

    /// The same where users of plans have other quotas: for each of the quotas those of its plans, in their
    /// order; those that have none are left out or empty.
    pub fn with_plans(self, plans: Vec<Vec<Quota>>) -> Refusals {
        let most = plans.iter().map(Vec::len).max().unwrap_or(0);
        let refusals = Refusals { plans, ..self };
        let policy_fields = (0..=most).map(|plan| refusals.policy_field(plan)).collect();
        Refusals { policy_fields, ..refusals }
    }

    /// All quotas, as users of this plan have them.
    fn policy_field(&self, plan: usize) -> Option<HeaderValue> {
        let policies = self.quotas.iter().enumerate().map(|(place, NamedQuota { name, .. })| {
            let quota = self.quota_of(place, plan);
            format!("\"{name}\";q={};w={}", quota.burst(), quota.time_to_full().as_secs_ceil().max(1))
        });
        let field = policies.collect::<Vec<_>>().join(", ");
        HeaderValue::try_from(field).ok().filter(|field| !field.is_empty())
    }

    /// The quota at this place, as users of this plan have it.
    fn quota_of(&self, place: usize, plan: usize) -> &Quota {
        let of_plan = plan.checked_sub(1).and_then(|plan| self.plans.get(place)?.get(plan));
        of_plan.unwrap_or(&self.quotas[place].quota)
    }

    /// The answer to a refused request.
    pub fn response(&self, rejection: &Rejection) -> Response<Full> {
        let (status, title, proxy_status) = match rejection.reason {
            Reason::Throttled => {
                (StatusCode::TOO_MANY_REQUESTS, "Quota exceeded", "seawall; error=http_request_denied")
            }
            Reason::Shed | Reason::Full => {
                (StatusCode::SERVICE_UNAVAILABLE, "Overloaded", "seawall; error=connection_limit_reached")
            }
            Reason::Open | Reason::NoHost | Reason::Blocked => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Service unavailable",
                "seawall; error=destination_unavailable",
            ),
            Reason::Expired => {
                (StatusCode::GATEWAY_TIMEOUT, "Deadline passed", "seawall; error=http_response_timeout")
            }
        };
        let seconds = self.seconds(rejection.retry_after);
        let violated = self.quota(rejection).map(|quota| quota.name.as_str());
        let policy = violated.unwrap_or(rejection.policy.name());
        let mut response = problem(status, title, rejection.reason.name(), policy, violated, seconds);
        let headers = response.headers_mut();
        self.fields(headers, rejection, seconds);
        if self.families.proxy_status {
            headers.insert(PROXY_STATUS, HeaderValue::from_static(proxy_status));
        }
        response
    }

    /// The answer to a refused gRPC request: Trailers-Only, as [`grpc`](super::grpc) says.
    pub fn grpc(&self, rejection: &Rejection) -> Response<Full> {
        let seconds = self.seconds(rejection.retry_after);
        let mut response = Response::new(Full::default());
        let headers = response.headers_mut();
        grpc::say(headers, rejection, self.draw());
        self.fields(headers, rejection, seconds);
        response
    }

    /// The fields that every refusal has, whatever the protocol.
    fn fields(&self, headers: &mut HeaderMap, rejection: &Rejection, seconds: u64) {
        let policy = match self.quota(rejection) {
            Some(quota) => quota.field.clone(),
            None => HeaderValue::from_static(rejection.policy.name()),
        };
        say(headers, rejection.reason.name(), policy, seconds);
        if let Some(standing) = rejection.standing {
            self.quota_fields(headers, standing, seconds);
        }
        if self.families.envoy && matches!(rejection.reason, Reason::Shed | Reason::Full) {
            headers.insert(OVERLOADED, YES);
        }
    }

    /// The quota that is spent.
    fn quota(&self, rejection: &Rejection) -> Option<&NamedQuota> {
        rejection.standing.and_then(|standing| self.quotas.get(usize::from(standing.quota)))
    }

    /// The answer when an upstream failed without one of its own. `error` is the RFC 9209 token.
    pub fn upstream_failed(&self, status: StatusCode, title: &str, error: &str) -> Response<Full> {
        let seconds = self.seconds(Span::from_secs(1));
        let mut response = problem(status, title, "upstream", "upstream", None, seconds);
        let headers = response.headers_mut();
        say(headers, "upstream", HeaderValue::from_static("upstream"), seconds);
        if self.families.proxy_status
            && let Ok(field) = HeaderValue::try_from(["seawall; error=", error].concat())
        {
            headers.insert(PROXY_STATUS, field);
        }
        response
    }

    /// Tells an admitted request how its user stands.
    pub fn annotate(&self, headers: &mut HeaderMap, standing: Option<Standing>) {
        if let Some(standing) = standing {
            self.quota_fields(headers, standing, standing.reset.as_secs_ceil());
        }
    }

    /// Whole seconds, at least 1, and up to a tenth (or one second) more.
    fn seconds(&self, span: Span) -> u64 {
        let span = if span == Span::MAX { NEVER } else { span };
        let least = span.as_secs_ceil().max(1);
        let spread = (least / 10).max(1) + 1;
        least + self.draw() % spread
    }

    fn draw(&self) -> u64 {
        mix(self.seed ^ self.answered.fetch_add(1, Ordering::Relaxed))
    }

    fn quota_fields(&self, headers: &mut HeaderMap, standing: Standing, seconds: u64) {
        let (place, plan) = (usize::from(standing.quota), usize::from(standing.plan));
        let Some(NamedQuota { name, .. }) = self.quotas.get(place) else { return };
        let remaining = standing.remaining;
        if self.families.rate_limit {
            // An origin's own fields are kept: a list may have several members, and ours is one.
            let (mut number, mut time) = (itoa::Buffer::new(), itoa::Buffer::new());
            let (until, time) = if remaining == 0 { (";t=", time.format(seconds.max(1))) } else { ("", "") };
            // In one piece of just its length, which becomes the value as it is.
            let field = ["\"", name, "\";r=", number.format(remaining), until, time].concat();
            if let Ok(field) = HeaderValue::try_from(field) {
                headers.append(RATE_LIMIT, field);
            }
            let field = self.policy_fields.get(plan).or(self.policy_fields.first());
            if let Some(Some(field)) = field {
                headers.append(RATE_LIMIT_POLICY, field.clone());
            }
        }
        if self.families.legacy_rate_limit {
            headers.insert(LEGACY_LIMIT, HeaderValue::from(self.quota_of(place, plan).burst()));
            headers.insert(LEGACY_REMAINING, HeaderValue::from(remaining));
            headers.insert(LEGACY_RESET, HeaderValue::from(seconds));
        }
    }
}

/// A response whose body says what is the matter.
fn problem(
    status: StatusCode,
    title: &str,
    reason: &str,
    policy: &str,
    violated: Option<&str>,
    seconds: u64,
) -> Response<Full> {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => "https://iana.org/assignments/http-problem-types#quota-exceeded",
        StatusCode::SERVICE_UNAVAILABLE => {
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
        }
        _ => "about:blank",
    };
    let (begin, end) = if violated.is_some() { (",\"violated-policies\":[\"", "\"]") } else { ("", "") };
    let mut wait = itoa::Buffer::new();
    // In one piece of just its length, which becomes the body as it is.
    let body = [
        "{\"type\":\"",
        kind,
        "\",\"title\":\"",
        title,
        "\",\"status\":",
        status.as_str(),
        ",\"reason\":\"",
        reason,
        "\",\"policy\":\"",
        policy,
        "\",\"retry_after\":",
        wait.format(seconds),
        begin,
        violated.unwrap_or_default(),
        end,
        "}\n",
    ];
    let mut response = Response::new(Full::new(body.concat().into()));
    *response.headers_mut() = HeaderMap::with_capacity(FIELDS);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
    response
}

/// Says who refused, why and until when.
fn say(headers: &mut HeaderMap, reason: &'static str, policy: HeaderValue, seconds: u64) {
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    headers.insert(REASON, HeaderValue::from_static(reason));
    headers.insert(POLICY, policy);
}

#[cfg(test)]
mod tests;
