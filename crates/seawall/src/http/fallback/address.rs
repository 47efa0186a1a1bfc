//! The address of what is kept: scheme, authority, path and query.

use std::hash::{Hash, Hasher};

use ::http::header::HOST;
use ::http::{HeaderName, Request, Uri};
use seawall_core::request::Key;

use crate::identity::UserKeys;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Scheme, authority, path and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Of what follows, made once: it is asked for several times a request.
    pub(super) hash: Key,
    /// With spaces between them, which none has.
    pub(super) text: Box<str>,
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.0.hash(state);
    }
}

impl Address {
    fn new((scheme, authority): (&str, &str), path: &str, keys: &UserKeys) -> Address {
        let mut text = String::with_capacity(scheme.len() + authority.len() + path.len() + 2);
        text.push_str(scheme);
        text.push(' ');
        text.push_str(authority);
        text.make_ascii_lowercase();
        text.push(' ');
        text.push_str(path);
        Address { hash: keys.key(text.as_bytes()), text: text.into() }
    }

    /// That of a request.
    pub(super) fn of<B>(request: &Request<B>, keys: &UserKeys) -> Address {
        let uri = request.uri();
        // To look for their names would cost more: there are few, and the host comes first.
        let said = |wanted: &HeaderName| {
            let found = request.headers().iter().find(|(name, _)| *name == wanted);
            found.and_then(|(_, value)| value.to_str().ok())
        };
        let authority = uri.authority().map(|authority| authority.as_str());
        let authority = authority.or_else(|| said(&HOST)).unwrap_or_default();
        let scheme = said(&FORWARDED_PROTO).or(uri.scheme_str()).unwrap_or("http");
        Address::new((scheme, authority), uri.path_and_query().map_or("/", |path| path.as_str()), keys)
    }

    /// The address on the same authority that a reference names, seen from this one (RFC 3986, section 5,
    /// without dot segments); `None` for one elsewhere.
    pub(super) fn named(&self, reference: &str, keys: &UserKeys) -> Option<Address> {
        let (scheme, rest) = self.text.split_once(' ')?;
        let (authority, path) = rest.split_once(' ')?;
        let here = (scheme, authority);
        let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
        if reference.contains("://") || reference.starts_with("//") {
            let absolute = reference.find("//").map(|at| format!("http:{}", &reference[at..]))?;
            let uri: Uri = absolute.parse().ok()?;
            let same = uri.authority()?.as_str().eq_ignore_ascii_case(authority);
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            return same.then(|| Address::new(here, path, keys));
        }
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let named = match reference.as_bytes().first()? {
            b'/' => reference.to_owned(),
            b'?' => format!("{path}{reference}"),
            _ => format!("{}/{reference}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Some(Address::new(here, &named, keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_on_the_same_authority_alone() {
        let keys = UserKeys::new();
        let here = Address::new(("https", "Shop.example:80"), "/orders/list?page=2", &keys);
        let named = |reference| here.named(reference, &keys).map(|address| address.text.into_string());
        let on = |path: &str| Some(format!("https shop.example:80 {path}"));
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
