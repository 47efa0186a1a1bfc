//! What operators do to a running gateway.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Gateway, ask, config, get, origin, quota, token};

#[test]
fn a_block_survives_reload_and_restart_and_is_admitted_again() {
    let text = quota(&origin(), "1/s", 1_000);
    let file = config("block.toml", &text);
    let _ = std::fs::remove_file(format!("{file}.state"));
    let gateway = Gateway::start(&[&file]);
    assert_eq!(gateway.get("/", "").status, 200);
    let (done, said) = gateway.command(&["block", "orders"]);
    assert!(done && said.contains("\"state\":\"blocked\""), "{said}");
    let refused = gateway.get("/", "");
    assert_eq!((refused.status, refused.field("x-seawall-reason")), (503, "blocked"));
    config("block.toml", &text.replace("1000", "2000"));
    gateway.signal("-HUP");
    gateway.await_log("reloaded");
    assert_eq!(gateway.get("/", "").status, 503, "a reload is no amnesty");
    drop(gateway);
    let gateway = Gateway::start(&[&file]);
    assert_eq!(gateway.get("/", "").status, 503, "nor is a restart");
    let (done, said) = gateway.command(&["admit", "orders", "50%", "--over", "10ms"]);
    assert!(done && said.contains("admitting"), "{said}");
    while gateway.get("/", "").status != 200 {}
    assert_eq!(
        gateway.command(&["block", "nonesuch"]),
        (false, "error: the gateway refuses (404 Not Found): there is no such route\n".to_owned())
    );
}

#[test]
fn a_block_that_could_not_be_remembered_is_once_there_is_room() {
    let folder = format!("{}/later", env!("CARGO_TARGET_TMPDIR"));
    let _ = std::fs::remove_dir_all(&folder);
    let text = format!("state = \"{folder}/state\"\n{}", quota(&origin(), "1/s", 9));
    let gateway = Gateway::start(&[&config("later.toml", &text)]);
    let (done, said) = gateway.command(&["block", "orders"]);
    assert!(done && said.contains("\"remembered\":false"), "{said}");
    gateway.await_log("cannot remember this over a restart");
    std::fs::create_dir(&folder).unwrap();
    gateway.await_log("remembered after all");
    assert!(std::fs::read_to_string(format!("{folder}/state")).unwrap().contains("orders"));
}

#[test]
fn to_remember_a_block_touches_no_other_file() {
    let file = config("beside.toml", &quota(&origin(), "1/s", 9));
    let _ = std::fs::remove_file(format!("{file}.state"));
    config("beside.toml.new", "the next config");
    let gateway = Gateway::start(&[&file]);
    assert!(gateway.command(&["block", "orders"]).1.contains("\"remembered\":true"));
    assert_eq!(std::fs::read_to_string(format!("{file}.new")).unwrap(), "the next config");
}

#[test]
fn writes_need_the_token_and_a_name_of_this_machine() {
    let gateway = Gateway::start(&[]);
    let put = |headers: &str| ask(&gateway.admin, "PUT", "/api/block/default", headers, "").status;
    assert_eq!(put("host: localhost\r\n"), 401);
    assert_eq!(put(&token(&gateway).replace("localhost", "evil.example")), 421);
    assert_eq!(put(&token(&gateway)), 200);
    assert_eq!(ask(&gateway.admin, "GET", "/api/state", "host: evil.example\r\n", "").status, 421);
}

#[test]
fn where_there_is_no_place_for_a_token_it_is_said_what_to_set() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
    let gateway = Gateway::begin(command.env_remove("HOME"), "127.0.0.1:0", &[], None);
    gateway.await_log("there is no admin token: nothing can be changed; set XDG_RUNTIME_DIR or HOME");
    assert_eq!(ask(&gateway.admin, "PUT", "/api/drain", "host: localhost\r\n", "").status, 403);
}

