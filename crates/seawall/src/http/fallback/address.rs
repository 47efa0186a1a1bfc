//! The address of what is kept: authority, path and query.

use std::hash::{Hash, Hasher};

use ::http::header::HOST;
use ::http::{Request, Uri};
use seawall_core::request::Key;

use crate::identity::UserKeys;

/// Authority, path and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Of what follows, made once: it is asked for several times a request.
    pub(super) hash: Key,
    /// With a space between authority and path, which neither has.
    pub(super) text: Box<str>,
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.0.hash(state);
    }
}

impl Address {
    fn new(authority: &str, path: &str, keys: &UserKeys) -> Address {
        let mut text = String::with_capacity(authority.len() + 1 + path.len());
        text.push_str(authority);
        text.make_ascii_lowercase();
        text.push(' ');
        text.push_str(path);
        Address { hash: keys.key(text.as_bytes()), text: text.into() }
    }

    /// That of a request.
    pub(super) fn of<B>(request: &Request<B>, keys: &UserKeys) -> Address {
        let uri = request.uri();
        // It comes first, and to look for its name would cost more.
        let host = request.headers().iter().find(|(name, _)| **name == HOST);
        let host = host.and_then(|(_, host)| host.to_str().ok());
        let authority = uri.authority().map(|authority| authority.as_str()).or(host).unwrap_or_default();
        Address::new(authority, uri.path_and_query().map_or("/", |path| path.as_str()), keys)
    }

    /// The address on the same authority that a reference names, seen from this one (RFC 3986, section 5,
    /// without dot segments); `None` for one elsewhere.
    pub(super) fn named(&self, reference: &str, keys: &UserKeys) -> Option<Address> {
        let (authority, path) = self.text.split_once(' ')?;
        let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
        if reference.contains("://") || reference.starts_with("//") {
            let absolute = reference.find("//").map(|at| format!("http:{}", &reference[at..]))?;
            let uri: Uri = absolute.parse().ok()?;
            let same = uri.authority()?.as_str().eq_ignore_ascii_case(authority);
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            return same.then(|| Address::new(authority, path, keys));
        }
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let named = match reference.as_bytes().first()? {
            b'/' => reference.to_owned(),
            b'?' => format!("{path}{reference}"),
            _ => format!("{}/{reference}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Some(Address::new(authority, &named, keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_on_the_same_authority_alone() {
        let keys = UserKeys::new();
        let here = Address::new("Shop.example:80", "/orders/list?page=2", &keys);
        let named = |reference| here.named(reference, &keys).map(|address| address.text.into_string());
        let on = |path: &str| Some(format!("shop.example:80 {path}"));
        assert_eq!(named("/orders/7"), on("/orders/7"));
        assert_eq!(named("7?full"), on("/orders/7?full"));
        assert_eq!(named("?page=3"), on("/orders/list?page=3"));
        assert_eq!(named("http://shop.EXAMPLE:80/a#b"), on("/a"));
        assert_eq!(named("//shop.example:80/a?b=http://c/"), on("/a?b=http://c/"));
        assert_eq!(named("https://shop.example:80"), on("/"));
        for elsewhere in ["http://other.example/a", "//other.example/a", "", "#top", "http://"] {
            assert_eq!(named(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(here.named("/orders/list?page=2", &keys), Some(here));
    }
}
