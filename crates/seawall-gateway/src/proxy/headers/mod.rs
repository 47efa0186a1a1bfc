//! Header hygiene: what belongs to one hop ends there, and who the client is.
//!
//! Hop-by-hop fields (RFC 9110 §7.6.1), also those that `Connection` names, are never forwarded in
//! either direction. `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` where the config asks for
//! it, say where a request came from; what a client says of itself is believed only when its address
//! is trusted, and otherwise not passed on, nor are `X-Real-IP` and other fields that begin with `X-Forwarded-`.
//! Where a trusted peer sends both, `X-Forwarded-For` counts.

mod node;

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Whether a field belongs to one hop.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    /// How long they are: few other names are as long as any of them.
    const LENGTHS: u32 = 1 << 2 | 1 << 7 | 1 << 10 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 19;
    let name = name.as_str();
    if name.len() >= 32 || LENGTHS >> name.len() & 1 == 0 {
        return false;
    }
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
    )
}

/// Whether a field says where a request came from.
fn is_origin(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "forwarded")
}

/// Whether this is the name of a field in which gateways tell each other where a request came from, and what to do.
/// Many servers take `_` for `-`: then `X_Forwarded_For` stands beside what is said here, or instead of it.
pub(super) fn is_told(name: &str) -> bool {
    match name.as_bytes() {
        // Few others begin so.
        [b'x', b'-' | b'_', name @ ..] => {
            let part = name.iter().position(|byte| matches!(byte, b'-' | b'_')).unwrap_or(name.len());
            let (first, rest) = name.split_at(part);
            match first {
                b"envoy" | b"forwarded" | b"seawall" => !rest.is_empty(),
                b"real" => matches!(rest, b"-ip" | b"_ip"),
                _ => false,
            }
        }
        // No client has a reason to send it, and CGI takes it for where its own requests shall go (CVE-2016-5385).
        name => name == b"proxy",
    }
}

/// Removes what gateways tell each other: a client that is not trusted may not, and nobody in a name that stands for
/// another.
pub(crate) fn strip_told(headers: &mut HeaderMap, trusted: bool) {
    let is_wrong = |name: &str| is_told(name) && (!trusted || name.contains('_'));
    let told: Vec<HeaderName> = headers.keys().filter(|name| is_wrong(name.as_str())).cloned().collect();
    told.into_iter().for_each(|name| drop(headers.remove(name)));
}

/// Removes what may not come behind a body: what belongs to one hop, frames, routes, or says who is asking.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    let is_of_heads = |name: &HeaderName| {
        let is_framing = *name == header::CONTENT_LENGTH || *name == header::TRAILER;
        is_hop_by_hop(name) || is_origin(name) || is_framing || *name == header::HOST
    };
    let found: Vec<HeaderName> = trailers.keys().filter(|name| is_of_heads(name)).cloned().collect();
    for name in found {
        trailers.remove(name);
    }
}

/// The first value of a field that most requests have. To look at the fields of a request costs less than to look for
/// a name, which is hashed for that; and what everybody sends comes first.
pub(super) fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.iter().find_map(|(other, value)| (other == name).then_some(value))
}

/// The first value of a field that few requests have.
pub(super) fn sought<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    if headers.keys().any(|other| other == name) { headers.get(name) } else { None }
}

/// Whether another protocol is asked for on this connection, after what belonged to the last hop was removed.
pub(crate) fn upgrades(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| *name == header::UPGRADE)
}

/// Removes what belongs to one hop.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Few heads have more than one of these: to look for them costs less than to remove them in vain.
    let find = |headers: &HeaderMap| headers.keys().find(|name| is_hop_by_hop(name)).cloned();
    let mut all = headers.keys().filter(|name| is_hop_by_hop(name));
    let Some(mut found) = all.next().cloned() else { return };
    if all.next().is_none()
        && found == header::CONNECTION
        && let Entry::Occupied(connection) = headers.entry(&found)
        && connection.iter().all(is_kept_alive)
    {
        // As most answers have it.
        connection.remove();
        return;
    }
    let wants = |te: &HeaderValue| names(te).any(|name| name == "trailers");
    let trailers = headers.keys().any(|name| *name == header::TE);
    let trailers = trailers && headers.get_all(header::TE).iter().any(wants);
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

