//! Lint: settings that are each valid, and wrong together.
//!
//! **Prevents** protection that exists on paper only: the third attempt that the deadline never lets
//! begin, the breaker that cannot trip, the queue that answers everybody too late.
//!
//! **Mechanics.** A [`Composition`] describes one route and its upstream in plain numbers. [`check`]
//! compares them and returns [`Finding`]s: what happens, with the numbers, and what to change. Each
//! rule has a stable name ([`Rule::code`]), so that it can be looked up and waived.
//!
//! **Edges.** What is not given is not judged: rules on rates need a `rate`, rules on capacity a
//! [`Model`]. A finding of [`Severity::Error`] defeats a policy or makes an outage worse; a
//! [`Severity::Warning`] costs something under some load; [`Severity::Advice`] is worth knowing. The rules on queues and amplification follow from Little's law and from
//! M/M/1/K with a deadline: a queue of K ≤ ½·μ·T keeps the goodput, a longer one loses it.
//!
//! ```
//! use seawall_core::lint::{Composition, Retry, Wait, check};
//! use seawall_core::time::Span;
//!
//! let mut route = Composition { deadline: Some(Span::from_secs(2)), ..Composition::default() };
//! let wait = Wait { least: Span::ZERO, most: Span::from_millis(50) };
//! let per_attempt = Some(Span::from_millis(1_200));
//! route.retry = Some(Retry { attempts: 3, per_attempt, waits: vec![wait; 2] });
//! route.budget_ppm = Some(100_000);
//! let findings = check(&route);
//! assert_eq!(findings[0].rule.code(), "attempts-past-deadline");
//! assert!(findings[0].change.contains("per_attempt"));
//! ```

mod breaker;
mod calls;
mod load;

use alloc::string::String;
use alloc::vec::Vec;

use crate::time::Span;
use crate::{call, fallback, limit, shed};

/// Parts per million in a whole.
const WHOLE: u32 = 1_000_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Advice,
    /// It costs something under some load.
    Warning,
    /// A policy is defeated, or makes an outage worse.
    Error,
}

impl Severity {
    /// Its name on screens and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Advice => "advice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// Declares the rules once: variant, code and the setting that it is mainly about.
macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $key:literal;)*) => {
        /// What can be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$name),*];

            /// Its stable name.
            pub const fn code(self) -> &'static str {
                match self { $(Rule::$name => $code,)* }
            }

            /// The setting that it is mainly about.
            pub const fn key(self) -> &'static str {
                match self { $(Rule::$name => $key,)* }
            }
        }
    };
}

