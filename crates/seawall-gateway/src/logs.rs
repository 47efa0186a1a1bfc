//! The log, written by a thread of its own.
//!
//! **Prevents** a reader of the log that has stopped, such as a full pipe, from stopping the service: whoever
//! writes to it waits until it is read, and here that would be every worker.
//!
//! **Edges.** At most [`AHEAD_MAX`] lines wait to be written. What comes then is lost, and how much is said once
//! there is room.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The most lines that wait to be written.
const AHEAD_MAX: usize = 16_384;
/// How long the last of them may take.
const LAST: Duration = Duration::from_secs(1);

enum Word {
    Line(Vec<u8>),
    /// Tell when everything before this is written.
    Flush(SyncSender<()>),
}

/// That of this process, once it has begun.
static LOG: OnceLock<Log> = OnceLock::new();

/// The log on standard error.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    words: SyncSender<Word>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Begins to write; where there is no thread, nothing is.
    pub(crate) fn start() -> Log {
        let (words, said) = sync_channel(AHEAD_MAX);
        let lost = Arc::<AtomicU64>::default();
        let unsaid = lost.clone();
        let writes = move || write(&said, &unsaid, &mut io::stderr());
        if let Err(error) = std::thread::Builder::new().name("log".to_owned()).spawn(writes) {
            eprintln!("error: there is no log: {error}");
        }
        LOG.get_or_init(|| Log { words, lost }).clone()
    }

    /// Waits until everything is written, or nobody reads it.
    pub(crate) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.words.try_send(Word::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(LAST);
        }
    }
}

/// Writes a line, with its end, beside those of `tracing`.
pub(crate) fn line(line: &str) {
    if let Some(mut log) = LOG.get().cloned() {
        // It never fails: what cannot be written is counted.
        let _ = log.write(line.as_bytes());
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.words.try_send(Word::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(said: &Receiver<Word>, lost: &AtomicU64, to: &mut impl Write) {
    for word in said {
        // What cannot be written, as on a full disk, is not: there is nowhere to say so.
        match word {
            Word::Line(line) => _ = to.write_all(&line),
            Word::Flush(done) => _ = done.try_send(()),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(to, "{lost} lines of the log were lost: they are read too slowly");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_said() {
        let (words, said) = sync_channel(2);
        let mut log = Log { words, lost: Arc::default() };
        for line in [b"one\n", b"two\n", b"six\n"] {
            assert_eq!(log.write(line).unwrap(), 4);
        }
        let (lost, mut written) = (log.lost.clone(), Vec::new());
        drop(log);
        write(&said, &lost, &mut written);
        let wanted = "one\n1 lines of the log were lost: they are read too slowly\ntwo\n";
        assert_eq!(String::from_utf8(written).unwrap(), wanted);
    }
}
