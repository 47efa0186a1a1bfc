//! What is asked of a request before it finds its route (RFC 9112 §3.2, RFC 9113 §8.3.1).
//!
//! **Prevents** request smuggling, and routing by one host while the upstream sees another. The parser lets
//! pass what is well-formed line by line: that there is exactly one host, and one length, is seen here.

use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode, Version};

use super::headers;

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

    const fn malformed(text: &'static str) -> Unfit {
        Unfit { status: StatusCode::BAD_REQUEST, reason: "malformed", text }
    }
}

/// The host of a request that may be routed, perhaps with a port.
pub(super) fn check<B>(request: &Request<B>) -> Result<&str, Unfit> {
    let headers = request.headers();
    if headers::ambiguous_length(headers) {
        return Err(Unfit::malformed("a request has one length\n"));
    }
    let mut hosts = headers.iter().filter(|(name, _)| **name == header::HOST).map(|(_, host)| host);
    let host = match (hosts.next(), hosts.next()) {
        (host, None) => host,
        (_, Some(_)) => return Err(Unfit::malformed("a request has one host\n")),
    };
    let authority = request.uri().authority();
    match (host, request.version()) {
        (Some(host), _) if !is_host(host) => {
            return Err(Unfit::malformed("the host is a name or an address, perhaps with a port\n"));
        }
        (Some(host), Version::HTTP_2)
            if authority.is_some_and(|other| other.as_str().as_bytes() != host.as_bytes()) =>
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
    let named = host.and_then(|host| host.to_str().ok());
    Ok(authority.map(|authority| authority.as_str()).or(named).unwrap_or_default())
}

/// Which bytes may stand in `Host`: those that an authority has but for a user.
const OF_HOSTS: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"-._~:[]%!$&'()*+;=";
    let mut at = 0;
    while at < table.len() {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether this is what may stand in `Host`, which may be empty.
fn is_host(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|byte| OF_HOSTS[usize::from(*byte)])
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
        assert_eq!(reason(Version::HTTP_11, "/", &[""]), None);
        assert_eq!(reason(Version::HTTP_11, "/", &[]), bad);
        assert_eq!(reason(Version::HTTP_10, "/", &[]), None);
        assert_eq!(reason(Version::HTTP_11, "/", &["a", "a"]), bad);
        for host in ["a b", "a/b", "u@a", "a,b", "a?b", "a#b", "a\\b", "\"a\""] {
            assert_eq!(reason(Version::HTTP_11, "/", &[host]), bad, "{host}");
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
