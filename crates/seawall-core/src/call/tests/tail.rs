//! Hedging and retrying in virtual time, against the closed forms: a small event loop around calls.

use std::collections::BTreeMap;

use super::*;
use crate::hedge::After;
use crate::measure::quantile::Quantile;

/// What a run plays: calls arrive at `rate` per second and an attempt takes as long as `work` draws.
struct Play {
    rate: f64,
    calls: u64,
    hosts: Vec<Arc<Gate<Alone<u64>>>>,
    hedge: Option<hedge::Config>,
    work: fn(&mut Rng) -> Span,
}

struct Tail {
    /// Latencies of all calls, sorted, in seconds.
    latencies: Vec<f64>,
    /// Attempts by call.
    load: f64,
    hedge: hedge::Snapshot,
}

impl Tail {
    fn quantile(&self, q: f64) -> f64 {
        self.latencies[(self.latencies.len() as f64 * q) as usize]
    }
}

#[derive(Clone, Copy)]
enum Event {
    Begins,
    Wakes(u64),
    Answers(u64, Lane),
}

/// Calls in virtual time; events at the same time happen in the order in which they were scheduled.
fn run(play: Play) -> Tail {
    let config = Config { attempts: 1, per_attempt: None, backoff: Backoff::NONE };
    let (hosts, shared) = (Hosts::new(play.hosts), hedging(0, play.hedge));
    let parts = parts(&hosts, &shared);
    let (mut arrivals, mut work) = (Rng::new(1, 1), Rng::new(1, 2));
    let (mut queue, mut number, mut begun) = (BTreeMap::new(), 0_u64, 0_u64);
    let mut calls: BTreeMap<u64, (Call, Time, Rng)> = BTreeMap::new();
    let (mut latencies, mut attempts) = (vec![], 0_u64);
    let mut schedule = |queue: &mut BTreeMap<(Time, u64), Event>, at, event| {
        number += 1;
        queue.insert((at, number), event);
    };
    schedule(&mut queue, at(0), Event::Begins);
    while let Some(((now, _), event)) = queue.pop_first() {
        let id = match event {
            Event::Begins => {
                begun += 1;
                if begun < play.calls {
                    let gap = arrivals.exponential(Span::from_secs_f64(1.0 / play.rate));
                    schedule(&mut queue, now + gap, Event::Begins);
                }
                let call = Call::new(config, Request::new(Key(1)), Repeat::Safe, now);
                calls.insert(begun, (call, now, Rng::new(2, begun)));
                begun
            }
            Event::Wakes(id) => id,
            Event::Answers(id, lane) => {
                if let Some((call, _, rng)) = calls.get_mut(&id) {
                    call.on_outcome(now, lane, Outcome::Success, Repeat::Safe, &parts, rng);
                }
                id
            }
        };
        while let Some((call, since, rng)) = calls.get_mut(&id) {
            match call.poll(now, &parts, rng) {
                Step::Send(attempt) => {
                    schedule(&mut queue, now + (play.work)(&mut work), Event::Answers(id, attempt.lane));
                }
                Step::Cancel { .. } => {}
                Step::WaitUntil(until) => {
                    if until < Time::MAX {
                        schedule(&mut queue, until, Event::Wakes(id));
                    }
                    break;
                }
                Step::Finish(_) => {
                    latencies.push(now.since(*since).as_secs_f64());
                    attempts += u64::from(call.attempts());
                    call.abandon(now, &parts);
                    calls.remove(&id);
                }
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    let hedge = shared.with(ONE, |shared| shared.snapshot().hedge).unwrap_or_default();
    Tail { latencies, load: attempts as f64 / play.calls as f64, hedge }
}

fn open_hosts(count: usize) -> Vec<Arc<Gate<Alone<u64>>>> {
    (0..count).map(|_| open_host()).collect()
}

fn exponential(rng: &mut Rng) -> Span {
    rng.exponential(Span::from_secs(1))
}

/// One in a hundred takes a second, the others ten milliseconds.
fn one_percent_slow(rng: &mut Rng) -> Span {
    if rng.unit() < 0.01 { Span::from_secs(1) } else { ms(10) }
}

#[test]
fn exponential_replicas_hedged_at_p95_answer_as_the_closed_form_says() {
    let p95 = -libm::log(0.05);
    let play = |hedge| Play { rate: 10.0, calls: 200_000, hosts: open_hosts(2), hedge, work: exponential };
    let plain = run(play(None));
    assert_eq!(plain.load, 1.0);
    for (after, tolerance) in [
        (After::Delay(Span::from_secs_f64(p95)), 0.02),
        // The edge of a bucket is up to 3.2 % late.
        (After::Quantile(Quantile::P95), 0.04),
    ] {
        let hedged = run(play(Some(hedge::Config::new(after).unwrap())));
        let extra = hedged.load - 1.0;
        assert!((extra / 0.05 - 1.0).abs() < 0.1 + tolerance, "{after:?}: {extra} more load");
        for q in [0.9, 0.99, 0.999] {
            let x = -libm::log(1.0 - q);
            let exact = if x <= p95 { x } else { f64::midpoint(x, p95) };
            let (before, with) = (plain.quantile(q), hedged.quantile(q));
            assert!((before / x - 1.0).abs() < 0.06, "{q}: {before} without hedges, not {x}");
            assert!((with / exact - 1.0).abs() < 0.04 + tolerance, "{after:?} {q}: {with}, not {exact}");
        }
    }
}

/// Ten hosts of ten places each, `rho` of them taken without hedges.
fn pool(rho: f64, mean: f64, work: fn(&mut Rng) -> Span, hedge: Option<hedge::Config>) -> Tail {
    let hosts = (0..10).map(|_| host(10)).collect();
    run(Play { rate: 100.0 / mean * rho, calls: 100_000, hosts, hedge, work })
}

#[test]
fn one_slow_call_in_a_hundred_is_hedged_away_for_little_load() {
    let of = |hedge| pool(0.4, 0.01 * 0.99 + 0.01, one_percent_slow, hedge);
    let (plain, hedged) = (of(None), of(Some(hedge::Config::default())));
    let (before, with) = (plain.quantile(0.999), hedged.quantile(0.999));
    assert!(with <= 0.1 * before, "p99.9 {before} becomes {with}");
    assert!(hedged.load <= 1.06, "{} attempts a call", hedged.load);
}

#[test]
fn hedges_end_when_the_pool_is_busy() {
    let of = |rho| pool(rho, 1.0, exponential, Some(hedge::Config::default()));
    let (calm, busy) = (of(0.6), of(0.92));
    assert!((1.03..1.06).contains(&calm.load) && calm.hedge.overload < 100, "{} {:?}", calm.load, calm.hedge);
    assert!(busy.load < 1.005 && busy.hedge.overload > 1_000, "{} {:?}", busy.load, busy.hedge);
}

#[test]
fn hedges_never_outspend_the_budget() {
    // At the median half of all calls would be hedged; a tenth of the successes pays for a tenth.
    let median = hedge::Config::new(After::Quantile(Quantile::new(0.5).unwrap())).unwrap();
    let hosts = open_hosts(2);
    let tail = run(Play { rate: 10.0, calls: 50_000, hosts, hedge: Some(median), work: exponential });
    assert!((0.09..=0.1).contains(&(tail.load - 1.0)), "{}", tail.load);
    assert!(tail.hedge.unpaid > 10_000, "{:?}", tail.hedge);
}
