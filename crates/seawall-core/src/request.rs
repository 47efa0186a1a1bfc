//! What a policy may know of a request.

use crate::time::Time;

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
}

impl Request {
    /// A request of this user with cost 1, the default tier and no deadline.
    pub fn new(user: Key) -> Request {
        Request { user, cost: 1, plan: 0, tier: Tier::default(), deadline: Time::MAX }
    }
}
