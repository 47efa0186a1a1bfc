//! Random courses of several calls at once: nothing that they held is lost.

use proptest::prelude::*;

use super::*;
use crate::backpressure;
use crate::hedge::After;
use crate::rng::Rng;

const CALLS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Poll(usize),
    Outcome { call: usize, older: bool, outcome: Outcome, repeat: Repeat },
    Unsent(usize),
    TakeTicket(usize),
    Abandon(usize),
    Restart(usize),
    Pass(u64),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Failure),
        2 => Just(Outcome::Success),
        1 => Just(Outcome::TimedOut),
        1 => Just(Outcome::Ignored),
        1 => (0..200_u64).prop_map(|millis| Outcome::Overloaded { retry_after: Some(ms(millis)) }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let repeat = prop_oneof![
        4 => Just(Repeat::Safe),
        2 => Just(Repeat::Unreached),
        1 => Just(Repeat::Unsafe),
        1 => Just(Repeat::Unwanted),
    ];
    prop_oneof![
        8 => (0..CALLS).prop_map(Op::Poll),
        6 => (0..CALLS, any::<bool>(), outcome(), repeat)
            .prop_map(|(call, older, outcome, repeat)| Op::Outcome { call, older, outcome, repeat }),
        1 => (0..CALLS).prop_map(Op::Unsent),
        1 => (0..CALLS).prop_map(Op::TakeTicket),
        1 => (0..CALLS).prop_map(Op::Abandon),
        2 => (0..CALLS).prop_map(Op::Restart),
        4 => (0..40_u64).prop_map(Op::Pass),
    ]
}

/// Several calls over two hosts with few places, with what they sent and earned.
struct Crowd {
    hosts: Hosts<Alone<u64>>,
    shared: Cells<Shared>,
    pressure: Cells<Backpressure>,
    calls: Vec<Call>,
    lanes: Vec<Lane>,
    now: Time,
    deposits: u64,
    retries: u64,
    withdrawn: u64,
    tickets: Vec<(usize, Ticket)>,
}

impl Crowd {
    fn new(retries: u32) -> Crowd {
        let hedge = hedge::Config::new(After::Delay(ms(20))).unwrap().up_to(2).unwrap();
        let mut crowd = Crowd {
            hosts: Hosts::new(vec![host(4), host(2)]),
            shared: hedging(retries, Some(hedge)),
            pressure: Cells::own(vec![Backpressure::new(backpressure::Config::default(), at(0))]),
            calls: Vec::new(),
            lanes: vec![Lane(0); CALLS],
            now: at(0),
            deposits: u64::from(retries) * 10,
            retries: 0,
            withdrawn: 0,
            tickets: Vec::new(),
        };
        crowd.calls = (0..CALLS).map(|_| crowd.call()).collect();
        crowd
    }

    fn call(&self) -> Call {
        let backoff = Backoff::new(Kind::Full, ms(40), ms(80)).unwrap();
        let config = Config { attempts: 3, per_attempt: Some(ms(60)), backoff };
        let request = Request { deadline: self.now + ms(200), ..until(0) };
        Call::new(config, request, Repeat::Safe, self.now)
    }

    fn step(&mut self, op: &Op, rng: &mut Rng) {
        let parts = Parts { backpressure: Some(&self.pressure), ..parts(&self.hosts, &self.shared) };
        match *op {
            Op::Poll(call) => {
                let polled = &mut self.calls[call];
                if let Step::Send(attempt) = polled.poll(self.now, &parts, rng) {
                    assert!(attempt.deadline <= self.now + ms(60) && attempt.number <= 5);
                    self.lanes[call] = attempt.lane;
                    let sent = polled.flights.iter().find(|flight| flight.lane == attempt.lane);
                    self.retries += u64::from(sent.is_some_and(|flight| flight.paid.is_some()));
                }
            }
            Op::Outcome { call, older, outcome, repeat } => {
                let lane = Lane(self.lanes[call].0.saturating_sub(u32::from(older)));
                let under_way = self.calls[call].flights.iter().any(|flight| flight.lane == lane);
                self.deposits += u64::from(under_way && outcome == Outcome::Success);
                self.calls[call].on_outcome(self.now, lane, outcome, repeat, &parts, rng);
            }
            Op::Unsent(call) => {
                let lane = self.lanes[call];
                let unsent = self.calls[call].flights.iter().find(|flight| flight.lane == lane);
                self.retries -= u64::from(unsent.is_some_and(|flight| flight.paid.is_some()));
                self.calls[call].on_unsent(self.now, lane, &parts);
            }
            Op::TakeTicket(call) => self.tickets.extend(self.calls[call].take_ticket()),
            Op::Abandon(call) => self.calls[call].abandon(self.now, &parts),
            Op::Restart(call) => {
                self.calls[call].abandon(self.now, &parts);
                self.calls[call] = self.call();
                self.lanes[call] = Lane(0);
            }
            Op::Pass(millis) => self.now += ms(millis),
        }
        self.check();
    }

    /// Places are held by attempts under way and answers that stand, and by nothing else; retries
    /// that were paid for were sent or still wait.
    fn check(&mut self) {
        let held = |call: &Call| call.flights.iter().count() + usize::from(call.flights.answer().is_some());
        let holding = self.calls.iter().map(held).sum::<usize>() + self.tickets.len();
        let held = |gate: &Arc<Gate<Alone<u64>>>| gate.snapshot(self.now).limit.unwrap().in_flight;
        assert_eq!(self.hosts.gates().iter().map(held).sum::<u32>() as usize, holding);
        let waiting = self.calls.iter().filter(|call| matches!(call.state, State::Backoff { .. })).count();
        let budget = self.shared.with(ONE, |shared| shared.snapshot().budget).unwrap();
        let spent = budget.withdrawn - budget.refunded;
        assert_eq!(spent, self.retries + waiting as u64);
        let earned = self.deposits as f64 / 10.0;
        assert!((budget.balance + spent as f64 - earned).abs() < 1e-6, "{budget:?} of {earned}");
        assert!(budget.withdrawn >= self.withdrawn, "a counter fell");
        self.withdrawn = budget.withdrawn;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn nothing_is_leaked(retries in 0..8_u32, seed: u64, ops in prop::collection::vec(op(), 1..120)) {
        let mut crowd = Crowd::new(retries);
        let mut rng = Rng::new(seed, 0);
        ops.iter().for_each(|op| crowd.step(op, &mut rng));
        (0..CALLS).for_each(|call| crowd.step(&Op::Abandon(call), &mut rng));
        let tickets = core::mem::take(&mut crowd.tickets);
        tickets.into_iter().for_each(|(host, ticket)| crowd.hosts.gates()[host].release(crowd.now, ticket));
        crowd.check();
        let held = |gate: &Arc<Gate<Alone<u64>>>| gate.snapshot(crowd.now).limit.unwrap().in_flight;
        prop_assert!(crowd.hosts.gates().iter().all(|gate| held(gate) == 0));
    }
}
