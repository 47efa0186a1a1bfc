//! What a policy may know of a request.

use crate::rng::mix;
use crate::time::{Span, Time};

/// Who is asking, as a well-mixed 64-bit hash of the user's identity.
///
/// The driver hashes (with a random seed outside the lab), so that nobody can craft keys that
/// collide; core never sees the identity itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u64);

/// How much a request matters. When something must be dropped, the last goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Dropping it does visible harm to many: kept to the very end.
    CriticalPlus,
    /// Dropping it is seen by its user. The default.
    #[default]
    Critical,
    /// May be dropped and tried again minutes later.
    SheddablePlus,
    /// May be dropped without a word.
    Sheddable,
}

impl Tier {
    /// Every tier, most important first.
    pub const ALL: [Tier; 4] = [Tier::CriticalPlus, Tier::Critical, Tier::SheddablePlus, Tier::Sheddable];

    /// The tier's name in config files, headers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::CriticalPlus => "critical_plus",
            Tier::Critical => "critical",
            Tier::SheddablePlus => "sheddable_plus",
            Tier::Sheddable => "sheddable",
        }
    }

    /// The tier of this name.
    pub fn from_name(name: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

/// Where a user stands among equals for an hour: who is shed first when not all can be served.
///
/// A request that needs several calls is worth something only if all of them are let through.
/// Where each call is shed by a coin of its own, `p` becomes `p^x` over `x` calls; where the same
/// users are shed everywhere, those who are let through are served whole. So every service of a
/// call graph must derive the same cohort: from the *same* hash of the user's identity (not the
/// randomly seeded [`Key`] of one process) and from the same clock, or the cohort travels with the
/// request. It changes by the hour, so that it is not always the same users who are shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cohort(pub u16);

impl Cohort {
    /// How long a user stays in a cohort.
    pub const LIFE: Span = Span::from_secs(3_600);

    /// The cohort of this identity at this time.
    ///
    /// ```
    /// use seawall_core::request::{Cohort, Key};
    /// use seawall_core::time::{Span, Time};
    ///
    /// let (user, noon) = (Key(7), Time::ZERO + Span::from_secs(12 * 3_600));
    /// assert_eq!(Cohort::of(user, noon), Cohort::of(user, noon + Span::from_secs(3_599)));
    /// assert_ne!(Cohort::of(user, noon), Cohort::of(user, noon + Span::from_secs(3_600)));
    /// ```
    pub const fn of(identity: Key, at: Time) -> Cohort {
        Hour::of(at).cohort(identity)
    }
}

/// A time in which users stay in their cohorts, mixed once for all of them.
#[derive(Clone, Debug)]
pub(crate) struct Hour {
    begins: u64,
    mixed: u64,
}

impl Hour {
    pub(crate) const fn of(at: Time) -> Hour {
        let number = at.as_nanos() / Cohort::LIFE.as_nanos();
        Hour { begins: number * Cohort::LIFE.as_nanos(), mixed: mix(number) }
    }

    const fn is_at(&self, at: Time) -> bool {
        at.as_nanos().wrapping_sub(self.begins) < Cohort::LIFE.as_nanos()
    }

    const fn cohort(&self, identity: Key) -> Cohort {
        Cohort((mix(identity.0 ^ self.mixed) >> 48) as u16)
    }
}

/// What kind of traffic a request belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Work for users.
    #[default]
    User,
    /// A health check or the like. It is never throttled, shed or limited: whoever stops answering
    /// those under load is restarted, and the load goes on. Say so only of what users cannot send
    /// (by listener, peer address or a path that is not routed), since nothing bounds it.
    Probe,
}

/// One request, as the policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Whose quota it spends.
    pub user: Key,
    /// How many tokens it costs; at least 1 is counted.
    pub cost: u32,
    /// Which plan its user has, by its number in each throttle; default 0. A throttle without that
    /// plan uses its default.
    pub plan: u8,
    /// How much it matters.
    pub tier: Tier,
    /// When its answer stops being worth anything; `Time::MAX` for never.
    pub deadline: Time,
    /// Who is shed first among those of one tier. `None` derives it from `user` and the hour of
    /// `now`, which is the same for a user within one process only.
    pub cohort: Option<Cohort>,
    /// Whether it is a probe.
    pub traffic: Traffic,
}

impl Request {
    /// A request of this user with cost 1, the default tier, a derived cohort and no deadline.
    pub fn new(user: Key) -> Request {
        Request {
            user,
            cost: 1,
            plan: 0,
            tier: Tier::default(),
            deadline: Time::MAX,
            cohort: None,
            traffic: Traffic::User,
        }
    }

    /// The cohort that the driver gave it, or the one of its user in this hour.
    pub const fn cohort(&self, now: Time) -> Cohort {
        match self.cohort {
            Some(cohort) => cohort,
            None => Cohort::of(self.user, now),
        }
    }

    /// The same; `hour` is that of who asked last.
    #[inline]
    pub(crate) fn cohort_in(&self, now: Time, hour: &mut Hour) -> Cohort {
        self.cohort.unwrap_or_else(|| {
            if !hour.is_at(now) {
                *hour = Hour::of(now);
            }
            hour.cohort(self.user)
        })
    }
}
