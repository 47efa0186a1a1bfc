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
//! rather than letting everything in, and so does one of a newer gateway. A route that a config no longer names is
//! remembered until it is back or let in. What cannot be written, as on a full disk, is said and tried again until it can.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use seawall::core::event::Change;
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

/// How the file is written.
const VERSION: u64 = 1;

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

/// How a route is let in about which nothing more is known.
const RETURN: Word = Word::Admit { top_ppm: ALL, over: OVER };

/// Who changed what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Somebody over the admin plane.
    Admin,
    /// The guard of the ramp, which found that all went well.
    Guard,
    /// What was remembered, when the gateway began or a route came back.
    File,
}

impl Who {
    /// Its name in logs and events.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Who::Admin => "admin",
            Who::Guard => "guard",
            Who::File => "file",
        }
    }
}

/// A change of what passes on a route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    /// The route.
    pub(crate) route: String,
    /// What changed.
    pub(crate) change: Change,
    /// The share of its traffic that passes at last, in percent.
    pub(crate) percent: f64,
    /// Who changed it.
    pub(crate) who: Who,
    /// Why it is blocked, or was.
    pub(crate) why: Option<Arc<str>>,
}

impl Notice {
    /// Of this word.
    fn of(route: &str, word: &Word, who: Who, why: Option<Arc<str>>) -> Notice {
        let (change, top_ppm) = match word {
            Word::Block { .. } => (Change::Blocked, 0),
            Word::Admit { top_ppm, .. } => (Change::Admitting, *top_ppm),
        };
        let percent = f64::from(top_ppm) * 100.0 / f64::from(ALL);
        Notice { route: route.to_owned(), change, percent, who, why }
    }

    /// That all passes.
    fn admitted(route: &str, who: Who, why: Option<Arc<str>>) -> Notice {
        Notice { route: route.to_owned(), change: Change::Admitted, percent: 100.0, who, why }
    }
}

/// What a word about a route did.
#[derive(Debug)]
pub(crate) struct Said {
    /// How it was before; `None` for a route that the config no longer names.
    pub(crate) was: Option<BlockMode>,
    /// Whether it could be remembered.
    pub(crate) remembered: io::Result<()>,
}

/// The most notices that wait to be told; then the oldest is forgotten.
const NOTICES_MAX: usize = 64;

