//! Header hygiene: what belongs to one hop ends there, and who the client is.
//!
//! Hop-by-hop fields (RFC 9110 §7.6.1), also those that `Connection` names, are never forwarded in
//! either direction. `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` where the config asks for
//! it, say where a request came from; what a client says of itself is believed only when its address
//! is trusted. Where a trusted peer sends both, `X-Forwarded-For` counts.

mod node;

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// What belongs to one hop. In one place: a constant would be made anew for each name that is looked up.
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// What says where a request came from.
static ORIGIN: [HeaderName; 4] = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, header::FORWARDED];

/// Whether a head has any of these. One look at each field costs less than to look for each name, or even
/// for one.
fn has_any(headers: &HeaderMap, names: &[HeaderName]) -> bool {
    headers.keys().any(|name| names.contains(name))
}

/// Whether another protocol is asked for on this connection, after what belonged to the last hop was removed.
pub(crate) fn upgrades(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| *name == header::UPGRADE)
}

/// Removes what belongs to one hop.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Few heads have more than one of these: to look for them costs less than to remove them in vain.
    let find = |headers: &HeaderMap| headers.keys().find(|name| HOP_BY_HOP.contains(name)).cloned();
    let Some(mut found) = find(headers) else { return };
    let mut wanted = headers.iter().filter(|(name, _)| **name == header::TE);
    let trailers = wanted.any(|(_, te)| names(te).any(|name| name == "trailers"));
    if found == header::CONNECTION || headers.contains_key(header::CONNECTION) {
        strip_named(headers);
    }
    loop {
        headers.remove(&found);
        match find(headers) {
            Some(next) => found = next,
            None => break,
        }
    }
    if trailers {
        headers.insert(header::TE, TRAILERS);
    }
}

/// Removes the fields that `Connection` names. More than one line of it is rare: one costs no allocation.
fn strip_named(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::CONNECTION).iter().cloned();
    let (first, more) = (lines.next(), lines.collect::<Vec<_>>());
    for line in first.iter().chain(&more) {
        // A request without its host would be another one, and its length is said anew anyway.
        for name in names(line).filter(|name| !name.eq_ignore_ascii_case("host")) {
            headers.remove(name);
        }
    }
}

/// The names in a list.
fn names(list: &HeaderValue) -> impl Iterator<Item = &str> {
    let parts = list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    parts.filter_map(|name| std::str::from_utf8(name).ok())
}

/// The other protocol that is asked for on this connection, or agreed on. An offer of `h2c` may be
/// ignored, and is.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let (_, protocol) = headers.iter().find(|(name, _)| **name == header::UPGRADE)?;
    let is_named = |line: &HeaderValue| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    let named = headers.get_all(header::CONNECTION).iter().any(is_named);
    (named && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// Removes the client's wish to be asked for its body: that is met when it is read.
pub(crate) fn strip_expect(headers: &mut HeaderMap) {
    if headers.keys().any(|name| *name == header::EXPECT) {
        headers.remove(header::EXPECT);
    }
}

/// Asks for another protocol, or agrees on it, after what belonged to the last hop was removed.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, protocol);
}

/// Why a request must not be forwarded: two lengths are one too many (request smuggling).
pub(crate) fn ambiguous_length(headers: &HeaderMap) -> bool {
    let lengths = headers.iter().filter(|(name, _)| **name == header::CONTENT_LENGTH);
    let mut lengths = lengths.map(|(_, length)| length);
    let Some(first) = lengths.next() else { return false };
    headers.contains_key(header::TRANSFER_ENCODING) || lengths.any(|other| other != first)
}

/// How a request came here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    /// Who sent it.
    pub(crate) peer: IpAddr,
    /// Whether what the peer says of its clients is believed.
    pub(crate) trusted: bool,
    /// Over which protocol.
    pub(crate) scheme: Scheme,
    /// Whether the upstream is told in `Forwarded`, too.
    pub(crate) says_forwarded: bool,
}

/// How a client's connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// As anybody on the way can read it.
    Http,
    /// Over TLS.
    Https,
}

/// Says where the request came from: appended for a trusted peer, replaced for any other.
pub(crate) fn forwarded(headers: &mut HeaderMap, hop: &Hop) {
    let is_said = has_any(headers, &ORIGIN);
    let believed = is_said && hop.trusted;
    let mut line = believed.then(|| lines(headers, &FORWARDED_FOR)).flatten().unwrap_or_default();
    if !line.is_empty() {
        line.push_str(", ");
    }
    write_address(&mut line, hop.peer);
    if let Ok(value) = HeaderValue::try_from(line) {
        headers.insert(FORWARDED_FOR, value);
    }
    if !believed || !headers.contains_key(FORWARDED_PROTO) {
        let scheme = if hop.scheme == Scheme::Https { HTTPS } else { HTTP };
        headers.insert(FORWARDED_PROTO, scheme);
    }
    if !believed || !headers.contains_key(FORWARDED_HOST) {
        match headers.get(header::HOST).cloned() {
            Some(host) => _ = headers.insert(FORWARDED_HOST, host),
            None => _ = headers.remove(FORWARDED_HOST),
        }
    }
    if hop.says_forwarded {
        node::add(headers, hop);
    } else if is_said && !hop.trusted {
        headers.remove(header::FORWARDED);
    }
}

/// Adds an address as text. Every request needs that, and `Display` takes ten times as long for the same.
fn write_address(text: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else { return text.push_str(&address.to_string()) };
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
}

/// All lines of a field as one.
fn lines(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.map(str::to_owned).reduce(|before, line| before + ", " + &line)
}

/// Whether what this peer says of its clients is believed.
pub(crate) fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&peer))
}

/// The client: from a trusted peer, the first untrusted or unreadable hop of `X-Forwarded-For`, or of
/// `Forwarded` where there is none, read from the right; else the peer itself.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    if !has_any(headers, &ORIGIN) || !is_trusted(peer, trusted) {
        return peer;
    }
    let text = |line: &HeaderValue| line.to_str().unwrap_or("").to_owned();
    if headers.contains_key(header::FORWARDED) && !headers.contains_key(FORWARDED_FOR) {
        let hops = headers.get_all(header::FORWARDED).iter().rev().map(text);
        return walk(peer, hops.flat_map(|line| node::hops(&line).into_iter().rev()), trusted);
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().rev().map(|line| line.to_str().unwrap_or(""));
    walk(peer, lines.flat_map(|line| line.rsplit(',')).map(|hop| parse_hop(hop.trim())), trusted)
}

/// From hop to hop as long as the last one is trusted and the next can be read.
fn walk(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    for hop in hops {
        match hop {
            Some(address) if is_trusted(client, trusted) => client = address,
            Some(_) | None => break,
        }
    }
    client
}

fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().or_else(|_| hop.parse::<SocketAddr>().map(|hop| hop.ip())).ok()?;
    Some(address)
}

#[cfg(test)]
mod tests;
