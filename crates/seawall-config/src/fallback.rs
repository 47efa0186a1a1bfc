//! `fallback` of a route: what stands in where there is no ordinary answer.

use http::{HeaderValue, StatusCode};
use seawall_core::fallback::{Chain, STEPS_MAX, Step, store};
use seawall_core::time::Span;

use super::reader::{Field, Section};
use super::report::Malformed;
use super::route::existing;
use super::units;
use super::upstream::duration;

/// The largest body that is kept when nothing else is said, in bytes.
const KEPT_BODY: u64 = 256 << 10;
/// The most answers that can be kept.
const ENTRIES_MAX: u32 = 100_000_000;

/// The longest fixed body, in bytes.
const BODY_MAX: usize = 64 << 10;

/// A fixed answer, as the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Static {
    /// Its status.
    pub status: StatusCode,
    /// Its body, of at most 64 KiB.
    pub body: String,
    /// Its media type.
    pub content_type: HeaderValue,
}

/// What stands in where there is no ordinary answer, in this order; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallback {
    /// The steps.
    pub chain: Chain,
    /// The upstreams of [`Step::Upstream`], by their place.
    pub upstreams: Vec<String>,
    /// The answers of [`Step::Static`], by their place.
    pub fixed: Vec<Static>,
    /// How long a 200 is fresh that says nothing of it; `None` keeps it for errors alone.
    pub unmarked: Option<Span>,
    /// How much is kept.
    pub room: Room,
}

/// How much a route keeps of the answers of each of its upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The largest body that is kept, in bytes, at most `bytes`; default 256 KiB, or `bytes` if that is less.
    pub body: u64,
    /// The most bytes of everything that is kept, heads included; default 64 MiB.
    pub bytes: u64,
    /// The most answers, 1 to 100 million; default 10 000.
    pub entries: u32,
}

impl Default for Room {
    fn default() -> Room {
        let store = store::Config::default();
        Room { body: KEPT_BODY, bytes: store.bytes, entries: store.entries }
    }
}

impl Fallback {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.chain.steps().is_empty()
    }
}

/// Reads the list; what cannot be read is reported.
pub(super) fn read(field: &Field<'_>, upstreams: &[&str]) -> Result<Fallback, Malformed> {
    let (mut read, mut steps) = (Fallback::default(), Vec::new());
    for item in field.items(0..=STEPS_MAX)? {
        if let Some(section) = item.section() {
            steps.extend(step(section, upstreams, &mut read));
        }
    }
    read.chain = Chain::new(steps).map_err(|error| Malformed::new(error.to_string()))?;
    Ok(read)
}

fn step(mut section: Section<'_>, upstreams: &[&str], read: &mut Fallback) -> Option<Step> {
    let stale = section.optional("stale", duration);
    let unmarked = section.optional("unmarked", duration);
    let room = room(&mut section);
    let upstream = section.optional("upstream", |field| existing(field, upstreams));
    let status = section.optional("status", |field| {
        let status = u16::try_from(field.number(200..=599)?).expect("at most 599");
        StatusCode::from_u16(status).map_err(|error| Malformed::new(error.to_string()))
    });
    let body = section.optional("body", |field| match field.text() {
        Some(text) if text.len() <= BODY_MAX => Ok(text.to_owned()),
        _ => Err(field.is_not("a text of at most 64 KiB")),
    });
    let content_type = section.optional("content_type", |field| {
        field.parsed("a media type", |text| {
            HeaderValue::from_str(text).map_err(|_| Malformed::new("it is no value of a header"))
        })
    });
    if unmarked.is_some() && stale.is_none() {
        section.reject(Malformed::new("`unmarked` belongs to a `stale` step"));
    }
    if room.is_some() && stale.is_none() {
        section.reject(Malformed::new("what bounds the kept answers belongs to a `stale` step"));
    }
    let fixed = status.is_some() || body.is_some();
    let kinds = usize::from(stale.is_some()) + usize::from(upstream.is_some()) + usize::from(fixed);
    if kinds != 1 {
        let malformed = Malformed::new("a step is one of `stale`, `upstream` and `status` with `body`");
        section.reject(malformed.help("write one table for each step, in the order in which they are tried"));
    }
    let has_none = |status: &StatusCode| matches!(status.as_u16(), 204 | 205 | 304);
    if let (Some(status), Some(_)) = (status.filter(has_none), &body) {
        let malformed = Malformed::new(format!("an answer with status {} has no body", status.as_u16()));
        section.reject(malformed.help("leave `body` out, or write `status = 200`"));
    }
    section.finish();
    if let Some(window) = stale {
        (read.unmarked, read.room) = (unmarked, room.unwrap_or_default());
        return Some(Step::Stale(window));
    }
    if let Some(upstream) = upstream {
        read.upstreams.push(upstream);
        return Some(Step::Upstream(read.upstreams.len() as u8 - 1)); // at most 8 steps
    }
    read.fixed.push(Static {
        status: status.unwrap_or(StatusCode::OK),
        body: body.unwrap_or_default(),
        content_type: content_type.unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8")),
    });
    Some(Step::Static(read.fixed.len() as u8 - 1)) // at most 8 steps
}

/// How much is kept, if the step says anything of it.
fn room(section: &mut Section<'_>) -> Option<Room> {
    let size = |field: &Field<'_>| field.parsed("a size such as `64KiB`", units::size);
    let bytes = section.optional("max_bytes", size);
    let most = bytes.unwrap_or(Room::default().bytes);
    let body = section.optional("max_body", |field| match size(field)? {
        body if body <= most => Ok(body),
        _ => Err(Malformed::new("it is above `max_bytes`, so that none so large would be kept")),
    });
    let entries = section.optional("max_entries", |field| field.number(1..=ENTRIES_MAX));
    let default = Room::default();
    (bytes.is_some() || body.is_some() || entries.is_some()).then(|| Room {
        body: body.unwrap_or(default.body.min(most)),
        bytes: most,
        entries: entries.unwrap_or(default.entries),
    })
}
