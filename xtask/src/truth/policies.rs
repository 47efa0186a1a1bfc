//! Policies whose effect has a closed form: hedging, two choices, a client's own throttling.

use seawall_core::backpressure;

use super::drawn::{Experiment, attempts, mean, quantile};
use super::table::{Table, figure};

/// Seawall in front of `q`, with nothing that refuses or leaves out.
fn config(route: &str) -> String {
    format!(
        "[upstream.q]\nhosts = [\"http://q:80\"]\nbreaker = false\neject = false\nslow_start = false\n\
         budget = \"100%\"\nlimit = {{ adaptive = false, max = 65536 }}\n\
         [route.q]\npath = \"/*\"\nupstream = \"q\"\ndeadline = \"60s\"\nretry = false\nshed = false\n{route}\n"
    )
}

pub(super) fn rows(table: &mut Table) {
    table.section("A client's own throttling: p = max(0, (requests − K accepts) / (requests + 1))");
    for (requests, accepts, exact) in [(100, 40, 0.198_019_802), (100, 50, 0.0), (100, 0, 0.990_099_01)] {
        let got = backpressure::chance(requests, accepts, 2.0);
        table.exact(&format!("K=2 ({requests}, {accepts})"), exact, got);
    }
    table.section("Hedging over exponential replicas");
    hedging(table);
    table.section("Two choices: the mean sojourn at rho=.9, mean field");
    two_choices(table);
}

/// At delay d: e^-d more attempts; a quantile x of the replica's becomes (x + d) / 2 above d.
fn hedging(table: &mut Table) {
    for (name, d) in [("after .5", 0.5_f64), ("after p90", f64::ln(10.0)), ("after p95", f64::ln(20.0))] {
        if table.fast && d < 2.9 {
            continue;
        }
        let seconds = if table.fast { 15 } else { 220 };
        let scenario = Experiment::new(&format!(
            "[scenario]\nname = \"hedge\"\nduration = \"{seconds}s\"\nwarmup = \"5s\"\n\
             [[clients]]\nname = \"all\"\nrate = \"1000/s\"\ncalls = \"q\"\n\
             [[service]]\nname = \"q\"\nreplicas = 10\ntime = {{ exponential = \"100ms\" }}\n"
        ));
        let hedge = config(&format!("hedge = {{ after = \"{:.0}us\" }}", d * 100_000.0));
        let hedged = |q: f64| {
            let x = -f64::ln(1.0 - q);
            if x <= d { x } else { (x + d) / 2.0 }
        };
        let figures = vec![
            figure("attempts", 1.0 + (-d).exp(), attempts()),
            figure("p50", hedged(0.5), quantile(0.5, 0.1)),
            figure("p99", hedged(0.99), quantile(0.99, 0.1)),
            figure("p999", hedged(0.999), quantile(0.999, 0.1)),
        ];
        let kept = if table.fast { 3 } else { 4 };
        let figures = figures.into_iter().take(kept).collect();
        table.compare(name, &scenario.with(&hedge), figures);
    }
}

fn two_choices(table: &mut Table) {
    if table.fast {
        return;
    }
    // Of a thousand hosts, because ten are not many.
    let scenario = |rate: u32, replicas: u32| {
        Experiment::new(&format!(
            "[scenario]\nname = \"two\"\nduration = \"12s\"\nwarmup = \"6s\"\n\
             [[clients]]\nname = \"all\"\nrate = \"{rate}/s\"\ncalls = \"q\"\n\
             [[service]]\nname = \"q\"\nreplicas = {replicas}\nworkers = 1\ntime = {{ exponential = \"10ms\" }}\n"
        ))
    };
    let figures = vec![figure("W", 2.614, mean(0.01))];
    table.compare("1000 hosts", &scenario(90_000, 1_000).with(&config("")), figures);
}
