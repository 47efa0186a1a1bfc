//! Where an upstream host is: `http://HOST:PORT` or `https://HOST:PORT`.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use super::report::{Malformed, quoted};

/// The longest name of a host, as DNS has it.
const NAME_MAX: usize = 253;

/// The address of an upstream host: whether TLS is spoken there, a name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
    secure: bool,
}

impl Url {
    /// Reads `http://HOST:PORT` or `https://HOST:PORT`; a slash may follow.
    pub fn parse(text: &str) -> Result<Url, Malformed> {
        let (rest, secure) = match text.strip_prefix("https://") {
            Some(rest) => (Some(rest), true),
            None => (text.strip_prefix("http://"), false),
        };
        let Some(rest) = rest else {
            let malformed =
                Malformed::new(format!("{} does not begin with `http://` or `https://`", quoted(text)));
            return Err(match authority(text, false) {
                Ok(url) => malformed.help(format!("write `{url}`")),
                Err(_) => malformed.help("write it as in `http://127.0.0.1:3000`"),
            });
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((before, _)) = rest.split_once(['/', '?', '#']) {
            let malformed = Malformed::new(format!("{} has a path or query; a host has none", quoted(text)));
            return Err(match authority(before, secure) {
                Ok(url) => malformed.help(format!("write `{url}`: requests keep their own path")),
                Err(_) => malformed,
            });
        }
        authority(rest, secure)
    }

    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host: a name or IPv4 address in lower case, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// `HOST:PORT`.
fn authority(text: &str, secure: bool) -> Result<Url, Malformed> {
    let (scheme, usual) = if secure { ("https", 443) } else { ("http", 80) };
    if text.contains('@') {
        return Err(Malformed::new("the URL holds a user name or password; upstreams are called without"));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => {
            let address: Ipv6Addr = address
                .parse()
                .map_err(|_| Malformed::new(format!("{} is not an IPv6 address", quoted(address))))?;
            (format!("[{address}]"), after.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                let malformed = Malformed::new(format!("{} has more than one colon", quoted(text)));
                return Err(malformed.help("put an IPv6 address in brackets: `http://[::1]:3000`"));
            }
            Some((host, port)) => (host.to_lowercase(), Some(port)),
            None => (text.to_lowercase(), None),
        },
    };
    if !host.starts_with('[') {
        check_host(&host)?;
    }
    let Some(port) = port else {
        return Err(Malformed::new(format!("{} has no port", quoted(text)))
            .help(format!("write `{scheme}://{host}:{usual}`")));
    };
    match port.parse() {
        Ok(port @ 1..) => Ok(Url { host, port, secure }),
        _ => Err(Malformed::new(format!("the port {} is not from 1 to 65535", quoted(port)))),
    }
}

/// A DNS name or an IPv4 address: labels of letters, digits, `-` and `_` between single dots.
pub(super) fn check_host(host: &str) -> Result<(), Malformed> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if host.len() <= NAME_MAX && host.split('.').all(label) {
        return Ok(());
    }
    Err(Malformed::new(format!("{} is not the name or address of a host", quoted(host))))
}

impl From<SocketAddr> for Url {
    fn from(address: SocketAddr) -> Url {
        let host = match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        Url { host, port: address.port(), secure: false }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}
