//! What is asked of a request before it finds its route (RFC 9112 §3.2 and §6, RFC 9113 §8.3.1).
//!
//! **Prevents** request smuggling, and routing by one host or path while the upstream sees another. The parser
//! lets pass what is well-formed line by line: that there is exactly one host, one length and one target in a
//! form that a gateway is sent is seen here.

use std::net::Ipv6Addr;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Version};

use super::headers::{self, HEADER_BYTES_MAX};

/// Why a request is answered here, with the word for it in `x-seawall-reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
    pub(super) text: &'static str,
}

impl Unfit {
    /// No route takes it.
    pub(super) const NO_ROUTE: Unfit = Unfit {
        status: StatusCode::NOT_FOUND,
        reason: "no_route",
        text: "no route for this host and path\n",
    };
    /// Its body is longer than its route allows.
    pub(super) const TOO_LARGE: Unfit = Unfit {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: "too_large",
        text: "the body is longer than this route allows\n",
    };
    /// Its fields are longer than any may be.
    const FIELDS: Unfit = Unfit {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        reason: "too_large",
        text: "the fields of a request are 64 KiB at most\n",
    };
    /// Its body did not come in time.
    pub(super) const SLOW: Unfit = Unfit {
        status: StatusCode::REQUEST_TIMEOUT,
        reason: "slow",
        text: "the body did not come in time\n",
    };
    /// Its body broke off, or its framing makes no sense.
    pub(super) const BROKEN: Unfit = Unfit::malformed("the body broke off\n");
    /// It opens a tunnel, or wants to see what the upstream would.
    const METHOD: Unfit = Unfit {
        status: StatusCode::METHOD_NOT_ALLOWED,
        reason: "method",
        text: "neither tunnels nor traces are offered\n",
    };

    /// Its body is coded for this hop otherwise than in chunks, or twice.
    const CODING: Unfit = Unfit {
        status: StatusCode::NOT_IMPLEMENTED,
        reason: "malformed",
        text: "the only transfer coding is chunked, once\n",
    };

    /// Nobody knows what it asks for.
    const METHOD_LENGTH: Unfit = Unfit {
        status: StatusCode::NOT_IMPLEMENTED,
        reason: "method",
        text: "the name of a method is 64 bytes at most\n",
    };

    const HOST: Unfit = Unfit::malformed("the host is a name or an address, perhaps with a port\n");

    const fn malformed(text: &'static str) -> Unfit {
        Unfit { status: StatusCode::BAD_REQUEST, reason: "malformed", text }
    }
}

/// The most bytes of a method that is passed on.
const METHOD_BYTES_MAX: usize = 64;

/// A request that may be routed.
#[derive(Debug)]
pub(super) struct Fit<'a> {
    /// Its host, perhaps with a port.
    pub(super) host: &'a str,
    /// Whether it has fields that gateways tell each other.
    pub(super) tells: bool,
}

/// What is asked of every request.
pub(super) fn check<B>(request: &Request<B>) -> Result<Fit<'_>, Unfit> {
    let Said { host, hosts, lengths, codings, tells } = said(request.headers())?;
    if request.version() == Version::HTTP_2 && !are_fields(request.headers()) {
        return Err(Unfit::malformed("a field's name is a token, and its value has no space at its ends\n"));
    }
    if lengths + codings > 1 {
        return Err(Unfit::malformed("a request has one length\n"));
    }
    if hosts > 1 {
        return Err(Unfit::malformed("a request has one host\n"));
    }
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let is_wrong = |host: &str| !is_host(host.as_bytes());
    match (host, request.version()) {
        (Some(host), _) if !is_host(host.as_bytes()) => return Err(Unfit::HOST),
        (Some(host), Version::HTTP_11) if host.is_empty() && authority.is_none() => return Err(Unfit::HOST),
        _ if authority.is_some_and(is_wrong) => return Err(Unfit::HOST),
        (Some(host), Version::HTTP_2)
            if authority.is_some_and(|other| !other.as_bytes().eq_ignore_ascii_case(host.as_bytes())) =>
        {
            return Err(Unfit::malformed("a request has one host\n"));
        }
        (None, Version::HTTP_11) => return Err(Unfit::malformed("a request has a host\n")),
        (None, Version::HTTP_2) if authority.is_none() => {
            return Err(Unfit::malformed("a request has a host\n"));
        }
        _ => {}
    }
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Unfit::METHOD);
    }
    if request.method().as_str().len() > METHOD_BYTES_MAX {
        return Err(Unfit::METHOD_LENGTH);
    }
    if !has_target(request) {
        return Err(Unfit::malformed("a target is a path, or a whole address of http or https\n"));
    }
    let named = host.and_then(|host| host.to_str().ok());
    Ok(Fit { host: authority.or(named).unwrap_or_default(), tells })
}

