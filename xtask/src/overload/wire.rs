//! What the bench's processes share: lines of JSON between them, and a precise wait.

use std::io::{self, Write};
use std::thread;
use std::time::Instant;

use serde::Serialize;

/// Prints `message` as one line of JSON on standard output, at once.
pub(super) fn say(message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Parks this thread until `time`; late by the kernel's timer slack, about 60 µs.
///
/// Only for threads that nobody unparks and that no runtime owns.
pub(super) fn wait_until(time: Instant) {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