/// What each field counts besides its name and value (RFC 9113 §6.5.2).
const FIELD_BYTES: usize = 32;

/// The most bytes of the header of a request, or of an answer.
pub(crate) const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Takes off the head of an answer what frames its body, but for one length: chunks override it (RFC 9112 §6.3), and
/// what never has a body has none (RFC 9110 §8.6). Says what is wrong with a head that cannot be passed on.
pub(crate) fn strip_framing(status: StatusCode, headers: &mut HeaderMap) -> Result<(), &'static str> {
    let (mut bytes, mut lengths, mut is_coded, mut is_plain) = (0, 0, false, true);
    // In one go: most answers have one length, and nothing is to be done.
    for (name, value) in &*headers {
        bytes += name.as_str().len() + value.len() + FIELD_BYTES;
        if *name == header::CONTENT_LENGTH {
            lengths += 1;
            is_plain &= length(value.as_bytes()).is_some() && !has_zeros(value);
        }
        is_coded |= *name == header::TRANSFER_ENCODING;
    }
    if bytes > HEADER_BYTES_MAX {
        return Err("the head of its answer is too large");
    }
    if is_coded && !is_chunked(headers) {
        // That would end here unread.
        return Err("it cannot be told where its answer ends");
    }
    if lengths > 0 && (is_coded || status.is_informational() || status == StatusCode::NO_CONTENT) {
        headers.remove(header::CONTENT_LENGTH);
    } else if lengths > 1 || !is_plain {
        let length = one_length(headers).ok_or("its answer has more than one length, or one that is none")?;
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

/// Whether chunks are all that an answer's body is coded in.
fn is_chunked(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let parts = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut codings = parts.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
    codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

/// The length that all of several say (RFC 9110 §8.6).
pub(super) fn one_length(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let parts = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut lengths = parts.map(|part| length(part.trim_ascii()));
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// Whether a length begins with zeros, for which some read it as octal.
pub(super) fn has_zeros(length: &HeaderValue) -> bool {
    length.len() > 1 && length.as_bytes()[0] == b'0'
}

/// A length as it is written: in digits alone.
fn length(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let more = |length: u64, byte| length.checked_mul(10)?.checked_add(digit(byte)?);
    if text.is_empty() { None } else { text.iter().try_fold(0, more) }
}

/// Whether a line of `Connection` says no more than that it is kept.
fn is_kept_alive(line: &HeaderValue) -> bool {
    line.as_bytes().eq_ignore_ascii_case(b"keep-alive")
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

/// The other protocols that are asked for on this connection, or the one agreed on. An offer may be ignored,
/// and that of another version of HTTP is: what came through would be seen by no policy.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !upgrades(headers) {
        return None;
    }
    let is_named = |line: &HeaderValue| names(line).any(|name| name.eq_ignore_ascii_case("upgrade"));
    if !headers.get_all(header::CONNECTION).iter().any(is_named) {
        return None;
    }
    let lines = headers.get_all(header::UPGRADE).iter();
    let others: Vec<&str> = lines.flat_map(names).filter(|protocol| is_other(protocol)).collect();
    if others.is_empty() { None } else { HeaderValue::try_from(others.join(", ")).ok() }
}

/// Whether an answer agrees on a protocol that was offered.
pub(crate) fn agrees(answer: &HeaderMap, offered: Option<&HeaderValue>) -> bool {
    let Some((agreed, offered)) = upgrade(answer).zip(offered) else { return false };
    names(&agreed).all(|agreed| names(offered).any(|offered| offered.eq_ignore_ascii_case(agreed)))
}

/// Whether this names a protocol, perhaps with its version, that is not HTTP.
fn is_other(protocol: &str) -> bool {
    let (name, version) = protocol.split_once('/').unwrap_or((protocol, "1"));
    let is_token = |text: &str| HeaderName::try_from(text).is_ok();
    let is_http = ["http", "h2", "h2c", "h3"].iter().any(|http| name.eq_ignore_ascii_case(http));
    is_token(name) && is_token(version) && !is_http
}

/// HTTP/2 may split the cookie field; HTTP/1.1 wants one line.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, cookie);
    }
}

