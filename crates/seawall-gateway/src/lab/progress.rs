//! Progress of long work, on a terminal and never in a pipe.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts seeds on standard error; what it wrote is gone when it is dropped.
pub(crate) struct Progress {
    label: String,
    shown: bool,
    seeds: AtomicU32,
}

impl Progress {
    /// Of what is called so.
    pub(crate) fn new(label: &str) -> Progress {
        // A terminal that cannot move its cursor gets no line that is written over.
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let shown = std::io::stderr().is_terminal() && !dumb;
        Progress { label: label.to_owned(), shown, seeds: AtomicU32::new(0) }
    }

    /// Another seed is done.
    pub(crate) fn step(&self) {
        let seeds = self.seeds.fetch_add(1, Ordering::Relaxed) + 1;
        if self.shown {
            let line = format!("\r{}: {seeds} seeds ", self.label);
            // Who closed the terminal is not told.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let blank = " ".repeat(self.label.chars().count() + 20);
            let _ = std::io::stderr().write_all(format!("\r{blank}\r").as_bytes());
        }
    }
}
