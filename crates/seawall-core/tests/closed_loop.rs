//! Clients who wait for their answer before they ask again, in virtual time: however slow the callee,
//! there are never more of them than there are, and refusing one only makes it ask again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use seawall_core::gate::{Admit, Alone, Gate, Lane, Place, Settings, Ticket};
use seawall_core::outcome::Outcome;
use seawall_core::request::{Key, Request};
use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};
use seawall_core::{limit, shed};

const END: Time = Time::from_nanos(10_000_000_000);
/// How soon a client asks again that was refused.
const AGAIN: Span = Span::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask(usize),
    Done(usize),
    Resume,
}

/// A callee of one worker, and who waits for it.
struct World {
    clients: usize,
    work: Span,
    now: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    scheduled: u64,
    gate: Gate<Alone<usize>>,
    places: Vec<Option<Place>>,
    tickets: Vec<Option<Ticket>>,
    line: VecDeque<usize>,
    is_busy: bool,
    stalls: bool,
    chance: Rng,
    answered: u32,
    refused: u32,
}

impl World {
    /// Plays ten seconds; nothing is answered in the last part of the first one if it `stalls`.
    fn run(clients: usize, work: Span, stall: Option<(Span, Span)>) -> World {
        let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
        let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
        let mut world = World {
            clients,
            work,
            now: Time::ZERO,
            events: BinaryHeap::new(),
            scheduled: 0,
            gate: Gate::new(settings, lane, Time::ZERO),
            places: (0..clients).map(|_| None).collect(),
            tickets: (0..clients).map(|_| None).collect(),
            line: VecDeque::new(),
            is_busy: false,
            stalls: false,
            chance: Rng::new(7, 1),
            answered: 0,
            refused: 0,
        };
        (0..clients).for_each(|client| world.schedule(Time::ZERO, Event::Ask(client)));
        let (from, to) = stall.map_or((END, END), |(at, length)| (Time::ZERO + at, Time::ZERO + at + length));
        world.schedule(to, Event::Resume);
        while let Some(Reverse((now, _, event))) = world.events.pop() {
            if now >= END {
                break;
            }
            (world.now, world.stalls) = (now, (from..to).contains(&now));
            match event {
                Event::Ask(client) => world.ask(client),
                Event::Done(client) => world.done(client),
                Event::Resume => world.begin_next(),
            }
            while let Some(client) = world.gate.turn() {
                world.claim(client);
            }
        }
        world
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn ask(&mut self, client: usize) {
        let request =
            Request { deadline: self.now + Span::from_secs(30), ..Request::new(Key(client as u64)) };
        let admit = self.gate.admit(self.now, &request);
        self.go_on(client, admit);
    }

    fn go_on(&mut self, client: usize, admit: Admit) {
        match admit {
            Admit::Ticket(ticket) => {
                self.tickets[client] = Some(ticket);
                self.line.push_back(client);
                self.begin_next();
            }
            Admit::Wait(place) => {
                self.places[client] = Some(place);
                self.claim(client);
            }
            Admit::Reject(r) => {
                if self.refused < 5 {
                    let s = self.gate.snapshot(self.now);
                    eprintln!(
                        "{:?} {:?} {:?} {:?} {:?}",
                        self.now, r.policy, r.reason, s.limit, self.answered
                    );
                }
                self.refused += 1;
                self.schedule(self.now + AGAIN, Event::Ask(client));
            }
        }
    }

    fn claim(&mut self, client: usize) {
        let Some(place) = self.places[client].take() else { return };
        match self.gate.claim(self.now, place, client) {
            Admit::Wait(place) => self.places[client] = Some(place),
            admit => self.go_on(client, admit),
        }
    }

    fn begin_next(&mut self) {
        if self.is_busy || self.stalls {
            return;
        }
        if let Some(client) = self.line.pop_front() {
            self.is_busy = true;
            let ends = self.now + self.chance.exponential(self.work);
            self.schedule(ends, Event::Done(client));
        }
    }

    fn done(&mut self, client: usize) {
        self.is_busy = false;
        self.answered += 1;
        let ticket = self.tickets[client].take().expect("work is begun with a ticket");
        self.gate.settle(self.now, ticket, Outcome::Success);
        self.schedule(self.now, Event::Ask(client));
        self.begin_next();
    }
}

#[test]
fn clients_who_wait_for_their_answer_are_no_overload() {
    for (clients, micros) in [(8, 10_000), (32, 3_000), (64, 1_600), (64, 400), (64, 100), (100, 200)] {
        let world = World::run(clients, Span::from_micros(micros), None);
        assert_eq!(world.refused, 0, "{} clients, {micros} us: {}", world.clients, world.answered);
    }
}

/// As when the first packets of connections are lost: all that is in flight hangs for a second.
#[test]
fn a_second_without_answers_is_no_overload_either() {
    for (clients, micros) in [(32, 3_000), (64, 1_600), (64, 400), (100, 200)] {
        for at in [100, 300, 4_000] {
            let stall = (Span::from_millis(at), Span::from_secs(1));
            let world = World::run(clients, Span::from_micros(micros), Some(stall));
            let said = format!("{clients} clients, {micros} us, at {at} ms: {}", world.answered);
            assert_eq!(world.refused, 0, "{said}");
        }
    }
}
