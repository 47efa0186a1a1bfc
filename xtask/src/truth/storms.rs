//! Storms: what a trigger leaves behind when it is over.

use seawall_core::time::{Span, Time};
use seawall_lab::Outcomes;
use seawall_lab::verdict::wilson;

use super::drawn::{Estimate, Experiment};
use super::table::{Table, number};

/// Seconds that are taken together.
const BIN: u64 = 5;

pub(super) fn rows(table: &mut Table) {
    table.section("Collapse spike: the share of seeds that collapse");
    spike(table);
    table.section("Metastability: seconds after the spike until 95 % are in time");
    recoveries(table);
    table.section("Where a spike is survived: A attempts, below and above μ/A");
    boundaries(table);
    table.section("A queue drains in (Q − T)/(1 − ρ)");
    drain(table);
    table.section("Four cases of a database: capacity lost, for how long, at which load");
    database(table);
}

fn spike(table: &mut Table) {
    for (name, backoff, low, high) in [
        ("no backoff, published 15 of 20", "{ kind = \"none\" }", 0.53, 0.89),
        (
            "backoff, published 0 of 20",
            "{ kind = \"exponential\", base = \"20s\", cap = \"40s\" }",
            0.0,
            0.16,
        ),
    ] {
        if !table.wants(name) {
            continue;
        }
        let experiment = Experiment::new(&format!(
            "[scenario]\nname = \"spike\"\nduration = \"80s\"\nwarmup = \"10s\"\nnetwork = \"100ms\"\n\
             [[clients]]\nname = \"all\"\nrate = \"40/s\"\ncalls = \"api\"\n\
             retry = {{ attempts = 3, per_attempt = \"3s\", backoff = {backoff} }}\n\
             [[service]]\nname = \"api\"\ntime = {{ constant = \"1s\" }}\nslope = \"10ms/inflight\"\n\
             [[event]]\nat = \"20s\"\nfor = \"5s\"\nsurge = {{ clients = \"all\", factor = 2.0 }}\n"
        ));
        let seeds = if table.fast { 40 } else { 400 };
        let runs = experiment.play(table.seed()..table.seed() + seeds);
        let collapsed = |run: &&Outcomes| run.goodput(50, 79) < run.goodput(10, 20) / 2.0;
        let count = runs.iter().filter(collapsed).count() as u32;
        let interval = wilson(count, seeds as u32);
        let got = format!("{:.3} ({:.3}..{:.3})", interval.estimate, interval.low, interval.high);
        let holds = (low..=high).contains(&interval.estimate);
        table.row(name, &format!("{low}..{high}"), &got, holds);
    }
}

/// A server of 100 a second whose clients wait for a second; three times as many come for ten seconds.
fn server(rate: f64, clients: &str, service: &str, lasts: u64) -> Experiment {
    let mut experiment = Experiment::new(&format!(
        "[scenario]\nname = \"server\"\nduration = \"{}s\"\nwarmup = \"10s\"\n\
         [[clients]]\nname = \"all\"\nrate = \"{:.0}/m\"\ncalls = \"q\"\n{clients}\n\
         [[service]]\nname = \"q\"\nworkers = 1\ntime = {{ exponential = \"10ms\" }}\n{service}\n\
         [[event]]\nat = \"60s\"\nfor = \"10s\"\nsurge = {{ clients = \"all\", factor = 3.0 }}\n",
        70 + lasts,
        rate * 6_000.0
    ));
    experiment.scenario.end = Time::ZERO + Span::from_secs(70 + lasts);
    experiment
}

const NONE: &str = "retry = { attempts = 1, per_attempt = \"1s\" }";
const THREE: &str = "retry = { attempts = 4, per_attempt = \"1s\", backoff = { kind = \"none\" } }";

/// Seconds after the spike until 95 % of a bin's calls are in time.
fn recovery(run: &Outcomes, ends: u64) -> Option<u64> {
    let end = run.populations[0].seconds.len() as u64 - 1;
    let mut bins = (ends..end).step_by(BIN as usize);
    let back = |from: &u64| run.goodput(*from, from + BIN) >= 0.95 * run.offered(*from, from + BIN);
    bins.find(back).map(|from| from - ends)
}

fn recoveries(table: &mut Table) {
    let budget = format!("{THREE}\nbudget = \"10%\"");
    let never = None;
    type Seconds = Option<(u64, u64)>;
    let rows: [(&str, &str, &str, [Seconds; 2]); 5] = [
        ("FIFO, 3 retries", THREE, "", [never, never]),
        // Published for a budget that first attempts fund: 27 to 29, and never. One that successes fund
        // is empty as long as there are none, so that it is between that and no retries at all.
        ("... and a budget of 10 % of successes", &budget, "", [Some((20, 29)), Some((156, 600))]),
        ("no retries", NONE, "", [Some((20, 21)), Some((156, 165))]),
        ("FIFO of 50, 3 retries", THREE, "queue = 49", [Some((0, 0)), Some((0, 0))]),
        ("LIFO, 3 retries", THREE, "queue = { order = \"lifo\" }", [Some((0, 0)), Some((0, 0))]),
    ];
    for (name, clients, service, expected) in rows {
        for (rho, expected) in [0.6, 0.9].into_iter().zip(expected) {
            let name = format!("{name} at {rho}");
            if !table.wants(&name) || table.fast && (expected.is_none() || rho > 0.6) {
                continue;
            }
            let seeds = if table.fast { 4 } else { 40 };
            let runs = server(rho, clients, service, 670).play(table.seed()..table.seed() + seeds);
            let times: Vec<Option<u64>> = runs.iter().map(|run| recovery(run, 70)).collect();
            let back: Vec<f64> = times.iter().flatten().map(|seconds| *seconds as f64).collect();
            match expected {
                None => {
                    let got = format!("{} of {seeds} back", back.len());
                    table.row(&name, "never", &got, back.is_empty());
                }
                Some((low, high)) => {
                    let got = Estimate::of(&back);
                    // Published to a second from few seeds, in bins of five.
                    let slack = BIN as f64 / 2.0 + 3.0 * got.error;
                    let holds = back.len() == runs.len()
                        && got.mean >= low as f64 - slack
                        && got.mean <= high as f64 + slack;
                    let cells = format!("{} ± {}", number(got.mean), number(got.error));
                    table.row(&name, &format!("{low}..{high}"), &cells, holds);
                }
            }
        }
    }
}

