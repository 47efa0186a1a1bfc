//! `Forwarded` (RFC 7239): where a request came from, hop by hop.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderValue};

use super::{Hop, Scheme, lines, parse_hop};

/// Adds this hop: behind those before it for a trusted peer, instead of them for any other.
pub(super) fn add(headers: &mut HeaderMap, hop: &Hop<'_>) {
    let mut line = lines(headers, &header::FORWARDED).filter(|_| hop.trusted).unwrap_or_default();
    if !line.is_empty() {
        line += ", ";
    }
    // Writing to a string cannot fail.
    let _ = match hop.client.ip() {
        IpAddr::V4(peer) => write!(line, "for={peer}"),
        IpAddr::V6(peer) => write!(line, "for=\"[{peer}]\""),
    };
    line += if hop.scheme == Scheme::Https { ";proto=https" } else { ";proto=http" };
    if let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        let _ = write!(line, ";host=\"{}\"", host.replace('\\', "\\\\").replace('"', "\\\""));
    }
    if let Ok(value) = HeaderValue::try_from(line) {
        headers.insert(header::FORWARDED, value);
    }
}

/// The hops of a line, from the left; `None` for one that names no address.
pub(super) fn hops(line: &str) -> Vec<Option<IpAddr>> {
    let elements = split(line, ',').into_iter();
    elements.map(|element| split(element, ';').into_iter().find_map(node)?).collect()
}

/// The address of a pair that names the node; the inner is `None` when it hides.
fn node(pair: &str) -> Option<Option<IpAddr>> {
    let (name, value) = pair.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("for") {
        return None;
    }
    let value = value.trim();
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    Some(parse_hop(bare))
}

/// The parts between separators that do not stand in quotes. Quotes that do not end hide the rest.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_end = |c: char| {
        let ends = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    };
    text.split(is_end).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::Client;
    use super::*;

    #[test]
    fn hops_are_read_as_the_rfc_writes_them() {
        let read = |line: &str| {
            let text = |hop: Option<IpAddr>| hop.map_or("-".to_owned(), |hop| hop.to_string());
            hops(line).into_iter().map(text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(read("for=192.0.2.43"), "192.0.2.43");
        assert_eq!(read("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(read("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60");
        assert_eq!(read("by=203.0.113.43; FOR=\"192.0.2.60:80\""), "192.0.2.60");
        assert_eq!(read("for=192.0.2.43, for=198.51.100.17"), "192.0.2.43 198.51.100.17");
        assert_eq!(read("for=unknown, for=_hidden, for=\"_SEVKISEK\""), "- - -");
        assert_eq!(read("host=\"a,for=1.2.3.4\";for=192.0.2.1, proto=https"), "192.0.2.1 -");
        assert_eq!(read("for=\"1.2.3.4, for=5.6.7.8"), "-", "quotes that do not end");
        assert_eq!(read("host=\"a\\\"b, c\";for=192.0.2.1"), "192.0.2.1");
        assert_eq!(read(""), "-");
    }

    #[test]
    fn a_hop_is_added_for_the_trusted_and_stands_alone_for_others() {
        let said = |peer: &str, trusted| {
            let mut headers = HeaderMap::from_iter([
                (header::FORWARDED, HeaderValue::from_static("for=6.6.6.6")),
                (header::HOST, HeaderValue::from_static("a.example:80")),
            ]);
            let client = &Client::at(SocketAddr::new(peer.parse().unwrap(), 50_000));
            add(&mut headers, &Hop { client, trusted, scheme: Scheme::Https, says_forwarded: true });
            headers[header::FORWARDED].to_str().unwrap().to_owned()
        };
        assert_eq!(said("192.0.2.1", false), "for=192.0.2.1;proto=https;host=\"a.example:80\"");
        let both = "for=6.6.6.6, for=\"[2001:db8::1]\";proto=https;host=\"a.example:80\"";
        assert_eq!(said("2001:db8::1", true), both);
    }
}
