//! The course of one call on tokio: it sends, waits, gives up and finishes as [`Call`] says.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use seawall_core::call::{Attempt, Call, Called, Config, Lane, Repeat, Step, Stop, Verdict};
use seawall_core::decision::Rejection;
use seawall_core::outcome::Outcome;
use seawall_core::request::{Key, Request};
use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};
use tokio::time::Sleep;

use super::Upstream;
use crate::clock::{self, instant, now};
use crate::enter::Guard;

/// How an attempt went, and whether it may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// What the host's gate and the budget are told.
    pub outcome: Outcome,
    /// Whether another attempt would be harmless.
    pub repeat: Repeat,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ended<T> {
    /// The verdict.
    pub verdict: Verdict,
    /// The last answer; `None` when there was none.
    pub answer: Option<T>,
    /// The place of that answer at its host, to be kept until its body ends.
    pub guard: Option<Guard>,
    /// Who gave it; for [`Upstream::broke`].
    pub called: Option<Called>,
    /// Attempts sent, hedges too.
    pub attempts: u32,
    /// How many of them were hedges.
    pub hedges: u32,
    /// Time spent between them.
    pub waited: Span,
}

impl<T> Ended<T> {
    /// The refusal that ended it, or that stood in the way of another attempt.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.verdict {
            Verdict::Rejected(rejection) | Verdict::Answered { stop: Some(Stop::Rejected(rejection)) } => {
                Some(rejection)
            }
            Verdict::Answered { .. } | Verdict::Expired => None,
        }
    }
}

/// A call and what it gives back when it is dropped.
struct Course {
    call: Call,
    upstream: Arc<Upstream>,
    rng: Rng,
}

impl Course {
    #[inline]
    fn begin(&mut self, now: Time, request: Request, repeat: Repeat) {
        self.rng = self.upstream.rng();
        self.call.begin(request, repeat, now);
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        if !self.call.holds_nothing() {
            self.call.abandon(now(), &self.upstream.parts());
        }
    }
}

/// What a call does to make an attempt.
pub trait Exchange {
    /// What comes back.
    type Answer;
    /// The attempt under way.
    type Attempt: Future<Output = Self::Answer>;

    /// Makes an attempt.
    fn send(&mut self, attempt: Attempt) -> Self::Attempt;

    /// Says how it went.
    fn judge(&mut self, answer: &Self::Answer) -> Judgement;

    /// How much of the attempt's time says nothing of its host, such as making a connection: it counts
    /// neither as latency nor towards being slow.
    fn spared(&self, _answer: &Self::Answer) -> Span {
        Span::ZERO
    }

    /// Since when the client owes nothing of its request: `now` while it still sends it. The time of the call,
    /// and of its attempts, counts from then on. `None` where nothing came after the call began.
    fn received(&self, _now: Time) -> Option<Time> {
        None
    }

    /// Whether there is something left to make an attempt of. A retry is asked for only after a
    /// judgement that allows it, a hedge at any time.
    fn can_send(&self) -> bool {
        true
    }
}

/// An exchange of two closures.
#[derive(Debug)]
pub struct Closures<S, J> {
    /// Makes an attempt.
    pub send: S,
    /// Says how it went.
    pub judge: J,
}

impl<S, J, F> Exchange for Closures<S, J>
where
    S: FnMut(Attempt) -> F,
    J: FnMut(&F::Output) -> Judgement,
    F: Future,
{
    type Answer = F::Output;
    type Attempt = F;

    fn send(&mut self, attempt: Attempt) -> F {
        (self.send)(attempt)
    }

    fn judge(&mut self, answer: &F::Output) -> Judgement {
        (self.judge)(answer)
    }
}