fn boundaries(table: &mut Table) {
    let attempts = |most: u32, budget: &str| {
        format!(
            "retry = {{ attempts = {most}, per_attempt = \"1s\", backoff = {{ kind = \"none\" }} }}\n{budget}"
        )
    };
    for (name, clients, boundary) in [
        ("A=2", attempts(2, ""), 0.5),
        ("A=4", attempts(4, ""), 0.25),
        ("budget of 10 %", attempts(4, "budget = \"10%\""), 0.909),
    ] {
        for (side, factor) in [("below", 0.85), ("above", 1.08)] {
            let name = format!("{name}: {factor} × {boundary} μ");
            // The budget's upper side is above 0.98 μ, where a queue without a spike is long, too.
            if !table.wants(&name) || table.fast || boundary > 0.9 && side == "above" {
                continue;
            }
            let mut experiment = server(boundary * factor, &clients, "", 3_000);
            // A spike that overwhelms it at any load.
            for event in &mut experiment.scenario.events {
                if let seawall_lab::scenario::What::Surge { factor, .. } = &mut event.what {
                    *factor = 10.0 / boundary;
                }
            }
            let runs = experiment.play(table.seed()..table.seed() + 10);
            let back = runs.iter().filter(|run| recovery(run, 70).is_some()).count();
            let holds = if side == "below" { back == runs.len() } else { back == 0 };
            let expected = if side == "below" { "recovers" } else { "never" };
            table.row(&name, expected, &format!("{back} of {} back", runs.len()), holds);
        }
    }
}

/// The spike of F for D seconds leaves (Fρ − 1)·D seconds of work.
fn drain(table: &mut Table) {
    for rho in [0.5, 0.7, 0.8] {
        let name = format!("rho={rho}, three times as many for 10 s");
        if !table.wants(&name) || table.fast {
            continue;
        }
        let exact = ((3.0 * rho - 1.0) * 10.0 - 1.0) / (1.0 - rho);
        let runs = server(rho, NONE, "", 150).play(table.seed()..table.seed() + 200);
        // The first second in which most calls are in time again.
        let back = |run: &Outcomes| {
            let begins = |second: &u64| run.goodput(*second, second + 1) >= 0.5 * rho * 100.0;
            let first = (71..220).find(begins).unwrap_or(220);
            first as f64 - 70.0
        };
        let got = Estimate::of(&runs.iter().map(back).collect::<Vec<_>>());
        // In whole seconds: half of one either way.
        let holds = (got.mean - exact).abs() <= 1.0 + 3.0 * got.error;
        table.row(&name, &number(exact), &format!("{} ± {}", number(got.mean), number(got.error)), holds);
    }
}

/// Timeout 3 s, four resends at once, one set of parameters.
fn database(table: &mut Table) {
    for (name, lost, lasts, load, recovers) in [
        ("−78 % for 10 s", 0.78, 10, 1.0, true),
        ("−80 % for 10 s", 0.80, 10, 1.0, false),
        ("−80 % for 9 s", 0.80, 9, 1.0, true),
        ("−80 % for 10 s at −30 % load", 0.80, 10, 0.7, true),
    ] {
        if !table.wants(name) || table.fast {
            continue;
        }
        let experiment = Experiment::new(&format!(
            "[scenario]\nname = \"database\"\nduration = \"180s\"\nwarmup = \"20s\"\n\
             [[clients]]\nname = \"all\"\nrate = \"{:.0}/s\"\ncalls = \"db\"\n\
             retry = {{ attempts = 5, per_attempt = \"3s\", backoff = {{ kind = \"none\" }} }}\n\
             [[service]]\nname = \"db\"\nworkers = 16\ntime = {{ exponential = \"4ms\" }}\n\
             [[event]]\nat = \"60s\"\nfor = \"{lasts}s\"\ncapacity = {{ service = \"db\", factor = {} }}\n",
            // Of 4000 a second: many, so that chance moves the queue by little.
            1_500.0 * load,
            1.0 - lost
        ));
        let runs = experiment.play(table.seed()..table.seed() + 10);
        let ends = 60 + lasts;
        let back = runs.iter().filter(|run| recovery(run, ends).is_some()).count();
        let holds = if recovers { back == runs.len() } else { back == 0 };
        let expected = if recovers { "recovers" } else { "never" };
        table.row(name, expected, &format!("{back} of {} back", runs.len()), holds);
    }
}