/// What a head says of its host, of how its body is framed, and to gateways.
#[derive(Default)]
struct Said<'a> {
    host: Option<&'a HeaderValue>,
    hosts: usize,
    lengths: usize,
    codings: usize,
    tells: bool,
}

fn said(headers: &HeaderMap) -> Result<Said<'_>, Unfit> {
    let (mut said, mut bytes) = (Said::default(), 0);
    for (name, value) in headers {
        let text = name.as_str();
        bytes += text.len() + value.len();
        said.tells |= headers::is_told(text);
        if *name == header::HOST {
            said.host = Some(value);
            said.hosts += 1;
        } else if *name == header::CONTENT_LENGTH {
            said.lengths += 1;
        } else if *name == header::TRANSFER_ENCODING {
            said.codings += 1;
            if said.codings > 1 || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Unfit::CODING);
            }
        }
    }
    // The parser stops only at so much that is not yet a head.
    if bytes > HEADER_BYTES_MAX { Err(Unfit::FIELDS) } else { Ok(said) }
}

/// Whether fields of HTTP/2 are what they may be (RFC 9113 §8.2.1), as far as its parser lets others pass.
fn are_fields(headers: &HeaderMap) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    headers.iter().all(|(name, value)| {
        let value = value.as_bytes();
        !name.as_str().contains('"') && !is_blank(value.first()) && !is_blank(value.last())
    })
}

/// Whether the target is in a form that a gateway is sent. What begins without a slash would be read as a
/// host by the next who parses it.
fn has_target<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    let is_absolute = uri.authority().is_some();
    let is_http = |scheme: &str| ["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http));
    if is_absolute && !uri.scheme_str().is_some_and(is_http) {
        return false;
    }
    match uri.path_and_query().map_or("", PathAndQuery::as_str) {
        "*" => *request.method() == Method::OPTIONS,
        path => {
            path.starts_with('/')
                || is_absolute && request.version() != Version::HTTP_2 && path.starts_with('?')
        }
    }
}

/// What a byte means in `Host`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Byte {
    /// It may stand in any name.
    Plain,
    /// Where it stands matters.
    Parting,
    /// It stands in no host: those of a user, a path or nothing at all. A percent sign may, but `:authority` of
    /// an HTTP/2 upstream could not be made of it.
    Foreign,
}

const OF_HOSTS: [Byte; 256] = {
    let mut table = [Byte::Foreign; 256];
    let (plain, parting) = (b"-._~!$&'()*+;=", b":[]");
    let mut at = 0;
    while at < table.len() {
        if (at as u8).is_ascii_alphanumeric() {
            table[at] = Byte::Plain;
        }
        at += 1;
    }
    at = 0;
    while at < plain.len() {
        table[plain[at] as usize] = Byte::Plain;
        at += 1;
    }
    at = 0;
    while at < parting.len() {
        table[parting[at] as usize] = Byte::Parting;
        at += 1;
    }
    table
};

/// Whether this is what may stand in `Host`, which may be empty.
fn is_host(host: &[u8]) -> bool {
    match host.iter().map(|byte| OF_HOSTS[usize::from(*byte)]).max() {
        None | Some(Byte::Plain) => true,
        Some(Byte::Parting) => is_parted(host),
        Some(Byte::Foreign) => false,
    }
}

/// Whether this is a name or an address, perhaps with a port.
fn is_parted(host: &[u8]) -> bool {
    if host.starts_with(b"[") {
        return std::str::from_utf8(host).is_ok_and(is_literal);
    }
    let name = host.iter().take_while(|byte| OF_HOSTS[usize::from(**byte)] == Byte::Plain).count();
    is_port(&host[name..])
}

/// Whether this is an address in brackets, perhaps with a port.
fn is_literal(host: &str) -> bool {
    let Some((address, port)) = host[1..].split_once(']') else { return false };
    address.parse::<Ipv6Addr>().is_ok() && is_port(port.as_bytes())
}

