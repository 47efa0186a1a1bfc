//! The override by hand of a gate's breaker. The other policies have [`Gate::switch`] and
//! [`Gate::block`].

use super::{Gate, Ownership, Shared};
use crate::breaker::{Forced, Mode};
use crate::time::Time;

impl<F: Ownership> Gate<F> {
    /// Overrides the breaker, in whatever state it is, until [`Gate::reset_breaker`]. Where calls were
    /// refused and now pass they come back by the ramp. `None` without a breaker.
    ///
    /// ```
    /// use seawall_core::breaker::{Config, Forced, Settings};
    /// use seawall_core::gate::{self, Admit, Alone, Gate, Lane};
    /// use seawall_core::request::{Key, Request};
    /// use seawall_core::time::Time;
    ///
    /// let breaker = Some(Config::new(Settings::default())?);
    /// let settings = gate::Settings { breaker, ..gate::Settings::default() };
    /// let gate: Gate<Alone<()>> = Gate::new(settings, Lane::default(), Time::ZERO);
    /// gate.force_breaker(Time::ZERO, Forced::Open);
    /// assert!(matches!(gate.admit(Time::ZERO, &Request::new(Key(1))), Admit::Reject(_)));
    /// gate.reset_breaker(Time::ZERO);
    /// assert!(matches!(gate.admit(Time::ZERO, &Request::new(Key(1))), Admit::Ticket(_)));
    /// # Ok::<(), seawall_core::setting::SettingError>(())
    /// ```
    pub fn force_breaker(&self, now: Time, how: Forced) -> Option<()> {
        self.on(|shared| shared.override_breaker(now, Some(how)))
    }

    /// Closes the breaker and forgets what was, in whatever state it is; ends an override. `None`
    /// without a breaker.
    pub fn reset_breaker(&self, now: Time) -> Option<()> {
        self.on(|shared| shared.override_breaker(now, None))
    }
}

impl<W> Shared<W> {
    /// Forces the breaker, or resets it.
    fn override_breaker(&mut self, now: Time, how: Option<Forced>) -> Option<()> {
        let breaker = self.breaker.as_mut()?;
        let refused = |mode| matches!(mode, Mode::Open | Mode::HalfOpen | Mode::ForcedOpen);
        let before = refused(breaker.mode());
        match how {
            Some(how) => breaker.force(now, how, &mut self.events),
            None => breaker.reset(now, &mut self.events),
        }
        match (before, refused(breaker.mode())) {
            (true, false) => self.begin_ramp(now),
            (_, true) => self.ramp = None,
            (false, false) => {}
        }
        Some(())
    }
}
