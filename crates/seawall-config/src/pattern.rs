//! Which requests a route takes: patterns of host and path, from the most to the least specific.

use std::fmt;

use super::path::NormalPath;
use super::report::{Malformed, quoted};
use super::url::check_host;

/// The longest pattern of a path, in bytes.
const PATH_MAX: usize = 1_024;

/// Which hosts a route answers for; compared without port and case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This host, in lower case.
    Exact(String),
    /// All hosts below a domain; this is the end of their names, in lower case, from its dot on.
    Below(String),
}

impl HostPattern {
    /// Reads `api.example.com` or `*.example.com`.
    pub(super) fn parse(text: &str) -> Result<HostPattern, Malformed> {
        let host = text.to_lowercase();
        if let Some((name, port)) = host.rsplit_once(':')
            && port.chars().all(|c| c.is_ascii_digit())
            && check_host(name).is_ok()
        {
            let malformed =
                Malformed::new(format!("{} has a port; hosts are compared without", quoted(text)));
            return Err(malformed.help(format!("write `{name}`")));
        }
        match host.strip_prefix('*') {
            None => check_host(&host).map(|()| HostPattern::Exact(host)),
            Some(end) if end.starts_with('.') && check_host(&end[1..]).is_ok() => {
                Ok(HostPattern::Below(end.to_owned()))
            }
            Some(_) => {
                let malformed = Malformed::new(format!("{} is not a pattern of hosts", quoted(text)));
                Err(malformed.help("write `*.example.com`, or leave `host` out for every host"))
            }
        }
    }

    /// Whether a request for `host`, without its port, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(exact) => host.eq_ignore_ascii_case(exact),
            HostPattern::Below(end) => host
                .len()
                .checked_sub(end.len())
                .filter(|&at| at > 0)
                .and_then(|at| host.get(at..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end)),
        }
    }

    /// Higher is more specific.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self {
            HostPattern::Any => (0, 0),
            HostPattern::Below(end) => (1, end.len()),
            HostPattern::Exact(_) => (2, 0),
        }
    }
}

/// Which paths a route takes; both sides are compared in their normal form, without the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// This path and everything below it; empty for all paths.
    Below(String),
}

impl PathPattern {
    /// Every path.
    pub const ALL: PathPattern = PathPattern::Below(String::new());

    /// Reads `/a`, or `/a/*` for `/a` and all below.
    pub(super) fn parse(text: &str) -> Result<PathPattern, Malformed> {
        let malformed = |why: &str| Malformed::new(format!("{} {why}", quoted(text)));
        if !text.starts_with('/') {
            return Err(
                malformed("does not begin with `/`").help(format!("write {}", quoted(&format!("/{text}"))))
            );
        }
        if text.len() > PATH_MAX {
            return Err(malformed(&format!("is longer than {PATH_MAX} bytes")));
        }
        if let Some(c) = text.chars().find(|&c| !c.is_ascii_graphic() || "?#\"<>\\^`{|}".contains(c)) {
            return Err(malformed(&format!("holds {}, which is in no path", quoted(&c.to_string()))));
        }
        let normal = NormalPath::of(text);
        let (path, below) = match normal.as_str().strip_suffix("/*") {
            Some(path) => (path, true),
            None => (normal.as_str(), false),
        };
        if path.contains('*') {
            let start = path.split('*').next().unwrap_or_default().trim_end_matches('/');
            return Err(
                malformed("has a `*` that is not a last part of its own").help(format!("write `{start}/*`"))
            );
        }
        Ok(if below { PathPattern::Below(path.to_owned()) } else { PathPattern::Exact(path.to_owned()) })
    }

    /// Whether a request for `path` is meant.
    pub fn matches(&self, path: &NormalPath<'_>) -> bool {
        let path = path.as_str();
        match self {
            PathPattern::Exact(exact) => path == exact,
            PathPattern::Below(above) => match path.strip_prefix(above.as_str()) {
                Some(rest) => above.is_empty() || rest.is_empty() || rest.starts_with('/'),
                None => false,
            },
        }
    }

    /// Higher is more specific.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self {
            PathPattern::Below(path) => (0, path.len()),
            PathPattern::Exact(path) => (1, path.len()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("every host"),
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Below(end) => write!(f, "*{end}"),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Below(path) => write!(f, "{path}/*"),
        }
    }
}
