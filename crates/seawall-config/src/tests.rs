use std::path::Path;
use std::time::Duration;

use http::HeaderName;
use proptest::prelude::{Strategy, any, prop, proptest};
use seawall_core::decision::Policy;
use seawall_core::enforcement::{Enforcement, Stance};
use seawall_core::limit::{self, Ceiling, Discipline, adaptive, bulkhead};
use seawall_core::measure::bucket::{Quota, Rate};
use seawall_core::request::Tier;
use seawall_core::retry::backoff::{Backoff, Kind};
use seawall_core::retry::budget;
use seawall_core::throttle::{OnFull, Per};
use seawall_core::time::Span;
use seawall_core::{breaker, call, eject, health, shed};

use super::identity::Identity;
use super::replicas::HealthCheck;
use super::route::TierRule;
use super::{Colour, Config, ConfigError, Headers, Hosts, NormalPath, Protocol, Question, Route, Upstream};
use super::{Room, Throttle, UpstreamTls, Url, UserSource};

mod refusals;

const MINIMAL: &str = include_str!("../../../examples/minimal.toml");
const WHOLE: &str = include_str!("../../../examples/seawall.toml");

fn parse(source: &str) -> Result<Config, ConfigError> {
    Config::from_toml(source, Path::new("seawall.toml"))
}

/// A valid file with these lines at its top.
fn file(lines: &str) -> String {
    format!("{lines}\n[upstream.u]\nhosts = [\"http://h:1\"]\n[route.r]\nupstream = \"u\"\n")
}

/// A valid file whose upstream `u` has these lines, too.
fn upstream(lines: &str) -> String {
    format!("[upstream.u]\n{lines}\nhosts = [\"http://h:1\"]\n[route.r]\nupstream = \"u\"\n")
}

/// A valid file whose route `r` has these lines, too.
fn route(lines: &str) -> String {
    format!("[route.r]\n{lines}\nupstream = \"u\"\n[upstream.u]\nhosts = [\"http://h:1\"]\n")
}

fn read_file(lines: &str) -> Config {
    parse(&file(lines)).unwrap()
}

fn read_upstream(lines: &str) -> Upstream {
    parse(&upstream(lines)).unwrap().upstreams["u"].clone()
}

