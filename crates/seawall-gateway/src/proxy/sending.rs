//! The attempts of one call, sent to the hosts that the call picks.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use seawall::call::{Ended, Exchange, Judgement};
use seawall::core::call::{Attempt, Repeat, Verdict};
use seawall::core::outcome::Outcome;
use seawall::core::time::{Span, Time};

use super::access::Trail;
use super::envoy::{RetryOn, Unanswered};
use super::failures;
use super::grpc;
use super::outbound::{Arrival, Fault};
use super::outgoing::Outgoing;
use super::route::Route;
use super::stack::Stack;
use super::told::Told;
use super::upstream::{Answer, Failure, FailureKind, Untaken};
use seawall_config::Protocol;

/// How the front gate is told that a call went.
pub(super) fn outcome(ended: &Ended<Answer>) -> Outcome {
    match (&ended.verdict, &ended.answer) {
        (Verdict::Rejected(_), _) => Outcome::Ignored,
        (Verdict::Answered { .. }, Some(Ok(answered))) => answered.outcome.get(),
        (Verdict::Answered { .. }, Some(Err(failure))) => blamed(failure),
        (Verdict::Expired | Verdict::Answered { .. }, _) => Outcome::TimedOut,
    }
}

/// How a request that was not answered speaks of the host: of what this process lacks, not at all.
fn blamed(failure: &Failure) -> Outcome {
    if failure.kind == FailureKind::Exhausted { Outcome::Ignored } else { Outcome::Failure }
}

/// Sends a request to the hosts that the call picks.
pub(super) struct Sending {
    pub(super) worker: Rc<Stack>,
    /// The way to the hosts, as the call numbers them.
    pub(super) route: Arc<Route>,
    pub(super) request: Option<Outgoing>,
    pub(super) repeat: Repeat,
    pub(super) attempts: u32,
    /// When the time that a gRPC client gives is over.
    pub(super) given: Option<grpc::Given>,
    /// Whether the upstream is told which attempt it sees.
    pub(super) counts: bool,
    pub(super) arrival: Option<Arrival>,
    /// How long the client was waited for before the last attempt.
    pub(super) waited: Span,
    /// Where it is noted who is asked, if somebody wants to know.
    pub(super) trail: Option<Arc<Trail>>,
    /// After what another attempt is made, where the client says so.
    pub(super) retry_on: Option<RetryOn>,
    /// Whether nothing of the body has gone out yet.
    pub(super) unsent: bool,
}

impl Sending {
    /// Tells whoever reads the log why a host did not answer.
    fn tell(&self, failure: &Failure) {
        let Failure { kind, host, cause, .. } = failure;
        failures::tell(Some(&self.route.matching.name), host, *kind, &**cause);
        self.trail.iter().for_each(|trail| trail.failed(failures::chain(&**cause)));
    }

    /// Whether it may be sent again, as far as is known by now.
    fn repeat(&self) -> Repeat {
        match &self.request {
            Some(request) if !request.body().is_repeatable() => Repeat::Unsafe,
            _ => self.repeat,
        }
    }
}

impl Exchange for Sending {
    type Answer = Answer;
    type Attempt = Pin<Box<dyn Future<Output = Answer>>>;

    fn send(&mut self, attempt: Attempt) -> Self::Attempt {
        // Over HTTP/2, a host may say that it took nothing: that may be repeated whatever it is.
        let may_return =
            self.route.targets.get(attempt.host).is_some_and(|host| host.protocol == Protocol::H2c)
                && self.request.as_ref().is_some_and(|request| request.body().is_repeatable());
        let again = (self.repeat == Repeat::Safe || may_return) && attempt.number < self.attempts;
        let request = if again { self.request.clone() } else { self.request.take() };
        request.iter().for_each(|request| request.body().claim());
        self.unsent = false;
        self.waited = waited(self.arrival.as_ref());
        let number = self.counts.then_some(attempt.number);
        let until = self.route.tells_time.then_some(attempt.deadline);
        let told = Told { until, given: self.given, number };
        let pool = self.worker.pool(&self.route.targets, attempt.host);
        let host = self.route.targets.get(attempt.host);
        let trying = self.trail.as_ref().zip(host).map(|(trail, host)| trail.tries(&host.authority));
        // Made in its box, because most of it is yet to be set.
        let place = Box::new_uninit();
        let sending = async move {
            let _trying = trying;
            match request {
                Some(request) => pool.send(request, told).await,
                None => Err(pool.failure(FailureKind::Broken, "the request is on its way already")),
            }
        };
        let sending = Box::write(place, sending);
        Box::into_pin(sending)
    }

