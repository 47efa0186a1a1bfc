//! Check all, then take from all: random courses through one to three throttles and a limit.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::throttle::Shape;

#[derive(Clone, Debug)]
enum Op {
    Arrive { user: u64, cost: u32, tier: Tier, life: u64 },
    Claim(usize),
    Leave(usize),
    Release(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let tier = (0..4_usize).prop_map(|tier| Tier::ALL[tier]);
    prop_oneof![
        6 => (0..3_u64, 1..4_u32, tier, 0..60_u64)
            .prop_map(|(user, cost, tier, life)| Op::Arrive { user, cost, tier, life }),
        3 => any::<usize>().prop_map(Op::Claim),
        2 => any::<usize>().prop_map(Op::Leave),
        2 => any::<usize>().prop_map(Op::Release),
        2 => (0..20_u64).prop_map(Op::Pass),
    ]
}

/// A gate beside what each user must have left of each burst.
struct Ledger {
    door: Door,
    left: Vec<[u64; 3]>,
    now: Time,
    places: Vec<Place>,
    tickets: Vec<Ticket>,
}

impl Ledger {
    fn new(bursts: &[u64]) -> Ledger {
        let rules = bursts.iter().map(|burst| rule(hourly(*burst))).collect();
        let left = bursts.iter().map(|burst| [*burst; 3]).collect();
        let door = door(limited(2, 3)).throttled(rules);
        Ledger { door, left, now: at(0), places: Vec::new(), tickets: Vec::new() }
    }

    fn user(request: &Request) -> usize {
        (0..3).find(|user| of(*user).user == request.user).unwrap() as usize
    }

    fn arrive(&mut self, user: u64, request: &Request) {
        let cost = u64::from(request.cost);
        let short = self.left.iter().position(|left| left[user as usize] < cost);
        match self.door.admit(self.now, request) {
            Admit::Reject(rejection) => {
                let throttled = rejection.standing.map(|standing| usize::from(standing.quota));
                // A little of what flowed in while others waited may be lost with what they gave back.
                let soon = rejection.retry_after <= Span::from_secs(120);
                let expected = if short.is_none() && soon { throttled } else { short };
                assert_eq!(throttled, expected, "the first that lacks tokens refuses: {rejection:?}");
                return;
            }
            Admit::Ticket(ticket) => self.tickets.push(ticket),
            Admit::Wait(place) => self.places.push(place),
        }
        assert_eq!(short, None);
        self.left.iter_mut().for_each(|left| left[user as usize] -= cost);
    }

    fn give_back(&mut self, request: Request) {
        let user = Ledger::user(&request);
        self.left.iter_mut().for_each(|left| left[user] += u64::from(request.cost));
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Arrive { user, cost, tier, life } => {
                let deadline = self.now + ms(life);
                self.arrive(user, &Request { cost, tier, deadline, ..of(user) });
            }
            Op::Claim(index) if !self.places.is_empty() => {
                let place = self.places.swap_remove(index % self.places.len());
                let request = place.request;
                match self.door.claim(self.now, place, 0) {
                    Admit::Ticket(ticket) => self.tickets.push(ticket),
                    Admit::Wait(place) => self.places.push(place),
                    Admit::Reject(_) => self.give_back(request),
                }
            }
            Op::Leave(index) if !self.places.is_empty() => {
                let place = self.places.swap_remove(index % self.places.len());
                let request = place.request;
                self.door.leave(self.now, place);
                self.give_back(request);
            }
            Op::Release(index) if !self.tickets.is_empty() => {
                let ticket = self.tickets.swap_remove(index % self.tickets.len());
                self.door.release(self.now, ticket);
            }
            Op::Claim(_) | Op::Leave(_) | Op::Release(_) => {}
            Op::Pass(millis) => self.now += ms(millis),
        }
        for (rule, left) in self.door.rules().iter().zip(&self.left) {
            // What flowed in while others waited may be lost with what they give back: some
            // milliseconds of the hour in which a token comes.
            let soon = self.now + Span::from_secs(120);
            let held = [0, 1, 2].map(|user| tokens(rule, soon, user));
            assert_eq!(held, *left);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn whoever_is_not_served_has_taken_nothing_anywhere(
        bursts in prop::collection::vec(3..20_u64, 1..4),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut ledger = Ledger::new(&bursts);
        ops.iter().for_each(|op| ledger.step(op));
        while !ledger.places.is_empty() || !ledger.tickets.is_empty() {
            ledger.step(&Op::Leave(0));
            ledger.step(&Op::Release(0));
        }
        let limit = ledger.door.snapshot(ledger.now).limit.unwrap();
        prop_assert_eq!((limit.in_flight, limit.waiting), (0, 0));
    }
}

#[test]
fn who_is_served_by_what_is_kept_spends_all_quotas_or_none_and_no_place() {
    let (ten, one) = (rule(hourly(10)), rule(hourly(1)));
    let gate = door(limited(1, 0)).throttled(vec![ten.clone(), one.clone()]);
    let Admit::Ticket(_held) = gate.admit(at(0), &of(1)) else { panic!("it is free") };
    // Another user, for whom there is no place.
    assert_eq!(refused(gate.admit(at(0), &of(2))).policy, Policy::Limit);
    assert_eq!((tokens(&ten, at(0), 2), tokens(&one, at(0), 2)), (10, 1));
    let standing = gate.spend(at(0), &of(2)).unwrap().unwrap();
    assert_eq!((standing.quota, standing.remaining), (1, 0));
    assert_eq!((tokens(&ten, at(0), 2), tokens(&one, at(0), 2)), (9, 0));
    let rejection = gate.spend(at(0), &of(2)).unwrap_err();
    assert_eq!((rejection.policy, rejection.standing.unwrap().quota), (Policy::Throttle, 1));
    assert_eq!(tokens(&ten, at(0), 2), 9);
    gate.switch().set(Policy::Throttle, Enforcement::Shadow);
    assert!(gate.spend(at(0), &of(2)).is_ok());
    assert_eq!(gate.snapshot(at(0)).shadowed[Policy::Throttle as usize], 1);
}

#[test]
fn who_is_served_by_what_is_kept_waits_for_no_tokens_and_gets_them_back_if_another_quota_refuses() {
    let second = Quota::new(Rate::per_second(1), 1).unwrap();
    let shape = Some(Shape { wait: ms(5_000), line: 10 });
    let shaped = rule(throttle::Config { shape, ..throttle::Config::per_user(second) });
    let few = rule(hourly(2));
    let gate = door(limited(1, 0)).throttled(vec![shaped.clone(), few.clone()]);
    assert!(gate.spend(at(0), &of(1)).is_ok());
    // A second early: taken, and not waited for.
    assert!(gate.spend(at(0), &of(1)).is_ok());
    assert_eq!((shaped.snapshot().waiting, tokens(&few, at(0), 1)), (0, 0));
    assert_eq!(gate.spend(at(0), &of(1)).unwrap_err().policy, Policy::Throttle);
    assert_eq!((tokens(&shaped, at(1_999), 1), tokens(&shaped, at(2_000), 1)), (0, 1));
}
