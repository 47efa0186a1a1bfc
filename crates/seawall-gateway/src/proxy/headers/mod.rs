//! Header hygiene: what belongs to one hop ends there, and who the client is.
//!
//! Hop-by-hop fields (RFC 9110 §7.6.1), also those that `Connection` names, are never forwarded in
//! either direction. `X-Forwarded-For`, `-Proto` and `-Host` say where a request came from; what a
//! client says of itself is believed only when its address is trusted.

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

/// What belongs to one hop.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Removes what belongs to one hop.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Few heads have more than one of these: to look for them costs less than to remove them in vain.
    let find = |headers: &HeaderMap| headers.keys().find(|name| HOP_BY_HOP.contains(name)).cloned();
    let Some(mut found) = find(headers) else { return };
    let trailers = headers.get(header::TE).is_some_and(|te| te == TRAILERS);
    if headers.contains_key(header::CONNECTION) {
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
        for name in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if let Ok(name) = std::str::from_utf8(name) {
                headers.remove(name);
            }
        }
    }
}

/// The other protocol that is asked for on this connection, or agreed on. An offer of `h2c` may be
/// ignored, and is.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    let is_named = |line: &HeaderValue| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    let named = headers.get_all(header::CONNECTION).iter().any(is_named);
    (named && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// Asks for another protocol, or agrees on it, after what belonged to the last hop was removed.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, protocol);
}

/// Why a request must not be forwarded: two lengths are one too many (request smuggling).
pub(crate) fn ambiguous_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return false };
    headers.contains_key(header::TRANSFER_ENCODING) || lengths.any(|other| other != first)
}

/// Says that the request came over TLS, unless a trusted peer has said how it came to it.
pub(crate) fn forwarded_over_tls(headers: &mut HeaderMap, trusted: bool) {
    if !trusted || !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HTTPS);
    }
}

/// Says where the request came from: appended for a trusted peer, replaced for any other.
pub(crate) fn forwarded(headers: &mut HeaderMap, peer: IpAddr, trusted: bool) {
    let before = headers.get(FORWARDED_FOR).filter(|_| trusted).and_then(|value| value.to_str().ok());
    let line = match before {
        Some(before) => format!("{before}, {peer}"),
        None => peer.to_string(),
    };
    if let Ok(value) = HeaderValue::try_from(line) {
        headers.insert(FORWARDED_FOR, value);
    }
    if !trusted || !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HTTP);
    }
    if !trusted || !headers.contains_key(FORWARDED_HOST) {
        match headers.get(header::HOST).cloned() {
            Some(host) => _ = headers.insert(FORWARDED_HOST, host),
            None => _ = headers.remove(FORWARDED_HOST),
        }
    }
}

/// Whether what this peer says of its clients is believed.
pub(crate) fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&peer))
}

/// The client: from a trusted peer, the first untrusted or unreadable hop of `X-Forwarded-For`,
/// read from the right; else the peer itself.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    let lines = headers.get_all(FORWARDED_FOR).iter().rev().map(|line| line.to_str().unwrap_or(""));
    for hop in lines.flat_map(|line| line.rsplit(',')) {
        if !is_trusted(client, trusted) {
            break;
        }
        match parse_hop(hop.trim()) {
            Some(address) => client = address,
            None => break,
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
