//! Plans: the few quotas among which a throttle's users are divided.

use alloc::boxed::Box;
use core::fmt;

use crate::measure::bucket::{Gauge, Level, Quota, Ticks, Unit};

/// The most plans of one throttle.
pub const PLANS_MAX: usize = 8;

/// Bits that a level leaves free for the number of its plan.
const PLAN_MASK: u64 = PLANS_MAX as u64 - 1;

/// One to [`PLANS_MAX`] quotas, numbered from 0, that can be counted in one unit.
///
/// A request says by number which plan its user has; a number that is not there means plan 0. All
/// plans live in one table with one cap. A user whose plan changes keeps the share of its bucket.
///
/// ```
/// use seawall_core::measure::bucket::{Quota, Rate};
/// use seawall_core::throttle::Plans;
///
/// let free = Quota::new(Rate::per_second(5), 10)?;
/// let paid = Quota::new(Rate::per_second(500), 1_000)?;
/// let plans = Plans::new(&[free, paid])?;
/// assert_eq!(plans.quota(1), &paid);
/// assert_eq!(plans.quota(7), &free);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plans {
    quotas: [Quota; PLANS_MAX],
    count: u8,
}

/// Why quotas cannot be the plans of one throttle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlansError {
    /// There are none, or more than [`PLANS_MAX`].
    Count(usize),
    /// The plan of this number has no unit in common with those before it that could be counted
    /// exactly: its rate or theirs must be a rounder number, or a burst smaller.
    NoUnit(usize),
}

impl fmt::Display for PlansError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlansError::Count(count) => write!(f, "there are {count} plans, not 1 to {PLANS_MAX}"),
            PlansError::NoUnit(plan) => {
                write!(
                    f,
                    "plan {plan} cannot be counted exactly together with those before it; use rounder rates"
                )
            }
        }
    }
}

impl core::error::Error for PlansError {}

impl From<Quota> for Plans {
    fn from(quota: Quota) -> Plans {
        Plans::one(quota)
    }
}

impl Plans {
    /// One quota for all.
    pub const fn one(quota: Quota) -> Plans {
        Plans { quotas: [quota; PLANS_MAX], count: 1 }
    }

    /// These quotas, the first of which is the default.
    pub fn new(quotas: &[Quota]) -> Result<Plans, PlansError> {
        let &[first, ..] = quotas else { return Err(PlansError::Count(0)) };
        if quotas.len() > PLANS_MAX {
            return Err(PlansError::Count(quotas.len()));
        }
        let mut plans = Plans::one(first);
        for (plan, quota) in quotas.iter().enumerate() {
            plans.quotas[plan] = *quota;
            plans.count = plan as u8 + 1;
            let unit = plans.common().ok_or(PlansError::NoUnit(plan))?;
            let fits = |quota: &Quota| quota.fits(unit);
            if !plans.quotas[..=plan].iter().all(fits) {
                return Err(PlansError::NoUnit(plan));
            }
        }
        Ok(plans)
    }

    /// The quota of this plan.
    pub const fn quota(&self, plan: u8) -> &Quota {
        &self.quotas[self.number(plan)]
    }

    /// All of them, the default first.
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas[..usize::from(self.count)]
    }

    /// Its number, or that of the default.
    const fn number(&self, plan: u8) -> usize {
        if plan < self.count { plan as usize } else { 0 }
    }

    fn common(&self) -> Option<Unit> {
        if self.count == 1 {
            return Some(Unit::of(&self.quotas[0]));
        }
        self.quotas()
            .iter()
            .try_fold(Unit::of(&self.quotas[0]), |unit, quota| unit.with(quota))?
            .times(PLAN_MASK + 1)
    }

    /// As a shard counts them.
    pub(super) fn gauges(&self) -> Gauges {
        let unit = self.common().expect("tried when the plans were made");
        let [first, others @ ..] = self.quotas.map(|quota| Gauge::new(&quota, unit));
        let others = Box::from(&others[..usize::from(self.count) - 1]);
        Gauges { unit, mask: if self.count == 1 { 0 } else { PLAN_MASK }, first, others }
    }
}

/// The plans in the unit that they have in common. With several plans a level is a multiple of
/// [`PLANS_MAX`], and the plan's number stands in the bits below.
#[derive(Clone, Debug)]
pub(super) struct Gauges {
    pub(super) unit: Unit,
    /// The bits of the plan's number.
    pub(super) mask: u64,
    /// That of the default plan, which most requests need: beside what else they need.
    first: Gauge,
    others: Box<[Gauge]>,
}

impl Gauges {
    /// The number of a plan, or that of the default.
    #[inline]
    pub(super) fn number(&self, plan: u8) -> u8 {
        if usize::from(plan) <= self.others.len() { plan } else { 0 }
    }

    /// Of this plan, or of the default.
    #[inline]
    pub(super) fn of(&self, plan: u8) -> &Gauge {
        if plan == 0 {
            return &self.first;
        }
        self.others.get(usize::from(plan) - 1).unwrap_or(&self.first)
    }

    /// A level with the number of its plan.
    pub(super) const fn noted(&self, level: Level, plan: u8) -> Level {
        Level(level.0 | plan as u64)
    }

    /// A noted level in other gauges, counted from `now`: the same share of the same plan, or of the
    /// default where that is gone.
    pub(super) fn rescaled(&self, noted: Level, now: Ticks, to: &Gauges) -> Level {
        let plan = (noted.0 & self.mask) as u8;
        let after = to.number(plan);
        let missing = self.of(plan).rescaled(Level(noted.0 & !self.mask), now, to.of(after));
        match missing.next_multiple_of(to.mask + 1) {
            0 => Level(0),
            missing => to.noted(Level(missing), after),
        }
    }
}
