//! The passage of one request through a gate, from door to door.

use super::ticket::{Line, Place, Ticket};
use crate::decision::{Rejection, Standing};
use crate::enforcement::{Enforcement, Policies, Stance};
use crate::request::Request;
use crate::throttle::{Grant, Purse};

/// What a request brings along on its way through the gate, and the ticket, which is filled in where it
/// stands: to hand every part back from door to door would cost more than the decisions do.
#[derive(Debug)]
pub(super) struct Passage<'a> {
    pub(super) ticket: &'a mut Ticket,
    /// How the policies are enforced.
    pub(super) stance: Stance,
    /// Those in shadow that would have refused it.
    pub(super) shadowed: Policies,
    /// Whether nothing behind the throttles is asked.
    pub(super) ends_at_throttles: bool,
    /// Where it waits, if it does.
    pub(super) line: Option<Line>,
    /// Why it may not go on, if that is so.
    pub(super) refusal: Option<Rejection>,
}

/// The passage ends here, with the refusal that was noted in it.
#[derive(Debug)]
pub(super) struct Refused;

impl<'a> Passage<'a> {
    #[inline]
    pub(super) fn new(ticket: &'a mut Ticket, stance: Stance) -> Passage<'a> {
        Passage {
            ticket,
            stance,
            shadowed: Policies::default(),
            ends_at_throttles: false,
            line: None,
            refusal: None,
        }
    }

    /// Notes a refusal, which ends the passage.
    #[inline]
    pub(super) fn refuse(&mut self, rejection: Rejection) -> Result<(), Refused> {
        self.refusal = Some(rejection);
        Err(Refused)
    }

    /// What a refusal by `rejection.policy` means: nothing but a count when that is in shadow.
    #[inline]
    pub(super) fn overrule(&mut self, rejection: Rejection) -> Result<(), Refused> {
        match self.stance.of(rejection.policy) {
            Enforcement::Enforced => self.refuse(rejection),
            Enforcement::Shadow | Enforcement::Off => {
                self.shadowed.add(rejection.policy);
                Ok(())
            }
        }
    }

    /// Notes what is taken from the throttle of this index, which all behind it agreed to. Those behind have
    /// noted theirs before: of quotas that are equally tight the first counts, and whoever waits for tokens stands
    /// as it will then.
    #[inline]
    pub(super) fn takes(&mut self, index: usize, Grant { standing, mark }: Grant, purse: Purse) {
        let standing = Standing { quota: index as u8, ..standing };
        let waits = matches!(self.line, Some(Line::Tokens { .. }));
        let is_tighter = |than: Standing| (standing.remaining, standing.quota) < (than.remaining, than.quota);
        if !waits && self.ticket.standing.is_none_or(is_tighter) {
            self.ticket.standing = Some(standing);
        }
        self.ticket.taken.note(index, purse, mark);
    }

    /// The place of a request that may wait; of one that may pass, the ticket is filled in.
    #[inline]
    pub(super) fn ends(self, request: &Request) -> Option<Place> {
        let line = self.line?;
        let Ticket { standing, entry, taken, .. } = *self.ticket;
        self.ticket.clear();
        Some(Place { line, request: *request, standing, entry, taken })
    }
}
