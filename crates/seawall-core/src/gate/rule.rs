//! A throttle as a part of a gate: all its shards, under one ownership.

use super::{ONE, Own, Ownership, Refused};
use crate::decision::{Policy, Reason, Rejection, Standing};
use crate::enforcement::Enforcement;
use crate::request::Request;
use crate::throttle::{self, Look, Offer, Purse, Refund, Shape, Slot, Throttle};
use crate::time::{Span, Time};

/// A throttle, whole: its shards under one ownership.
///
/// It is a part of a [`Gate`](super::Gate), or stands alone as a keyed limit on rates.
///
/// ```
/// use seawall_core::gate::{Alone, Rule};
/// use seawall_core::measure::bucket::{Quota, Rate};
/// use seawall_core::request::{Key, Request};
/// use seawall_core::throttle::Config;
/// use seawall_core::time::{Span, Time};
///
/// let quota = Quota::new(Rate::per_second(10), 2)?;
/// let rule: Rule<Alone<()>> = Rule::new(Config::per_user(quota), Time::ZERO);
/// let request = Request::new(Key(7));
/// assert_eq!(rule.take(Time::ZERO, &request), Ok(()));
/// assert_eq!(rule.standing(Time::ZERO, &request).map(|standing| standing.remaining), Ok(0));
/// assert_eq!(rule.take(Time::ZERO, &request), Ok(()));
/// let refusal = rule.take(Time::ZERO, &request).unwrap_err();
/// assert_eq!(refusal.retry_after, Span::from_millis(100));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub struct Rule<F: Ownership> {
    pub(super) config: throttle::Config,
    pub(super) shards: F::Of<Throttle>,
    /// How many wait for tokens. Reached from within a shard, never the other way round.
    line: F::Of<u32>,
}

/// Why what lies behind a rule was not asked.
pub(super) enum Unmet {
    /// There are no tokens.
    Refused(Rejection),
    /// They are taken, and will be there at that time.
    Late(Slot, Purse),
    /// The table is full: ask the overflow bucket.
    Overflow,
}

impl<F: Ownership> Rule<F> {
    /// Full buckets for everybody.
    pub fn new(config: throttle::Config, now: Time) -> Rule<F> {
        let shards = (0..config.shards()).map(|_| Throttle::new(config, now)).collect();
        Rule { config, shards: F::Of::own(shards), line: F::Of::own(alloc::vec![0]) }
    }

    /// Whether its users can go on under this config: whose quota it is and how large their table is stays. The one
    /// bucket of a route, or of the gateway, has no table.
    pub fn fits(&self, config: &throttle::Config) -> bool {
        let table = |config: &throttle::Config| (config.per, config.shards(), config.shard_users());
        table(config) == table(&self.config)
    }

    /// Another rate, burst or choice for the same users. Returns `None` when it does not [fit](Rule::fits), which takes
    /// a new rule.
    pub fn configured(&self, config: throttle::Config, now: Time) -> Option<()> {
        if !self.fits(&config) {
            return None;
        }
        self.shards.each(|shard| shard.configure(config, now));
        Some(())
    }

    /// Takes what the request costs, or takes nothing and says why and until when. Never waits.
    #[inline]
    pub fn take(&self, now: Time, request: &Request) -> Result<(), Rejection> {
        let keyed = self.keyed_otherwise(request);
        let request = keyed.as_ref().unwrap_or(request);
        let take = |_: &Offer<'_>| Ok(());
        let mut look = self.shards.with(request.user, |shard| shard.admit_if(now, request, take));
        if let Look::Overflow = look {
            look = self.shards.with(ONE, |shard| shard.overflow_if(now, request, take));
        }
        ended(look)
    }

    /// How the user of this request stands if it is let in, or why it would not be. Takes nothing, and
    /// counts nothing.
    pub fn standing(&self, now: Time, request: &Request) -> Result<Standing, Rejection> {
        let request = &self.keyed(request);
        let look = |offer: &Offer<'_>| Err(offer.grant().standing);
        let own = |shard: &mut Throttle| shard.uncounted(|shard| shard.admit_if(now, request, look));
        let overflow = |shard: &mut Throttle| shard.uncounted(|shard| shard.overflow_if(now, request, look));
        let mut look = self.shards.with(request.user, own);
        if let Look::Overflow = look {
            look = self.shards.with(ONE, overflow);
        }
        ended(look)
    }

    /// Counters and sizes over all shards.
    pub fn snapshot(&self) -> throttle::Snapshot {
        let mut sum = throttle::Snapshot::default();
        self.shards.each(|shard| sum = sum.plus(shard.snapshot()));
        sum.waiting = u64::from(self.line.with(ONE, |line| *line));
        sum
    }

