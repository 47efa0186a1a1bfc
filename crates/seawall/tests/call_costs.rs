//! What a call costs: no allocation without a hedge.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use seawall::call::{Closures, Drive, Judgement, Upstream};
use seawall::core::backpressure::{self, Backpressure};
use seawall::core::call::{Config, Repeat, Settings as CallSettings, Shared};
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::hedge;
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::time::Span;
use seawall::{Locks, now};

fn upstream(hedge: Option<hedge::Config>) -> Arc<Upstream> {
    let gate = || Arc::new(Gate::new(Settings::default(), Lane::default(), now()));
    let settings = CallSettings { hedge, ..CallSettings::default() };
    let shared = Arc::new(Locks::own(vec![Shared::new(settings, now())]));
    let pressure = Backpressure::new(backpressure::Config::default(), now());
    let upstream = Upstream::new(vec![gate(), gate()], shared, 7);
    Arc::new(upstream.with_backpressure(Arc::new(Locks::own(vec![pressure]))))
}

fn judge(_: &()) -> Judgement {
    Judgement { outcome: Outcome::Success, repeat: Repeat::Safe }
}

/// A call whose attempts are these futures.
fn call<F: Future<Output = ()>>(upstream: &Arc<Upstream>, send: impl FnMut() -> F) {
    let mut send = send;
    let request = Request { deadline: now() + Span::from_secs(60), ..Request::new(Key(1)) };
    let exchange = Closures { send: |_| send(), judge };
    let mut drive = pin!(Drive::new(upstream.clone(), Config::default(), request, Repeat::Safe, exchange));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        if let Poll::Ready(ended) = drive.as_mut().poll(&mut context) {
            return drop(ended);
        }
    }
}

#[tokio::test]
async fn a_call_that_is_answered_at_once_allocates_nothing() {
    for hedge in [None, Some(hedge::Config::default())] {
        let upstream = upstream(hedge);
        let round = || (0..1_000).for_each(|_| call(&upstream, || std::future::ready(())));
        round();
        let counted = allocation_counter::measure(round);
        assert_eq!(counted.count_total, 0, "{counted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_to_wait_and_is_dropped_allocates_nothing() {
    let upstream = upstream(None);
    let hang = || call(&upstream, std::future::pending::<()>);
    hang();
    let counted = allocation_counter::measure(hang);
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
