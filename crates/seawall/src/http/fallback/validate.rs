//! Validation (RFC 9111, section 4.3): whether what is kept is still right, and whether a client has it already.

use ::http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED,
};
use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;

use super::body::Replayed;

/// Fields that speak of one connection.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The same value in memory of its own: one that was read is a slice of all that was read with it, and holds that.
/// (Names never are.)
pub(super) fn owned(value: &HeaderValue) -> HeaderValue {
    let Ok(mut owned) = HeaderValue::from_bytes(value.as_bytes()) else { return value.clone() };
    owned.set_sensitive(value.is_sensitive());
    owned
}

/// The fields that are kept, in memory of their own: all but those of the connection and what is said anew.
pub(super) fn kept_fields(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let hop = HOP_BY_HOP.contains(&name.as_str()) || named.iter().any(|other| other == name.as_str());
        if !hop && *name != AGE {
            kept.append(name.clone(), owned(value));
        }
    }
    kept
}

/// Whether an answer says what it can be compared by.
pub(super) fn is_confirmable(headers: &HeaderMap) -> bool {
    headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)
}

/// Makes a request the question whether the answer with these fields is still right; `None` when they
/// do not say what to compare it by.
pub(super) fn ask_whether(request: &mut HeaderMap, kept: &HeaderMap) -> Option<()> {
    request.remove(IF_NONE_MATCH);
    request.remove(IF_MODIFIED_SINCE);
    let by = [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)];
    for (validator, condition) in by {
        if let Some(value) = kept.get(validator) {
            request.insert(condition, value.clone());
        }
    }
    is_confirmable(kept).then_some(())
}

/// The fields of a kept answer after a 304 with these (RFC 9111, section 3.2). What says how the kept body
/// is to be read stays, and so does its `ETag`: that is what was confirmed.
pub(super) fn refreshed(kept: &HeaderMap, by: &HeaderMap) -> HeaderMap {
    let of_the_body = |name: &str| {
        [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG].iter().any(|other| other == name)
            || name == "content-md5"
    };
    let mut all = kept.clone();
    let new = kept_fields(by);
    for name in new.keys().filter(|name| !of_the_body(name.as_str()) || !kept.contains_key(*name)) {
        all.remove(name);
        new.get_all(name).iter().for_each(|value| _ = all.append(name.clone(), value.clone()));
    }
    all
}

/// Answers 304 when the client has it already.
pub(super) fn conditional<B, RB>(
    request: &Request<B>,
    response: Response<Replayed<RB>>,
) -> Response<Replayed<RB>> {
    if response.status() != StatusCode::OK || !has_it(request.headers(), response.headers()) {
        return response;
    }
    let (mut head, _) = response.into_parts();
    head.status = StatusCode::NOT_MODIFIED;
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Replayed::whole(Bytes::new()))
}

fn has_it(request: &HeaderMap, response: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let tag = response.get(ETAG).and_then(|tag| tag.to_str().ok()).map(|tag| weak(tag.trim()));
        let lines = request.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
        return tag.is_some_and(|tag| lines.flat_map(tags).any(|other| other == "*" || weak(other) == tag));
    }
    let time = |value: Option<&HeaderValue>| httpdate::parse_http_date(value?.to_str().ok()?).ok();
    // An answer that does not say when it changed last has not since it was made.
    let modified = response.get(LAST_MODIFIED).or_else(|| response.get(DATE));
    match (time(request.get(IF_MODIFIED_SINCE)), time(modified)) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

/// A tag as weak comparison sees it (RFC 9110, section 8.8.3.2).
fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The tags of a list, in which commas may stand in quotes.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = list.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (::http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(field).collect()
    }

    #[test]
    fn a_question_carries_the_validators_of_what_is_kept_and_none_of_the_client() {
        let asked = |kept: &[(&'static str, &'static str)]| {
            let mut request = fields(&[("if-none-match", "\"client\""), ("accept", "*/*")]);
            ask_whether(&mut request, &fields(kept)).map(|()| request)
        };
        assert_eq!(
            asked(&[("etag", "W/\"1\""), ("last-modified", "then")]),
            Some(fields(&[("if-none-match", "W/\"1\""), ("accept", "*/*"), ("if-modified-since", "then")]))
        );
        assert_eq!(asked(&[("last-modified", "then")]).unwrap().get("if-none-match"), None);
        assert_eq!(asked(&[("date", "now")]), None);
    }

    #[test]
    fn a_confirmation_brings_new_fields_but_none_of_the_body_and_of_the_connection() {
        let kept = fields(&[
            ("etag", "\"1\""),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("cache-control", "max-age=1"),
            ("x-old", "stays"),
        ]);
        let by = fields(&[
            ("etag", "\"2\""),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("cache-control", "max-age=60"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("age", "7"),
            ("x-new", "comes"),
        ]);
        let expected = fields(&[
            ("etag", "\"1\""),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("cache-control", "max-age=60"),
            ("x-old", "stays"),
            ("x-new", "comes"),
        ]);
        assert_eq!(refreshed(&kept, &by), expected);
        // What is repeated is replaced whole.
        let mut by = fields(&[("link", "<a>")]);
        by.append("link", HeaderValue::from_static("<b>"));
        let kept = fields(&[("link", "<old>")]);
        let links = refreshed(&kept, &by);
        assert_eq!(links.get_all("link").iter().collect::<Vec<_>>(), ["<a>", "<b>"]);
    }

    #[test]
    fn a_client_has_what_did_not_change_since_by_its_date_where_it_says_nothing_else() {
        let (early, late) = ("Tue, 01 Jan 2030 00:00:00 GMT", "Wed, 02 Jan 2030 00:00:00 GMT");
        let has = |name, since, by, at| has_it(&fields(&[(name, since)]), &fields(&[(by, at)]));
        for by in ["last-modified", "date"] {
            assert!(has("if-modified-since", late, by, early));
            assert!(has("if-modified-since", late, by, late));
            assert!(!has("if-modified-since", early, by, late));
        }
        assert!(has("if-none-match", "\"0\", W/\"1\"", "etag", "\"1\""));
        assert!(!has("if-none-match", "\"0\"", "etag", "\"1\""));
        assert!(!has("if-none-match", "\"0\"", "last-modified", early));
    }

    #[test]
    fn a_tag_may_have_what_parts_a_list() {
        let has = |asked, kept| has_it(&fields(&[("if-none-match", asked)]), &fields(&[("etag", kept)]));
        assert!(has("\"a,b\"", "\"a,b\"") && has("\"x\", W/\"a,b\"", "\"a,b\"") && has("*", "\"x\""));
        assert!(!has("\"x,*,y\"", "\"v\"") && !has("\"x,\\\"v\\\"\"", "\"v\"") && !has("\"a", "\"b\""));
    }
}