pin_project! {
    /// One call, driven to its end.
    #[must_use = "futures do nothing unless polled"]
    pub struct Drive<X: Exchange> {
        course: Course,
        pub(super) exchange: X,
        answer: Option<X::Answer>,
        armed: Time,
        #[pin]
        flights: Flights<X::Attempt>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

pin_project! {
    /// The attempts under way: one in place, hedges on the heap.
    struct Flights<A> {
        lane: Option<Lane>,
        #[pin]
        first: Option<A>,
        more: Vec<(Lane, Pin<Box<A>>)>,
    }
}

impl<A: Future> Flights<A> {
    fn add(self: Pin<&mut Self>, lane: Lane, attempt: A) {
        let mut this = self.project();
        if this.lane.is_none() {
            *this.lane = Some(lane);
            this.first.set(Some(attempt));
        } else {
            this.more.push((lane, Box::pin(attempt)));
        }
    }

    fn drop_lane(self: Pin<&mut Self>, lane: Lane) {
        let mut this = self.project();
        if *this.lane == Some(lane) {
            *this.lane = None;
            this.first.set(None);
        } else {
            this.more.retain(|(other, _)| *other != lane);
        }
    }

    /// The first that has an answer; it is dropped.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<(Lane, A::Output)> {
        let this = self.as_mut().project();
        let first = match (*this.lane, this.first.as_pin_mut()) {
            (Some(lane), Some(attempt)) => match attempt.poll(cx) {
                Poll::Ready(answer) => Some((lane, answer)),
                Poll::Pending => None,
            },
            _ => None,
        };
        let mut more = this.more.iter_mut();
        let ended = first.or_else(|| {
            more.find_map(|(lane, attempt)| match attempt.as_mut().poll(cx) {
                Poll::Ready(answer) => Some((*lane, answer)),
                Poll::Pending => None,
            })
        })?;
        self.drop_lane(ended.0);
        Some(ended)
    }
}

impl<X: Exchange> Drive<X> {
    /// A call through `upstream`, to be over at the deadline of `request`. `repeat` says whether it
    /// may be sent again after an attempt that never answered, and so whether it may be hedged.
    #[inline]
    pub fn new(
        upstream: Arc<Upstream>,
        config: Config,
        request: Request,
        repeat: Repeat,
        exchange: X,
    ) -> Drive<X> {
        let call = Call::new(config, request, repeat, now());
        let rng = upstream.rng();
        Drive::of(Course { call, upstream, rng }, exchange)
    }

    /// A call of which only its parts are known.
    #[inline]
    pub(super) fn unbegun(upstream: Arc<Upstream>, config: Config, exchange: X) -> Drive<X> {
        let call = Call::new(config, Request::new(Key(0)), Repeat::Unsafe, Time::ZERO);
        Drive::of(Course { call, upstream, rng: Rng::new(0, 0) }, exchange)
    }

    #[inline]
    fn of(course: Course, exchange: X) -> Drive<X> {
        let flights = Flights { lane: None, first: None, more: Vec::new() };
        Drive { course, exchange, answer: None, armed: Time::MAX, flights, sleep: None }
    }

    /// Begins a call of which only its parts were known.
    #[inline]
    pub(super) fn begin(self: Pin<&mut Self>, now: Time, request: Request, repeat: Repeat) {
        self.project().course.begin(now, request, repeat);
    }

    /// The same, not hedged although other calls to its upstream are.
    pub fn unhedged(mut self) -> Drive<X> {
        self.unhedge();
        self
    }

    /// The same where it stands: it is large.
    pub fn unhedge(&mut self) {
        self.course.call.unhedge();
    }

    /// Its deadline is put off until then at most, however long its client takes to send it.
    pub fn end_by(&mut self, latest: Time) {
        self.course.call.end_by(latest);
    }

    /// Takes in the answer of an attempt, if one is there; says when that was.
    fn hear(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Time> {
        let this = self.project();
        let (lane, answer) = this.flights.poll(cx)?;
        let now = now();
        let Judgement { outcome, repeat } = this.exchange.judge(&answer);
        let spared = this.exchange.spared(&answer);
        *this.answer = Some(answer);
        let Course { call, upstream, rng } = this.course;
        if spared > Span::ZERO {
            call.spare(lane, spared);
        }
        if let Some(at) = this.exchange.received(now) {
            call.received(at);
        }
        call.on_outcome(now, lane, outcome, repeat, &upstream.parts(), rng);
        Some(now)
    }

    /// Sends an attempt, if there is something left to send.
    fn send(self: Pin<&mut Self>, now: Time, attempt: Attempt) {
        let this = self.project();
        if this.exchange.can_send() {
            this.flights.add(attempt.lane, this.exchange.send(attempt));
        } else {
            let Course { call, upstream, .. } = this.course;
            call.on_unsent(now, attempt.lane, &upstream.parts());
        }
    }

    /// Goes on until something has to be waited for, or the call is over; `known` is the time if it was
    /// just read. Says when it was over; [`Drive::end`] says how.
    #[inline]
    pub(super) fn poll_known(
        mut self: Pin<&mut Self>,
        known: Option<Time>,
        cx: &mut Context<'_>,
    ) -> Poll<Time> {
        let mut now = known.unwrap_or_else(clock::now);
        // Whether all attempts under way know whom to wake.
        let mut heard = false;
        loop {
            let this = self.as_mut().project();
            let Course { call, upstream, rng } = this.course;
            // Before that, it does not matter yet.
            if now >= *this.armed
                && let Some(at) = this.exchange.received(now)
            {
                call.received(at);
            }
            match call.poll(now, &upstream.parts(), rng) {
                Step::Send(attempt) => {
                    self.as_mut().send(now, attempt);
                    // Most answer at once or not for long: ask before a timer is armed.
                    let answered = self.as_mut().hear(cx);
                    (heard, now) = (answered.is_none(), answered.unwrap_or(now));
                    if self.course.call.verdict().is_some() {
                        return Poll::Ready(now);
                    }
                }
                Step::Cancel { lane } => this.flights.drop_lane(lane),
                Step::Finish(_) => return Poll::Ready(now),
                Step::WaitUntil(until) => {
                    if !heard {
                        let answered = self.as_mut().hear(cx);
                        (heard, now) = (answered.is_none(), answered.unwrap_or(now));
                        continue;
                    }
                    let mut sleep = this.sleep;
                    let was_armed = std::mem::replace(this.armed, until);
                    match sleep.as_mut().as_pin_mut() {
                        None => sleep.set(Some(tokio::time::sleep_until(instant(until)))),
                        Some(sleep) if was_armed != until => sleep.reset(instant(until)),
                        Some(_) => {}
                    }
                    ready!(sleep.as_pin_mut().expect("armed above").poll(cx));
                    now = clock::now();
                }
            }
        }
    }

    /// Says to `tell` how the call, which is over, ended. What is told is large, and nearly always made of little.
    #[inline]
    pub(super) fn end<R>(
        self: Pin<&mut Self>,
        tell: impl FnOnce(&Arc<Upstream>, &mut X, Ended<X::Answer>) -> R,
    ) -> R {
        let this = self.project();
        let Course { call, upstream, .. } = this.course;
        let verdict = match call.verdict().expect("it is over") {
            // Written anew: of what was written a moment ago, a copy of the whole would have to wait.
            Verdict::Answered { stop: None } => Verdict::Answered { stop: None },
            verdict => *verdict,
        };
        let (attempts, hedges, waited) = (call.attempts(), call.hedges(), call.waited());
        let (answer, called) = (this.answer.take(), call.called());
        // What holds no place has been reported, and there is nothing more to do for it.
        if !call.holds_a_place() {
            return tell(
                upstream,
                this.exchange,
                Ended { verdict, answer, guard: None, called, attempts, hedges, waited },
            );
        }
        let held = call.take_ticket();
        let guard = held.map(|(host, ticket)| Guard::new(upstream.hosts.gates()[host].clone(), ticket));
        tell(upstream, this.exchange, Ended { verdict, answer, guard, called, attempts, hedges, waited })
    }
}

impl<X: Exchange> Future for Drive<X> {
    type Output = Ended<X::Answer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.as_mut().poll_known(None, cx));
        Poll::Ready(self.end(|_, _, ended| ended))
    }
}
