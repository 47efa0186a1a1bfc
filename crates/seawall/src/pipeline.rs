//! Plain calls: a gate, attempts, or both around any asynchronous operation, without tower.
//!
//! **Mechanics.** A [`Pipeline`] of [`Once`] asks its gate and runs the operation. One of
//! [`Attempts`] makes it a call through an [`Upstream`]: retries, budget, hedges, deadline; perhaps
//! [behind](Pipeline::behind) a gate. What became of it is [judged](Judge) for the policies: `Ok` is a
//! success and `Err` a failure, unless another judge says so. One of [`ByKey`] asks the breaker of a key.
//!
//! **Edges.** A refusal and a timeout are not the operation's own error, and [`CallError`] tells them
//! apart; the last real error is never lost. A future that is dropped leaves its line, gives back its
//! place, and counts as cancelled, and so does one that panics: a timeout around it tells no breaker
//! anything, while one by [`within`](Pipeline::within) does. The place is held until the operation is
//! over; what goes on longer (a stream) enters the gate by [`enter`](crate::enter()) and keeps the
//! guard. Nothing is allocated.
//!
//! ```
//! use seawall::core::breaker::{Config, Settings};
//! use seawall::pipeline::{CallError, Pipeline};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let settings = Settings { consecutive: Some(2), ..Settings::default() };
//! let breaker = Pipeline::single(Config::new(settings).unwrap());
//!
//! assert_eq!(breaker.call(|| async { Ok::<_, &str>(42) }).await, Ok(42));
//! for _ in 0..2 {
//!     let failed = breaker.call(|| async { Err::<u32, _>("no such table") }).await;
//!     assert_eq!(failed.unwrap_err().into_error(), Some("no such table"));
//! }
//! let refused = breaker.call(|| async { Ok::<u32, &str>(unreachable!("it is not run")) }).await;
//! assert!(matches!(refused, Err(CallError::Rejected(rejection)) if rejection.reason.name() == "open"));
//! # });
//! ```

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use seawall_core::call::{Attempt, Config, Repeat, Stop, Verdict};
use seawall_core::decision::Rejection;
use seawall_core::gate::Gate;
use seawall_core::outcome::Outcome;
use seawall_core::request::{Key, Request};
use seawall_core::time::{Span, Time};

use crate::call::{Drive, Ended, Exchange, Judgement, Upstream};
use crate::clock::{instant, now};
use crate::enter::{Guard, enter};
use crate::keyed::Breakers;
use crate::observe::Watcher;
use crate::single::Part;
use crate::threads::Threads;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// A policy refused. The operation was not begun.
    Rejected(Rejection),
    /// There was no answer in time.
    TimedOut {
        /// Why no other attempt was made.
        stop: Stop,
    },
    /// The operation's own error; of several attempts, the last.
    Failed {
        /// The error.
        error: E,
        /// Why no other attempt was made; `None` where none ever is.
        stop: Option<Stop>,
    },
}

impl<E> CallError<E> {
    /// The operation's own error, if there is one.
    pub fn into_error(self) -> Option<E> {
        match self {
            CallError::Failed { error, .. } => Some(error),
            CallError::Rejected(_) | CallError::TimedOut { .. } => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Rejected(rejection) => rejection.fmt(f),
            CallError::TimedOut { .. } => f.write_str("no answer in time"),
            CallError::Failed { error, .. } => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CallError::Rejected(rejection) => Some(rejection),
            CallError::TimedOut { .. } => None,
            CallError::Failed { error, .. } => error.source(),
        }
    }
}

/// Says how an operation went.
pub trait Judge<T, E> {
    /// What the policies are told of this result. `repeat` says whether the operation may be run
    /// twice; a failure that another attempt would meet again is [`Repeat::Final`].
    fn judge(&self, result: &Result<T, E>, repeat: Repeat) -> Judgement;
}

impl<T, E, J: Fn(&Result<T, E>, Repeat) -> Judgement> Judge<T, E> for J {
    fn judge(&self, result: &Result<T, E>, repeat: Repeat) -> Judgement {
        self(result, repeat)
    }
}

/// `Ok` is a success, `Err` a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResult;

