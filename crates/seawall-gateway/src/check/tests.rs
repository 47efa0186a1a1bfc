use super::*;

const MINIMAL: &str = include_str!("../../../../examples/minimal.toml");
const WHOLE: &str = include_str!("../../../../examples/seawall.toml");

/// What is found, each with its place and how bad it is.
fn found(text: &str) -> Vec<String> {
    let config = Config::from_toml(text, Path::new("seawall.toml")).unwrap();
    let told = |found: &Found| format!("{}: {} [{}]", found.about, found.severity.name(), found.rule);
    findings(&config).iter().map(told).collect()
}

/// One route to one upstream of two hosts, another upstream for what is to be named, and these lines.
fn of(root: &str, route: &str) -> String {
    format!(
        "{root}\n[upstream.one]\nhosts = [\"http://10.0.0.1:80\", \"http://10.0.0.2:80\"]\n\
         [upstream.two]\nhosts = [\"http://10.0.0.3:80\"]\n\
         [route.other]\npath = \"/other\"\nupstream = \"two\"\n\
         [route.r]\nupstream = \"one\"\n{route}\n"
    )
}

/// Exactly this is found of it.
fn finds(text: &str, wanted: &[&str]) {
    assert_eq!(found(text), wanted, "{text}");
}

#[test]
fn nothing_is_found_where_nothing_is_written() {
    finds(MINIMAL, &[]);
    finds(&of("", ""), &[]);
}

#[test]
fn advice_about_what_is_written_is_given() {
    finds(&of("", "deadline = \"5s\""), &[]);
    let late = "route r: advice [breaker-open-below-timeout]";
    assert!(found(&of("", "deadline = \"8s\"")).iter().any(|found| found == late));
}

#[test]
fn the_whole_example_has_no_errors() {
    let errors = found(WHOLE).into_iter().filter(|found| found.contains(": error "));
    assert_eq!(errors.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_fallback_or_a_mirror_to_itself() {
    finds(&of("", "fallback = [{ upstream = \"one\" }]"), &["route r: error [fallback-to-itself]"]);
    finds(&of("", "fallback = [{ upstream = \"two\" }]"), &[]);
    finds(&of("", "mirror = { upstream = \"one\" }"), &["route r: warning [mirror-to-itself]"]);
    finds(&of("", "mirror = { upstream = \"two\" }"), &[]);
}

#[test]
fn plans_that_nobody_can_have() {
    let plans = "throttle = [{ rate = \"50/s\", plans = { gold = { rate = \"500/s\" } } }]";
    let header = "identity.plan = \"x-plan\"";
    finds(&of("", plans), &["route r: error [plans-never-chosen]"]);
    finds(&of(header, plans), &[]);
    finds(&of(plans, ""), &["gateway: error [plans-never-chosen]"]);
    finds(&of(&format!("{plans}\n{header}"), ""), &[]);
}

#[test]
fn who_is_asked_after_the_address() {
    let user = |list: &str| of(&format!("identity.user = [{list}]"), "");
    finds(&user("\"client-ip\", \"header:x\""), &["identity: error [identity-never-asked]"]);
    finds(&user("\"header:x\", \"client-ip\""), &[]);
}

#[test]
fn a_hedge_that_has_nowhere_else_to_go() {
    let hedge = "hedge = { after = \"p95\" }";
    finds(&of("", hedge), &[]);
    let alone = of("", "").replace("path = \"/other\"", &format!("path = \"/other\"\n{hedge}"));
    finds(&alone, &["route other: advice [hedge-alone]"]);
}

#[test]
fn an_upstream_that_is_the_gateway() {
    let at = |listen: &str, host: &str| {
        let text = of(&format!("listen = \"{listen}\""), "");
        found(&text.replace("http://10.0.0.3:80", &format!("http://{host}")))
    };
    for (listen, host) in [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "localhost:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "localhost:8080"),
        ("[::]:8080", "127.0.0.1:8080"),
        ("[::]:8080", "[::1]:8080"),
        ("10.0.0.7:8080", "10.0.0.7:8080"),
        ("127.0.0.1:8080", "0.0.0.0:8080"),
    ] {
        assert_eq!(at(listen, host), ["upstream two: error [upstream-is-gateway]"], "{listen} {host}");
    }
    for (listen, host) in [
        ("127.0.0.1:8080", "127.0.0.1:8081"),
        ("0.0.0.0:8080", "10.0.0.7:8080"),
        ("0.0.0.0:8080", "[::1]:8080"),
        ("127.0.0.1:8080", "orders:8080"),
    ] {
        assert_eq!(at(listen, host), Vec::<String>::new(), "{listen} {host}");
    }
}

#[test]
fn an_upstream_that_nothing_leads_to() {
    let third = "\n[upstream.three]\nhosts = [\"http://10.0.0.4:80\"]\n";
    finds(&of("", third), &["upstream three: advice [upstream-unused]"]);
    for lines in [
        "fallback = [{ upstream = \"three\" }]",
        "mirror = { upstream = \"three\" }",
        "[upstream.one.model]\ntime = \"5ms\"\ncalls = [\"three\"]",
    ] {
        finds(&of("", &format!("{lines}{third}")), &[]);
    }
    finds(&of("", third).replace("upstream = \"one\"", "upstream = { one = 1, three = 0 }"), &[]);
}

#[test]
fn a_finding_says_where_what_and_what_to_change() {
    let config = Config::from_toml(&of("", "mirror = { upstream = \"one\" }"), Path::new("x")).unwrap();
    let text = findings(&config)[0].to_string();
    assert_eq!(
        text,
        "route r: warning [mirror-to-itself]: the mirror sends copies to the upstream that serves the route, `one`: \
         it gets them on top of its load, and what a request changes is changed twice; name another upstream, or \
         leave `mirror` out"
    );
}