    /// Looks for tokens, lets `rest` ask all that lies behind, and takes them if that agrees. Who
    /// lacks them lines up where that is enforced.
    #[inline]
    pub(super) fn ask(
        &self,
        now: Time,
        request: &Request,
        enforcement: Enforcement,
        mut rest: impl FnMut(&Offer<'_>, Purse) -> Result<(), Refused>,
    ) -> Result<(), Unmet> {
        let keyed = self.keyed_otherwise(request);
        let request = keyed.as_ref().unwrap_or(request);
        let mut rest = |offer: &Offer<'_>, purse| rest(offer, purse).map_err(|Refused| ());
        let met = self.shards.with(request.user, |shard| {
            let look = shard.admit_if(now, request, |offer| rest(offer, Purse::Own));
            self.met(shard, now, request, Purse::Own, enforcement, look)
        });
        match met {
            Err(Unmet::Overflow) => self.shards.with(ONE, |shard| {
                let look = shard.overflow_if(now, request, |offer| rest(offer, Purse::Overflow));
                self.met(shard, now, request, Purse::Overflow, enforcement, look)
            }),
            met => met,
        }
    }

    /// What a look came to.
    #[inline]
    fn met(
        &self,
        shard: &mut Throttle,
        now: Time,
        request: &Request,
        purse: Purse,
        enforcement: Enforcement,
        look: Look<()>,
    ) -> Result<(), Unmet> {
        let refusal = match look {
            Look::Taken(()) | Look::Untaken(()) => return Ok(()),
            Look::Overflow => return Err(Unmet::Overflow),
            Look::Refused(refusal) => refusal,
        };
        let late = match (enforcement, shard.config().shape) {
            (Enforcement::Enforced, Some(shape)) => self.line_up(shard, shape, now, request, purse, refusal),
            _ => None,
        };
        Err(match late {
            Some(Ok(slot)) => Unmet::Late(slot, purse),
            Some(Err(rejection)) => Unmet::Refused(rejection),
            None => Unmet::Refused(refusal),
        })
    }

    /// A slot for who was refused, or another refusal; `None` leaves it as it was.
    fn line_up(
        &self,
        shard: &mut Throttle,
        shape: Shape,
        now: Time,
        request: &Request,
        purse: Purse,
        refusal: Rejection,
    ) -> Option<Result<Slot, Rejection>> {
        let wait = refusal.retry_after;
        // Without a standing, it was refused for want of a place in the table.
        if wait == Span::MAX || refusal.standing.is_none() {
            return None;
        }
        if wait > shape.wait {
            return Some(Err(Rejection { retry_after: wait.minus(shape.wait), ..refusal }));
        }
        if request.deadline <= now + wait {
            let expired = Rejection::new(Policy::Throttle, Reason::Expired, wait);
            return Some(Err(Rejection { standing: refusal.standing, ..expired }));
        }
        let joined = self.line.with(ONE, |line| {
            let has_room = *line < shape.line;
            *line += u32::from(has_room);
            has_room
        });
        if !joined {
            return None;
        }
        let slot = shard.line_up(now, request, purse);
        if slot.is_none() {
            self.leave_line();
        }
        slot.map(Ok)
    }

    /// One who waited has its tokens, or has gone.
    pub(super) fn leave_line(&self) {
        self.line.with(ONE, |line| *line = line.saturating_sub(1));
    }

    pub(super) fn give_back(&self, now: Time, request: &Request, purse: Purse, refund: Refund) {
        let request = self.keyed(request);
        let key = if purse == Purse::Own { request.user } else { ONE };
        self.shards.with(key, |shard| shard.give_back(now, &request, purse, refund));
    }

    /// The request with the key of the bucket that it takes from, unless that is its own: there is no need for a copy.
    #[inline]
    fn keyed_otherwise(&self, request: &Request) -> Option<Request> {
        (self.config.key(request.user) != request.user).then(|| self.keyed(request))
    }

    /// The request, with the key of the bucket that it takes from.
    fn keyed(&self, request: &Request) -> Request {
        Request { user: self.config.key(request.user), ..*request }
    }
}

/// What a look came to, at the last bucket that was asked.
#[inline]
fn ended<T>(look: Look<T>) -> Result<T, Rejection> {
    match look {
        Look::Taken(value) | Look::Untaken(value) => Ok(value),
        Look::Refused(rejection) => Err(rejection),
        Look::Overflow => unreachable!("the overflow bucket takes everybody"),
    }
}
