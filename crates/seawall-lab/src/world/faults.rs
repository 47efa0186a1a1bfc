//! Faults: what happens by itself, as the events of a scenario say.

use seawall_core::time::{Span, Time};

use super::World;
use super::link::Way;
use super::replica::Replica;
use crate::scenario::{Event, Link, What};

impl World<'_> {
    /// An event begins, or is over.
    pub(super) fn fault(&mut self, event: u32, is_over: bool) {
        let scenario = self.play.scenario;
        let Event { at, ends, what } = &scenario.events[event as usize];
        let (at, ends) = (*at, ends.unwrap_or(Time::MAX));
        match what {
            // Its arrivals have a source of their own.
            What::Surge { .. } => {}
            What::Crash { service, replicas } => self.crash(*service as u32, *replicas, is_over),
            What::Slow { service, replicas, factor } => {
                let factor = if is_over { 1.0 } else { *factor };
                self.first(*service, *replicas).for_each(|replica| replica.slow = factor);
            }
            What::Errors { service, replicas, share_ppm } => {
                let share = if is_over { 0 } else { *share_ppm };
                self.first(*service, *replicas).for_each(|replica| replica.errors_ppm = share);
            }
            What::Pause { service, replicas } if !is_over => {
                let now = self.now;
                self.first(*service, *replicas).for_each(|replica| replica.stall(now, ends.since(now)));
            }
            What::Pause { .. } => {}
            What::Capacity { service, from, to } => {
                self.services[*service].capacity = (!is_over).then_some((at, ends, *from, *to));
            }
            What::Workers { service, count } => {
                self.set_workers(*service as u32, (!is_over).then_some(*count));
            }
            What::Loss { link, share_ppm } => {
                let share = if is_over { 0 } else { *share_ppm };
                self.ways(link, |way| way.lost_ppm = share);
            }
            What::Latency { link, add } => {
                let add = if is_over { Span::ZERO } else { *add };
                self.ways(link, |way| way.later = add);
            }
            What::Partition { link } if is_over => self.ways(link, |way| way.cuts -= 1),
            What::Partition { link } => self.ways(link, |way| way.cuts += 1),
            What::Flush { service } => self.flush(*service as u32),
            What::Block { service, over } => self.block(*service, *over, is_over),
            What::Scale { service, add } => self.scale(*service as u32, *add),
        }
    }

    fn first(&mut self, service: usize, replicas: u32) -> impl Iterator<Item = &mut Replica> {
        self.services[service].replicas.iter_mut().take(replicas as usize)
    }

    fn crash(&mut self, service: u32, replicas: u32, is_over: bool) {
        let now = self.now;
        if is_over {
            return self.first(service as usize, replicas).for_each(|replica| replica.rise(now));
        }
        for replica in 0..replicas {
            self.fall(service, replica, None);
        }
    }

    /// The ways that an event is about: the last stretch to a service, or those of one caller.
    fn ways(&mut self, link: &Link, change: impl Fn(&mut Way)) {
        match &link.from {
            None => change(&mut self.services[link.to].way),
            Some(from) => {
                let to = link.to as u32;
                let named = self.links.iter_mut().filter(|other| other.to == to && other.from == *from);
                named.for_each(|link| change(&mut link.way));
            }
        }
    }

    fn block(&mut self, service: usize, over: Span, is_over: bool) {
        match &mut self.stations[service] {
            Some(station) if is_over => station.readmit(self.now, over),
            Some(station) => station.block(self.now),
            None => self.services[service].blocked = !is_over,
        }
    }

    fn scale(&mut self, service: u32, add: u32) {
        let now = self.now;
        let measured_from = now.max(Time::ZERO + self.play.scenario.warmup);
        let replicas = &mut self.services[service as usize].replicas;
        let before = replicas.len() as u32;
        for _ in 0..add {
            let mut replica = Replica::warm(measured_from);
            replica.rise(now);
            replicas.push(replica);
        }
        if let Some(station) = &mut self.stations[service as usize] {
            station.scale(now, before + add);
        }
        for replica in before..before + add {
            self.begin_replica(service, replica);
        }
        self.schedule_probe(service);
    }
}
