use super::*;

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn nets(nets: &[&str]) -> Vec<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

#[test]
fn hop_by_hop_fields_end_here_also_those_that_connection_names() {
    let mut headers = map(&[
        ("connection", "close, X-Private"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("trailer", "x-end"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("accept", "*/*"),
    ]);
    strip_hop_by_hop(&mut headers);
    // What a body ends with is for whoever reads it.
    assert_eq!(headers, map(&[("trailer", "x-end"), ("accept", "*/*")]));
    let mut headers = map(&[("te", "trailers")]);
    strip_hop_by_hop(&mut headers);
    assert_eq!(headers, map(&[("te", "trailers")]));
}

#[test]
fn every_line_of_connection_counts() {
    let mut headers = map(&[
        ("connection", "keep-alive"),
        ("connection", " X-One,,x-two "),
        ("x-one", "1"),
        ("x-two", "2"),
    ]);
    strip_hop_by_hop(&mut headers);
    assert!(headers.is_empty());
}

#[test]
fn an_offer_of_h2c_is_no_demand() {
    let asked = |protocol| upgrade(&map(&[("upgrade", protocol), ("connection", "keep-alive, Upgrade")]));
    assert_eq!(asked("websocket").unwrap(), "websocket");
    assert_eq!(asked("h2c"), None);
    assert_eq!(upgrade(&map(&[("upgrade", "websocket")])), None, "it is not for this hop");
    assert_eq!(upgrade(&map(&[])), None);
}

fn at(address: &str) -> Client {
    Client::at(SocketAddr::new(address.parse().unwrap(), 50_000))
}

#[test]
fn who_speaks_for_a_client_is_to_be_trusted_as_the_client_is() {
    let trusted = nets(&["10.0.0.0/8"]);
    let behind = |peer: &str, named: Option<&str>| {
        Client::behind(at(peer).address, named.map(|named| at(named).address))
    };
    let seen = |client: &Client| {
        let headers = map(&[("x-forwarded-for", "6.6.6.6")]);
        (client.is_trusted(&trusted), client_address(client, &headers, &trusted).to_string())
    };
    assert_eq!(seen(&behind("10.0.0.1", Some("10.0.0.7"))), (true, "6.6.6.6".to_owned()));
    assert_eq!(seen(&behind("10.0.0.1", Some("203.0.113.9"))), (false, "203.0.113.9".to_owned()));
    assert_eq!(seen(&behind("203.0.113.9", Some("10.0.0.7"))), (false, "10.0.0.7".to_owned()));
    assert_eq!(seen(&behind("10.0.0.1", None)), (false, "10.0.0.1".to_owned()));
    assert_eq!(seen(&at("10.0.0.1")), (true, "6.6.6.6".to_owned()));
}

#[test]
fn what_gateways_tell_each_other_is_heard_from_the_trusted_alone() {
    let told = ["x-envoy-max-retries", "x-seawall-mirror", "x-forwarded-port", "x-real-ip", "proxy"];
    let in_disguise = ["x_forwarded_for", "x-forwarded_proto", "x_real_ip", "x-seawall_reason", "x_envoy-a"];
    let others =
        ["x-request-id", "x-real", "x-realm-ip", "x-envoyer", "x-forwarded", "x_tier", "proxy-a", "x-"];
    let all = || told.into_iter().chain(in_disguise).chain(others).map(|name| (name, "1"));
    let left = |trusted| {
        let mut headers = map(&all().collect::<Vec<_>>());
        strip_told(&mut headers, trusted);
        all().map(|(name, _)| name).filter(|name| headers.contains_key(*name)).collect::<Vec<_>>()
    };
    assert_eq!(left(false), others);
    assert_eq!(left(true), [&told[..], &others[..]].concat());
    assert!(others.into_iter().all(|name| !is_told(name)));
}

#[test]
fn the_client_is_the_first_untrusted_hop_from_the_right() {
    let trusted = nets(&["10.0.0.0/8", "127.0.0.0/8"]);
    let client = |peer: &str, line: &'static str| {
        client_address(&at(peer), &map(&[("x-forwarded-for", line)]), &trusted).to_string()
    };
    assert_eq!(client("203.0.113.9", "1.2.3.4"), "203.0.113.9");
    assert_eq!(client("10.0.0.1", "1.2.3.4"), "1.2.3.4");
    assert_eq!(client("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.7"), "1.2.3.4");
    assert_eq!(client("10.0.0.1", "6.6.6.6, nonsense, 10.0.0.7"), "10.0.0.7");
    assert_eq!(client("10.0.0.1", "[2001:db8::1]:4711"), "2001:db8::1");
    assert_eq!(client("10.0.0.1", "1.2.3.4:80"), "1.2.3.4");
    assert_eq!(client("10.0.0.1", "1.2.3.4, ::ffff:10.0.0.7"), "1.2.3.4");
    assert_eq!(client("10.0.0.1", ""), "10.0.0.1");
    let two = map(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "10.1.1.1")]);
    assert_eq!(client_address(&at("10.0.0.1"), &two, &trusted).to_string(), "6.6.6.6");
}

