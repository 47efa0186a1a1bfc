//! Every refusal, word by word: what a user reads is part of the interface.

use expect_test::{Expect, expect};

use super::{file, parse, route, upstream};

/// The whole text of the report about this file.
fn check(source: &str, expected: Expect) {
    expected.assert_eq(&parse(source).unwrap_err().to_string());
}

#[test]
fn syntax() {
    check(
        "listen = 0.0.0.0:8080\n",
        expect![[r#"
            error: invalid float, expected nothing
             --> seawall.toml:1:13
              |
            1 | listen = 0.0.0.0:8080
              |             ^^^^^^^^^
              |
              = help: texts stand in quotes, durations, rates and addresses among them"#]],
    );
    check(
        "[upstream.u\nhosts = []\n",
        expect![[r#"
        error: unclosed table, expected `]`
         --> seawall.toml:1:12
          |
        1 | [upstream.u
          |            ^"#]],
    );
    check(
        r#"listen = "a"
listen = "b"
"#,
        expect![[r#"
            error: duplicate key
             --> seawall.toml:2:1
              |
            2 | listen = "b"
              | ^^^^^^"#]],
    );
    check(
        &route("deadline = 2s"),
        expect![[r#"
        error: string values must be quoted, expected literal string
         --> seawall.toml:2:12
          |
        2 | deadline = 2s
          |            ^^
          |
          = help: texts stand in quotes, durations, rates and addresses among them"#]],
    );
    check(
        "listen = \"0.0.0.0:8080\n",
        expect![[r#"
        error: invalid basic string, expected `"`
         --> seawall.toml:1:23
          |
        1 | listen = "0.0.0.0:8080
          |                       ^"#]],
    );
    check(
        &route("throttle = [{ rate = 50/s }]"),
        expect![[r#"
            error: string values must be quoted, expected literal string
             --> seawall.toml:2:22
              |
            2 | throttle = [{ rate = 50/s }]
              |                      ^^^^
              |
              = help: texts stand in quotes, durations, rates and addresses among them"#]],
    );
}

#[test]
fn unknown_keys() {
    check(
        &file(r#"lissten = "0.0.0.0:8080""#),
        expect![[r#"
        error: unknown key `lissten`
         --> seawall.toml:1:1
          |
        1 | lissten = "0.0.0.0:8080"
          | ^^^^^^^
          |
          = help: did you mean `listen`?"#]],
    );
    check(
        &file("colour = true"),
        expect![[r#"
            error: unknown key `colour`
             --> seawall.toml:1:1
              |
            1 | colour = true
              | ^^^^^^
              |
              = help: known here: `listen`, `admin`, `state`, `hand_over`, `drain`, `identity`, `throttle`, `headers`, `log`, `otlp`, `upstream`, `route`"#]],
    );
    check(
        r#"[upstreams.u]
hosts = ["http://h:1"]
"#,
        expect![[r#"
            error: there is no upstream
             --> seawall.toml:1:1
              |
            1 | [upstreams.u]
              | ^
              |
              = help: add `[upstream.NAME]` with `hosts = ["http://127.0.0.1:3000"]`

            error: unknown key `upstreams`
             --> seawall.toml:1:2
              |
            1 | [upstreams.u]
              |  ^^^^^^^^^
              |
              = help: did you mean `upstream`?"#]],
    );
    check(
        &file(
            r#"[admin]
token = "t""#,
        ),
        expect![[r#"
            error: unknown key `token`
             --> seawall.toml:2:1
              |
            2 | token = "t"
              | ^^^^^
              |
              = help: known here: `token_file`, `listen`, `probes`"#]],
    );
    check(
        &file(
            r#"[identity]
users = ["client-ip"]"#,
        ),
        expect![[r#"
            error: unknown key `users`
             --> seawall.toml:2:1
              |
            2 | users = ["client-ip"]
              | ^^^^^
              |
              = help: did you mean `user`?"#]],
    );
    check(
        &file("[headers]\nratelimit = true"),
        expect![[r#"
        error: unknown key `ratelimit`
         --> seawall.toml:2:1
          |
        2 | ratelimit = true
          | ^^^^^^^^^
          |
          = help: did you mean `rate_limit`?"#]],
    );
    check(
        &upstream(r#"host = "http://h:1""#),
        expect![[r#"
        error: unknown key `host`
         --> seawall.toml:2:1
          |
        2 | host = "http://h:1"
          | ^^^^
          |
          = help: did you mean `hosts`?"#]],
    );
    check(
        &upstream(r#"checks = { path = "/healthz" }"#),
        expect![[r#"
            error: unknown key `checks`
             --> seawall.toml:2:1
              |
            2 | checks = { path = "/healthz" }
              | ^^^^^^
              |
              = help: known here: `hosts`, `protocol`, `connect_timeout`, `idle_timeout`, `tls`, `health`, `eject`, `shadow`, `slow_start`, `breaker`, `limit`, `budget`, `model`"#]],
    );
    check(
        &upstream(r#"breaker = { slow_rate = "80%" }"#),
        expect![[r#"
            error: `slow_rate` says nothing without `slow`
             --> seawall.toml:2:11
              |
            2 | breaker = { slow_rate = "80%" }
              |           ^^^^^^^^^^^^^^^^^^^^^
              |
              = help: add `slow = "1s"`, the time from which on a call is slow"#]],
    );
    check(
        &upstream("limit = { maximum = 5 }"),
        expect![[r#"
        error: unknown key `maximum`
         --> seawall.toml:2:11
          |
        2 | limit = { maximum = 5 }
          |           ^^^^^^^
          |
          = help: known here: `adaptive`, `max`, `queue`, `discipline`, `bulkhead`"#]],
    );
    check(
        &route(r#"dead_line = "2s""#),
        expect![[r#"
        error: unknown key `dead_line`
         --> seawall.toml:2:1
          |
        2 | dead_line = "2s"
          | ^^^^^^^^^
          |
          = help: did you mean `deadline`?"#]],
    );
    check(
        &route(r#"throttle = [{ rate = "50/s", bursts = 1 }]"#),
        expect![[r#"
        error: unknown key `bursts`
         --> seawall.toml:2:30
          |
        2 | throttle = [{ rate = "50/s", bursts = 1 }]
          |                              ^^^^^^
          |
          = help: did you mean `burst`?"#]],
    );
    check(
        &route(r#"tier = { header = "x-tier", fallback = "critical" }"#),
        expect![[r#"
        error: unknown key `fallback`
         --> seawall.toml:2:29
          |
        2 | tier = { header = "x-tier", fallback = "critical" }
          |                             ^^^^^^^^
          |
          = help: known here: `header`, `default`"#]],
    );
    check(
        &route(r#"shed = { load = "90%" }"#),
        expect![[r#"
            error: unknown key `load`
             --> seawall.toml:2:10
              |
            2 | shed = { load = "90%" }
              |          ^^^^
              |
              = help: known here: `queue_delay`, `cpu`, `stall`, `memory`"#]],
    );
    check(
        &route(r#"retry = { backoff = { basis = "1s" } }"#),
        expect![[r#"
            error: unknown key `basis`
             --> seawall.toml:2:23
              |
            2 | retry = { backoff = { basis = "1s" } }
              |                       ^^^^^
              |
              = help: known here: `kind`, `jitter`, `base`, `cap`, `clamp`"#]],
    );
}

#[test]
fn missing() {
    check(
        "",
        expect![[r#"
        error: there is no upstream
         --> seawall.toml:1:1
          |
        1 |
          | ^
          |
          = help: add `[upstream.NAME]` with `hosts = ["http://127.0.0.1:3000"]`"#]],
    );
    check(
        r#"[upstream.u]
hosts = ["http://h:1"]
"#,
        expect![[r#"
            error: there is no route, so that no request would be answered
             --> seawall.toml:1:1
              |
            1 | [upstream.u]
              | ^
              |
              = help: add `[route.NAME]` with `upstream = "u"`"#]],
    );
    check(
        r#"[upstream.u]
[route.r]
upstream = "u"
"#,
        expect![[r#"
            error: `[upstream.u]` has no `hosts`
             --> seawall.toml:1:1
              |
            1 | [upstream.u]
              | ^^^^^^^^^^^^
              |
              = help: add `hosts = ["http://127.0.0.1:3000"]`"#]],
    );
    check(
        r#"[upstream.u]
hosts = ["http://h:1"]
[route.r]
path = "/a"
"#,
        expect![[r#"
            error: `[route.r]` has no `upstream`
             --> seawall.toml:3:1
              |
            3 | [route.r]
              | ^^^^^^^^^
              |
              = help: add `upstream = "u"`"#]],
    );
    check(
        &route("throttle = [{ burst = 5 }]"),
        expect![[r#"
        error: `throttle` has no `rate`
         --> seawall.toml:2:13
          |
        2 | throttle = [{ burst = 5 }]
          |             ^^^^^^^^^^^^^
          |
          = help: add `rate = "50/s"`"#]],
    );
    check(
        &route(r#"tier = { default = "critical" }"#),
        expect![[r#"
        error: `tier` has no `header`
         --> seawall.toml:2:8
          |
        2 | tier = { default = "critical" }
          |        ^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: add `header = "x-tier"`"#]],
    );
}

#[test]
fn addresses() {
    check(
        &file(r#"listen = ":8080""#),
        expect![[r#"
        error: `listen`: `:8080` is not an IP address and a port
         --> seawall.toml:1:10
          |
        1 | listen = ":8080"
          |          ^^^^^^^
          |
          = help: write `0.0.0.0:8080` for all networks, `127.0.0.1:8080` for this machine"#]],
    );
    check(
        &file(r#"listen = "8080""#),
        expect![[r#"
        error: `listen`: `8080` is not an IP address and a port
         --> seawall.toml:1:10
          |
        1 | listen = "8080"
          |          ^^^^^^
          |
          = help: write `0.0.0.0:8080` for all networks, `127.0.0.1:8080` for this machine"#]],
    );
    check(
        &file("listen = 8080"),
        expect![[r#"
        error: `listen`: `8080` is not an IP address and a port
         --> seawall.toml:1:10
          |
        1 | listen = 8080
          |          ^^^^
          |
          = help: write `0.0.0.0:8080` for all networks, `127.0.0.1:8080` for this machine"#]],
    );
    check(
        &file(r#"listen = "localhost:8080""#),
        expect![[r#"
        error: `listen`: `localhost:8080` is not an IP address and a port
         --> seawall.toml:1:10
          |
        1 | listen = "localhost:8080"
          |          ^^^^^^^^^^^^^^^^
          |
          = help: write `127.0.0.1:8080`"#]],
    );
}

#[test]
fn addresses_in_part() {
    check(
        &file(r#"listen = "0.0.0.0""#),
        expect![[r#"
        error: `listen`: `0.0.0.0` is not an IP address and a port
         --> seawall.toml:1:10
          |
        1 | listen = "0.0.0.0"
          |          ^^^^^^^^^
          |
          = help: write `0.0.0.0:8080`"#]],
    );
    check(
        &file(r#"listen = "everywhere""#),
        expect![[r#"
        error: `listen`: `everywhere` is not an IP address and a port
         --> seawall.toml:1:10
          |
        1 | listen = "everywhere"
          |          ^^^^^^^^^^^^
          |
          = help: write it as in `127.0.0.1:8080`"#]],
    );
    check(
        &file(r#"listen = ["0.0.0.0:8080"]"#),
        expect![[r#"
        error: `listen`: a list is not an address such as `127.0.0.1:8080`
         --> seawall.toml:1:10
          |
        1 | listen = ["0.0.0.0:8080"]
          |          ^^^^^^^^^^^^^^^^"#]],
    );
}

#[test]
fn addresses_of_operators_and_proxies() {
    check(
        &file(
            r#"[admin]
listen = "0.0.0.0:9090""#,
        ),
        expect![[r#"
            error: `listen`: `0.0.0.0:9090` is not a loopback address, which needs a `token_file`
             --> seawall.toml:2:10
              |
            2 | listen = "0.0.0.0:9090"
              |          ^^^^^^^^^^^^^^
              |
              = help: write `127.0.0.1:9090`"#]],
    );
    check(
        &file(
            r#"[identity]
trusted_proxies = ["10.0.0.1/8", "10.0.0.1", "proxy"]"#,
        ),
        expect![[r#"
            error: `trusted_proxies`: `10.0.0.1/8` is not a network
             --> seawall.toml:2:20
              |
            2 | trusted_proxies = ["10.0.0.1/8", "10.0.0.1", "proxy"]
              |                    ^^^^^^^^^^^^
              |
              = help: write `10.0.0.0/8`, or `10.0.0.1/32` for the one address

            error: `trusted_proxies`: `10.0.0.1` is not a network
             --> seawall.toml:2:34
              |
            2 | trusted_proxies = ["10.0.0.1/8", "10.0.0.1", "proxy"]
              |                                  ^^^^^^^^^^
              |
              = help: write `10.0.0.1/32`

            error: `trusted_proxies`: `proxy` is not a network
             --> seawall.toml:2:46
              |
            2 | trusted_proxies = ["10.0.0.1/8", "10.0.0.1", "proxy"]
              |                                              ^^^^^^^
              |
              = help: write it as in `10.0.0.0/8`"#]],
    );
}

#[test]
fn identity() {
    check(
        &file(
            r#"[identity]
user = "client-ip""#,
        ),
        expect![[r#"
            error: `user`: the text `client-ip` is not a list
             --> seawall.toml:2:8
              |
            2 | user = "client-ip"
              |        ^^^^^^^^^^^
              |
              = help: put it in brackets: `[…]`"#]],
    );
    check(
        &file("[identity]\nuser = []"),
        expect![[r#"
            error: `user`: the list has 0 items, not 1 to 8
             --> seawall.toml:2:8
              |
            2 | user = []
              |        ^^"#]],
    );
    check(
        &file(
            r#"[identity]
user = ["x-api-key"]"#,
        ),
        expect![[r#"
            error: `user`: `x-api-key` is not `header:NAME` or `client-ip`
             --> seawall.toml:2:9
              |
            2 | user = ["x-api-key"]
              |         ^^^^^^^^^^^
              |
              = help: write `header:x-api-key`"#]],
    );
    check(
        &file(
            r#"[identity]
user = ["cookie", "header:a b", 5]"#,
        ),
        expect![[r#"
            error: `user`: `cookie` is not `header:NAME` or `client-ip`
             --> seawall.toml:2:9
              |
            2 | user = ["cookie", "header:a b", 5]
              |         ^^^^^^^^

            error: `user`: `a b` is not the name of a header
             --> seawall.toml:2:19
              |
            2 | user = ["cookie", "header:a b", 5]
              |                   ^^^^^^^^^^^^

            error: `user`: `5` is not `header:NAME` or `client-ip`
             --> seawall.toml:2:33
              |
            2 | user = ["cookie", "header:a b", 5]
              |                                 ^"#]],
    );
    check(
        &file("[identity]\nmax_users = 0"),
        expect![[r#"
        error: `max_users`: the number `0` is not from 1 to 100000000
         --> seawall.toml:2:13
          |
        2 | max_users = 0
          |             ^"#]],
    );
    check(
        &file("[identity]\nmax_users = 1.5"),
        expect![[r#"
        error: `max_users`: the number `1.5` is not a whole number from 1 to 100000000
         --> seawall.toml:2:13
          |
        2 | max_users = 1.5
          |             ^^^"#]],
    );
    check(
        &file(
            r#"[identity]
max_users = "5""#,
        ),
        expect![[r#"
            error: `max_users`: the text `5` is not a whole number from 1 to 100000000
             --> seawall.toml:2:13
              |
            2 | max_users = "5"
              |             ^^^
              |
              = help: write `5`, without quotes"#]],
    );
    check(
        &file(
            r#"[identity]
on_full = "evicts""#,
        ),
        expect![[r#"
            error: `on_full`: the text `evicts` is not `refuse`, `share` or `evict`
             --> seawall.toml:2:11
              |
            2 | on_full = "evicts"
              |           ^^^^^^^^
              |
              = help: did you mean `evict`?"#]],
    );
    check(
        &file(
            r#"[headers]
envoy = "yes""#,
        ),
        expect![[r#"
            error: `envoy`: the text `yes` is not `true` or `false`
             --> seawall.toml:2:9
              |
            2 | envoy = "yes"
              |         ^^^^^"#]],
    );
}

#[test]
fn hosts() {
    check(
        r#"[upstream.u]
hosts = ["https://h"]
[route.r]
upstream = "u"
"#,
        expect![[r#"
            error: `hosts`: `h` has no port
             --> seawall.toml:2:10
              |
            2 | hosts = ["https://h"]
              |          ^^^^^^^^^^^
              |
              = help: write `https://h:443`"#]],
    );
    check(
        r#"[upstream.u]
hosts = ["http://h", "127.0.0.1:3000", "http://h:1/path"]
[route.r]
upstream = "u"
"#,
        expect![[r#"
            error: `hosts`: `h` has no port
             --> seawall.toml:2:10
              |
            2 | hosts = ["http://h", "127.0.0.1:3000", "http://h:1/path"]
              |          ^^^^^^^^^^
              |
              = help: write `http://h:80`

            error: `hosts`: `127.0.0.1:3000` does not begin with `http://` or `https://`
             --> seawall.toml:2:22
              |
            2 | hosts = ["http://h", "127.0.0.1:3000", "http://h:1/path"]
              |                      ^^^^^^^^^^^^^^^^
              |
              = help: write `http://127.0.0.1:3000`

            error: `hosts`: `http://h:1/path` has a path or query; a host has none
             --> seawall.toml:2:40
              |
            2 | hosts = ["http://h", "127.0.0.1:3000", "http://h:1/path"]
              |                                        ^^^^^^^^^^^^^^^^^
              |
              = help: write `http://h:1`: requests keep their own path"#]],
    );
    check(
        r#"[upstream.u]
hosts = ["http://me:secret@h:1", "http://h:0", "http://h:99999", "http://::1:80", "http://a b:1"]
[route.r]
upstream = "u"
"#,
        expect![[r#"
            error: `hosts`: the URL holds a user name or password; upstreams are called without
             --> seawall.toml:2:10
              |
            2 | hosts = ["http://me:secret@h:1", "http://h:0", "http://h:99999", "http://::1:80", "http://a b:1"]
              |          ^^^^^^^^^^^^^^^^^^^^^^

            error: `hosts`: the port `0` is not from 1 to 65535
             --> seawall.toml:2:34
              |
            2 | hosts = ["http://me:secret@h:1", "http://h:0", "http://h:99999", "http://::1:80", "http://a b:1"]
              |                                  ^^^^^^^^^^^^

            error: `hosts`: the port `99999` is not from 1 to 65535
             --> seawall.toml:2:48
              |
            2 | hosts = ["http://me:secret@h:1", "http://h:0", "http://h:99999", "http://::1:80", "http://a b:1"]
              |                                                ^^^^^^^^^^^^^^^^

            error: `hosts`: `::1:80` has more than one colon
             --> seawall.toml:2:66
              |
            2 | hosts = ["http://me:secret@h:1", "http://h:0", "http://h:99999", "http://::1:80", "http://a b:1"]
              |                                                                  ^^^^^^^^^^^^^^^
              |
              = help: put an IPv6 address in brackets: `http://[::1]:3000`

            error: `hosts`: `a b` is not the name or address of a host
             --> seawall.toml:2:83
              |
            2 | hosts = ["http://me:secret@h:1", "http://h:0", "http://h:99999", "http://::1:80", "http://a b:1"]
              |                                                                                   ^^^^^^^^^^^^^^"#]],
    );
    check(
        r#"[upstream.u]
hosts = ["http://h:1", "http://H:1/"]
[route.r]
upstream = "u"
"#,
        expect![[r#"
            error: `hosts`: `http://h:1` is listed twice
             --> seawall.toml:2:24
              |
            2 | hosts = ["http://h:1", "http://H:1/"]
              |                        ^^^^^^^^^^^^^"#]],
    );
    check(
        r#"[upstream.u]
hosts = []
[route.r]
upstream = "u"
"#,
        expect![[r#"
            error: `hosts`: the list has 0 items, not 1 to 64
             --> seawall.toml:2:9
              |
            2 | hosts = []
              |         ^^"#]],
    );
    check(
        r#"[upstream.u]
hosts = "http://h:1"
[route.r]
upstream = "u"
"#,
        expect![[r#"
            error: `hosts`: the text `http://h:1` is not a list
             --> seawall.toml:2:9
              |
            2 | hosts = "http://h:1"
              |         ^^^^^^^^^^^^
              |
              = help: put it in brackets: `[…]`"#]],
    );
}

#[test]
fn upstreams() {
    check(
        &upstream(r#"protocol = "http2""#),
        expect![[r#"
            error: `protocol`: the text `http2` is not `http1`, `h2c` or `h2`
             --> seawall.toml:2:12
              |
            2 | protocol = "http2"
              |            ^^^^^^^
              |
              = help: that is `h2c` without TLS, `h2` with it"#]],
    );
    check(
        &upstream("connect_timeout = 1"),
        expect![[r#"
        error: `connect_timeout`: `1` has no unit
         --> seawall.toml:2:19
          |
        2 | connect_timeout = 1
          |                   ^
          |
          = help: write `1s`, or with another of `us`, `ms`, `s`, `m`, `h`"#]],
    );
    check(
        &upstream(r#"idle_timeout = "60""#),
        expect![[r#"
        error: `idle_timeout`: `60` has no unit
         --> seawall.toml:2:16
          |
        2 | idle_timeout = "60"
          |                ^^^^
          |
          = help: write `60s`, or with another of `us`, `ms`, `s`, `m`, `h`"#]],
    );
    check(
        &upstream("breaker = true"),
        expect![[r#"
            error: `breaker`: `true` is not a table
             --> seawall.toml:2:11
              |
            2 | breaker = true
              |           ^^^^
              |
              = help: leave it out to have it with its defaults"#]],
    );
    check(
        &upstream("limit = false"),
        expect![[r#"
        error: `limit`: `false` is not a table
         --> seawall.toml:2:9
          |
        2 | limit = false
          |         ^^^^^
          |
          = help: it is never off; leave it out to have it with its defaults"#]],
    );
    check(
        &route("throttle = false"),
        expect![[r#"
        error: `throttle`: `false` is not a list
         --> seawall.toml:2:12
          |
        2 | throttle = false
          |            ^^^^^
          |
          = help: write `[]` for none"#]],
    );
}

#[test]
fn breakers() {
    check(
        &upstream(r#"breaker = { window = "ten" }"#),
        expect![[r#"
        error: `window`: `ten` is not a duration
         --> seawall.toml:2:22
          |
        2 | breaker = { window = "ten" }
          |                      ^^^^^
          |
          = help: write a number and a unit, as in `250ms`"#]],
    );
    check(
        &upstream("breaker = { window = 10001 }"),
        expect![[r#"
        error: `window`: the number `10001` is not from 1 to 10000
         --> seawall.toml:2:22
          |
        2 | breaker = { window = 10001 }
          |                      ^^^^^"#]],
    );
    check(
        &upstream("breaker = { window = 10, min_calls = 11 }"),
        expect![[r#"
            error: `min_calls`: the number `11` is not from 1 to 10
             --> seawall.toml:2:38
              |
            2 | breaker = { window = 10, min_calls = 11 }
              |                                      ^^
              |
              = help: it is at most `window`"#]],
    );
    check(
        &upstream(r#"breaker = { failure_rate = "0%", open = "0s", probes = 101 }"#),
        expect![[r#"
        error: `failure_rate`: `0%` would open it without any failure
         --> seawall.toml:2:28
          |
        2 | breaker = { failure_rate = "0%", open = "0s", probes = 101 }
          |                            ^^^^

        error: `open`: `0s` is not above zero
         --> seawall.toml:2:41
          |
        2 | breaker = { failure_rate = "0%", open = "0s", probes = 101 }
          |                                         ^^^^

        error: `probes`: the number `101` is not from 1 to 100
         --> seawall.toml:2:56
          |
        2 | breaker = { failure_rate = "0%", open = "0s", probes = 101 }
          |                                                        ^^^"#]],
    );
    check(
        &upstream(r#"breaker = { open = "10s", open_max = "5s" }"#),
        expect![[r#"
            error: `open_max` must be at least `open`
             --> seawall.toml:2:11
              |
            2 | breaker = { open = "10s", open_max = "5s" }
              |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
}

#[test]
fn limits_and_budgets() {
    check(
        &upstream("limit = { max = 0 }"),
        expect![[r#"
        error: `max`: the number `0` is not from 1 to 65536
         --> seawall.toml:2:17
          |
        2 | limit = { max = 0 }
          |                 ^"#]],
    );
    check(
        &upstream("limit = { queue = 65537 }"),
        expect![[r#"
        error: `queue`: the number `65537` is not from 0 to 65536
         --> seawall.toml:2:19
          |
        2 | limit = { queue = 65537 }
          |                   ^^^^^"#]],
    );
    check(
        &upstream("limit = 5"),
        expect![[r#"
        error: `limit`: the number `5` is not a table
         --> seawall.toml:2:9
          |
        2 | limit = 5
          |         ^"#]],
    );
    check(
        &upstream(r#"budget = "101%""#),
        expect![[r#"
        error: `budget`: `101%` is above `100%`
         --> seawall.toml:2:10
          |
        2 | budget = "101%"
          |          ^^^^^^"#]],
    );
    check(
        &upstream("budget = 10"),
        expect![[r#"
        error: `budget`: `10` has no unit
         --> seawall.toml:2:10
          |
        2 | budget = 10
          |          ^^
          |
          = help: write `10%`"#]],
    );
    check(
        r#"[upstream]
hosts = ["http://h:1"]
"#,
        expect![[r#"
            error: `upstream.hosts` is not a table
             --> seawall.toml:2:1
              |
            2 | hosts = ["http://h:1"]
              | ^^^^^
              |
              = help: name it: `[upstream.NAME]`, with `hosts` below"#]],
    );
    check(
        r#"[upstream."Ü"]
hosts = ["http://h:1"]
[route.r]
upstream = "Ü"
"#,
        expect![[r#"
            error: `Ü` is not a name
             --> seawall.toml:1:11
              |
            1 | [upstream."Ü"]
              |           ^^^
              |
              = help: names are 1 to 64 of `a` to `z`, `0` to `9`, `_` and `-`"#]],
    );
}

#[test]
fn routes() {
    check(
        r#"[upstream.orders]
hosts = ["http://h:1"]
[route.r]
upstream = "order"
"#,
        expect![[r#"
            error: `upstream`: there is no upstream `order`
             --> seawall.toml:4:12
              |
            4 | upstream = "order"
              |            ^^^^^^^
              |
              = help: did you mean `orders`?"#]],
    );
    check(
        r#"[upstream.u]
hosts = ["http://h:1"]
[route]
upstream = "u"
"#,
        expect![[r#"
            error: `route.upstream` is not a table
             --> seawall.toml:4:1
              |
            4 | upstream = "u"
              | ^^^^^^^^
              |
              = help: name it: `[route.NAME]`, with `upstream` below"#]],
    );
    check(
        r#"[upstream.u]
hosts = ["http://h:1"]
[[route]]
upstream = "u"
"#,
        expect![[r#"
            error: `route`: a list is not a table of tables `[route.NAME]`
             --> seawall.toml:3:1
              |
            3 | [[route]]
              | ^^^^^^^^^"#]],
    );
    check(
        r#"[upstream.u]
hosts = ["http://h:1"]
[route.a]
upstream = "u"
[route.b]
path = "/*"
upstream = "u"
"#,
        expect![[r#"
            error: the routes `a` and `b` take the same requests
             --> seawall.toml:5:1
              |
            5 | [route.b]
              | ^^^^^^^^^
              |
              = help: both have `path = "/*"`, for every host"#]],
    );
    check(
        &route(r#"path = "orders/*""#),
        expect![[r#"
        error: `path`: `orders/*` does not begin with `/`
         --> seawall.toml:2:8
          |
        2 | path = "orders/*"
          |        ^^^^^^^^^^
          |
          = help: write `/orders/*`"#]],
    );
    check(
        &route(r#"path = "/orders*""#),
        expect![[r#"
        error: `path`: `/orders*` has a `*` that is not a last part of its own
         --> seawall.toml:2:8
          |
        2 | path = "/orders*"
          |        ^^^^^^^^^^
          |
          = help: write `/orders/*`"#]],
    );
    check(
        &route(r#"path = "/a/*/b""#),
        expect![[r#"
        error: `path`: `/a/*/b` has a `*` that is not a last part of its own
         --> seawall.toml:2:8
          |
        2 | path = "/a/*/b"
          |        ^^^^^^^^
          |
          = help: write `/a/*`"#]],
    );
    check(
        &route(r#"path = "/a?b""#),
        expect![[r#"
        error: `path`: `/a?b` holds `?`, which is in no path
         --> seawall.toml:2:8
          |
        2 | path = "/a?b"
          |        ^^^^^^"#]],
    );
    check(
        &route(r#"host = "*""#),
        expect![[r#"
        error: `host`: `*` is not a pattern of hosts
         --> seawall.toml:2:8
          |
        2 | host = "*"
          |        ^^^
          |
          = help: write `*.example.com`, or leave `host` out for every host"#]],
    );
    check(
        &route(r#"host = "example.com:80""#),
        expect![[r#"
        error: `host`: `example.com:80` has a port; hosts are compared without
         --> seawall.toml:2:8
          |
        2 | host = "example.com:80"
          |        ^^^^^^^^^^^^^^^^
          |
          = help: write `example.com`"#]],
    );
    check(
        &route(r#"host = "exa mple.com""#),
        expect![[r#"
        error: `host`: `exa mple.com` is not the name or address of a host
         --> seawall.toml:2:8
          |
        2 | host = "exa mple.com"
          |        ^^^^^^^^^^^^^^"#]],
    );
    check(
        &route(r#"deadline = "2 sec""#),
        expect![[r#"
        error: `deadline`: ` sec` is not one of the units `us`, `ms`, `s`, `m`, `h`
         --> seawall.toml:2:12
          |
        2 | deadline = "2 sec"
          |            ^^^^^^^
          |
          = help: write `2s`"#]],
    );
    check(
        &route("deadline = true"),
        expect![[r#"
        error: `deadline`: `true` is not a duration such as `250ms`
         --> seawall.toml:2:12
          |
        2 | deadline = true
          |            ^^^^"#]],
    );
    check(
        &route(r#"tier = "critcal""#),
        expect![[r#"
        error: `tier`: the text `critcal` is not `critical_plus`, `critical`, `sheddable_plus` or `sheddable`
         --> seawall.toml:2:8
          |
        2 | tier = "critcal"
          |        ^^^^^^^^^
          |
          = help: did you mean `critical`?"#]],
    );
    check(
        &route(r#"tier = { header = "x tier" }"#),
        expect![[r#"
        error: `header`: `x tier` is not the name of a header
         --> seawall.toml:2:19
          |
        2 | tier = { header = "x tier" }
          |                   ^^^^^^^^"#]],
    );
    check(
        &route("limit = { adaptive = true }"),
        expect![[r#"
        error: `adaptive`: a route only bounds itself: adaptive belongs to the upstream
         --> seawall.toml:2:22
          |
        2 | limit = { adaptive = true }
          |                      ^^^^
          |
          = help: move it to `limit` of `[upstream.NAME]`"#]],
    );
    check(
        &route("shed = true"),
        expect![[r#"
            error: `shed`: `true` is not a table
             --> seawall.toml:2:8
              |
            2 | shed = true
              |        ^^^^
              |
              = help: leave it out to have it with its defaults"#]],
    );
    check(
        &route("shed = { queue_delay = 16 }"),
        expect![[r#"
        error: `queue_delay`: `16` has no unit
         --> seawall.toml:2:24
          |
        2 | shed = { queue_delay = 16 }
          |                        ^^
          |
          = help: write `16s`, or with another of `us`, `ms`, `s`, `m`, `h`"#]],
    );
}

#[test]
fn throttles() {
    check(
        &route(r#"throttle = { rate = "50/s" }"#),
        expect![[r#"
        error: `throttle`: a table is not a list
         --> seawall.toml:2:12
          |
        2 | throttle = { rate = "50/s" }
          |            ^^^^^^^^^^^^^^^^^
          |
          = help: put it in brackets: `[…]`"#]],
    );
    check(
        &route("throttle = [{ rate = 50 }]"),
        expect![[r#"
        error: `rate`: `50` has no unit
         --> seawall.toml:2:22
          |
        2 | throttle = [{ rate = 50 }]
          |                      ^^
          |
          = help: write `50/s`, or with another of `s`, `m`, `h`, `d`"#]],
    );
    check(
        &route(r#"throttle = [{ rate = "50" }]"#),
        expect![[r#"
        error: `rate`: `50` has no unit
         --> seawall.toml:2:22
          |
        2 | throttle = [{ rate = "50" }]
          |                      ^^^^
          |
          = help: write `50/s`, or with another of `s`, `m`, `h`, `d`"#]],
    );
    check(
        &route(r#"throttle = [{ rate = "50/sec" }]"#),
        expect![[r#"
        error: `rate`: `sec` is not one of the units `s`, `m`, `h`, `d`
         --> seawall.toml:2:22
          |
        2 | throttle = [{ rate = "50/sec" }]
          |                      ^^^^^^^^
          |
          = help: write `50/s`"#]],
    );
}

#[test]
fn bursts_and_names() {
    check(
        &route(r#"throttle = [{ rate = "50/s", burst = 0 }]"#),
        expect![[r#"
        error: `burst`: the number `0` is not from 1 to 9223372036854775807
         --> seawall.toml:2:38
          |
        2 | throttle = [{ rate = "50/s", burst = 0 }]
          |                                      ^"#]],
    );
    check(
        &route(r#"throttle = [{ rate = "1/d", burst = 1000000 }]"#),
        expect![[r#"
        error: `burst`: `1000000` is above 106751, the most at this rate
         --> seawall.toml:2:37
          |
        2 | throttle = [{ rate = "1/d", burst = 1000000 }]
          |                                     ^^^^^^^"#]],
    );
    check(
        &route(r#"throttle = [{ rate = "50/s", per = "users" }]"#),
        expect![[r#"
        error: `per`: the text `users` is not `user` or `route`
         --> seawall.toml:2:36
          |
        2 | throttle = [{ rate = "50/s", per = "users" }]
          |                                    ^^^^^^^
          |
          = help: did you mean `user`?"#]],
    );
    check(
        &route(r#"throttle = [{ rate = "1/s", name = "a" }, { rate = "2/s", name = "a" }]"#),
        expect![[r#"
        error: `throttle`: two throttles of this route have the name `a`
         --> seawall.toml:2:43
          |
        2 | throttle = [{ rate = "1/s", name = "a" }, { rate = "2/s", name = "a" }]
          |                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
    check(
        &route(r#"throttle = [{ rate = "1/s", name = "per user" }]"#),
        expect![[r#"
        error: `name`: `per user` is not a name
         --> seawall.toml:2:36
          |
        2 | throttle = [{ rate = "1/s", name = "per user" }]
          |                                    ^^^^^^^^^^
          |
          = help: names are 1 to 64 of `a` to `z`, `0` to `9`, `_` and `-`"#]],
    );
    check(
        &route(
            r#"throttle = [
  { rate = "1/s" },
  { rate = "1/s" },
  { rate = "1/s" },
  { rate = "1/s" },
  { rate = "1/s" },
  { rate = "1/s" },
  { rate = "1/s" },
  { rate = "1/s" },
  { rate = "1/s" },
]"#,
        ),
        expect![[r#"
            error: `throttle`: the list has 9 items, not 0 to 8
             --> seawall.toml:2:12
              |
            2 | throttle = [
              |            ^"#]],
    );
}

#[test]
fn throttles_of_the_gateway() {
    check(
        &file(r#"throttle = [{ rate = "50/s", per = "route" }]"#),
        expect![[r#"
        error: `per`: the text `route` is not `user` or `gateway`
         --> seawall.toml:1:36
          |
        1 | throttle = [{ rate = "50/s", per = "route" }]
          |                                    ^^^^^^^
          |
          = help: write `gateway` for one quota of all routes, or move it to `throttle` of `[route.NAME]`"#]],
    );
    check(
        &file(r#"throttle = [{ rate = "50/s", per = "gatway" }]"#),
        expect![[r#"
        error: `per`: the text `gatway` is not `user` or `gateway`
         --> seawall.toml:1:36
          |
        1 | throttle = [{ rate = "50/s", per = "gatway" }]
          |                                    ^^^^^^^^
          |
          = help: did you mean `gateway`?"#]],
    );
    check(
        &file(r#"throttle = [{ rate = "1/s", name = "a" }, { rate = "2/s", name = "a" }]"#),
        expect![[r#"
        error: `throttle`: two throttles of the gateway have the name `a`
         --> seawall.toml:1:43
          |
        1 | throttle = [{ rate = "1/s", name = "a" }, { rate = "2/s", name = "a" }]
          |                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
    check(
        &file(r#"throttle = { rate = "50/s" }"#),
        expect![[r#"
        error: `throttle`: a table is not a list
         --> seawall.toml:1:12
          |
        1 | throttle = { rate = "50/s" }
          |            ^^^^^^^^^^^^^^^^^
          |
          = help: put it in brackets: `[…]`"#]],
    );
    check(
        &route(r#"throttle = [{ rate = "50/s", per = "gateway" }]"#),
        expect![[r#"
        error: `per`: the text `gateway` is not `user` or `route`
         --> seawall.toml:2:36
          |
        2 | throttle = [{ rate = "50/s", per = "gateway" }]
          |                                    ^^^^^^^^^
          |
          = help: move it to a `throttle` at the top of the file, before the first table"#]],
    );
    let all = "throttle = [{ rate = \"9/s\", name = \"all\" }]\n";
    check(
        &format!("{all}{}", route(r#"throttle = [{ rate = "1/s", name = "all" }]"#)),
        expect![[r#"
        error: `throttle`: a throttle of the gateway has the name `all`
         --> seawall.toml:3:13
          |
        3 | throttle = [{ rate = "1/s", name = "all" }]
          |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
}

#[test]
fn retries() {
    check(
        &route("retry = { attempts = 0 }"),
        expect![[r#"
        error: `attempts`: the number `0` is not from 1 to 10
         --> seawall.toml:2:22
          |
        2 | retry = { attempts = 0 }
          |                      ^"#]],
    );
    check(
        &route("retry = { attempts = 11 }"),
        expect![[r#"
        error: `attempts`: the number `11` is not from 1 to 10
         --> seawall.toml:2:22
          |
        2 | retry = { attempts = 11 }
          |                      ^^"#]],
    );
    check(
        &route("retry = true"),
        expect![[r#"
            error: `retry`: `true` is not a table
             --> seawall.toml:2:9
              |
            2 | retry = true
              |         ^^^^
              |
              = help: leave it out to have it with its defaults"#]],
    );
    check(
        &route(r#"retry = { per_attempt = "800" }"#),
        expect![[r#"
        error: `per_attempt`: `800` has no unit
         --> seawall.toml:2:25
          |
        2 | retry = { per_attempt = "800" }
          |                         ^^^^^
          |
          = help: write `800s`, or with another of `us`, `ms`, `s`, `m`, `h`"#]],
    );
    check(
        &route(r#"retry = { backoff = "exponential" }"#),
        expect![[r#"
        error: `backoff`: the text `exponential` is not a table
         --> seawall.toml:2:21
          |
        2 | retry = { backoff = "exponential" }
          |                     ^^^^^^^^^^^^^"#]],
    );
}

#[test]
fn backoffs() {
    check(
        &route(r#"retry = { backoff = { kind = "full" } }"#),
        expect![[r#"
        error: `kind`: the text `full` is not `exponential`, `fixed` or `none`
         --> seawall.toml:2:30
          |
        2 | retry = { backoff = { kind = "full" } }
          |                              ^^^^^^
          |
          = help: write `kind = "exponential", jitter = "full"`"#]],
    );
    check(
        &route(r#"retry = { backoff = { kind = "exponentail" } }"#),
        expect![[r#"
        error: `kind`: the text `exponentail` is not `exponential`, `fixed` or `none`
         --> seawall.toml:2:30
          |
        2 | retry = { backoff = { kind = "exponentail" } }
          |                              ^^^^^^^^^^^^^
          |
          = help: did you mean `exponential`?"#]],
    );
    check(
        &route(r#"retry = { backoff = { jitter = "some" } }"#),
        expect![[r#"
            error: `jitter`: the text `some` is not `none`, `full`, `equal`, `decorrelated` or `additive`
             --> seawall.toml:2:32
              |
            2 | retry = { backoff = { jitter = "some" } }
              |                                ^^^^^^"#]],
    );
    check(
        &route(r#"retry = { backoff = { base = "3s", cap = "2s" } }"#),
        expect![[r#"
        error: `cap`: `2s` is below the base, `3s`
         --> seawall.toml:2:42
          |
        2 | retry = { backoff = { base = "3s", cap = "2s" } }
          |                                          ^^^^"#]],
    );
    check(
        &route(r#"retry = { backoff = { kind = "fixed", jitter = "full" } }"#),
        expect![[r#"
        error: `jitter`: a backoff of kind `fixed` has none
         --> seawall.toml:2:48
          |
        2 | retry = { backoff = { kind = "fixed", jitter = "full" } }
          |                                                ^^^^^^
          |
          = help: remove it, or write `kind = "exponential"`"#]],
    );
    check(
        &route(r#"retry = { backoff = { kind = "none", base = "1s" } }"#),
        expect![[r#"
        error: `base`: a backoff of kind `none` has none
         --> seawall.toml:2:45
          |
        2 | retry = { backoff = { kind = "none", base = "1s" } }
          |                                             ^^^^
          |
          = help: remove it, or write `kind = "exponential"`"#]],
    );
}

#[test]
fn several_at_once() {
    // A key below a table's heading belongs to that table, which is easily overlooked.
    check(
        &route("[route.r.retry]\nattempts = 2"),
        expect![[r#"
            error: `[route.r]` has no `upstream`
             --> seawall.toml:1:1
              |
            1 | [route.r]
              | ^^^^^^^^^
              |
              = help: add `upstream = "u"`

            error: unknown key `upstream`
             --> seawall.toml:4:1
              |
            4 | upstream = "u"
              | ^^^^^^^^
              |
              = help: known here: `attempts`, `per_attempt`, `backoff`, `max_body`, `idempotency_key`"#]],
    );
    check(
        &file(
            r#"lissten = 1
[identity]
max_users = 0
on_full = "sahre""#,
        ),
        expect![[r#"
            error: unknown key `lissten`
             --> seawall.toml:1:1
              |
            1 | lissten = 1
              | ^^^^^^^
              |
              = help: did you mean `listen`?

            error: `max_users`: the number `0` is not from 1 to 100000000
             --> seawall.toml:3:13
              |
            3 | max_users = 0
              |             ^

            error: `on_full`: the text `sahre` is not `refuse`, `share` or `evict`
             --> seawall.toml:4:11
              |
            4 | on_full = "sahre"
              |           ^^^^^^^
              |
              = help: did you mean `share`?"#]],
    );
}

#[test]
fn what_can_never_work_by_itself() {
    check(
        &route(r#"dimmer = "Host""#),
        expect![[r#"
        error: `dimmer`: `Host` says where a request goes or how it is framed
         --> seawall.toml:2:10
          |
        2 | dimmer = "Host"
          |          ^^^^^^
          |
          = help: give it a name of its own, such as `x-dimmer`"#]],
    );
    check(
        &route(r#"method = ["GET", "CONNECT"]"#),
        expect![[r#"
        error: `method`: no request with CONNECT reaches a route: it is answered with 405
         --> seawall.toml:2:10
          |
        2 | method = ["GET", "CONNECT"]
          |          ^^^^^^^^^^^^^^^^^^
          |
          = help: leave it out"#]],
    );
    check(
        &route(r#"fallback = [{ status = 204, body = "x" }]"#),
        expect![[r#"
        error: an answer with status 204 has no body
         --> seawall.toml:2:13
          |
        2 | fallback = [{ status = 204, body = "x" }]
          |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: leave `body` out, or write `status = 200`"#]],
    );
    let secure = |protocol: &str, host: &str| {
        let hosts = format!("hosts = [\"http{host}://h:1\"]");
        upstream(&format!("protocol = \"{protocol}\"")).replace("hosts = [\"http://h:1\"]", &hosts)
    };
    check(
        &secure("h2c", "s"),
        expect![[r#"
        error: `protocol`: that is HTTP/2 without TLS, and a host is `https://h:1`
         --> seawall.toml:2:12
          |
        2 | protocol = "h2c"
          |            ^^^^^
          |
          = help: write `h2`, or another scheme in `hosts`"#]],
    );
    check(
        &secure("h2", ""),
        expect![[r#"
        error: `protocol`: that is HTTP/2 with TLS, and a host is `http://h:1`
         --> seawall.toml:2:12
          |
        2 | protocol = "h2"
          |            ^^^^
          |
          = help: write `h2c`, or another scheme in `hosts`"#]],
    );
    assert!(parse(&secure("h2", "s")).is_ok() && parse(&secure("h2c", "")).is_ok());
    assert!(parse(&route("fallback = [{ status = 204 }]")).is_ok());
}

#[test]
fn the_room_of_a_fallback() {
    check(
        &route(r#"fallback = [{ stale = "5m", max_body = "2MiB", max_bytes = "1MiB" }]"#),
        expect![[r#"
        error: `max_body`: it is above `max_bytes`, so that none so large would be kept
         --> seawall.toml:2:40
          |
        2 | fallback = [{ stale = "5m", max_body = "2MiB", max_bytes = "1MiB" }]
          |                                        ^^^^^^"#]],
    );
    check(
        &route(r#"fallback = [{ status = 200, max_entries = 9 }]"#),
        expect![[r#"
        error: what bounds the kept answers belongs to a `stale` step
         --> seawall.toml:2:13
          |
        2 | fallback = [{ status = 200, max_entries = 9 }]
          |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
    check(
        &route(r#"fallback = [{ stale = "5m", max_entries = 0 }]"#),
        expect![[r#"
        error: `max_entries`: the number `0` is not from 1 to 100000000
         --> seawall.toml:2:43
          |
        2 | fallback = [{ stale = "5m", max_entries = 0 }]
          |                                           ^"#]],
    );
}
