//! A request on its way to an upstream, held by all who may have to send it again.
//!
//! **Mechanics.** It is copied when it is sent, and only then. The map of a request's fields becomes that of
//! its answer, and one of just the size of the request would grow on the way: what is sent first has the map
//! in which the request came, which has room.

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Uri, Version};

use super::headers::{self, Hop};
use super::outbound::{Arrival, Outbound};

/// The host of a request that names none.
const NOBODY: HeaderValue = HeaderValue::from_static("");

/// A request on its way.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing(Arc<Sheet>);

/// What all who hold a request share.
#[derive(Debug)]
struct Sheet {
    request: Request<Outbound>,
    /// Its fields once more, for who sends it first.
    roomy: Mutex<Option<HeaderMap>>,
}

impl Deref for Outgoing {
    type Target = Request<Outbound>;

    fn deref(&self) -> &Request<Outbound> {
        &self.0.request
    }
}

impl Outgoing {
    /// A request that nobody else holds yet.
    pub(crate) fn new(request: Request<Outbound>) -> Outgoing {
        Outgoing(Arc::new(Sheet { request, roomy: Mutex::default() }))
    }

    /// The same, about to be sent: who sends it first has the fields as they came. As it was where others hold
    /// it already.
    pub(super) fn roomy(mut self) -> Outgoing {
        if let Some(Sheet { request, roomy }) = Arc::get_mut(&mut self.0)
            // Whatever may be sent again is held by others when it is sent.
            && request.method().is_idempotent()
            && request.body().is_repeatable()
            && let Ok(roomy) = roomy.get_mut()
        {
            let fields = request.headers().clone();
            *roomy = Some(std::mem::replace(request.headers_mut(), fields));
        }
        self
    }

    /// The request itself where nobody else holds it, otherwise a copy: with its body from the beginning if
    /// that is kept. `None` for a copy of what passes once.
    pub(super) fn into_owned(self) -> Option<Request<Outbound>> {
        let mut request = match Arc::try_unwrap(self.0) {
            Ok(Sheet { mut request, roomy }) => {
                if let Ok(Some(fields)) = roomy.into_inner() {
                    *request.headers_mut() = fields;
                }
                request
            }
            Err(shared) => {
                let roomy = shared.roomy.try_lock().ok().and_then(|mut roomy| roomy.take());
                let fields = roomy.unwrap_or_else(|| shared.request.headers().clone());
                return with(fields, &shared.request);
            }
        };
        if let Some(again) = request.body().again() {
            *request.body_mut() = again;
        }
        Some(request)
    }

    /// To write to: the request itself where nobody else holds it, otherwise a copy in its place. `None` for
    /// a copy of what passes once.
    pub(super) fn written(&mut self) -> Option<&mut Request<Outbound>> {
        if Arc::get_mut(&mut self.0).is_none() {
            let mut own = copy(self)?;
            *own.extensions_mut() = self.extensions().clone();
            self.0 = Arc::new(Sheet { request: own, roomy: Mutex::default() });
        }
        let sheet = Arc::get_mut(&mut self.0)?;
        if let Ok(roomy) = sheet.roomy.get_mut() {
            *roomy = None;
        }
        Some(&mut sheet.request)
    }
}

/// A copy of a request whose body can be sent again.
pub(super) fn copy(request: &Request<Outbound>) -> Option<Request<Outbound>> {
    with(request.headers().clone(), request)
}

fn with(fields: HeaderMap, request: &Request<Outbound>) -> Option<Request<Outbound>> {
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = fields;
    Some(copy)
}

/// The request that came in this version as the upstream shall see it: origin form, `Host`, no hop-by-hop
/// fields.
pub(super) fn rewrite(request: &mut Request<Outbound>, version: Version, hop: &Hop<'_>) {
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
    *request.version_mut() = Version::HTTP_11;
    if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
        request.headers_mut().insert(header::HOST, host);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        // A whole address may have a query and no path.
        let path = if path.starts_with('?') { format!("/{path}").parse::<Uri>() } else { path.parse() };
        if let Ok(path) = path {
            *request.uri_mut() = path;
        }
    }
    if version == Version::HTTP_2 {
        headers::join_cookies(request.headers_mut());
    }
    let upgrade = headers::upgrade(request.headers()).filter(|_| version == Version::HTTP_11);
    headers::strip_hop_by_hop(request.headers_mut());
    if let Some(length) = headers::sought(request.headers(), &header::CONTENT_LENGTH)
        && headers::has_zeros(length)
        && let Some(length) = headers::one_length(request.headers())
    {
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if headers::expects(request.headers()) {
        request.headers_mut().remove(header::EXPECT);
        request.body().arrival().iter().for_each(Arrival::withheld);
    }
    if let Some(protocol) = upgrade {
        headers::set_upgrade(request.headers_mut(), protocol);
    }
    headers::forwarded(request.headers_mut(), hop);
    if version == Version::HTTP_10 {
        // Only there may it be missing.
        request.headers_mut().entry(header::HOST).or_insert(NOBODY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&'static str, &'static str)]) -> Request<Outbound> {
        let mut request = Request::new(Outbound::Nothing);
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn every_copy_has_the_fields_of_its_request_in_order() {
        let fields = [("host", "a"), ("cookie", "b=2"), ("x-other", "1"), ("cookie", "c=3")];
        let held = Outgoing::new(request(&fields)).roomy();
        for _ in 0..2 {
            let copy = held.clone().into_owned().unwrap();
            assert_eq!(copy.headers(), held.headers());
            let names: Vec<_> = copy.headers().keys().map(|name| name.as_str()).collect();
            assert_eq!(names, ["host", "cookie", "x-other"]);
        }
        let own = held.into_owned().unwrap();
        assert_eq!(own.headers(), request(&fields).headers());
    }

    #[test]
    fn who_writes_writes_to_its_own() {
        let held = Outgoing::new(request(&[("host", "a")])).roomy();
        let mut other = held.clone();
        other.written().unwrap().headers_mut().insert("x-attempt", "2".parse().unwrap());
        assert!(!held.headers().contains_key("x-attempt"));
        let mut alone = Outgoing::new(request(&[("host", "a")]));
        alone.written().unwrap().headers_mut().insert("x-attempt", "2".parse().unwrap());
        for written in [other, alone] {
            let sent = written.clone().into_owned().unwrap();
            assert!(sent.headers().contains_key("x-attempt") && sent.headers().contains_key("host"));
        }
    }
}
