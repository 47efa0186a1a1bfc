//! Routes blocked by hand, remembered over reloads and restarts.
//!
//! **Prevents** a block from ending with the process: whoever took a service down did so for a reason
//! that a restart does not mend.
//!
//! **Mechanics.** The gates know; this keeps a small file in step with them: which routes are blocked,
//! or are let in up to which share and over which time. It is written beside the old one and put in its
//! place, at each word and when a ramp is over. A new road is told before traffic sees it.
//!
//! **Edges.** A ramp that a restart cut off begins anew. A file that cannot be read stops the start
//! rather than letting everything in. A route that a config no longer names is remembered until it is back or
//! let in. What cannot be written, as on a full disk, is said and tried again until it can.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use seawall::core::gate::BlockMode;
use seawall::core::rng::Rng;
use seawall::core::time::Span;
use seawall::now;
use serde_json::{Value, json};

use crate::proxy::road::{Road, Route};

/// All of the traffic, in parts per million.
pub(crate) const ALL: u32 = 1_000_000;
/// In which time a route is let in when nothing else is said.
pub(crate) const OVER: Span = Span::from_secs(60);

/// A word about a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nothing passes.
    Block {
        /// Why.
        why: String,
    },
    /// It is let in.
    Admit {
        /// Up to this share, in parts per million.
        top_ppm: u32,
        /// In this time, if all goes well.
        over: Span,
    },
}

/// The last words about routes that do not let everything pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    file: Option<PathBuf>,
    words: BTreeMap<String, Word>,
    /// Whether the file could not be written when it should have been.
    is_behind: bool,
}

impl Blocks {
    /// As the file remembers them, if there is one.
    pub(crate) fn restored(file: Option<PathBuf>) -> io::Result<Blocks> {
        let words = match &file {
            Some(file) => read(file)?,
            None => BTreeMap::new(),
        };
        Ok(Blocks(Arc::new(Mutex::new(Held { file, words, is_behind: false }))))
    }

    /// Tells a road that nobody is on yet.
    pub(crate) fn prepare(&self, road: &Road) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, word) in &held.words {
            let Some(route) = road.routes.iter().find(|route| route.matching.name == *name) else { continue };
            for way in route.with_shares() {
                // A gate that is kept knows already, and how far its ramp has come.
                if way.gate.snapshot(now()).block.mode == BlockMode::Open {
                    tell(way, &Word::Block { why: "as before".to_owned() }, road.seed());
                    tell(way, word, road.seed());
                }
            }
        }
    }

    /// Says a word about a route, and remembers it. `None` when there is no such route.
    pub(crate) fn say(&self, road: &Road, name: &str, word: Word) -> Option<io::Result<()>> {
        if !apply(road, name, &word) {
            return None;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_open(road, name) {
            held.words.remove(name);
        } else {
            held.words.insert(name.to_owned(), word);
        }
        Some(held.keep())
    }

    /// Forgets those whose ramp is over, and remembers what could not be until now.
    pub(crate) fn tidy(&self, road: &Road) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, was_behind) = (held.words.len(), held.is_behind);
        held.words.retain(|name, _| !is_open(road, name));
        if held.words.len() == before && !was_behind {
            return;
        }
        match held.keep() {
            Ok(()) if was_behind => tracing::info!("what is blocked is remembered after all"),
            Err(error) if !was_behind => {
                tracing::error!(%error, "cannot remember that a route is open again")
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Held {
    fn write(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let words = self.words.iter().map(|(name, word)| {
            let value = match word {
                Word::Block { why } => json!({ "blocked": why }),
                Word::Admit { top_ppm, over } => json!({ "top_ppm": top_ppm, "over_ns": over.as_nanos() }),
            };
            (name.clone(), value)
        });
        let text = json!({ "version": 1, "routes": words.collect::<serde_json::Map<_, _>>() }).to_string();
        // Not instead of its extension: that could be another file's name, as of a config that is to come.
        let mut beside = file.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut written = fs::File::create(&beside)?;
        written.write_all(text.as_bytes())?;
        // Or it could be empty when the machine has crashed, and nothing starts with that.
        written.sync_all()?;
        fs::rename(&beside, file)
    }

    /// Writes what is held, and notes whether that is still to be done.
    fn keep(&mut self) -> io::Result<()> {
        let written = self.write();
        self.is_behind = written.is_err();
        written
    }
}

fn read(file: &Path) -> io::Result<BTreeMap<String, Word>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "it is not what was written there");
    let value: Value = serde_json::from_str(&text).map_err(|_| broken())?;
    let routes = value.get("routes").and_then(Value::as_object).ok_or_else(broken)?;
    let word = |(name, value): (&String, &Value)| {
        let why = value.get("blocked").and_then(Value::as_str);
        let top = value.get("top_ppm").and_then(Value::as_u64).and_then(|top| u32::try_from(top).ok());
        let over = value.get("over_ns").and_then(Value::as_u64).map(Span::from_nanos);
        let word = match (why, top, over) {
            (Some(why), ..) => Word::Block { why: why.to_owned() },
            (None, Some(top_ppm), Some(over)) => Word::Admit { top_ppm: top_ppm.min(ALL), over },
            _ => return Err(broken()),
        };
        Ok((name.clone(), word))
    };
    routes.iter().map(word).collect()
}

fn is_open(road: &Road, name: &str) -> bool {
    let route = road.routes.iter().find(|route| route.matching.name == name);
    let is_open = |way: &Route| way.gate.snapshot(now()).block.mode == BlockMode::Open;
    route.is_some_and(|route| route.with_shares().all(is_open))
}

/// Whether there is such a route.
fn apply(road: &Road, name: &str, word: &Word) -> bool {
    let Some(route) = road.routes.iter().find(|route| route.matching.name == name) else { return false };
    route.with_shares().for_each(|way| tell(way, word, road.seed()));
    true
}

fn tell(way: &Route, word: &Word, seed: u64) {
    match word {
        Word::Block { why } => way.gate.block(now(), Arc::from(why.as_str())),
        Word::Admit { top_ppm, over } => {
            let rng = &mut Rng::new(seed, now().as_nanos());
            way.gate.readmit(now(), *top_ppm, *over, rng);
        }
    }
}
