//! The transition table: every state by every event.

use super::*;
use crate::hedge::After;

/// A call in a state of the module's diagram, and the time.
fn in_state(name: &str) -> (Bench, u64) {
    let config = Config { per_attempt: Some(ms(100)), ..config() };
    let hedge = hedge::Config::new(After::Delay(ms(30))).unwrap();
    let bench = Bench::new(config, 500).hosts(vec![host(10), host(10)]);
    let mut bench = Bench { shared: hedging(5, Some(hedge)), ..bench };
    match name {
        "Ready" => return (bench, 0),
        "InFlight 1" => _ = bench.drain(at(0)),
        "InFlight 2" => {
            bench.drain(at(0));
            bench.drain(at(30));
            bench.log.clear();
            return (bench, 30);
        }
        "Backoff" => {
            bench.drain(at(0));
            bench.take(at(10), FAILS);
        }
        "Elsewhere" => {
            bench.drain(at(0));
            bench.take(at(10), Misses);
        }
        _ => {
            bench.drain(at(0));
            bench.take(at(10), OK);
            bench.drain(at(10));
        }
    }
    bench.log.clear();
    (bench, 10)
}

fn state(call: &Call) -> String {
    match call.state {
        State::Ready => "Ready".into(),
        State::InFlight => std::format!("InFlight {}", call.flights.iter().count()),
        State::Backoff { .. } => "Backoff".into(),
        State::Elsewhere => "Elsewhere".into(),
        State::Over(_) => "Over".into(),
    }
}

const STATES: [&str; 6] = ["Ready", "InFlight 1", "InFlight 2", "Backoff", "Elsewhere", "Over"];

const EVENTS: [&str; 10] = [
    "polled",
    "succeeds",
    "fails",
    "older fails",
    "misses",
    "spoils",
    "hedge due",
    "overdue",
    "deadline",
    "abandoned",
];

/// A line of the table: the state after the event, what the call then says, and the state after that.
fn transition(from: &str, event: &str) -> Option<String> {
    let (mut bench, mut now) = in_state(from);
    match event {
        "succeeds" => bench.take(at(now), OK),
        "fails" => bench.take(at(now), FAILS),
        "misses" => bench.take(at(now), Misses),
        "spoils" => bench.take(at(now), Spoils(Outcome::Failure)),
        "older fails" if bench.call.attempts() > 1 => bench.take(at(now), Late(Outcome::Failure)),
        "older fails" => return None,
        "hedge due" => now += 30,
        "overdue" => now += 100,
        "deadline" => now = 500,
        "abandoned" => bench.take(at(now), Abandon),
        _ => {}
    }
    let between = state(&bench.call);
    bench.drain(at(now));
    let steps: Vec<&str> = bench.log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let steps = if steps.is_empty() { "waits".into() } else { steps.join(", ") };
    Some(std::format!("{from:10} {event:11} → {between:10} {steps} → {}\n", state(&bench.call)))
}

#[test]
fn every_state_by_every_event() {
    let lines = STATES.iter().flat_map(|state| EVENTS.iter().filter_map(|event| transition(state, event)));
    let table: String = lines.collect();
    expect![[r#"
        Ready      polled      → Ready      send 1 to host 0 by 100 → InFlight 1
        Ready      succeeds    → Ready      send 1 to host 0 by 100 → InFlight 1
        Ready      fails       → Ready      send 1 to host 0 by 100 → InFlight 1
        Ready      misses      → Ready      send 1 to host 0 by 100 → InFlight 1
        Ready      spoils      → Ready      send 1 to host 0 by 100 → InFlight 1
        Ready      hedge due   → Ready      send 1 to host 0 by 130 → InFlight 1
        Ready      overdue     → Ready      send 1 to host 0 by 200 → InFlight 1
        Ready      deadline    → Ready      expired → Over
        Ready      abandoned   → Over       expired → Over
        InFlight 1 polled      → InFlight 1 waits → InFlight 1
        InFlight 1 succeeds    → Over       answered → Over
        InFlight 1 fails       → Backoff    waits → Backoff
        InFlight 1 misses      → Elsewhere  send 2 to host 1 by 110 → InFlight 1
        InFlight 1 spoils      → Over       answered, stop Unsafe → Over
        InFlight 1 hedge due   → InFlight 1 send 2 to host 1 by 140 → InFlight 2
        InFlight 1 overdue     → InFlight 1 cancel 1 → Backoff
        InFlight 1 deadline    → InFlight 1 cancel 1, expired → Over
        InFlight 1 abandoned   → Over       expired → Over
        InFlight 2 polled      → InFlight 2 waits → InFlight 2
        InFlight 2 succeeds    → Over       cancel 1, answered → Over
        InFlight 2 fails       → InFlight 1 waits → InFlight 1
        InFlight 2 older fails → InFlight 1 waits → InFlight 1
        InFlight 2 misses      → InFlight 1 waits → InFlight 1
        InFlight 2 spoils      → InFlight 1 waits → InFlight 1
        InFlight 2 hedge due   → InFlight 2 waits → InFlight 2
        InFlight 2 overdue     → InFlight 2 cancel 1, cancel 2 → Backoff
        InFlight 2 deadline    → InFlight 2 cancel 1, cancel 2, expired → Over
        InFlight 2 abandoned   → Over       expired → Over
        Backoff    polled      → Backoff    waits → Backoff
        Backoff    succeeds    → Backoff    waits → Backoff
        Backoff    fails       → Backoff    waits → Backoff
        Backoff    misses      → Backoff    waits → Backoff
        Backoff    spoils      → Backoff    waits → Backoff
        Backoff    hedge due   → Backoff    waits → Backoff
        Backoff    overdue     → Backoff    send 2 to host 1 by 210 → InFlight 1
        Backoff    deadline    → Backoff    expired → Over
        Backoff    abandoned   → Over       expired → Over
        Elsewhere  polled      → Elsewhere  send 2 to host 1 by 110 → InFlight 1
        Elsewhere  succeeds    → Elsewhere  send 2 to host 1 by 110 → InFlight 1
        Elsewhere  fails       → Elsewhere  send 2 to host 1 by 110 → InFlight 1
        Elsewhere  misses      → Elsewhere  send 2 to host 1 by 110 → InFlight 1
        Elsewhere  spoils      → Elsewhere  send 2 to host 1 by 110 → InFlight 1
        Elsewhere  hedge due   → Elsewhere  send 2 to host 1 by 140 → InFlight 1
        Elsewhere  overdue     → Elsewhere  send 2 to host 1 by 210 → InFlight 1
        Elsewhere  deadline    → Elsewhere  expired → Over
        Elsewhere  abandoned   → Over       expired → Over
        Over       polled      → Over       answered → Over
        Over       succeeds    → Over       answered → Over
        Over       fails       → Over       answered → Over
        Over       misses      → Over       answered → Over
        Over       spoils      → Over       answered → Over
        Over       hedge due   → Over       answered → Over
        Over       overdue     → Over       answered → Over
        Over       deadline    → Over       answered → Over
        Over       abandoned   → Over       expired → Over
    "#]]
    .assert_eq(&table);
}