/// The last words about routes that do not let everything pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    file: Option<PathBuf>,
    words: BTreeMap<String, Word>,
    notices: VecDeque<Notice>,
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
        Ok(Blocks(Arc::new(Mutex::new(Held { file, words, ..Held::default() }))))
    }

    /// Tells a road that nobody is on yet.
    pub(crate) fn prepare(&self, road: &Road) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Held { words, notices, .. } = &mut *held;
        let before = words.len();
        for route in &road.routes {
            let name = &route.matching.name;
            let known = words.get(name);
            // What a gate still holds was let in while the config did not name its route.
            let (word, who) = known.map_or((&RETURN, Who::Admin), |word| (word, Who::File));
            let mut is_news = false;
            for way in route.with_shares() {
                // A gate that is kept knows already, and how far its ramp has come.
                let is_open = way.gate.snapshot(now()).block.mode == BlockMode::Open;
                if is_open != known.is_some() {
                    continue;
                }
                if is_open {
                    tell(way, &Word::Block { why: "as before".to_owned() }, road.seed());
                }
                tell(way, word, road.seed());
                is_news = true;
            }
            if is_news {
                note(notices, Notice::of(name, word, who, why(route)));
            }
            if is_news && known.is_none() {
                words.insert(name.clone(), RETURN);
            }
        }
        if held.words.len() > before
            && let Err(error) = held.keep()
        {
            tracing::error!(%error, "cannot remember that a route is let in");
        }
    }

    /// Says a word about a route, and remembers it. `None` when there is no such route; one that the config no
    /// longer names can only be let in.
    pub(crate) fn say(&self, road: &Road, name: &str, word: Word) -> Option<Said> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(route) = route(road, name) else {
            let is_held = matches!(word, Word::Admit { .. }) && held.words.remove(name).is_some();
            return is_held.then(|| {
                note(&mut held.notices, Notice::admitted(name, Who::Admin, None));
                Said { was: None, remembered: held.keep() }
            });
        };
        let was = mode(route);
        route.with_shares().for_each(|way| tell(way, &word, road.seed()));
        if mode(route) == BlockMode::Open {
            held.words.remove(name);
        } else {
            note(&mut held.notices, Notice::of(name, &word, Who::Admin, why(route)));
            held.words.insert(name.to_owned(), word);
        }
        Some(Said { was: Some(was), remembered: held.keep() })
    }

    /// Forgets those whose ramp is over, and remembers what could not be until now. Says what has changed since it
    /// was asked last.
    pub(crate) fn tidy(&self, road: &Road) -> Vec<Notice> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, was_behind) = (held.words.len(), held.is_behind);
        let Held { words, notices, .. } = &mut *held;
        words.retain(|name, _| match route(road, name) {
            Some(route) if mode(route) == BlockMode::Open => {
                note(notices, Notice::admitted(name, Who::Guard, why(route)));
                false
            }
            Some(_) | None => true,
        });
        let news = notices.drain(..).collect();
        if held.words.len() == before && !was_behind {
            return news;
        }
        match held.keep() {
            Ok(()) if was_behind => tracing::info!("what is blocked is remembered after all"),
            Err(error) if !was_behind => {
                tracing::error!(%error, "cannot remember that a route is open again")
            }
            Ok(()) | Err(_) => {}
        }
        news
    }
}

fn note(notices: &mut VecDeque<Notice>, notice: Notice) {
    if notices.len() == NOTICES_MAX {
        notices.pop_front();
    }
    notices.push_back(notice);
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
        let text =
            json!({ "version": VERSION, "routes": words.collect::<serde_json::Map<_, _>>() }).to_string();
        // Not instead of its extension: that could be another file's name, as of a config that is to come.
        let mut beside = file.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let write = || {
            let mut written = fs::File::create(&beside)?;
            written.write_all(text.as_bytes())?;
            // Or it could be empty when the machine has crashed, and nothing starts with that.
            written.sync_all()?;
            fs::rename(&beside, file)
        };
        write().map_err(|error| about(file, error))
    }

    /// Writes what is held, and notes whether that is still to be done.
    fn keep(&mut self) -> io::Result<()> {
        let written = self.write();
        self.is_behind = written.is_err();
        written
    }
}

/// The same error, saying of which file.
fn about(file: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

fn read(file: &Path) -> io::Result<BTreeMap<String, Word>> {
    match fs::read_to_string(file) {
        Ok(text) => parse(&text).map_err(|error| about(file, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(about(file, error)),
    }
}

fn parse(text: &str) -> io::Result<BTreeMap<String, Word>> {
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    let broken = || invalid("it is not what was written there".to_owned());
    let value: Value = serde_json::from_str(text).map_err(|_| broken())?;
    match value.get("version").and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(version) => {
            return Err(invalid(format!("version {version} is another gateway's; this one reads {VERSION}")));
        }
        None => return Err(broken()),
    }
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

/// The route of this name.
fn route<'a>(road: &'a Road, name: &str) -> Option<&'a Route> {
    road.routes.iter().find(|route| route.matching.name == name).map(|route| &**route)
}

/// What passes: all only where no way to an upstream is held.
fn mode(route: &Route) -> BlockMode {
    let modes = route.with_shares().map(|way| way.gate.snapshot(now()).block.mode);
    modes.reduce(|mode, other| if mode == BlockMode::Open { other } else { mode }).unwrap_or(BlockMode::Open)
}

/// Why it is blocked, or was.
fn why(route: &Route) -> Option<Arc<str>> {
    route.with_shares().find_map(|way| way.gate.snapshot(now()).block.why)
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