/// Whether this is what may stand behind a host: nothing, or a colon and perhaps digits.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(version: Version, uri: &str, hosts: &[&str]) -> Option<&'static str> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        check(&request.body(()).unwrap()).err().map(|unfit| unfit.reason)
    }

    #[test]
    fn a_request_has_one_host() {
        let bad = Some("malformed");
        assert_eq!(reason(Version::HTTP_11, "/", &["a.example:80"]), None);
        assert_eq!(reason(Version::HTTP_11, "/", &["[::1]:80"]), None);
        assert_eq!(reason(Version::HTTP_11, "/", &[""]), bad);
        assert_eq!(reason(Version::HTTP_11, "http://a/", &[""]), None);
        assert_eq!(reason(Version::HTTP_11, "/", &[]), bad);
        assert_eq!(reason(Version::HTTP_10, "/", &[]), None);
        assert_eq!(reason(Version::HTTP_11, "/", &["a", "a"]), bad);
        assert_eq!(reason(Version::HTTP_2, "http://A.example/", &["a.EXAMPLE"]), None);
        assert_eq!(reason(Version::HTTP_2, "http://a.example/", &["b.example"]), bad);
        for host in ["a b", "a/b", "u@a", "a,b", "a?b", "a#b", "a\\b", "\"a\""] {
            assert_eq!(reason(Version::HTTP_11, "/", &[host]), bad, "{host}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_perhaps_with_a_port() {
        for host in ["", "a", "a:", "a:80", "a_b.example", "192.0.2.1:80", "[::1]", "[2001:db8::1]:443"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a:b", "a:80:80", "a:+80", "[::1", "::1]", "[a]", "[::1]a", "[::1]:b", "[]", "a]b", "a[::1]",
            "a%", "%41b", "a%zz",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_target_is_in_a_form_that_a_gateway_is_sent() {
        let fits = |method: &str, version, target: &str| {
            let request = Request::builder().method(method).version(version).uri(target);
            has_target(&request.body(()).unwrap())
        };
        for target in ["/", "/a?b", "//a/b", "http://a", "HTTPS://a/b", "http://a?b"] {
            assert!(fits("GET", Version::HTTP_11, target), "{target}");
        }
        for target in ["a", "a:80", "*", "ftp://a/"] {
            assert!(!fits("GET", Version::HTTP_11, target), "{target}");
        }
        assert!(fits("OPTIONS", Version::HTTP_11, "*") && fits("OPTIONS", Version::HTTP_2, "*"));
        assert!(fits("GET", Version::HTTP_2, "http://a/b") && !fits("GET", Version::HTTP_2, "http://a?b"));
    }

    #[test]
    fn a_method_is_not_longer_than_any_that_is_known() {
        let status = |method: String| {
            let request = Request::builder().method(method.as_str()).uri("/").header(header::HOST, "a");
            check(&request.body(()).unwrap()).err().map(|unfit| unfit.status.as_u16())
        };
        assert_eq!(status("M".repeat(64)), None);
        assert_eq!(status("M".repeat(65)), Some(501));
    }

    #[test]
    fn what_http1_could_not_say_is_malformed_on_http2() {
        let reason = |name: &[u8], value: &str| {
            let name = http::HeaderName::from_bytes(name).unwrap();
            let request = Request::builder().version(Version::HTTP_2).uri("http://a/").header(name, value);
            check(&request.body(()).unwrap()).err().map(|unfit| unfit.reason)
        };
        assert_eq!(reason(b"x-a", "a b"), None);
        assert_eq!(reason(b"x-a", ""), None);
        for value in [" a", "a ", "\ta", "a\t", " "] {
            assert_eq!(reason(b"x-a", value), Some("malformed"), "{value:?}");
        }
        let mut headers = HeaderMap::new();
        let quoted = http::HeaderName::from_lowercase(b"x\"").expect("the parser of HTTP/2 lets it pass");
        headers.insert(quoted, HeaderValue::from_static("y"));
        assert!(!are_fields(&headers));
    }

    #[test]
    fn a_body_is_framed_in_one_way() {
        let reason = |lines: &[(&str, &str)]| {
            let request = Request::builder().uri("/").header(header::HOST, "a");
            let request = lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            check(&request.body(()).unwrap()).err().map(|unfit| unfit.status.as_u16())
        };
        let (length, chunked) = (("content-length", "5"), ("transfer-encoding", "Chunked"));
        assert_eq!(reason(&[length]), None);
        assert_eq!(reason(&[chunked]), None);
        assert_eq!(reason(&[length, length]), Some(400));
        assert_eq!(reason(&[length, ("content-length", "6")]), Some(400));
        assert_eq!(reason(&[length, chunked]), Some(400));
        assert_eq!(reason(&[chunked, chunked]), Some(501));
        for coding in ["", "gzip, chunked", "chunked, chunked", "identity", ",chunked", "xchunked"] {
            assert_eq!(reason(&[("transfer-encoding", coding)]), Some(501), "{coding}");
        }
    }

    #[test]
    fn an_authority_and_a_host_agree() {
        assert_eq!(reason(Version::HTTP_2, "http://a/", &[]), None);
        assert_eq!(reason(Version::HTTP_2, "http://a/", &["a"]), None);
        assert_eq!(reason(Version::HTTP_2, "http://a/", &["b"]), Some("malformed"));
        assert_eq!(reason(Version::HTTP_2, "/", &["a"]), None);
        assert_eq!(reason(Version::HTTP_2, "/", &[]), Some("malformed"));
    }
}
