//! Answers that begin well and break off.

use std::thread;

use crate::access::told;
use crate::harness::{Gateway, config, get, origin, origin_that_says};
use crate::streams::{before, begin};

const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfour";
const UNENDED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n";

#[test]
fn a_host_that_breaks_off_its_answers_is_ejected_and_its_answers_are_bad() {
    for (kind, says) in [("short", SHORT), ("unended", UNENDED)] {
        let (well, breaking) = (origin(), origin_that_says(says));
        let file = format!(
            "[upstream.u]\nhosts = [\"http://{well}\", \"http://{breaking}\"]\n\
             eject = {{ slow_times = false, for = \"1m\" }}\n[route.r]\nupstream = \"u\"\n"
        );
        let gateway = Gateway::start(&[&config(&format!("broken-{kind}.toml"), &file)]);
        let shows = |line: &str| get(&gateway.admin, "/metrics", "").body.lines().any(|shown| shown == line);
        let ejected = format!("seawall_ejected{{upstream=\"u\",host=\"http://{breaking}\"}} 1.0");
        let address = gateway.address.as_str();
        let (mut asked, mut broken) = (0, 0);
        // Many at a time, and as often as it takes: the one that breaks off may hardly be chosen.
        while !shows(&ejected) {
            let ask = || (0..20).filter(|_| get(address, "/", "").body.contains("four")).count() as u32;
            broken += thread::scope(|scope| {
                let asking: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
                asking.into_iter().map(|asking| asking.join().unwrap()).sum::<u32>()
            });
            asked += 16 * 20;
            assert!(asked < 16_000, "{broken} of {asked} broke off");
        }
        assert!(shows(&format!("seawall_answers_broken_total{{route=\"r\"}} {broken}")), "{broken}");
        let good = 1.0 - f64::from(broken) / f64::from(asked);
        let metrics = get(&gateway.admin, "/metrics", "").body;
        let shown = metrics.split_once("seawall_availability{route=\"r\"} ").unwrap().1;
        let shown: f64 = shown.lines().next().unwrap().parse().unwrap();
        assert!((shown - good).abs() < 1e-9, "{shown} and not {good}");
        assert!((0..10).all(|_| !gateway.get("/", "").body.contains("four")));
    }
}

#[test]
fn a_lone_host_that_breaks_off_its_answers_opens_its_breaker() {
    let breaking = origin_that_says(SHORT);
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{breaking}\"]\n\
         breaker = {{ failure_rate = \"100%\", window = 9, min_calls = 4, open = \"1m\" }}\n\
         [route.r]\nupstream = \"u\"\nretry = false\n"
    );
    let gateway = Gateway::start(&[&config("broken-lone.toml", &file)]);
    let statuses: Vec<u16> = (0..5).map(|_| gateway.get("/", "").status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 503]);
}

#[test]
fn a_client_that_goes_away_breaks_nothing_off() {
    let log = "[log]\naccess = \"100%\"\nformat = \"json\"";
    let gateway = before("broken-client.toml", "", log);
    let (first, rest) = begin(&gateway, "/events");
    assert_eq!(first, "HTTP/1.1 200 OK");
    drop(rest);
    assert_eq!(told(&gateway)["broken"], false);
    assert!(get(&gateway.admin, "/metrics", "").body.contains("seawall_answers_broken_total{route=\"r\"} 0"));
}
