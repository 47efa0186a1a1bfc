//! What is written to `tracing`.

#![cfg(feature = "tracing")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::ready;
use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use seawall::Pipeline;
use seawall::core::breaker::{Config, Settings};
use seawall::observe::{Traced, Watcher};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn changes_are_written_and_one_refusal_in_so_many() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::DEBUG)
        .finish();
    let _set = tracing::subscriber::set_default(subscriber);
    let traced = Arc::new(Traced::one_in(NonZeroU32::new(4).unwrap()));
    let config = Config::new(Settings { consecutive: Some(1), ..Settings::default() }).unwrap();
    let stock = Pipeline::single(config).observed(Watcher::new("stock", traced));
    for _ in 0..6 {
        let _ = stock.call(|| ready(Err::<(), _>("down"))).await;
    }
    let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    // The wait is drawn.
    let drawn = |line: &str| {
        line.split(' ').filter(|field| !field.starts_with("retry_after=5.")).collect::<Vec<_>>().join(" ")
    };
    let refused = |since: u32| {
        format!("DEBUG seawall: refused name=\"stock\" policy=\"breaker\" reason=\"open\" since={since}")
    };
    let opened = String::from(" WARN seawall: breaker_opened name=\"stock\" failure_rate=1.0");
    assert_eq!(written.lines().map(drawn).collect::<Vec<_>>(), [opened, refused(1), refused(4)]);
}