fn read_route(lines: &str) -> Route {
    parse(&route(lines)).unwrap().routes[0].clone()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn a_minimal_file_is_all_defaults() {
    let mut expected = Config::for_upstreams(Hosts::from(url("http://127.0.0.1:3000")));
    let upstream = expected.upstreams.remove("default").unwrap();
    expected.upstreams.insert("app".to_owned(), upstream);
    expected.routes = vec![Route::new("app", "app")];
    assert_eq!(parse(MINIMAL).unwrap(), expected);
}

/// The example says "default" at most of its keys: they are.
#[test]
fn the_whole_example_says_true_defaults() {
    let config = parse(WHOLE).unwrap();
    let orders = &config.upstreams["orders"];
    let expected = Upstream { model: orders.model.clone(), ..Upstream::new(orders.hosts.clone()) };
    assert_eq!(orders, &expected);
    assert_eq!(config.admin, super::Admin::default());
    assert_eq!(config.drain, super::Drain::default());
    assert_eq!(config.headers, Headers::default());
    let route = config.routes.iter().find(|route| route.name == "orders").unwrap();
    let default = Route::new("orders", "orders");
    let target = |route: &Route| route.shed.map(|shed| shed.target);
    assert_eq!(target(route), target(&default));
    assert_eq!(route.optional, default.optional);
    assert_eq!(route.tier.default, default.tier.default);
    assert_eq!(call::Config { per_attempt: None, ..route.retry }, default.retry);
    assert_eq!(route.throttle[0].config.max_users, seawall_core::throttle::MAX_USERS);
    assert_eq!(route.throttle[0].config.on_full, OnFull::default());
}

/// Whether the schema knows every key of this value.
fn known(schema: &serde_json::Value, value: &toml::Value) -> Result<(), String> {
    let choices = schema.get("oneOf").and_then(|choices| choices.as_array());
    if let Some(choices) = choices {
        let tried = choices.iter().map(|choice| known(choice, value));
        return tried.reduce(Result::or).unwrap_or_else(|| Err("no choice".to_owned()));
    }
    let (properties, others) = (schema.get("properties"), schema.get("additionalProperties"));
    match value {
        toml::Value::Table(table) => table.iter().try_for_each(|(key, value)| {
            let named = properties.and_then(|properties| properties.get(key));
            let inner =
                named.or(others.filter(|others| others.is_object())).ok_or(format!("no key {key}"))?;
            known(inner, value).map_err(|error| format!("{key}: {error}"))
        }),
        toml::Value::Array(items) => {
            let inner = schema.get("items").ok_or("no list")?;
            items.iter().try_for_each(|item| known(inner, item))
        }
        _ if properties.is_some() || schema.get("items").is_some() => Err("no plain value".to_owned()),
        _ => Ok(()),
    }
}

#[test]
fn the_schema_knows_every_key_of_the_whole_example() {
    let schema = serde_json::from_str(super::SCHEMA).unwrap();
    known(&schema, &toml::from_str(WHOLE).unwrap()).unwrap();
    assert!(known(&schema, &toml::from_str("[route.r]\nupstrem = \"u\"").unwrap()).is_err());
}

#[test]
fn addresses() {
    let config = read_file("listen = \"[::]:80\"\nadmin.listen = \"[::1]:0\"");
    assert_eq!(config.listen, "[::]:80".parse().unwrap());
    assert_eq!(config.admin.listen, "[::1]:0".parse().unwrap());
    assert_eq!(read_file("").listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(read_file("").admin.listen, "127.0.0.1:9090".parse().unwrap());
}

#[test]
fn a_drain_with_every_key() {
    let drain = |lines| parse(&file(lines)).map(|config| config.drain);
    let read = drain("drain = { lame_duck = \"5m\", grace = \"2h\" }").unwrap();
    assert_eq!((read.lame_duck, read.grace), (Span::from_secs(300), Span::from_secs(7_200)));
    assert_eq!(drain("drain.lame_duck = false").unwrap().lame_duck, Span::ZERO);
    for (lines, wanted) in [
        (
            "drain.lame_duck = \"6m\"",
            "`lame_duck`: the text `6m` is not a duration of at most `5m`, or `false`",
        ),
        ("drain.grace = false", "`grace`"),
    ] {
        let error = drain(lines).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn identity_in_the_order_of_the_file() {
    let config = read_file(
        "[identity]\nuser = [\"header:X-Api-Key\", \"client-ip\"]\ntrusted_proxies = [\"10.0.0.0/8\"]",
    );
    let key = HeaderName::from_static("x-api-key");
    assert_eq!(config.identity.user, [UserSource::Header(key), UserSource::ClientIp]);
    assert_eq!(config.identity.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(read_file("").identity, Identity::default());
    let nobody = read_file("identity.trusted_proxies = []").identity.trusted_proxies;
    assert!(nobody.is_empty());
}

#[test]
fn the_table_of_users_goes_to_every_throttle() {
    for (word, on_full) in [("refuse", OnFull::Refuse), ("share", OnFull::Share), ("evict", OnFull::Evict)] {
        let users = format!("[identity]\nmax_users = 7\non_full = \"{word}\"\n");
        let source = users + &route("throttle = [{ rate = \"1/s\" }, { rate = \"1/h\", per = \"route\" }]");
        for throttle in &parse(&source).unwrap().routes[0].throttle {
            assert_eq!((throttle.config.max_users, throttle.config.on_full), (7, on_full));
        }
    }
}

#[test]
fn header_switches() {
    let lines = "[headers]\nrate_limit = false\nlegacy_rate_limit = true\nproxy_status = false\nenvoy = false\nenvoy_requests = true\nenvoy_timeout = false\nforwarded = true";
    let headers = Headers {
        rate_limit: false,
        legacy_rate_limit: true,
        proxy_status: false,
        envoy: false,
        envoy_requests: true,
        envoy_timeout: false,
        forwarded: true,
    };
    assert_eq!(read_file(lines).headers, headers);
    assert_eq!(read_file("").headers, Headers::default());
}

#[test]
fn an_upstream_with_every_key() {
    let read = read_upstream(
        "protocol = \"h2c\"\nconnect_timeout = \"2s\"\nidle_timeout = \"5m\"\nbudget = \"20%\"\n\
         health = { path = \"/up?deep=1\", every = \"1s\", fall = 2, rise = 1 }\nslow_start = \"30s\"\n\
         shadow = [\"breaker\", \"eject\", \"retry\", \"hedge\"]\n\
         eject = { failure_rate = \"40%\", window = \"20s\", min_calls = 5, for = \"3s\", at_most = \"30%\", \
         consecutive = 7, slow_times = false }\n\
         breaker = { failure_rate = \"25%\", slow = \"1s\", slow_rate = \"70%\", window = 10, min_calls = 5, \
         open = \"1s\", open_max = \"5m\", probes = 1 }\n\
         limit = { adaptive = true, max = 8, queue = 0 }",
    );
    let settings = breaker::Settings {
        failure_rate_ppm: 250_000,
        slow: Some(breaker::Slow { after: Span::from_secs(1), rate_ppm: 700_000 }),
        window: breaker::Extent::Calls(10),
        min_calls: 5,
        open: Span::from_secs(1),
        open_max: Span::from_secs(300),
        probes: 1,
        ..breaker::Settings::default()
    };
    let expected = Upstream {
        hosts: Hosts::from(url("http://h:1")),
        protocol: Protocol::H2c,
        connect_timeout: Span::from_secs(2),
        idle_timeout: Span::from_secs(300),
        tls: UpstreamTls::default(),
        health: Some(HealthCheck {
            question: Question::Http { path: "/up?deep=1".to_owned() },
            config: health::Config::new(health::Settings {
                every: Span::from_secs(1),
                fall: 2,
                rise: 1,
                ..health::Settings::default()
            })
            .unwrap(),
        }),
        eject: Some(
            eject::Config::new(eject::Settings {
                failure_rate_ppm: 400_000,
                consecutive: 7,
                slow_times: None,
                window: Span::from_secs(20),
                min_calls: 5,
                time: Span::from_secs(3),
                at_most_ppm: 300_000,
                ..eject::Settings::default()
            })
            .unwrap(),
        ),
        shadow: [Policy::Breaker, Policy::Eject, Policy::Retry, Policy::Hedge]
            .into_iter()
            .fold(Stance::default(), |stance, policy| stance.with(policy, Enforcement::Shadow)),
        slow_start: Span::from_secs(30),
        breaker: Some(breaker::Config::new(settings).unwrap()),
        limit: limit::Config {
            ceiling: Ceiling::Adaptive(
                adaptive::Config::new(adaptive::Settings { initial: 8, max: 8 }).unwrap(),
            ),
            queue: 0,
            ..limit::Config::default()
        },
        budget: budget::Config::new(200_000).unwrap(),
        model: None,
    };
    assert_eq!(read, expected);
}

#[test]
fn a_breaker_that_opens_for_long_stays_open_for_no_longer_unless_that_is_said() {
    for (lines, longest) in [("open = \"5s\"", 60), ("open = \"90s\"", 90), ("open_max = \"5s\"", 5)] {
        let breaker = read_upstream(&format!("breaker = {{ {lines} }}")).breaker.unwrap();
        assert_eq!(breaker.settings().open_max, Span::from_secs(longest), "{lines}");
    }
}

#[test]
fn the_ways_to_ask_a_host() {
    let question = |lines| read_upstream(lines).health.unwrap().question;
    assert_eq!(question("health = {}"), Question::Http { path: "/healthz".to_owned() });
    assert_eq!(question("health = { kind = \"tcp\" }"), Question::Tcp);
    let grpc = Question::Grpc { service: "orders.v1".to_owned() };
    assert_eq!(question("health = { kind = \"grpc\", service = \"orders.v1\" }"), grpc);
    let quick = read_upstream("health = { every = \"200ms\" }").health.unwrap().config;
    let within = health::Settings {
        every: Span::from_millis(200),
        within: Span::from_millis(200),
        ..health::Settings::default()
    };
    assert_eq!(quick, health::Config::new(within).unwrap());
}

#[test]
fn an_upstream_turned_down() {
    let read = read_upstream(
        "eject = false\nslow_start = false\nbreaker = false\nlimit = { adaptive = false, max = 3 }\nbudget = \"0%\"",
    );
    assert_eq!((read.breaker, read.eject, read.slow_start), (None, None, Span::ZERO));
    assert_eq!(
        read.limit,
        limit::Config { ceiling: Ceiling::Fixed(3), queue: 1_024, ..limit::Config::default() }
    );
    assert_eq!(read.budget, budget::Config::new(0).unwrap());
}

#[test]
fn a_limit_that_is_shared() {
    let shared = |keys: &str| read_upstream(&format!("limit = {{ {keys} }}")).limit;
    let bulkhead = bulkhead::Settings { share_percent: 25, tenants: 100 };
    assert_eq!(
        shared("discipline = \"adaptive_lifo\", bulkhead = { share = \"25%\", tenants = 100 }"),
        limit::Config {
            discipline: Discipline::AdaptiveLifo,
            bulkhead: Some(bulkhead::Config::new(bulkhead).unwrap()),
            ..limit::Config::default()
        }
    );
    assert_eq!(shared("bulkhead = {}").bulkhead, Some(bulkhead::Config::default()));
    assert_eq!(shared("discipline = \"by_tier\"").discipline, Discipline::ByTier);
}

/// A short window alone must not fail on the default of a key that nobody wrote.
#[test]
fn a_window_below_the_default_minimum_of_calls() {
    let settings = breaker::Settings {
        window: breaker::Extent::Calls(10),
        min_calls: 10,
        ..breaker::Settings::default()
    };
    assert_eq!(
        read_upstream("breaker = { window = 10 }").breaker,
        Some(breaker::Config::new(settings).unwrap())
    );
}

#[test]
fn hosts_in_the_order_of_the_file() {
    let source = "[upstream.u]\nhosts = [\"http://B.local:80/\", \"http://[::1]:3000\", \"http://10.0.0.1:65535\"]\n\
                  [route.r]\nupstream = \"u\"\n";
    let config = parse(source).unwrap();
    let hosts: Vec<String> =
        config.upstreams["u"].hosts.as_slice().iter().map(|url| url.to_string()).collect();
    assert_eq!(hosts, ["http://b.local:80", "http://[::1]:3000", "http://10.0.0.1:65535"]);
}

#[test]
fn a_route_with_every_key() {
    let read = read_route(
        "path = \"/a/*\"\nhost = \"API.example.com\"\ndeadline = \"2s\"\n\
         tier = { header = \"X-Tier\", default = \"sheddable\" }\n\
         throttle = [{ per = \"route\", rate = \"1/h\", burst = 100, name = \"hourly\" }]\n\
         limit = { max = 64, queue = 32 }\nshed = { queue_delay = \"5ms\" }\n\
         retry = { attempts = 2, per_attempt = \"800ms\", backoff = { kind = \"exponential\", base = \"1ms\", \
         cap = \"4ms\", jitter = \"decorrelated\" } }",
    );
    assert_eq!(
        (read.path.to_string(), read.host.to_string()),
        ("/a/*".to_owned(), "api.example.com".to_owned())
    );
    assert_eq!(read.deadline, Span::from_secs(2));
    let header = Some(HeaderName::from_static("x-tier"));
    assert_eq!(read.tier, TierRule { header, default: Tier::Sheddable });
    let throttle = &read.throttle[0];
    assert_eq!((throttle.name.as_str(), throttle.config.per), ("hourly", Per::Route));
    let hourly = Rate { count: 1, per: Span::from_secs(3_600) };
    assert_eq!(*throttle.config.quota(), Quota::new(hourly, 100).unwrap());
    assert_eq!(read.limit, limit::Lane { max: 64, queue: 32 });
    let shed = shed::Config { target: Span::from_millis(5), ..shed::Config::default() };
    assert_eq!(read.shed, Some(shed));
    let (base, cap) = (Span::from_millis(1), Span::from_millis(4));
    let backoff = Backoff::new(Kind::Decorrelated, base, cap).unwrap();
    assert_eq!(read.retry, call::Config { attempts: 2, per_attempt: Some(Span::from_millis(800)), backoff });
}

#[test]
fn a_route_turned_down() {
    let read = read_route("shed = false\nretry = false\nthrottle = []");
    assert_eq!((read.shed, read.retry.attempts, read.throttle), (None, 1, Vec::new()));
}

#[test]
fn every_tier_by_its_name() {
    for tier in Tier::ALL {
        let plain = read_route(&format!("tier = \"{}\"", tier.name()));
        assert_eq!(plain.tier, TierRule { header: None, default: tier });
    }
    assert_eq!(read_route("tier = { header = \"t\" }").tier.default, Tier::Critical);
}

#[test]
fn every_backoff() {
    let (base, cap) = (Span::from_millis(50), Span::from_secs(2));
    let backoff = |kind, base, cap| Backoff::new(kind, base, cap).unwrap();
    for (text, expected) in [
        ("", backoff(Kind::Full, base, cap)),
        ("kind = \"exponential\"", backoff(Kind::Full, base, cap)),
        ("jitter = \"none\"", backoff(Kind::Exponential, base, cap)),
        ("jitter = \"full\"", backoff(Kind::Full, base, cap)),
        ("jitter = \"equal\"", backoff(Kind::Equal, base, cap)),
        ("jitter = \"decorrelated\"", backoff(Kind::Decorrelated, base, cap)),
        ("jitter = \"additive\"", backoff(Kind::Additive, base, cap)),
        ("base = \"5s\"", backoff(Kind::Full, Span::from_secs(5), Span::from_secs(5))),
        ("kind = \"fixed\"", backoff(Kind::Fixed, base, base)),
        ("kind = \"fixed\", base = \"5s\"", backoff(Kind::Fixed, Span::from_secs(5), Span::from_secs(5))),
        ("kind = \"none\"", Backoff::NONE),
    ] {
        let read = read_route(&format!("retry.backoff = {{ {text} }}"));
        assert_eq!(read.retry, call::Config { backoff: expected, ..call::Config::default() }, "{text}");
    }
}

#[test]
fn a_burst_is_one_seconds_worth_and_at_least_one() {
    for (rate, burst) in
        [("50/s", 50), ("1/s", 1), ("1000/h", 1), ("120/m", 2), ("100/m", 1), ("1000000000/s", 1_000_000_000)]
    {
        let read = read_route(&format!("throttle = [{{ rate = \"{rate}\" }}]"));
        assert_eq!(read.throttle[0].config.quota().burst(), burst, "{rate}");
    }
}

#[test]
fn every_route_has_the_quotas_of_the_gateway_before_its_own() {
    let over_all = "throttle = [{ per = \"gateway\", rate = \"5000/s\" }, { rate = \"100/s\" }]\n";
    let own = "throttle = [{ rate = \"10/s\" }, { per = \"route\", rate = \"50/s\" }]";
    let config =
        parse(&format!("{over_all}{}[route.bare]\nupstream = \"u\"\npath = \"/bare\"\n", route(own)));
    let config = config.unwrap();
    let met = |route: &Route| -> Vec<(String, bool, Per)> {
        let met = |throttle: &Throttle| (throttle.name.clone(), throttle.shared, throttle.config.per);
        route.throttle.iter().map(met).collect()
    };
    let of = |name: &str| config.routes.iter().find(|route| route.name == name).unwrap();
    let gateway = [("gateway".to_owned(), true, Per::Gateway), ("gateway-user".to_owned(), true, Per::User)];
    assert_eq!(met(of("bare")), gateway);
    assert_eq!(met(of("r"))[..2], gateway);
    let own = [("user".to_owned(), false, Per::User), ("route".to_owned(), false, Per::Route)];
    assert_eq!(met(of("r"))[2..], own, "named as they are without those of the gateway");
    assert_eq!(config.throttle, of("bare").throttle);
    assert!(of("r").cheaper("u").throttle.is_empty(), "who stands in spends nothing");
}

#[test]
fn a_plan_has_one_number_for_the_gateway_and_its_routes() {
    let quota = |plan: &str, rate: &str| {
        format!("throttle = [{{ rate = \"1/s\", plans = {{ {plan} = {{ rate = \"{rate}\" }} }} }}]")
    };
    let config = parse(&format!("{}\n{}", quota("gold", "9/s"), route(&quota("silver", "7/s")))).unwrap();
    let read = &config.routes[0];
    assert_eq!(read.plans, ["gold", "silver"]);
    let rate = |throttle: &Throttle, plan| throttle.config.plans.quota(plan).rate().count;
    let [over_all, own] = &read.throttle[..] else { panic!("{read:?}") };
    assert_eq!([0, 1, 2].map(|plan| rate(over_all, plan)), [1, 9, 1]);
    assert_eq!([0, 1, 2].map(|plan| rate(own, plan)), [1, 1, 7]);
}

#[test]
fn a_name_of_the_gateways_is_not_given_again() {
    let over_all = "throttle = [{ rate = \"9/s\", name = \"user\" }]\n";
    let config = parse(&format!("{over_all}{}", route("throttle = [{ rate = \"1/s\" }]"))).unwrap();
    let names: Vec<&str> = config.routes[0].throttle.iter().map(|throttle| throttle.name.as_str()).collect();
    assert_eq!(names, ["user", "user-2"]);
}

#[test]
fn throttles_without_names_are_numbered_around_those_with() {
    let read = read_route(
        "throttle = [{ rate = \"1/s\" }, { rate = \"1/s\", name = \"user-2\" }, { rate = \"1/s\" },\n\
         { rate = \"1/s\", per = \"route\" }, { rate = \"1/s\" }]",
    );
    let names: Vec<&str> = read.throttle.iter().map(|throttle| throttle.name.as_str()).collect();
    assert_eq!(names, ["user", "user-2", "user-3", "route", "user-4"]);
}

/// Which route takes which request, whatever the order of the file and of the names.
#[test]
fn the_most_specific_route_takes_a_request() {
    let source = r#"
        [upstream.u]
        hosts = ["http://h:1"]
        [route]
        a-all = { upstream = "u" }
        b-below = { upstream = "u", path = "/a/*" }
        c-deeper = { upstream = "u", path = "/a/b/*" }
        d-exact = { upstream = "u", path = "/a/b" }
        e-root = { upstream = "u", path = "/" }
        f-domain = { upstream = "u", host = "*.example.com" }
        g-deeper = { upstream = "u", host = "*.eu.example.com" }
        h-host = { upstream = "u", host = "api.eu.example.com", path = "/only/*" }
    "#;
    let config = parse(source).unwrap();
    for (host, path, expected) in [
        ("", "/", "e-root"),
        ("localhost", "/x", "a-all"),
        ("localhost", "*", "a-all"),
        ("localhost", "/a", "b-below"),
        ("localhost", "/a/", "b-below"),
        ("localhost", "/ab", "a-all"),
        ("localhost", "/a/b", "d-exact"),
        ("localhost", "/a/b/", "c-deeper"),
        ("localhost", "/a/b/c", "c-deeper"),
        ("localhost", "/a/bc", "b-below"),
        ("localhost", "/A", "a-all"),
        ("example.com", "/x", "a-all"),
        (".example.com", "/x", "a-all"),
        ("notexample.com", "/x", "a-all"),
        ("www.example.com", "/a/b", "f-domain"),
        ("WWW.Example.COM", "/", "f-domain"),
        ("api.eu.example.com", "/a/b", "g-deeper"),
        ("api.eu.example.com", "/only/this", "h-host"),
        ("ü.example.com", "/x", "f-domain"),
        ("exämple.com", "/x", "a-all"),
        ("localhost", "//a/b", "d-exact"),
        ("localhost", "/x/%2e%2e/a/./%62", "d-exact"),
        ("localhost", "/x/..", "e-root"),
        ("localhost", "/a%2Fb", "a-all"),
    ] {
        let taken = config
            .routes
            .iter()
            .find(|route| {
                let path = NormalPath::of(path);
                route.matches(host, &path, &http::Method::GET, &http::HeaderMap::new())
            })
            .unwrap();
        assert_eq!(taken.name, expected, "{host}{path}");
    }
}

#[test]
fn a_route_is_matched_however_the_file_spells_its_path() {
    for (text, wanted) in [("/%61//b/./*", "/a/b/*"), ("/x/../*", "/*"), ("/a/..", "/"), ("/a%2fb", "/a%2Fb")]
    {
        assert_eq!(read_route(&format!("path = \"{text}\"")).path.to_string(), wanted, "{text}");
    }
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_said_so() {
    let missing = Config::read(Path::new("no/such/seawall.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("error: cannot read `no/such/seawall.toml`: "), "{missing}");
    let folder = Config::read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err().to_string();
    assert!(folder.starts_with("error: cannot read "), "{folder}");
}

#[test]
fn a_file_is_read_from_the_disk() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/seawall.toml");
    assert_eq!(Config::read(&path).unwrap(), parse(WHOLE).unwrap());
}

#[test]
fn colours_only_when_asked() {
    let error = parse("lissten = 1").unwrap_err();
    assert!(!error.render(Colour::Never).contains('\u{1b}'));
    assert!(error.render(Colour::Always).contains('\u{1b}'));
    assert_eq!(error.to_string(), error.render(Colour::Never));
}

/// The user's own text must not command the terminal that shows it.
#[test]
fn control_characters_are_escaped() {
    let rendered = parse("\"a\\u001b[31m\" = 1\nlisten = \"\\u001b[2J\"\n").unwrap_err().to_string();
    assert!(!rendered.contains('\u{1b}'), "{rendered}");
    assert!(rendered.contains("unknown key `a\\u{1b}[31m`"), "{rendered}");
}

#[test]
fn a_report_is_bounded() {
    let many: String = (0..1_000).map(|n| format!("key{n} = 1\n")).collect();
    let rendered = parse(&file(&many)).unwrap_err().to_string();
    assert_eq!(rendered.matches("unknown key").count(), 20);
    assert!(rendered.ends_with("\n\nand 980 more"), "{rendered}");
}

/// Edits a text at a place: what a typo, a slip of the hand or a broken disk does.
#[derive(Clone, Debug)]
enum Edit {
    Remove { at: prop::sample::Index, characters: usize },
    Insert { at: prop::sample::Index, text: String },
    Move { from: prop::sample::Index, to: prop::sample::Index, characters: usize },
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<prop::sample::Index>;
    let token = prop::sample::select(vec![
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\r",
        "\t",
        "#",
        "\"\"\"",
        "0",
        "-1",
        "1e9",
        "false",
        "99999999999999999999",
        "1979-05-27",
        "[[route.x]]\n",
        "[upstream]\n",
        "\\u001b",
        "\u{0}",
        "ü",
        "\u{202e}",
        "%",
    ]);
    proptest::prop_oneof![
        (index(), 1..40_usize).prop_map(|(at, characters)| Edit::Remove { at, characters }),
        (index(), token).prop_map(|(at, text)| Edit::Insert { at, text: text.to_owned() }),
        (index(), ".{0,8}").prop_map(|(at, text)| Edit::Insert { at, text }),
        (index(), index(), 1..80_usize).prop_map(|(from, to, characters)| Edit::Move {
            from,
            to,
            characters
        }),
    ]
}

impl Edit {
    fn apply(&self, text: &mut Vec<char>) {
        let take = |text: &mut Vec<char>, at: &prop::sample::Index, characters: usize| -> Vec<char> {
            let start = at.index(text.len() + 1);
            let end = (start + characters).min(text.len());
            text.drain(start..end).collect()
        };
        let put = |text: &mut Vec<char>, at: &prop::sample::Index, piece: Vec<char>| {
            let start = at.index(text.len() + 1);
            text.splice(start..start, piece);
        };
        match self {
            Edit::Remove { at, characters } => drop(take(text, at, *characters)),
            Edit::Insert { at, text: piece } => put(text, at, piece.chars().collect()),
            Edit::Move { from, to, characters } => {
                let piece = take(text, from, *characters);
                put(text, to, piece);
            }
        }
    }
}

fn edited(source: &str, edits: &[Edit]) -> String {
    let mut text: Vec<char> = source.chars().collect();
    edits.iter().for_each(|edit| edit.apply(&mut text));
    text.into_iter().collect()
}

proptest! {
    /// No text panics the parser or the report, and what is accepted stays within its bounds.
    #[test]
    fn any_text_is_read_or_refused(whole in any::<bool>(), edits in prop::collection::vec(edit(), 1..6)) {
        let source = edited(if whole { WHOLE } else { MINIMAL }, &edits);
        match parse(&source) {
            Ok(config) => {
                assert!(config.admin.listen.ip().is_loopback());
                assert!(!config.identity.user.is_empty());
                for route in &config.routes {
                    assert!(config.upstreams.contains_key(&route.upstream));
                    assert!(route.deadline > Span::ZERO && Duration::from(route.deadline) <= Duration::from_secs(86_400));
                    assert!((1..=call::ATTEMPTS_MAX).contains(&route.retry.attempts));
                }
                assert!(!config.upstreams.is_empty() && !config.routes.is_empty());
            }
            Err(error) => {
                assert!(error.to_string().contains("error: "));
                assert!(!error.render(Colour::Always).is_empty());
            }
        }
    }

    /// Noise, too.
    #[test]
    fn noise_is_read_or_refused(source in "(?s).{0,200}") {
        assert!(parse(&source).unwrap_err().to_string().contains("error: "));
    }

    /// No rounding between the file and the value.
    #[test]
    fn a_duration_is_read_exactly(millis in 1..86_400_000_u64) {
        let read = read_route(&format!("deadline = \"{millis}ms\""));
        assert_eq!(read.deadline, Span::from_millis(millis));
    }
}

#[test]
fn the_room_of_a_fallback() {
    let room = |keys: &str| read_route(&format!("fallback = [{{ stale = \"5m\"{keys} }}]")).fallback.room;
    let default = Room { body: 256 << 10, bytes: 64 << 20, entries: 10_000 };
    assert_eq!(room(""), default);
    assert_eq!(room(", max_entries = 9"), Room { entries: 9, ..default });
    assert_eq!(room(", max_bytes = \"1KiB\""), Room { body: 1 << 10, bytes: 1 << 10, ..default });
    assert_eq!(room(", max_body = \"64MiB\""), Room { body: 64 << 20, ..default });
}
