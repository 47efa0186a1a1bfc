//! The stack that is measured: throttle, shed, limit, breaker, retry with its budget, and deadline
//! over a service that does nothing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use seawall::admission::{self, End};
use seawall::call::{self, CallLayer, Ended, Judgement, Outgoing, Upstream};
use seawall::core::call::{Config, Repeat, Settings as CallSettings, Shared};
use seawall::core::decision::Rejection;
use seawall::core::gate::{Admit, Gate, Lane, Own as _, Rule, Settings};
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::time::{Span, Time};
use seawall::core::{breaker, limit, shed, throttle};
use seawall::{Guard, Locks, Threads, now};
use tower::Service;

const DEADLINE: Span = Span::from_secs(1);

#[derive(Clone)]
pub(crate) struct Front<K>(pub(crate) K);

impl<K: Fn(u64) -> Key + Clone> admission::Adapter<u64, u64, Infallible> for Front<K> {
    type Response = Result<u64, Rejection>;

    #[inline]
    fn request(&self, now: Time, request: &u64) -> Request {
        Request { deadline: now + DEADLINE, ..Request::new((self.0)(*request)) }
    }

    #[inline]
    fn outcome(&self, _: Result<&u64, &Infallible>) -> Outcome {
        Outcome::Success
    }

    #[inline]
    fn end(&self, _: &u64) -> End {
        End::WithResponse
    }

    #[inline]
    fn answer(&self, response: u64, _: Guard) -> Self::Response {
        Ok(response)
    }

    fn refuse(&self, rejection: Rejection) -> Self::Response {
        Err(rejection)
    }
}

#[derive(Clone)]
pub(crate) struct Back;

impl call::Adapter<u64, u64, Infallible> for Back {
    type Response = u64;

    #[inline]
    fn request(&self, now: Time, request: &u64) -> Request {
        Request { deadline: now + DEADLINE, ..Request::new(Key(*request)) }
    }

    #[inline]
    fn copy(&self, request: &u64) -> Option<u64> {
        Some(*request)
    }

    #[inline]
    fn repeat(&self, _: &u64) -> Repeat {
        Repeat::Safe
    }

    #[inline]
    fn judge(&self, _: Result<&u64, &Infallible>) -> Judgement {
        Judgement { outcome: Outcome::Success, repeat: Repeat::Safe }
    }

    #[inline]
    fn end(&self, _: &Arc<Upstream>, ended: Ended<Result<u64, Infallible>>) -> Result<u64, Infallible> {
        ended.answer.expect("it answers at once")
    }
}

#[derive(Clone)]
pub(crate) struct Nothing;

impl Service<u64> for Nothing {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

impl Service<Outgoing<u64>> for Nothing {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing<u64>) -> Self::Future {
        ready(Ok(outgoing.request))
    }
}

/// A quota that nobody exceeds.
pub(crate) fn plenty() -> Quota {
    Quota::new(Rate::per_second(1_000_000_000), 1_000_000_000).expect("within bounds")
}

/// A gate that refuses, at this time, whoever comes.
pub(crate) struct Scene {
    pub(crate) gate: Arc<Gate<Threads>>,
    pub(crate) now: Time,
    _held: Vec<Admit>,
}

impl Scene {
    /// These users have used up their quota.
    pub(crate) fn throttled(users: &[Key]) -> Scene {
        let hourly = Quota::new(Rate { count: 1, per: Span::from_secs(3_600) }, 1).expect("within bounds");
        let (gate, now) = (front(hourly, limit::Config::default()), now());
        for user in users {
            if let Admit::Ticket(ticket) = gate.admit(now, &Request::new(*user)) {
                gate.settle(now, ticket, Outcome::Ignored);
            }
        }
        Scene { gate, now, _held: Vec::new() }
    }

    /// One place, which is taken.
    pub(crate) fn full() -> Scene {
        let (gate, now) = (front(plenty(), Scene::places(1, 0)), now());
        let held = gate.admit(now, &Request::new(Key(0)));
        Scene { gate, now, _held: vec![held] }
    }

    /// One place and ten in line, all taken; as many arrive as drain.
    pub(crate) fn queued() -> Scene {
        let gate = front(plenty(), Scene::places(1, 10));
        let now = Scene::served(&gate, 1);
        let held = (0..11).map(|user| gate.admit(now, &Request::new(Key(user)))).collect();
        Scene { gate, now, _held: held }
    }

    /// One place, a hundred times as many as drain, and some in line already.
    pub(crate) fn overloaded() -> Scene {
        let gate = front(plenty(), Scene::places(1, 1_024));
        let now = Scene::served(&gate, 100);
        let held = (0..11).map(|user| gate.admit(now, &Request::new(Key(user)))).collect();
        Scene { gate, now, _held: held }
    }

    /// The breaker is open.
    pub(crate) fn open() -> Scene {
        let settings = Settings { breaker: Some(breaker::Config::default()), ..Settings::default() };
        let (gate, now) = (Gate::new(settings, Lane::default(), now()), now());
        gate.force_breaker(now, breaker::Forced::Open);
        Scene { gate: Arc::new(gate), now, _held: Vec::new() }
    }

    fn places(places: u32, queue: u32) -> limit::Config {
        limit::Config { ceiling: limit::Ceiling::Fixed(places), queue, ..limit::Config::default() }
    }

    /// Two seconds in which a call takes 10 ms and so many arrive for each; says when they are over.
    fn served(gate: &Gate<Threads>, arrivals: u64) -> Time {
        let mut now = now();
        for call in 0..200 {
            let begun = gate.admit(now, &Request::new(Key(call)));
            // They stay in line for as long: a queue that is empty would say that more drains.
            let waiting =
                (1..arrivals).filter_map(|other| match gate.admit(now, &Request::new(Key(other))) {
                    Admit::Wait(place) => Some(place),
                    Admit::Ticket(_) | Admit::Reject(_) => None,
                });
            let waiting: Vec<_> = waiting.collect();
            now += Span::from_millis(10);
            waiting.into_iter().for_each(|place| gate.leave(now, place));
            if let Admit::Ticket(ticket) = begun {
                gate.settle(now, ticket, Outcome::Success);
            }
        }
        now
    }
}

/// A front gate whose throttle has this quota and whose limit is this.
pub(crate) fn front(quota: Quota, limit: limit::Config) -> Arc<Gate<Threads>> {
    let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
    let settings = Settings { limit: Some(limit), ..Settings::default() };
    let rule = Arc::new(Rule::new(throttle::Config::per_user(quota), now()));
    Arc::new(Gate::new(settings, lane, now()).throttled(vec![rule]))
}

pub(crate) fn calls() -> CallLayer<Back> {
    let settings = Settings { breaker: Some(breaker::Config::default()), ..Settings::default() };
    let back = Arc::new(Gate::<Threads>::new(settings, Lane::default(), now()));
    let shared = Arc::new(Locks::own(vec![Shared::new(CallSettings::default(), now())]));
    CallLayer::new(Arc::new(Upstream::new(vec![back], shared, 7)), Config::default(), Back)
}
