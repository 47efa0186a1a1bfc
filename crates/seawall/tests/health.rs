//! Health checks on a paused clock: who is asked, and what is made of the answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use seawall::core::call::{Hosts, HostsConfig, Member};
use seawall::core::gate::{self, Gate, Lane};
use seawall::core::health::{Check, Config, Mode, Settings};
use seawall::core::rng::Rng;
use seawall::core::time::Span;
use seawall::health::watch;
use seawall::{Threads, now};

/// Hosts that are asked each second, for half a second, and are unwell after two failed checks.
fn hosts(count: usize) -> Hosts<Threads> {
    let settings = Settings {
        every: Span::from_secs(1),
        within: Span::from_millis(500),
        fall: 2,
        ..Settings::default()
    };
    let config = HostsConfig { health: Some(Config::new(settings).unwrap()), ..HostsConfig::default() };
    configured(config, count)
}

fn configured(config: HostsConfig, count: usize) -> Hosts<Threads> {
    let gate = || Arc::new(Gate::new(gate::Settings::default(), Lane::default(), now()));
    let members = Member::numbered((0..count).map(|_| gate()).collect());
    Hosts::balanced(config, members, now(), &mut Rng::new(7, 0))
}

/// Watches them for so long.
async fn watched<F>(hosts: &Hosts<Threads>, seconds: u64, ask: impl Fn(usize) -> F + Send + Sync + 'static)
where
    F: Future<Output = Check> + Send,
{
    let watching = watch(hosts.clone(), ask, Rng::new(7, 1));
    tokio::time::timeout(Duration::from_secs(seconds), watching).await.unwrap_err();
}

fn modes(hosts: &Hosts<Threads>) -> Vec<Option<Mode>> {
    hosts.snapshot(now()).hosts.into_iter().map(|host| host.unwrap().health).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_decides() {
    let hosts = hosts(3);
    watched(&hosts, 2, async |host| (host != 1).into()).await;
    assert_eq!(modes(&hosts), [Some(Mode::Well), Some(Mode::Unwell), Some(Mode::Well)]);
    watched(&hosts, 4, async |host| (host != 0).into()).await;
    assert_eq!(modes(&hosts), [Some(Mode::Unwell), Some(Mode::Well), Some(Mode::Well)]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_in_time_has_failed_and_holds_up_nobody() {
    let hosts = hosts(2);
    let ask = async |host| if host == 0 { pending().await } else { Check::Passed };
    watched(&hosts, 3, ask).await;
    assert_eq!(modes(&hosts), [Some(Mode::Unwell), Some(Mode::Well)]);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_panics_is_a_failed_check() {
    let hosts = hosts(3);
    let ask = |host| {
        assert!(host != 0, "before there is a future");
        async move {
            assert!(host != 1, "in the future");
            Check::Passed
        }
    };
    watched(&hosts, 3, ask).await;
    assert_eq!(modes(&hosts), [Some(Mode::Unwell), Some(Mode::Unwell), Some(Mode::Well)]);
}

/// Counts itself for as long as it exists.
struct UnderWay(Arc<AtomicU32>);

impl UnderWay {
    fn begin(count: &Arc<AtomicU32>, most: &AtomicU32) -> UnderWay {
        let before = count.fetch_add(1, Ordering::Relaxed);
        most.fetch_max(before + 1, Ordering::Relaxed);
        UnderWay(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn each_host_has_one_question_under_way_and_none_outlives_the_watch() {
    let hosts = hosts(4);
    let (count, most, begun) = (Arc::default(), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counted: Arc<AtomicU32> = Arc::clone(&count);
    let (seen, asked) = (most.clone(), begun.clone());
    let ask = move |_| {
        let under_way = UnderWay::begin(&counted, &seen);
        asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let _under_way = under_way;
            pending().await
        }
    };
    watched(&hosts, 60, ask).await;
    tokio::task::yield_now().await;
    assert_eq!((most.load(Ordering::Relaxed), count.load(Ordering::Relaxed)), (4, 0));
    let begun = begun.load(Ordering::Relaxed);
    assert!((200..=280).contains(&begun), "{begun} in a minute of four hosts asked each second");
}

#[tokio::test(start_paused = true)]
async fn where_nobody_is_checked_nobody_is_asked() {
    let hosts = configured(HostsConfig::default(), 2);
    watched(&hosts, 3_600, async |_| unreachable!("nobody is asked")).await;
    assert_eq!(modes(&hosts), [None, None]);
}
