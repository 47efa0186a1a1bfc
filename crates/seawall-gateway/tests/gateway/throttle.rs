//! Quotas over all routes.

use std::process::Command;
use std::thread;

use crate::harness::{Answer, Gateway, config, get, origin};

/// Two routes, each before an upstream of its own, behind this throttle of the gateway.
fn two_routes(origins: &[String; 2], over_all: &str, own: &str) -> String {
    let [a, b] = origins;
    format!(
        "throttle = [{over_all}]\n[identity]\nuser = [\"header:x-api-key\"]\n\
         [upstream.a]\nhosts = [\"http://{a}\"]\n[upstream.b]\nhosts = [\"http://{b}\"]\n\
         [route.a]\npath = \"/a\"\nupstream = \"a\"\n{own}\n[route.b]\npath = \"/b\"\nupstream = \"b\"\n"
    )
}

#[test]
fn twenty_at_once_over_two_routes_and_exactly_ten_pass() {
    let origins = [origin(), origin()];
    let quota = |burst: u32| format!("{{ per = \"gateway\", rate = \"1/h\", burst = {burst} }}");
    let file = config("over-all.toml", &two_routes(&origins, &quota(10), ""));
    let gateway = Gateway::start(&[&file]);
    let address = gateway.address.as_str();
    let answers: Vec<Answer> = thread::scope(|scope| {
        let path = |n: usize| if n < 10 { "/a" } else { "/b" };
        let asking: Vec<_> = (0..20)
            .map(|n| scope.spawn(move || get(address, path(n), &format!("x-api-key: {n}\r\n"))))
            .collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 10);
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.field("x-seawall-reason")), (429, "throttled"));
        let seconds: u64 = refused.field("retry-after").parse().unwrap();
        assert_eq!(refused.field("ratelimit"), format!("\"gateway\";r=0;t={seconds}"));
        assert_eq!(refused.field("ratelimit-policy"), "\"gateway\";q=10;w=36000");
        assert!(refused.body.contains("\"violated-policies\":[\"gateway\"]"), "{}", refused.body);
    }
    let state = gateway.state();
    assert!(state.contains("\"name\":\"gateway\"") && state.contains("\"throttled\":10"), "{state}");
    let metrics = get(&gateway.admin, "/metrics", "").body;
    assert!(metrics.contains("seawall_throttle_users{throttle=\"gateway\"} 1"), "{metrics}");

    config("over-all.toml", &two_routes(&origins, &quota(20), "deadline = \"5s\""));
    gateway.signal("-HUP");
    gateway.await_log("reloaded");
    assert_eq!(["/a", "/b"].map(|path| gateway.get(path, "").status), [429; 2], "a reload is no amnesty");
}

#[test]
fn a_user_has_one_allowance_over_all_routes_and_a_refused_request_spends_none() {
    let (over_all, own) =
        ("{ rate = \"1/h\", burst = 4, name = \"all\" }", "throttle = [{ rate = \"1/h\", burst = 1 }]");
    let file = config("over-all-user.toml", &two_routes(&[origin(), origin()], over_all, own));
    let gateway = Gateway::start(&[&file]);
    let ask = |path: &str, user: &str| gateway.get(path, &format!("x-api-key: {user}\r\n"));
    assert_eq!(ask("/a", "one").status, 200);
    let refused = ask("/a", "one");
    assert_eq!(refused.status, 429);
    assert!(refused.body.contains("\"violated-policies\":[\"user\"]"), "{}", refused.body);
    assert_eq!(ask("/b", "one").field("ratelimit"), "\"all\";r=2", "what `user` refused took nothing");
    assert_eq!([(); 3].map(|()| ask("/b", "one").status), [200, 200, 429]);
    assert_eq!(ask("/b", "two").status, 200);
}

#[test]
fn quotas_without_names_outlive_another_order_and_what_does_not_is_said() {
    let origins = [origin(), origin()];
    let text = |own: &str| two_routes(&origins, "", &format!("throttle = [{own}]"));
    let (hourly, fast) = ("{ rate = \"1/h\", burst = 2 }", "{ rate = \"1000/s\" }");
    let file = config("reordered.toml", &text(&format!("{fast}, {hourly}")));
    let gateway = Gateway::start(&[&file]);
    let status = || gateway.get("/a", "x-api-key: one\r\n").status;
    let reload = |text: &str| {
        config("reordered.toml", text);
        gateway.signal("-HUP");
    };
    assert_eq!([(); 3].map(|()| status()), [200, 200, 429]);
    reload(&text(&format!("{hourly}, {fast}")));
    gateway.await_log("\"kept\":[\"a user\",\"a user-2\"],\"new\":[]");
    assert_eq!(status(), 429, "another order is no amnesty");
    reload(&text(&hourly.replace("{ ", "{ name = \"hourly\", ")));
    gateway.await_log("\"gone\":[\"a user-2\"],\"kept\":[\"a hourly\"]");
    assert_eq!(status(), 429, "nor is a name");
    let fewer = "user = [\"header:x-api-key\"]\nmax_users = 7";
    reload(&text(hourly).replace("user = [\"header:x-api-key\"]", fewer));
    gateway.await_log("nothing is spent of them new=[\"a user\"] gone=[\"a hourly\"]");
    gateway.await_log("reloaded; what is kept goes on with its state");
    assert_eq!(status(), 200, "another table has nobody in it");
}

#[test]
fn a_check_tells_once_what_concerns_the_quotas_of_the_gateway() {
    let over_all = "{ per = \"gateway\", rate = \"50/s\" }, { rate = \"60/s\" }";
    let own = "throttle = [{ per = \"route\", rate = \"70/s\" }]";
    let hosts = ["h:1", "h:2"].map(str::to_owned);
    let file = config("over-all-lint.toml", &two_routes(&hosts, over_all, own));
    let output =
        Command::new(env!("CARGO_BIN_EXE_seawall")).args(["check", "--lint", &file]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let findings: Vec<&str> = said.lines().filter(|line| line.contains("quota-never-binds")).collect();
    assert_eq!(findings.len(), 2, "{said}");
    assert!(findings[0].contains("the user's own of 60/s with burst 60 never refuses"), "{said}");
    assert!(findings[1].contains("the route's own of 70/s with burst 70 never refuses"), "{said}");
}
