//! Why an answer is the gateway's own: `x-seawall-reason`.
//!
//! **Edges.** An upstream may send the field as well, above all one that has a gateway of its own before it. Its
//! client sees it; here it says nothing.

use http::{HeaderName, HeaderValue, Response};

pub(super) const REASON: HeaderName = HeaderName::from_static("x-seawall-reason");

/// In the extensions of an answer whose reason is the upstream's.
#[derive(Clone, Copy, Debug)]
struct Theirs;

/// Notes that an answer, which is the upstream's, has nothing of ours.
pub(super) fn disown<B>(response: &mut Response<B>) {
    if response.headers().keys().any(|name| *name == REASON) {
        response.extensions_mut().insert(Theirs);
    }
}

/// The reason of an answer that is our own.
pub(super) fn of<B>(response: &Response<B>) -> Option<&HeaderValue> {
    response.headers().get(REASON).filter(|_| response.extensions().get::<Theirs>().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_the_upstreams_is_none_of_ours() {
        let mut response = Response::builder().header(REASON, "throttled").body(()).unwrap();
        assert_eq!(of(&response).unwrap(), "throttled");
        disown(&mut response);
        assert_eq!(of(&response), None);
        assert!(response.headers().contains_key(REASON), "its client sees it");
        let mut silent = Response::new(());
        disown(&mut silent);
        assert!(silent.extensions().is_empty());
    }
}
