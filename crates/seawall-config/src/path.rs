//! The path of a request as routes see it: however it is spelt, one path has one text.
//!
//! **Prevents** a route from being passed by: `//orders/1`, `/x/../orders/1` and `/%6Frders/1` reach the same
//! service as `/orders/1`, and have to meet the same block and the same quota.
//!
//! **Mechanics.** RFC 3986 §6.2.2: what needs no encoding is decoded, what needs one is encoded, with capitals;
//! repeated slashes become one, then `.` and `..` are resolved. Nearly every path is normal as it came: a look at
//! its bytes says so, and nothing is copied.
//!
//! **Edges.** `..` ends at the root. What is reserved stays as it was sent, since it may mean something else when
//! decoded: `%2F` is no slash, `%21` no `!`. Nothing is decoded twice. The upstream is sent what the client sent.

use std::borrow::Cow;

/// A path in its normal form, without its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a>(Cow<'a, str>);

/// Bytes that stand in a normal path as they are.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = is_unreserved(byte as u8)
            || matches!(
                byte as u8,
                b'/' | b':'
                    | b'@'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            );
        byte += 1;
    }
    plain
};

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

impl<'a> NormalPath<'a> {
    /// The normal form of `path`; of what is no path, such as `*`, itself.
    pub fn of(path: &'a str) -> NormalPath<'a> {
        if !path.starts_with('/') || is_plain(path.as_bytes()) {
            return NormalPath(Cow::Borrowed(path));
        }
        let resolved = resolved(&recoded(path.as_bytes()));
        NormalPath(if resolved == path { Cow::Borrowed(path) } else { Cow::Owned(resolved) })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether nothing in it can need a change. False also for some that need none.
fn is_plain(path: &[u8]) -> bool {
    let mut follows_slash = false;
    for byte in path {
        if !PLAIN[usize::from(*byte)] || (follows_slash && matches!(byte, b'/' | b'.')) {
            return false;
        }
        follows_slash = *byte == b'/';
    }
    true
}

/// The same with each byte encoded that has to be, and no other.
fn recoded(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
                let byte = value(*high) << 4 | value(*low);
                if is_unreserved(byte) { text.push(byte.into()) } else { encode(byte, &mut text) }
            }
            // Not the beginning of an encoding: a text to be refused rather than mended, by whoever reads it.
            (b'%', _) => text.push('%'),
            _ if PLAIN[usize::from(*byte)] => text.push((*byte).into()),
            _ => encode(*byte, &mut text),
        }
    }
    text
}

/// Of a hexadecimal digit.
fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

fn encode(byte: u8, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    text.extend(['%', digit(byte >> 4), digit(byte & 0xF)]);
}

/// The same without `.`, `..` and empty parts. A path that ends in one of these ends in a slash.
fn resolved(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut ends_open = false;
    for part in path.split('/') {
        ends_open = matches!(part, "" | "." | "..");
        match part {
            "" | "." => {}
            ".." => text.truncate(text.rfind('/').unwrap_or(0)),
            part => {
                text.push('/');
                text.push_str(part);
            }
        }
    }
    if ends_open {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn normal(path: &str) -> String {
        NormalPath::of(path).as_str().to_owned()
    }

    #[test]
    fn spellings_of_one_path_are_one() {
        for spelling in [
            "/orders/1",
            "//orders/1",
            "/orders///1",
            "/x/../orders/1",
            "/./orders/./1",
            "/%6frders/1",
            "/%6Frders/%31",
            "/x/%2e%2e/orders/1",
            "/%2E/orders/1",
            "/../../orders/1",
            "/x//../orders/1",
        ] {
            assert_eq!(normal(spelling), "/orders/1", "{spelling}");
        }
    }

    /// RFC 3986, 5.4 (paths against the base `/b/c/`), 6.2.2 and 6.2.2.3.
    #[test]
    fn the_examples_of_the_standard() {
        for (path, wanted) in [
            ("/a/./b/../b/%63/%7bfoo%7d", "/a/b/c/%7Bfoo%7D"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/b/c/../g", "/b/g"),
            ("/b/c/..", "/b/"),
            ("/b/c/.", "/b/c/"),
            ("/b/c/../../../g", "/g"),
            ("/b/c/g.", "/b/c/g."),
            ("/b/c/.g", "/b/c/.g"),
            ("/b/c/..g", "/b/c/..g"),
            ("/b/c/g;x=1/../y", "/b/c/y"),
            ("/%7Esmith", "/~smith"),
        ] {
            assert_eq!(normal(path), wanted, "{path}");
        }
    }

    #[test]
    fn what_differs_stays_different() {
        for path in [
            "/a%2Fb",
            "/a%21b",
            "/a%252e",
            "/A",
            "/a;b",
            "/.well-known/x",
            "/a/",
            "/",
            "/a%",
            "/a%zz",
            "*",
            "",
        ] {
            assert!(matches!(NormalPath::of(path).0, Cow::Borrowed(same) if same == path), "{path}");
        }
        assert_eq!(normal("/a%2fb"), "/a%2Fb");
        assert_eq!(normal("/{é}"), "/%7B%C3%A9%7D");
    }

    proptest! {
        #[test]
        fn a_normal_path_is_its_own_normal_form(path in "/[a-c./%2eEfF{é!]{0,24}") {
            let once = normal(&path);
            prop_assert_eq!(&normal(&once), &once);
            prop_assert!(once.starts_with('/') && !once.contains("//"), "{}", once);
            prop_assert!(once.split('/').all(|part| part != "." && part != ".."), "{}", once);
        }
    }
}