impl<T, E> Judge<T, E> for ByResult {
    fn judge(&self, result: &Result<T, E>, repeat: Repeat) -> Judgement {
        let outcome = if result.is_ok() { Outcome::Success } else { Outcome::Failure };
        Judgement { outcome, repeat }
    }
}

/// The operation is run once.
#[derive(Clone)]
pub struct Once(Arc<Gate<Threads>>);

/// The operation is run once, behind the breaker of its request's user.
#[derive(Clone)]
pub struct ByKey(Arc<Breakers>);

/// The operation is run as often as the call needs.
#[derive(Clone)]
pub struct Attempts {
    front: Option<Arc<Gate<Threads>>>,
    upstream: Arc<Upstream>,
    config: Config,
    repeat: Repeat,
}

/// Runs of an operation. No closure judges them: a task could not be made of a call whose result borrows.
struct Runs<'a, F, J> {
    operation: F,
    judge: &'a J,
    repeat: Repeat,
}

impl<F, A, T, E, J> Exchange for Runs<'_, F, J>
where
    F: FnMut(Attempt) -> A,
    A: Future<Output = Result<T, E>>,
    J: Judge<T, E>,
{
    type Answer = Result<T, E>;
    type Attempt = A;

    fn send(&mut self, attempt: Attempt) -> A {
        (self.operation)(attempt)
    }

    fn judge(&mut self, answer: &Result<T, E>) -> Judgement {
        self.judge.judge(answer, self.repeat)
    }
}

/// What stands around an operation. Clones share it.
#[derive(Clone)]
pub struct Pipeline<W, J = ByResult> {
    way: W,
    judge: J,
    within: Option<Span>,
    watcher: Option<Watcher>,
}

/// What the policies are told where nothing is known of who asks.
fn anybody() -> Request {
    Request::new(Key::default())
}

impl Pipeline<Once> {
    /// The operation behind `gate`.
    pub fn new(gate: Arc<Gate<Threads>>) -> Pipeline<Once> {
        Pipeline { way: Once(gate), judge: ByResult, within: None, watcher: None }
    }

    /// The operation behind a gate of one policy: the config of a throttle, shedding, a limit or a
    /// breaker. When a breaker closes, traffic comes back by a ramp of [`RAMP`](crate::single::RAMP): some
    /// calls are refused until then. Where that is not wanted, [`new`](Pipeline::new) takes a gate without one.
    pub fn single(part: impl Part) -> Pipeline<Once> {
        Pipeline::new(Arc::new(part.gate(now())))
    }
}

impl Pipeline<ByKey> {
    /// The operation behind the breaker of whatever its request's `user` stands for: a shard, a tenant, a
    /// method.
    ///
    /// ```
    /// use seawall::core::breaker::{Config, Settings};
    /// use seawall::core::request::{Key, Request};
    /// use seawall::keyed::Breakers;
    /// use seawall::pipeline::Pipeline;
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let settings = Settings { consecutive: Some(1), ..Settings::default() };
    /// let breakers = Arc::new(Breakers::new(Config::new(settings).unwrap(), 1_000));
    /// let shards = Pipeline::keyed(breakers);
    ///
    /// let shard = |number| Request::new(Key(number)); // Of `UserKeys`, as a rule.
    /// let down = shards.call_for(shard(1), || async { Err::<u32, _>("no leader") }).await;
    /// assert_eq!(down.unwrap_err().into_error(), Some("no leader"));
    /// let refused = shards.call_for(shard(1), || async { Ok::<u32, &str>(unreachable!("not run")) }).await;
    /// assert!(refused.is_err());
    /// assert_eq!(shards.call_for(shard(2), || async { Ok::<_, &str>(42) }).await, Ok(42));
    /// # });
    /// ```
    pub fn keyed(breakers: Arc<Breakers>) -> Pipeline<ByKey> {
        Pipeline { way: ByKey(breakers), judge: ByResult, within: None, watcher: None }
    }
}

