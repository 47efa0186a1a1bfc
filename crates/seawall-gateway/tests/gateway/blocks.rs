//! Routes blocked by hand: what is remembered of them, and what is said.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::harness::{Gateway, config, origin};

/// A config with these routes, and nothing blocked.
fn routes(name: &str, origin: &str, routes: &[&str]) -> String {
    let route = |route: &&str| format!("[route.{route}]\npath = \"/{route}\"\nupstream = \"u\"\n");
    let routes: String = routes.iter().map(route).collect();
    config(name, &format!("[upstream.u]\nhosts = [\"http://{origin}\"]\n{routes}"))
}

fn forget(file: &str) -> String {
    let state = format!("{file}.state");
    let _ = std::fs::remove_file(&state);
    state
}

#[test]
fn who_blocks_a_route_and_who_lets_it_in_is_told_by_its_name() {
    let file = routes("block-told.toml", &origin(), &["orders", "carts"]);
    forget(&file);
    let gateway = Gateway::start(&[&file]);
    let mut stream = TcpStream::connect(&gateway.admin).unwrap();
    write!(stream, "GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("listening")));
    let mut told = |change: &str, wanted: &[&str]| {
        assert!(lines.any(|line| line == format!("event: {change}")));
        let data = lines.next().unwrap();
        assert!(wanted.iter().all(|wanted| data.contains(wanted)), "{data}");
    };
    let orders = "\"route\":\"orders\"";
    assert!(gateway.command(&["block", "orders"]).0);
    told("blocked", &[orders, "\"percent\":0.0", "\"who\":\"admin\"", "\"why\":\"by hand\""]);
    gateway.await_log("blocked route=\"orders\" percent=0.0 who=\"admin\" why=\"by hand\"");
    assert!(gateway.command(&["admit", "orders", "25%"]).0);
    told("admitting", &[orders, "\"percent\":25.0", "\"who\":\"admin\""]);
    assert!(gateway.command(&["admit", "orders", "--over", "1ms"]).0);
    told("admitting", &[orders, "\"percent\":100.0"]);
    while gateway.state().contains("\"state\":\"admitting\"") {
        gateway.get("/orders", "");
    }
    told("admitted", &[orders, "\"percent\":100.0", "\"who\":\"guard\""]);
    drop(gateway);
    // Of a file, it is said whose word it is.
    let gateway = Gateway::start(&[&file]);
    assert!(gateway.command(&["block", "carts"]).0);
    drop(gateway);
    Gateway::start(&[&file]).await_log("blocked route=\"carts\" percent=0.0 who=\"file\"");
}

#[test]
fn to_let_in_what_is_open_says_so() {
    let file = routes("block-open.toml", &origin(), &["orders"]);
    forget(&file);
    let gateway = Gateway::start(&[&file]);
    let (done, said) = gateway.command(&["admit", "orders"]);
    assert!(done && said.contains("\"was\":\"open\"") && said.contains("\"state\":\"open\""), "{said}");
    assert!(gateway.command(&["block", "orders"]).1.contains("\"was\":\"open\""));
    assert!(gateway.command(&["admit", "orders"]).1.contains("\"was\":\"blocked\""));
}

#[test]
fn a_block_of_a_route_that_is_gone_can_be_ended() {
    let origin = origin();
    let file = routes("block-gone.toml", &origin, &["orders", "carts"]);
    let state = forget(&file);
    let gateway = Gateway::start(&[&file]);
    assert!(gateway.command(&["block", "carts"]).0);
    routes("block-gone.toml", &origin, &["orders"]);
    gateway.signal("-HUP");
    gateway.await_log("reloaded");
    assert!(std::fs::read_to_string(&state).unwrap().contains("carts"));
    assert!(!gateway.command(&["block", "carts"]).0, "nobody could see that");
    let (done, said) = gateway.command(&["admit", "carts"]);
    assert!(done && said.contains("\"was\":\"gone\""), "{said}");
    assert!(!std::fs::read_to_string(&state).unwrap().contains("carts"));
    assert!(!gateway.command(&["admit", "carts"]).0, "once");
    routes("block-gone.toml", &origin, &["orders", "carts"]);
    gateway.signal("-HUP");
    gateway.await_log("reloaded");
    while gateway.get("/carts", "").status != 200 {}
}

#[test]
fn a_file_that_makes_no_sense_is_named_and_stops_the_start() {
    let file = routes("block-file.toml", &origin(), &["orders"]);
    let state = forget(&file);
    for (text, wanted) in [
        ("", "it is not what was written there"),
        ("{\"routes\":{}}", "it is not what was written there"),
        ("{\"version\":1,\"routes\":{\"orders\":{}}}", "it is not what was written there"),
        ("{\"version\":2,\"routes\":{}}", "version 2 is another gateway's; this one reads 1"),
    ] {
        std::fs::write(&state, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["run", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(&format!("{state}: {wanted}")), "{said}");
    }
    forget(&file);
}
