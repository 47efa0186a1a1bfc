//! The override by hand of one host.

use super::{Hosts, ONE, Own, Ownership};
use crate::rng::Rng;
use crate::time::Time;

/// How a host is held by hand, whatever ejection and checks know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Out of the rotation: no call goes there, not even when all others are out.
    Out,
    /// In the rotation: it is neither ejected nor left out for being unwell. Its back gate still decides.
    In,
}

impl Forced {
    /// Its name in events and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Forced::Out => "forced_out",
            Forced::In => "forced_in",
        }
    }
}

impl<F: Ownership> Hosts<F> {
    /// Holds a host, by its place among the hosts, out of the rotation or in it, until [`Hosts::reset`].
    /// One that was out and is held in comes back by its ramp. Calls under way end as they would.
    /// `None` when the host is no longer listed, and for a lone one that nobody probes: that
    /// one is called without being asked for.
    ///
    /// ```
    /// use seawall_core::call::{Hosts, HostForced};
    /// use seawall_core::gate::{self, Alone, Gate, Lane};
    /// use seawall_core::request::{Key, Request};
    /// use seawall_core::rng::Rng;
    /// use seawall_core::time::{Span, Time};
    /// # use std::sync::Arc;
    ///
    /// let now = Time::ZERO;
    /// # #[allow(clippy::arc_with_non_send_sync)]
    /// let gate = || Arc::new(Gate::new(gate::Settings::default(), Lane::default(), now));
    /// let hosts: Hosts<Alone<u64>> = Hosts::new(vec![gate(), gate()]);
    /// let mut rng = Rng::new(42, 1);
    /// hosts.force(now, 0, HostForced::Out, &mut rng).unwrap(); // To be repaired.
    /// for _ in 0..10 {
    ///     let (host, ticket) = hosts.pick(now, &Request::new(Key(7)), None, &mut rng).unwrap();
    ///     assert_eq!(host, 1);
    ///     hosts.release(now, host, ticket);
    /// }
    /// hosts.reset(now, 0, &mut rng).unwrap();
    /// assert_eq!(hosts.snapshot(now).usable, 2);
    /// ```
    pub fn force(&self, now: Time, host: usize, how: Forced, rng: &mut Rng) -> Option<()> {
        self.hold(now, host, Some(how), rng)
    }

    /// Ends the override of a host, if there is one: ejection begins anew with it, checks decide again, and
    /// from being held out it comes back by its ramp. `None` as for [`Hosts::force`].
    pub fn reset(&self, now: Time, host: usize, rng: &mut Rng) -> Option<()> {
        self.hold(now, host, None, rng)
    }

    fn hold(&self, now: Time, host: usize, how: Option<Forced>, rng: &mut Rng) -> Option<()> {
        let seat = self.seats.get(host).filter(|_| !self.alone)?;
        self.pool.with(ONE, |pool| pool.force(now, seat, how, rng))
    }
}