rules! {
    /// Nothing ever gives up.
    DeadlineMissing = "deadline-missing", "deadline";
    /// A drain cuts off answers that the deadline lets come.
    DeadlinePastGrace = "deadline-past-grace", "drain.grace";
    /// The deadline passes before an ordinary answer can come.
    DeadlineBelowService = "deadline-below-service", "deadline";
    /// An attempt is given up before an ordinary answer can come.
    TimeoutBelowService = "timeout-below-service", "retry.per_attempt";
    /// An attempt is given up when it begins.
    TimeoutZero = "timeout-zero", "retry.per_attempt";
    /// No call, or more than it may make.
    AttemptsOutOfRange = "attempts-out-of-range", "retry.attempts";
    /// Attempts that the deadline never lets begin.
    AttemptsPastDeadline = "attempts-past-deadline", "retry.attempts";
    /// The first wait is as long as the deadline.
    BackoffPastDeadline = "backoff-past-deadline", "retry.backoff";
    /// Waits longer than it tries.
    BackoffAboveTimeout = "backoff-above-timeout", "retry.backoff";
    /// Retries that nothing bounds.
    RetryWithoutBudget = "retry-without-budget", "budget";
    /// Retries that are never paid for.
    BudgetZero = "budget-zero", "budget";
    /// A floor that pays for retries in an outage.
    BudgetFloor = "budget-floor", "budget";
    /// Several layers retry.
    RetryLayers = "retry-layers", "retry";
    /// The hedge comes after the deadline.
    HedgePastDeadline = "hedge-past-deadline", "hedge";
    /// The hedge comes after its attempt was given up.
    HedgePastTimeout = "hedge-past-timeout", "hedge";
    /// Hedges that nothing bounds.
    HedgeWithoutBudget = "hedge-without-budget", "budget";
    /// The hedge goes where the call went.
    HedgeAlone = "hedge-alone", "hedge";
    /// Most calls are hedged.
    HedgeTooEarly = "hedge-too-early", "hedge";
    /// It needs more calls than its window holds.
    BreakerMinCallsAboveWindow = "breaker-min-calls-above-window", "breaker.min_calls";
    /// It needs more calls than arrive in its window.
    BreakerTooFewCalls = "breaker-too-few-calls", "breaker.min_calls";
    /// One success keeps it closed.
    BreakerTotalFailure = "breaker-total-failure", "breaker.failure_rate";
    /// One failure opens it.
    BreakerSingleFailure = "breaker-single-failure", "breaker.failure_rate";
    /// A call that slow has timed out before.
    BreakerSlowNeverCounts = "breaker-slow-never-counts", "breaker.slow";
    /// Probes meet the work from before the trip.
    BreakerOpenBelowTimeout = "breaker-open-below-timeout", "breaker.open";
    /// More probes than configured.
    BreakerLeaseBelowTimeout = "breaker-lease-below-timeout", "breaker.lease";
    /// A blip costs traffic for long.
    RampOutlastsOpen = "ramp-outlasts-open", "ramp";
    /// Each step is taken before the last was seen.
    RampTooQuick = "ramp-too-quick", "ramp";
    /// The queue answers too late.
    QueuePastDeadline = "queue-past-deadline", "limit.queue";
    /// The limit lets a queue stand inside the upstream.
    LimitPastDeadline = "limit-past-deadline", "limit.max";
    /// Workers stay idle.
    LimitBelowWorkers = "limit-below-workers", "limit.max";
    /// The known load does not fit.
    LimitBelowLoad = "limit-below-load", "limit.max";
    /// Shedding begins when it is too late.
    ShedPastDeadline = "shed-past-deadline", "shed.queue_delay";
    /// There is nothing to shed by.
    ShedWithoutQueue = "shed-without-queue", "shed";
    /// One user's burst does not fit.
    BurstAboveLimit = "burst-above-limit", "throttle.burst";
    /// A request that can never pass.
    BurstBelowCost = "burst-below-cost", "throttle.burst";
    /// Another quota is always spent first.
    QuotaNeverBinds = "quota-never-binds", "throttle";
    /// Old answers are used for ever.
    StaleUnbounded = "stale-unbounded", "fallback.stale";
    /// The cheaper handler is the one that failed.
    FallbackToItself = "fallback-to-itself", "fallback.upstream";
    /// Everything only watches.
    ShadowEverything = "shadow-everything", "shadow";
}

/// A combination that does not do what its settings say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// How bad it is.
    pub severity: Severity,
    /// What happens.
    pub happens: String,
    /// What to change.
    pub change: String,
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} [{}]: {}; {}", self.severity.name(), self.rule.code(), self.happens, self.change)
    }
}

/// The wait before a retry, by its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// The shortest.
    pub least: Span,
    /// The longest.
    pub most: Span,
}

impl Wait {
    /// In the middle.
    fn mean(self) -> Span {
        Span::from_nanos(self.least.as_nanos() / 2 + self.most.as_nanos() / 2)
    }
}

/// The attempts of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// Attempts, the first included.
    pub attempts: u32,
    /// The longest that one may take.
    pub per_attempt: Option<Span>,
    /// The wait before each retry, in order; what is missing counts as none.
    pub waits: Vec<Wait>,
}