#[test]
fn probes_have_a_listener_without_a_token_that_serves_nothing_else() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = config(
        "probes.toml",
        &format!(
            "[admin]\nprobes = \"{port}\"\n{}",
            quota(&origin(), "1/s", 9).replace("listen = \"127.0.0.1:0\"\n", "")
        ),
    );
    let _gateway = Gateway::start(&[&file]);
    let status = |path: &str| get(&port.to_string(), path, "").status;
    assert_eq!(
        [status("/livez"), status("/readyz"), status("/metrics"), status("/api/state")],
        [200, 200, 200, 404]
    );
}

#[test]
fn who_never_ends_a_request_keeps_no_probe_from_its_answer() {
    let gateway = Gateway::start(&[]);
    let begin = || {
        let mut stream = TcpStream::connect(&gateway.admin).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: local").unwrap();
        stream
    };
    let mut slow: Vec<_> = (0..300).map(|_| begin()).collect();
    assert_eq!(get(&gateway.admin, "/livez", "").status, 200);
    // The oldest made room.
    assert!(matches!(slow[0].read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_config_can_be_put_and_a_wrong_one_says_what_is_wrong() {
    let text = quota(&origin(), "1/h", 2);
    let gateway = Gateway::start(&[&config("put.toml", &text)]);
    let put = |text: &str| {
        ask(
            &gateway.admin,
            "PUT",
            "/api/config",
            &format!("content-type: text/plain\r\n{}", token(&gateway)),
            text,
        )
    };
    let wrong = put(&text.replace("burst", "brust"));
    assert!(wrong.status == 422 && wrong.body.contains("did you mean `burst`?"), "{}", wrong.body);
    let more = text.replace("route.orders", "route.other");
    let done = put(&more);
    assert!(done.status == 200 && done.body.contains("\"new\":[\"other\"]"), "{} {}", done.status, done.body);
    assert_eq!(get(&gateway.admin, "/api/config", "").body, more);
    let padded = |bytes: usize| format!("{more}#{}", "x".repeat(bytes - more.len() - 1));
    assert_eq!(put(&padded(1 << 20)).status, 200, "as much as a file may have");
    let status = put(&padded((1 << 20) + 1)).status;
    assert_eq!(status, 413);
    assert!(get(&gateway.admin, "/openapi.json", "").body.contains("/api/config"));
}

#[test]
fn an_address_is_not_shared_with_a_gateway_that_does_not_know_of_it() {
    let first = Gateway::start(&[]);
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args([
            "run",
            "--upstream",
            "http://127.0.0.1:1",
            "--admin",
            "127.0.0.1:0",
            "--listen",
            &first.address,
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut greeting = String::new();
    BufReader::new(second.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    let _ = second.kill();
    let ended = second.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((greeting.as_str(), ended.status.code()), ("", Some(1)), "{said}");
    assert!(said.contains(&format!("cannot listen on {}", first.address)), "{said}");
}

#[test]
fn a_key_that_the_admin_api_does_not_know_is_refused_and_nothing_is_done() {
    let gateway = Gateway::start(&[&config("keys.toml", &quota(&origin(), "1/h", 9))]);
    let token = token(&gateway);
    let write = |method: &str, path: &str| {
        let answer = ask(&gateway.admin, method, path, &token, "");
        (answer.status, answer.body)
    };
    assert_eq!(write("PUT", "/api/block/orders?why=x").0, 200);
    let refused = |known: &str, unknown: &str| {
        (400, format!("unknown key \"{unknown}\" in the query; known here: {known}\n"))
    };
    assert_eq!(write("DELETE", "/api/block/orders?percnt=5"), refused("`percent`, `over`", "percnt"));
    assert_eq!(gateway.get("/", "").field("x-seawall-reason"), "blocked");
    assert_eq!(write("PUT", "/api/block/orders?reason=x"), refused("`why`", "reason"));
    assert_eq!(write("PUT", "/api/drain?after=1h"), refused("none", "after"));
    assert_eq!(write("PUT", "/api/config?dry_run=1"), refused("none", "dry_run"));
    assert_eq!(get(&gateway.admin, "/readyz", "").status, 200);
}

#[test]
fn what_waits_for_a_restart_is_said() {
    let text = quota(&origin(), "1/h", 2);
    let gateway = Gateway::start(&[&config("restart.toml", &text)]);
    config("restart.toml", &format!("state = \"elsewhere\"\n{text}"));
    gateway.signal("-HUP");
    gateway.await_log("`state` and `hand_over` change with a restart only");
    assert!(gateway.state().contains("\"waits_for_restart\":[\"state\"]"), "{}", gateway.state());
    let headers = format!("content-type: text/plain\r\n{}", token(&gateway));
    let put = |text: &str| ask(&gateway.admin, "PUT", "/api/config", &headers, text).body;
    let other = format!("state = \"elsewhere\"\nhand_over = \"/tmp/x\"\n{text}");
    for _ in 0..2 {
        let kept = put(&other);
        assert!(kept.contains("\"waits_for_restart\":[\"state\",\"hand_over\"]"), "{kept}");
    }
    let kept = put(&text);
    assert!(kept.contains("\"waits_for_restart\":[]"), "as it began: {kept}");
    assert!(gateway.state().contains("\"waits_for_restart\":[]"));
}

#[test]
fn events_are_told_as_they_happen() {
    let gateway = Gateway::start(&[]);
    let mut stream = TcpStream::connect(&gateway.admin).unwrap();
    write!(stream, "GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("listening")));
    gateway.command(&["block", "default"]);
    assert!(lines.any(|line| line == "event: blocked"));
}

#[test]
fn a_config_is_checked_before_it_is_used() {
    let check = |name: &str, text: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["check", "--lint", &config(name, text)])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let text = quota("127.0.0.1:1", "5/s", 5);
    let (code, said) = check("check.toml", &text);
    assert!(code == Some(0) && said.contains("valid; 1 routes"), "{said}");
    let (code, said) = check("check-wrong.toml", &text.replace("upstream =", "upstrem ="));
    assert!(code == Some(2) && said.contains("did you mean `upstream`?"), "{said}");
    let late = "deadline = \"1s\"\nretry = { attempts = 3, per_attempt = \"900ms\" }\n";
    let (code, said) = check("check-late.toml", &format!("{text}{late}"));
    assert!(code.is_some() && said.contains("[attempts-past-deadline]"), "{said}");
}

#[test]
fn a_check_refuses_what_the_gateway_would_not_start_with() {
    let check = |name: &str, lines: &str| {
        let text = quota("127.0.0.1:1", "5/s", 5).replace("listen = \"127.0.0.1:0\"\n", lines);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["check", "--lint", &config(name, &text)])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let none = config("check-nothing.pem", "");
    for file in ["/no/such.pem", &none] {
        let tls = format!(
            "listen = [{{ address = \"127.0.0.1:0\", tls = {{ cert = \"{file}\", key = \"{file}\" }} }}]\n"
        );
        let (code, said) = check("check-tls.toml", &tls);
        assert!(code == Some(2) && said.contains(file) && said.contains("check-tls.toml:1:"), "{said}");
    }
    let same = "listen = \"127.0.0.1:19000\"\nadmin = { listen = \"127.0.0.1:19001\", probes = \"0.0.0.0:19000\" }\n";
    let (code, said) = check("check-same.toml", same);
    assert!(code == Some(2) && said.contains("check-same.toml:2:"), "{said}");
    assert!(said.contains("`probes` of `admin`") && said.contains("a port of its own"), "{said}");
    assert_eq!(check("check-apart.toml", &same.replace("0.0.0.0:19000", "0.0.0.0:19002")).0, Some(0));
}

#[test]
fn schema_and_completions_are_printed() {
    for (arguments, wanted) in
        [(&["schema"][..], "\"title\": \"seawall.toml\""), (&["completions", "bash"][..], "_seawall()")]
    {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_seawall")).args(arguments).output().unwrap();
        assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains(wanted));
    }
}

#[test]
fn silent_clients_take_no_descriptor_from_probes_and_requests() {
    let gateway = Gateway::start_narrow(&["--upstream", &format!("http://{}", origin())]);
    let silent: Vec<_> = (0..120).map(|_| TcpStream::connect(&gateway.address).unwrap()).collect();
    for _ in 0..3 {
        assert_eq!(get(&gateway.admin, "/livez", "").status, 200);
        assert_eq!(get(&gateway.admin, "/readyz", "").status, 200);
        assert_eq!(gateway.get("/", "").status, 200);
    }
    drop(silent);
}

#[test]
fn idle_connections_of_upstreams_make_room_for_those_that_are_needed() {
    let [a, b] = [origin(), origin()];
    let text = format!(
        "[upstream.a]\nhosts = [\"http://{a}\"]\n[upstream.b]\nhosts = [\"http://{b}\"]\n\
         [route.a]\npath = \"/a\"\nupstream = \"a\"\n[route.b]\npath = \"/b\"\nupstream = \"b\"\n"
    );
    let gateway = Gateway::start_narrow(&[&config("idle.toml", &text)]);
    for _ in 0..20 {
        assert_eq!(["/a", "/b"].map(|path| gateway.get(path, "").status), [200, 200]);
    }
}

#[test]
fn a_gateway_that_has_too_few_descriptors_says_so_and_does_not_start() {
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 20 && exec \"$0\" run --listen 127.0.0.1:0 --admin 127.0.0.1:0"])
        .args([env!("CARGO_BIN_EXE_seawall")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("20 file descriptors, and needs"), "{said}");
    assert!(output.stdout.is_empty(), "it does not say that it serves");
}

/// The metrics of a gateway with something of everything.
fn all_metrics(name: &str) -> String {
    let route = "mirror = { upstream = \"orders\" }\nhedge = { after = \"1s\" }\n\
                 fallback = [{ status = 200, body = \"[]\", content_type = \"application/json\" }]\n";
    let otlp = "[otlp]\nendpoint = \"http://127.0.0.1:1\"\n";
    let text = format!("{}{route}{otlp}", quota(&origin(), "1/s", 9))
        .replace("[route.orders]\n", "health = { every = \"1s\", within = \"1s\" }\n[route.orders]\n");
    let gateway = Gateway::start(&[&config(name, &text)]);
    get(&gateway.admin, "/metrics", "").body
}

#[test]
fn the_dashboard_shows_only_metrics_that_there_are() {
    let metrics = all_metrics("dashboard.toml");
    let dashboard = include_str!("../../../../deploy/grafana.json");
    let names = dashboard.split("seawall_").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        rest[..end].trim_end_matches("_total").trim_end_matches("_bucket")
    });
    for name in names {
        assert!(metrics.contains(&format!("# TYPE seawall_{name} ")), "{name}");
    }
}

#[test]
fn every_metric_is_documented() {
    let metrics = all_metrics("documented.toml");
    let documented = include_str!("../../../../deploy/metrics.md");
    for (name, kind) in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let total = if kind == "counter" { "_total" } else { "" };
        assert!(documented.contains(&format!("| `{name}{total}` | {kind} |")), "{name}");
    }
    for line in documented.lines().filter_map(|line| line.strip_prefix("| `seawall_")) {
        let name = line.split('`').next().unwrap().trim_end_matches("_total");
        let is_shown = metrics.contains(&format!("# TYPE seawall_{name} "));
        assert!(is_shown || name == "time_to_recover_seconds", "{name}");
    }
}

#[test]
fn requests_and_refusals_are_logged_and_counted_against_the_objective() {
    let log = "[log]\naccess = \"100%\"\n";
    let text = quota(&origin(), "1/h", 1).replace("[upstream", &format!("{log}[upstream"));
    let gateway = Gateway::start(&[&config("log.toml", &text)]);
    gateway.get("/secret?token=1", "");
    gateway.await_log("client=127.0.0.1 method=GET path=\"/secret\" route=\"orders\" status=200");
    // Loopback is trusted, and says who its client is.
    gateway.get("/", "x-forwarded-for: 192.0.2.7\r\n");
    gateway.await_log("client=192.0.2.7 method=GET path=\"/\"");
    gateway.get("/", "");
    gateway.await_log("status=429 reason=\"throttled\" policy=\"user\"");
    assert!(gateway.state().contains("\"availability\":1.0"), "{}", gateway.state());
}

#[test]
fn what_is_the_clients_own_fault_is_logged_and_counted_too() {
    let text = quota(&origin(), "1/h", 9)
        .replace("[route.orders]\n", "[route.orders]\nmax_body = \"4B\"\npath = \"/in\"\n");
    let gateway = Gateway::start(&[&config("faults.toml", &format!("{text}[log]\naccess = \"100%\"\n"))]);
    let post = |headers: &str, body: &str| {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        write!(stream, "POST /in HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}").unwrap();
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    };
    assert!(post("content-length: 5\r\n", "12345").starts_with("HTTP/1.1 413"));
    gateway.await_log("route=\"orders\" status=413 reason=\"too_large\"");
    assert!(post("transfer-encoding: chunked\r\n", "5\r\n12345\r\n0\r\n\r\n").starts_with("HTTP/1.1 413"));
    gateway.await_log("route=\"orders\" status=413 reason=\"too_large\"");
    let grpc = "content-type: application/grpc\r\ncontent-length: 5\r\n";
    assert!(post(grpc, "12345").starts_with("HTTP/1.1 200"), "as gRPC says it");
    gateway.await_log("status=413");
    let counted = "seawall_responses_total{route=\"orders\",status=\"4xx\"} 3";
    assert!(get(&gateway.admin, "/metrics", "").body.contains(counted));
    assert_eq!(gateway.get("/out", "").status, 404);
    gateway.await_log("path=\"/out\" status=404 reason=\"no_route\"");
    let metrics = get(&gateway.admin, "/metrics", "").body;
    assert!(metrics.contains("seawall_unrouted_total{reason=\"no_route\"} 1"), "{metrics}");
}

#[test]
fn what_cannot_be_read_as_a_request_is_logged() {
    let gateway = |name: &str, log: &str| {
        Gateway::start(&[&config(name, &format!("{}[log]\n{log}\n", quota(&origin(), "1/h", 9)))])
    };
    let nonsense = |gateway: &Gateway, text: &str| {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    };
    let logging = gateway("unread-log.toml", "refusals = \"100%\"");
    nonsense(&logging, "GET / HTTP/1.1\r\nno field\r\n\r\n");
    logging.await_log("request client=127.0.0.1 status=400 reason=\"malformed\"");
    nonsense(&logging, &format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(300)));
    logging.await_log("request client=127.0.0.1 status=431 reason=\"too_large\"");
    // As many of them as of other refusals.
    let sampling = gateway("unread-share.toml", "refusals = \"50%\"");
    (0..4).for_each(|_| nonsense(&sampling, "nonsense\r\n\r\n"));
    sampling.get("/", "");
    let malformed = || get(&sampling.admin, "/metrics", "").body.contains("{reason=\"malformed\"} 4");
    while !malformed() {}
    sampling.signal("-KILL");
    let lines = sampling.log.iter().filter(|line| line.contains("status=400")).count();
    assert_eq!(lines, 2);
}