/// Whether the client wishes to be asked for its body: that is met when it is read.
pub(crate) fn expects(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| *name == header::EXPECT)
}

/// Asks for another protocol, or agrees on it, after what belonged to the last hop was removed.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.remove(header::TE);
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, protocol);
}

/// Who sends requests on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Where from.
    pub(crate) address: SocketAddr,
    /// The same without the port, as upstreams are told: in words that are found once for all its requests.
    text: HeaderValue,
    source: Source,
}

/// Who says that a client has its address.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// It is that of the peer.
    Socket,
    /// The peer at this one, in a header of the PROXY protocol.
    Proxy(IpAddr),
    /// Nobody: the peer speaks for a client that it does not name.
    Unnamed,
}

impl Client {
    /// The client at this address; one that a listener for both families maps to IPv6 is IPv4.
    pub(crate) fn at(address: SocketAddr) -> Client {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let text = HeaderValue::try_from(address.ip().to_string());
        let text = text.unwrap_or(HeaderValue::from_static("unknown"));
        Client { address, text, source: Source::Socket }
    }

    /// The client that the peer at this address speaks for in a header of the PROXY protocol, which may not name
    /// it.
    pub(crate) fn behind(peer: SocketAddr, named: Option<SocketAddr>) -> Client {
        let by = Client::at(peer);
        match named {
            Some(address) => Client { source: Source::Proxy(by.ip()), ..Client::at(address) },
            None => Client { source: Source::Unnamed, ..by },
        }
    }

    /// Whether what it says of those behind it is believed: only when everybody on the way here is trusted.
    pub(crate) fn is_trusted(&self, trusted: &[IpNet]) -> bool {
        let is_vouched = match self.source {
            Source::Socket => true,
            Source::Proxy(peer) => is_trusted(peer, trusted),
            Source::Unnamed => false,
        };
        is_vouched && is_trusted(self.ip(), trusted)
    }

    /// Its address without the port.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip()
    }
}

/// How a request came here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop<'a> {
    /// Who sent it.
    pub(crate) client: &'a Client,
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
pub(crate) fn forwarded(headers: &mut HeaderMap, hop: &Hop<'_>) {
    let is_said = headers.keys().any(is_origin);
    let believed = is_said && hop.trusted;
    let before = believed.then(|| lines(headers, &FORWARDED_FOR)).flatten().filter(|line| !line.is_empty());
    let line = match before {
        Some(before) => HeaderValue::try_from(format!("{before}, {}", hop.client.ip())).ok(),
        None => Some(hop.client.text.clone()),
    };
    if let Some(line) = line {
        headers.insert(FORWARDED_FOR, line);
    }
    if !believed || !headers.contains_key(FORWARDED_PROTO) {
        let scheme = if hop.scheme == Scheme::Https { HTTPS } else { HTTP };
        headers.insert(FORWARDED_PROTO, scheme);
    }
    if !believed || !headers.contains_key(FORWARDED_HOST) {
        match first(headers, &header::HOST).cloned() {
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

/// All lines of a field as one.
fn lines(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.map(str::to_owned).reduce(|before, line| before + ", " + &line)
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// Who is asking: from a trusted client, the first untrusted or unreadable hop of `X-Forwarded-For`, or of
/// `Forwarded` where there is none, read from the right; else the client itself.
pub(crate) fn client_address(client: &Client, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = client.ip();
    if !headers.keys().any(is_origin) || !client.is_trusted(trusted) {
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
    let address: IpAddr = bare.parse().or_else(|_| hop.parse::<SocketAddr>().map(|hop| hop.ip())).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests;