#[test]
fn forwarded_counts_where_there_is_no_x_forwarded_for() {
    let trusted = nets(&["10.0.0.0/8"]);
    let client = |peer: &str, lines: &[(&'static str, &'static str)]| {
        client_address(&at(peer), &map(lines), &trusted).to_string()
    };
    let hops = ("forwarded", "for=6.6.6.6, for=1.2.3.4;proto=https, for=10.0.0.7");
    assert_eq!(client("10.0.0.1", &[hops]), "1.2.3.4");
    assert_eq!(client("203.0.113.9", &[hops]), "203.0.113.9");
    assert_eq!(client("10.0.0.1", &[hops, ("x-forwarded-for", "5.5.5.5")]), "5.5.5.5");
    assert_eq!(client("10.0.0.1", &[("forwarded", "for=1.2.3.4, for=_hidden")]), "10.0.0.1");
    let two = [("forwarded", "for=1.2.3.4"), ("forwarded", "for=\"10.1.1.1:80\"")];
    assert_eq!(client("10.0.0.1", &two), "1.2.3.4");
}

#[test]
fn what_an_untrusted_peer_says_is_replaced() {
    let said = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=6.6.6.6"),
        ("host", "a.example"),
    ];
    let client = &Client::at("203.0.113.9:50000".parse().unwrap());
    let hop = |trusted, scheme| Hop { client, trusted, scheme, says_forwarded: false };
    let mut headers = map(&said);
    forwarded(&mut headers, &hop(false, Scheme::Http));
    assert_eq!(headers["x-forwarded-for"], "203.0.113.9");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "a.example");
    assert!(!headers.contains_key("forwarded"));
    let mut headers = map(&said);
    forwarded(&mut headers, &hop(true, Scheme::Http));
    assert_eq!(headers["x-forwarded-for"], "6.6.6.6, 7.7.7.7, 203.0.113.9");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["forwarded"], "for=6.6.6.6");
    let mut headers = map(&[]);
    forwarded(&mut headers, &hop(true, Scheme::Https));
    assert_eq!(headers["x-forwarded-proto"], "https");
}

#[test]
fn an_answer_keeps_one_length_where_it_may_have_a_body() {
    let stripped = |status: u16, lines: &[(&'static str, &'static str)]| {
        let mut headers = map(lines);
        strip_framing(StatusCode::from_u16(status).unwrap(), &mut headers)?;
        let kept = headers.get_all("content-length").iter().map(|length| length.to_str().unwrap().to_owned());
        Ok::<_, &str>(kept.collect::<Vec<_>>())
    };
    let length = |status, length| stripped(status, &[("content-length", length)]).map(|kept| kept.join(";"));
    assert_eq!(length(200, "2"), Ok("2".to_owned()));
    assert_eq!(length(200, "2, 2"), Ok("2".to_owned()));
    assert_eq!(length(304, "2"), Ok("2".to_owned()));
    for status in [101, 204] {
        assert_eq!(length(status, "0"), Ok(String::new()));
        assert_eq!(length(status, "2, 3"), Ok(String::new()));
    }
    for (status, wrong) in [(200, "2, 3"), (304, "2,"), (304, ""), (200, "+2"), (200, "99999999999999999999")]
    {
        assert!(length(status, wrong).is_err(), "{wrong}");
    }
    assert_eq!(stripped(200, &[("content-length", "2"), ("content-length", "2")]), Ok(vec!["2".to_owned()]));
    assert!(stripped(200, &[("content-length", "2"), ("content-length", "3")]).is_err());
    let chunks = |coding| stripped(200, &[("content-length", "2"), ("transfer-encoding", coding)]);
    assert_eq!(chunks("chunked"), Ok(vec![]));
    assert!(chunks("gzip, chunked").is_err());
}

#[test]
fn an_answers_head_is_bounded_as_a_requests_is() {
    let head = |bytes: usize| {
        let line = HeaderValue::try_from("x".repeat(bytes - FIELD_BYTES - 1)).unwrap();
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static("x"), line)]);
        strip_framing(StatusCode::OK, &mut headers)
    };
    assert_eq!(head(HEADER_BYTES_MAX), Ok(()));
    assert!(head(HEADER_BYTES_MAX + 1).is_err());
}