/// A collector that refuses so many batches, and notes what it is sent, by path; says its address.
fn collector(refused: usize) -> (String, std::sync::mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = std::sync::mpsc::channel();
    let count = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tell) = (BufReader::new(stream.unwrap()), tell.clone());
            let count = count.clone();
            thread::spawn(move || {
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if stream.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let head = head.to_ascii_lowercase();
                    let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
                    let mut body = vec![0; length.parse().unwrap()];
                    stream.read_exact(&mut body).unwrap();
                    let _ = tell.send((head.split(' ').nth(1).unwrap().to_owned(), body));
                    let is_taken = count.fetch_add(1, Ordering::Relaxed) >= refused;
                    let status = if is_taken { "200 OK" } else { "503 Service Unavailable" };
                    write!(stream.get_mut(), "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            });
        }
    });
    (address, told)
}

#[test]
fn a_collector_gets_traces_and_metrics_and_the_upstream_its_parent() {
    let (address, told) = collector(0);
    let text = format!(
        "[otlp]\nendpoint = \"http://{address}\"\ntraces = \"0%\"\nmetrics_every = \"50ms\"\n{}",
        quota(&origin(), "1/s", 9).replace("listen = \"127.0.0.1:0\"\n", "")
    );
    let mut gateway = Gateway::start(&[&config("otlp.toml", &text)]);
    let parent =
        |flags| format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}\r\n");
    let seen =
        gateway.get("/path", &format!("{}tracestate: a=b\r\n", parent("01"))).body.to_ascii_lowercase();
    let named = seen.split("traceparent: 00-0af7651916cd43dd8448eb211c80319c-").nth(1).unwrap();
    let span = named[..16].to_owned();
    assert!(span != "b7ad6b7169203331" && named[16..].starts_with("-01\r\n"), "{seen}");
    assert!(seen.contains("tracestate: a=b"), "{seen}");
    let seen = gateway.get("/", "traceparent: ff-nonsense\r\ntracestate: a=b\r\n").body.to_ascii_lowercase();
    assert!(seen.contains("traceparent: 00-") && !seen.contains("tracestate"), "{seen}");
    let has = |body: &[u8], wanted: &[u8]| body.windows(wanted.len()).any(|window| window == wanted);
    while !told.iter().any(|(path, body)| path == "/v1/metrics" && has(&body, b"seawall_requests")) {}
    gateway.signal("-INT");
    assert!(gateway.child.wait().unwrap().success());
    let (_, traces) = told.iter().find(|(path, _)| path == "/v1/traces").unwrap();
    let id: Vec<u8> = (0..8).map(|at| u8::from_str_radix(&span[2 * at..2 * at + 2], 16).unwrap()).collect();
    assert!(has(&traces, &id) && has(&traces, b"GET orders") && has(&traces, b"http.response.status_code"));
}

