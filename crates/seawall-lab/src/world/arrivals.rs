//! Arrivals: when clients begin their calls, and who they are.

use std::sync::Arc;

use seawall_core::request::{Key, Tier};
use seawall_core::rng::{Rng, mix};
use seawall_core::time::{Span, Time};

use super::{Event, Owner, Stream, Who, World};
use crate::chance::Crowd;
use crate::scenario::{Arrivals, Clients, Scenario, What};

/// Where calls come from: a population, or a surge of one.
pub(super) struct Source {
    population: u32,
    pace: Pace,
    rng: Rng,
    users: Rng,
    crowd: Crowd,
    tiers: Vec<(Tier, u32)>,
    /// The place of its first user among all users.
    first: u32,
}

enum Pace {
    /// The next gap is drawn ahead, so that nobody waits for the draw.
    Poisson {
        gap: Span,
        next: Span,
        from: Time,
        until: Time,
    },
    Even {
        gap: Span,
    },
    Closed {
        users: u64,
        think: Span,
    },
    Recorded {
        at: Arc<[Time]>,
        next: usize,
    },
}

/// Populations first, in their order; then surges.
pub(super) fn sources(scenario: &Scenario, seed: u64) -> Vec<Source> {
    let mut first = 0;
    let mut sources = Vec::new();
    for (place, clients) in scenario.clients.iter().enumerate() {
        let number = place as u64;
        let pace = match &clients.arrivals {
            Arrivals::Open(rate) => poisson(*rate, Time::ZERO, Time::MAX),
            Arrivals::Even(rate) => Pace::Even { gap: gap(*rate) },
            Arrivals::Closed { users, think } => Pace::Closed { users: *users, think: *think },
            Arrivals::Trace { at, .. } => Pace::Recorded { at: at.clone(), next: 0 },
        };
        let rng = Stream::Arrivals.rng(seed, number);
        sources.push(Source::new(place, clients, pace, (rng, Stream::Users.rng(seed, number)), first));
        first += u32::try_from(clients.users.count).unwrap_or(u32::MAX);
    }
    for (number, event) in (1_u64 << 20..).zip(&scenario.events) {
        let What::Surge { clients: place, factor } = event.what else { continue };
        let clients = &scenario.clients[place];
        let extra = factor - 1.0;
        let rate = match &clients.arrivals {
            Arrivals::Open(rate) | Arrivals::Even(rate) => rate * extra,
            Arrivals::Closed { users, think } => *users as f64 * extra / think.as_secs_f64(),
            Arrivals::Trace { at, .. } => {
                let lasts = at.last().map_or(1.0, |last| last.as_nanos() as f64 / 1e9);
                at.len() as f64 / lasts.max(1.0) * extra
            }
        };
        let until = event.ends.unwrap_or(Time::MAX);
        let pace = poisson(rate, event.at, until);
        let chance = (Stream::Surge.rng(seed, number), Stream::Users.rng(seed, number));
        sources.push(Source::new(place, clients, pace, chance, sources[place].first));
    }
    sources
}

fn gap(rate: f64) -> Span {
    Span::from_secs_f64(1.0 / rate)
}

fn poisson(rate: f64, from: Time, until: Time) -> Pace {
    Pace::Poisson { gap: gap(rate), next: Span::ZERO, from, until }
}

impl Source {
    fn new(
        place: usize,
        clients: &Clients,
        mut pace: Pace,
        (mut rng, users): (Rng, Rng),
        first: u32,
    ) -> Source {
        if let Pace::Poisson { gap, next, .. } = &mut pace {
            *next = rng.exponential(*gap);
        }
        Source {
            population: place as u32,
            pace,
            rng,
            users,
            crowd: Crowd::of(clients.users),
            tiers: clients.tiers.clone(),
            first,
        }
    }

    /// Who calls.
    fn draw(&mut self) -> Who {
        let place = self.crowd.draw(&mut self.users);
        let mut tier = self.tiers[0].0;
        if self.tiers.len() > 1 {
            let mut at = self.users.below(1_000_000) as u32;
            for (next, share) in &self.tiers {
                tier = *next;
                match at.checked_sub(*share) {
                    Some(rest) => at = rest,
                    None => break,
                }
            }
        }
        let member = self.first + place as u32;
        Who { user: Key(mix(u64::from(member))), member, tier }
    }
}

impl World<'_> {
    pub(super) fn begin_source(&mut self, source: u32) {
        let Source { pace, rng, .. } = &mut self.sources[source as usize];
        match pace {
            Pace::Closed { users, think } => {
                let times: Vec<Span> = (0..*users).map(|_| rng.exponential(*think)).collect();
                for think in times {
                    self.schedule(Time::ZERO + think, Event::Arrive { source });
                }
            }
            _ => self.schedule_arrival(source),
        }
    }

    /// Schedules the next arrival of a source that does not wait for answers.
    fn schedule_arrival(&mut self, source: u32) {
        let Source { pace, rng, .. } = &mut self.sources[source as usize];
        let at = match pace {
            Pace::Poisson { gap, next, from, until } => {
                let at = self.now.max(*from) + std::mem::replace(next, rng.exponential(*gap));
                if at < *until { at } else { Time::MAX }
            }
            // The first anywhere within a gap, so that seeds and populations differ.
            Pace::Even { gap } if self.now == Time::ZERO => self.now + rng.span(Span::ZERO, *gap),
            Pace::Even { gap } => self.now + *gap,
            Pace::Recorded { at, next } => {
                *next += 1;
                at.get(*next - 1).copied().unwrap_or(Time::MAX)
            }
            Pace::Closed { .. } => Time::MAX,
        };
        self.schedule(at, Event::Arrive { source });
    }

    pub(super) fn arrive(&mut self, source: u32) {
        self.schedule_arrival(source);
        let now = self.now;
        let from = &mut self.sources[source as usize];
        // Drawn all the same, so that whoever comes later is the same.
        let who = from.draw();
        if self.play.release.is_some_and(|(from, until)| (from..until).contains(&now)) {
            let population = from.population;
            return self.think(population, source);
        }
        let population = from.population;
        let second = self.second();
        self.outcomes.populations[population as usize].seconds[second].offered += 1;
        let link = self.of_population[population as usize];
        self.call(link, Owner::Client { population }, who);
    }

    /// A user who waits for answers thinks, and calls again.
    pub(super) fn think(&mut self, population: u32, source: u32) {
        let Source { pace, rng, .. } = &mut self.sources[source as usize];
        if let Pace::Closed { think, .. } = pace {
            let at = self.now + rng.exponential(*think);
            debug_assert_eq!(population, source, "populations come first among the sources");
            self.schedule(at, Event::Arrive { source });
        }
    }
}