impl Retry {
    /// The attempts of this config.
    pub fn of(config: &call::Config) -> Retry {
        let wait = |retry| {
            let (least, most) = config.backoff.bounds(retry);
            Wait { least, most }
        };
        let waits = (0..config.attempts.saturating_sub(1)).map(wait).collect();
        Retry { attempts: config.attempts, per_attempt: config.per_attempt, waits }
    }

    /// The longest that one may take, where it may take any time at all.
    fn timeout(&self) -> Option<Span> {
        self.per_attempt.filter(|timeout| *timeout > Span::ZERO)
    }
}

/// What a breaker goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// The share of failures that opens it, in parts per million.
    pub failure_rate_ppm: u32,
    /// The failures in a row that open it whatever their share; `None` when none do.
    pub consecutive: Option<u32>,
    /// The calls that its window holds; `None` for a window by time.
    pub window_calls: Option<u32>,
    /// The time that its window holds; `None` for a window by count.
    pub window: Option<Span>,
    /// Calls below which it never opens.
    pub min_calls: u32,
    /// The time from which a call counts as slow.
    pub slow: Option<Span>,
    /// How long it refuses.
    pub open: Span,
    /// How long a probe may take.
    pub lease: Span,
}

/// Whose quota it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each user has one on this route.
    User,
    /// All requests of this route share one.
    Route,
    /// Each user has one over all routes.
    Everywhere,
    /// All requests of all routes share one.
    Gateway,
}

impl Scope {
    /// Whether whatever spends a quota of `other` spends this one, too.
    pub(super) fn covers(self, other: Scope) -> bool {
        self == other || self == Scope::Gateway || other == Scope::User
    }

    /// Whether other routes spend it, too.
    pub(super) const fn is_shared(self) -> bool {
        matches!(self, Scope::Everywhere | Scope::Gateway)
    }
}

/// A quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Whose it is.
    pub scope: Scope,
    /// Tokens in each period.
    pub count: u64,
    /// The period.
    pub per: Span,
    /// The capacity.
    pub burst: u64,
}

impl Quota {
    fn per_second(&self) -> f64 {
        self.count as f64 / self.per.as_secs_f64()
    }
}

/// A limit on concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// This many in flight.
    Fixed(u32),
    /// As many as the upstream can take, at most this many.
    Adaptive(u32),
}

impl Ceiling {
    const fn max(self) -> u32 {
        match self {
            Ceiling::Fixed(max) | Ceiling::Adaptive(max) => max,
        }
    }
}

/// What the upstream is like: all its hosts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Requests that it works on at a time.
    pub workers: u32,
    /// The mean time for one.
    pub service: Span,
}

impl Model {
    /// Requests each second.
    fn capacity(&self) -> f64 {
        f64::from(self.workers) / self.service.as_secs_f64()
    }
}

/// A step of the fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// A kept answer, this long after its freshness ended; `None` for as long as it is kept.
    Stale(Option<Span>),
    /// Another upstream.
    Upstream,
    /// The upstream that has just failed.
    SameUpstream,
    /// A fixed answer.
    Static,
}

/// The policies of a route that refuse, and those of them that only watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// How many there are.
    pub configured: u32,
    /// How many of them decide and count, but let through.
    pub shadowed: u32,
}