impl Pipeline<Attempts> {
    /// The operation as a call through `upstream`. `repeat` says whether it may be run twice.
    ///
    /// ```
    /// use seawall::core::call::{Config, Repeat, Settings};
    /// use seawall::core::gate::{self, Gate, Lane};
    /// use seawall::core::time::Span;
    /// use seawall::call::Upstream;
    /// use seawall::pipeline::Pipeline;
    /// use seawall::now;
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let host = Arc::new(Gate::new(gate::Settings::default(), Lane::default(), now()));
    /// let orders = Arc::new(Upstream::to(vec![host], Settings::default()));
    ///
    /// let pipeline = Pipeline::calls(orders, Config::default(), Repeat::Safe).within(Span::from_secs(2));
    /// let answer = pipeline.call(|attempt| async move {
    ///     if attempt.number == 1 { Err("connection reset") } else { Ok("order 66") }
    /// });
    /// assert_eq!(answer.await, Ok("order 66"));
    /// # });
    /// ```
    pub fn calls(upstream: Arc<Upstream>, config: Config, repeat: Repeat) -> Pipeline<Attempts> {
        let way = Attempts { front: None, upstream, config, repeat };
        Pipeline { way, judge: ByResult, within: None, watcher: None }
    }
}

impl<W, J> Pipeline<W, J> {
    /// The same with another judge.
    pub fn judged_by<K>(self, judge: K) -> Pipeline<W, K> {
        Pipeline { way: self.way, judge, within: self.within, watcher: self.watcher }
    }

    /// The same, and each call may take so long, waiting included. It ends with the operation: of a client
    /// that answers when the head has come, such as reqwest's, the body is read outside of it, as it is of
    /// [`per_attempt`](Config::per_attempt), unless the operation reads it.
    #[must_use]
    pub fn within(self, span: Span) -> Pipeline<W, J> {
        Pipeline { within: Some(span), ..self }
    }

    /// The same, telling `watcher` what changes in the gate, the upstream and its hosts, and who is
    /// refused.
    #[must_use]
    pub fn observed(self, watcher: Watcher) -> Pipeline<W, J> {
        Pipeline { watcher: Some(watcher), ..self }
    }

    /// Tells that a call has ended, and perhaps that it was refused.
    fn tell<T, E>(&self, result: &Result<T, CallError<E>>, sources: impl FnOnce(&Watcher)) {
        let Some(watcher) = &self.watcher else { return };
        if let Err(CallError::Rejected(rejection)) = result {
            watcher.refused(rejection);
        }
        sources(watcher);
    }

    /// Waits for the operation until the deadline, and reports how it went.
    async fn once<T, E>(
        &self,
        deadline: Time,
        operation: impl Future<Output = Result<T, E>>,
        report: impl FnOnce(Outcome),
    ) -> Result<T, CallError<E>>
    where
        J: Judge<T, E>,
    {
        let Some(result) = by(deadline, operation).await else {
            report(Outcome::TimedOut);
            return Err(CallError::TimedOut { stop: Stop::Deadline });
        };
        report(self.judge.judge(&result, Repeat::Final).outcome);
        result.map_err(|error| CallError::Failed { error, stop: None })
    }

    /// The request, to be answered within what a call may take.
    fn bounded(&self, request: Request) -> Request {
        let most = self.within.map_or(Time::MAX, |span| now() + span);
        Request { deadline: request.deadline.min(most), ..request }
    }
}

impl<J> Pipeline<Once, J> {
    /// The gate: for a snapshot, an override by hand, or another config.
    pub fn gate(&self) -> &Arc<Gate<Threads>> {
        &self.way.0
    }

    /// Runs `operation`, if the gate lets it pass.
    pub async fn call<F, A, T, E>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> A,
        A: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
    {
        self.call_for(anybody(), operation).await
    }