#[test]
fn a_collector_that_is_down_is_counted_and_said() {
    let text = format!(
        "[otlp]\nendpoint = \"http://127.0.0.1:1\"\nmetrics_every = \"50ms\"\n{}",
        quota(&origin(), "1/s", 9).replace("listen = \"127.0.0.1:0\"\n", "")
    );
    let gateway = Gateway::start(&[&config("otlp-down.toml", &text)]);
    gateway.await_log("the collector does not take metrics");
    let failures = || {
        let metrics = get(&gateway.admin, "/metrics", "").body;
        let wanted = "seawall_otlp_failures_total{signal=\"metrics\"} ";
        metrics.lines().find_map(|line| line.strip_prefix(wanted)?.parse::<u32>().ok()).unwrap()
    };
    while failures() < 3 {}
    let said = gateway.log.try_iter().filter(|line| line.contains("the collector"));
    assert_eq!(said.collect::<Vec<_>>(), Vec::<String>::new(), "once a minute is enough");
}

#[test]
fn a_collector_that_is_back_is_said_once() {
    // More than are tried again for one batch.
    let (address, _told) = collector(20);
    let text = format!(
        "[otlp]\nendpoint = \"http://{address}\"\nmetrics_every = \"50ms\"\n{}",
        quota(&origin(), "1/s", 9).replace("listen = \"127.0.0.1:0\"\n", "")
    );
    let gateway = Gateway::start(&[&config("otlp-back.toml", &text)]);
    gateway.await_log("the collector does not take metrics");
    gateway.await_log("the collector takes metrics again");
}