    fn spared(&self, answer: &Answer) -> Span {
        let connecting =
            answer.as_ref().map_or(Span::ZERO, |answered| answered.connection.connecting().into());
        connecting + waited(self.arrival.as_ref()).minus(self.waited)
    }

    fn received(&self, now: Time) -> Option<Time> {
        self.arrival.as_ref().map(|arrival| arrival.received(now))
    }

    fn can_send(&self) -> bool {
        self.request.as_ref().is_some_and(|request| self.unsent || request.body().is_repeatable())
    }

    fn judge(&mut self, answer: &Answer) -> Judgement {
        match answer {
            // No host is to be blamed for what a client sends.
            Err(_) if known(self.arrival.as_ref()).is_some() => {
                Judgement { outcome: Outcome::Ignored, repeat: Repeat::Final }
            }
            // Another attempt would lack the same.
            Err(failure) if failure.kind == FailureKind::Exhausted => {
                self.tell(failure);
                Judgement { outcome: Outcome::Ignored, repeat: Repeat::Final }
            }
            Err(failure) => {
                // A connection that is closed in peace says nothing of its host.
                let closes = failure.untaken == Some(Untaken::Closing);
                if !closes {
                    self.tell(failure);
                }
                let unsent = failure.unsent.take();
                self.unsent = unsent.is_some();
                self.request = unsent.or_else(|| self.request.take());
                let may_return = self.unsent || (failure.untaken.is_some() && self.can_send());
                let repeat = if may_return { Repeat::Safe } else { self.repeat() };
                let unanswered = match failure.kind {
                    FailureKind::Refused
                    | FailureKind::ConnectTimeout
                    | FailureKind::Untrusted
                    | FailureKind::Exhausted
                    | FailureKind::Unreachable => Unanswered::Unconnected,
                    _ if self.unsent || failure.untaken.is_some() => Unanswered::Unsent,
                    FailureKind::Broken | FailureKind::Invalid => Unanswered::Reset,
                };
                let is_wanted = self.retry_on.is_none_or(|on| on.wants(unanswered));
                match if is_wanted { repeat } else { Repeat::Final } {
                    Repeat::Safe if closes => {
                        Judgement { outcome: Outcome::Ignored, repeat: Repeat::Unreached }
                    }
                    Repeat::Safe if unanswered == Unanswered::Unconnected => {
                        Judgement { outcome: Outcome::Failure, repeat: Repeat::Unreached }
                    }
                    repeat => Judgement { outcome: Outcome::Failure, repeat },
                }
            }
            Ok(answered) => {
                let status = answered.response.status();
                let judged = seawall::http::judge(status, answered.response.headers(), self.repeat());
                answered.outcome.set(judged.outcome);
                match self.retry_on {
                    // Who pushes back has the last word.
                    Some(on) if judged.repeat != Repeat::Unwanted => {
                        let repeat = match self.repeat() {
                            _ if !on.wants_status(status) => Repeat::Final,
                            Repeat::Safe if !judged.outcome.is_failure() => Repeat::Wanted,
                            repeat => repeat,
                        };
                        Judgement { repeat, ..judged }
                    }
                    Some(_) | None => judged,
                }
            }
        }
    }
}

/// What is wrong with a body on the client's side, as far as is known.
pub(super) fn known(arrival: Option<&Arrival>) -> Option<Fault> {
    arrival.and_then(Arrival::known)
}

/// How long the client was waited for.
pub(super) fn waited(arrival: Option<&Arrival>) -> Span {
    arrival.map_or(Span::ZERO, Arrival::waited)
}