    /// The same for a request whose user, cost, tier or deadline is known. At its deadline the
    /// operation is dropped.
    pub async fn call_for<F, A, T, E>(&self, request: Request, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> A,
        A: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
    {
        let result = self.run(self.bounded(request), operation).await;
        self.tell(&result, |watcher| watcher.gate(&self.way.0));
        result
    }

    async fn run<F, A, T, E>(&self, request: Request, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> A,
        A: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
    {
        let mut guard = enter(&self.way.0, request).await.map_err(CallError::Rejected)?;
        let report = |outcome| guard.settle_at(now(), outcome, Span::ZERO);
        self.once(request.deadline, operation(), report).await
    }
}

impl<J> Pipeline<ByKey, J> {
    /// The breakers: for a snapshot, an override by hand, or another config.
    pub fn breakers(&self) -> &Arc<Breakers> {
        &self.way.0
    }

    /// Runs `operation`, if the breaker of the request's user lets it pass. At the request's deadline the
    /// operation is dropped.
    pub async fn call_for<F, A, T, E>(&self, request: Request, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> A,
        A: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
    {
        let result = self.run(self.bounded(request), operation).await;
        self.tell(&result, |watcher| watcher.breakers(&self.way.0));
        result
    }

    async fn run<F, A, T, E>(&self, request: Request, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> A,
        A: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
    {
        let pass = self.way.0.enter(request.user).map_err(CallError::Rejected)?;
        self.once(request.deadline, operation(), |outcome| pass.report(outcome)).await
    }
}

/// What comes of it before the deadline.
async fn by<T>(deadline: Time, future: impl Future<Output = T>) -> Option<T> {
    if deadline == Time::MAX {
        Some(future.await)
    } else {
        tokio::time::timeout_at(instant(deadline), future).await.ok()
    }
}

impl<J> Pipeline<Attempts, J> {
    /// The same, asking `gate` before the call begins. If its limit is the upstream's, say so to the
    /// upstream, too: [`Upstream::behind`].
    #[must_use]
    pub fn behind(self, gate: Arc<Gate<Threads>>) -> Pipeline<Attempts, J> {
        Pipeline { way: Attempts { front: Some(gate), ..self.way }, ..self }
    }

    /// What the calls share.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.way.upstream
    }

    /// Calls; each attempt is a run of `operation`, which is told the host.
    pub async fn call<F, A, T, E>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut(Attempt) -> A,
        A: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
    {
        self.call_for(anybody(), operation).await
    }

    /// The same for a request whose user, cost, tier or deadline is known.
    pub async fn call_for<F, A, T, E>(&self, request: Request, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut(Attempt) -> A,
        A: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
    {
        let result = self.run(self.bounded(request), operation).await;
        let Attempts { front, upstream, .. } = &self.way;
        self.tell(&result, |watcher| {
            front.iter().for_each(|gate| watcher.gate(gate));
            watcher.upstream(upstream);
        });
        result
    }

    async fn run<F, A, T, E>(&self, request: Request, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut(Attempt) -> A,
        A: Future<Output = Result<T, E>>,
        J: Judge<T, E>,
    {
        let Attempts { front, upstream, config, repeat } = &self.way;
        let guard = match front {
            Some(gate) => Some(enter(gate, request).await.map_err(CallError::Rejected)?),
            None => None,
        };
        let exchange = Runs { operation, judge: &self.judge, repeat: *repeat };
        let ended = Drive::new(upstream.clone(), *config, request, *repeat, exchange).await;
        if let Some(guard) = guard {
            self.settle(guard, &ended);
        }
        match (ended.verdict, ended.answer) {
            (Verdict::Rejected(rejection), _) => Err(CallError::Rejected(rejection)),
            (_, Some(Ok(answer))) => Ok(answer),
            (Verdict::Answered { stop }, Some(Err(error))) => Err(CallError::Failed { error, stop }),
            (Verdict::Expired, Some(Err(error))) => {
                Err(CallError::Failed { error, stop: Some(Stop::Deadline) })
            }
            (Verdict::Answered { stop }, None) => {
                Err(CallError::TimedOut { stop: stop.unwrap_or(Stop::Deadline) })
            }
            (Verdict::Expired, None) => Err(CallError::TimedOut { stop: Stop::Deadline }),
        }
    }

    /// Tells the front gate how the call went.
    fn settle<T, E>(&self, mut guard: Guard, ended: &Ended<Result<T, E>>)
    where
        J: Judge<T, E>,
    {
        let outcome = match (&ended.verdict, &ended.answer) {
            // What was refused here says nothing about the upstream.
            (Verdict::Rejected(_), _) => Outcome::Ignored,
            (_, Some(answer)) => self.judge.judge(answer, self.way.repeat).outcome,
            (_, None) => Outcome::TimedOut,
        };
        if ended.hedges > 0 {
            guard.hedged();
        }
        guard.settle_at(now(), outcome, ended.waited);
    }
}