/// One route and its upstream, in plain numbers. By default there is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composition {
    /// The time until a response must begin.
    pub deadline: Option<Span>,
    /// The time that whatever is under way has when the process is to end; `None` for as long as it takes.
    pub grace: Option<Span>,
    /// The attempts of a call; `None` when it has one.
    pub retry: Option<Retry>,
    /// What successes pay for retries and hedges, in parts per million of a retry; `None` for no budget.
    pub budget_ppm: Option<u32>,
    /// Retries each second that an empty budget pays for, for each client, in parts per million.
    pub budget_floor_ppm: u64,
    /// The layers that retry on the way to the leaf, this one included; 0 and 1 are the same.
    pub retrying_layers: u32,
    /// After how long a call is hedged; `None` for no hedge, or one at a live percentile.
    pub hedge: Option<Hedge>,
    /// The breaker of each host.
    pub breaker: Option<Breaker>,
    /// The time in which traffic comes back; zero for at once.
    pub ramp: Span,
    /// The limit on concurrency, the tightest of route and upstream.
    pub limit: Option<Ceiling>,
    /// How many may wait for a place.
    pub queue: u32,
    /// The queue delay from which is shed; `None` for no shedding, or shedding in shadow.
    pub shed: Option<Span>,
    /// How many readings, such as that of the CPU, make it shed, too.
    pub shed_guards: u32,
    /// The quotas, in order.
    pub throttles: Vec<Quota>,
    /// What the most expensive request costs; 0 counts as 1.
    pub cost: u64,
    /// The steps of the fallback.
    pub fallback: Vec<Fallback>,
    /// What only watches.
    pub guards: Guards,
    /// Requests each second, when known.
    pub rate: Option<f64>,
    /// How many hosts share them; 0 for not known, which counts as 1.
    pub hosts: u32,
    /// What the upstream is like, when known.
    pub model: Option<Model>,
}

/// When a call is hedged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    /// After this long.
    After(Span),
    /// At a live percentile.
    Percentile,
}

impl Composition {
    /// Takes over the attempts of a call.
    pub fn retry(&mut self, config: &call::Config) -> &mut Composition {
        self.retry = Some(Retry::of(config));
        self
    }

    /// Takes over the upstream's limit and its queue; what is tighter already stays.
    pub fn limit(&mut self, config: &limit::Config) -> &mut Composition {
        let ceiling = match config.ceiling {
            limit::Ceiling::Fixed(max) => Ceiling::Fixed(max),
            learned => Ceiling::Adaptive(learned.max()),
        };
        self.limit = Some(self.limit.filter(|tighter| tighter.max() <= ceiling.max()).unwrap_or(ceiling));
        self.queue = config.queue;
        self
    }

    /// Takes over the route's own bounds under that limit.
    pub fn lane(&mut self, lane: &limit::Lane) -> &mut Composition {
        if lane.max < self.limit.map_or(u32::MAX, Ceiling::max) {
            self.limit = Some(Ceiling::Fixed(lane.max));
        }
        self.queue = self.queue.min(lane.queue);
        self
    }

    /// Takes over the route's shedding.
    pub fn shed(&mut self, config: &shed::Config) -> &mut Composition {
        self.shed = Some(config.target);
        self.shed_guards = config.guards.count();
        self
    }

    /// Takes over the steps of a fallback.
    pub fn fallback(&mut self, chain: &fallback::Chain) -> &mut Composition {
        let step = |step: &fallback::Step| match step {
            fallback::Step::Stale(window) => {
                Fallback::Stale(Some(*window).filter(|window| *window < Span::MAX))
            }
            fallback::Step::Upstream(_) => Fallback::Upstream,
            fallback::Step::Static(_) => Fallback::Static,
        };
        self.fallback = chain.steps().iter().map(step).collect();
        self
    }

    /// The longest that one attempt may take.
    fn timeout(&self) -> Option<Span> {
        let per_attempt = self.retry.as_ref().and_then(Retry::timeout);
        per_attempt.into_iter().chain(self.deadline).min()
    }
}

/// Everything that is wrong with this composition, the worst first.
pub fn check(composition: &Composition) -> Vec<Finding> {
    let mut findings = Vec::new();
    calls::check(composition, &mut findings);
    breaker::check(composition, &mut findings);
    load::check(composition, &mut findings);
    findings.sort_by_key(|finding| core::cmp::Reverse(finding.severity));
    findings
}

/// A share in parts per million, as a percentage.
struct Percent(u32);

impl core::fmt::Display for Percent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

/// A number as people write it: three significant digits at most after the point.
struct Number(f64);

impl core::fmt::Display for Number {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", libm::round(self.0 * 1_000.0) / 1_000.0)
    }
}

#[cfg(test)]
mod tests;
