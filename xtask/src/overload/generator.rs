//! The generator: many independent clients who do not wait for each other.
//!
//! **Open loop**: arrivals are a Poisson process that is drawn ahead and knows nothing of the
//! answers. A slow answer delays nobody, and every latency counts from the *scheduled* arrival, so
//! that neither a slow system nor a slow generator can hide its own delay (coordinated omission).
//! A request that is not answered in full within its deadline is late: its connection is dropped.
//!
//! Tokio's timer ticks in whole milliseconds, so that 8 000/s would come in bursts of eight. The
//! arrivals are therefore paced by a thread that parks until each and hands it to the runtime, at
//! most once in 250 µs: waking for each of 8 000/s costs half as much again of a core, and is no
//! more exact. The `lag` in the result, from scheduled to really begun, tells whether the
//! generator itself kept up.
//!
//! A client may *retry*: at once, whenever it was refused, failed or waited for its deadline. A request is
//! served if an answer is there within its first deadline, whichever attempt brought it; what is asked later
//! only adds to the load.
//!
//! **Closed loop**, only to measure the origin: a fixed number of clients, each asking again as
//! soon as it has its answer.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use seawall_core::rng::Rng;
use seawall_core::time::Span;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep_until, timeout_at};

use super::client::{Answer, Client, Hint, Target};
use super::recovery::Tenth;
use super::wire;
use crate::Result;

#[cfg(test)]
mod tests;

/// Requests under way at once; more are not sent and count as failed.
const IN_FLIGHT_MAX: u32 = 16_384;
/// Arrivals that may lie between the pacing thread and the runtime.
const HAND_OVER: usize = 16_384;
/// Between the process's start and the first arrival.
const LEAD: Duration = Duration::from_millis(50);
/// Least time between two wake-ups of the pacing thread: what is due meanwhile goes together.
const PACE: Duration = Duration::from_micros(250);
/// The histograms' range, from 1 µs to a minute.
const MICROS_MAX: u64 = 60_000_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to do, as JSON
    #[arg(long)]
    plan: String,
}

/// What the generator is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) load: Load,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Load {
    /// `clients` who each ask again as soon as they are answered.
    Closed { clients: u32, settle_s: u64, counted_s: u64 },
    /// Poisson arrivals.
    Open(Open),
}

/// Poisson arrivals: a warm-up, then the rate, of which the first seconds do not count, then perhaps another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) seed: u64,
    pub(super) deadline_ms: u64,
    /// How often a client asks again at once.
    pub(super) retries: u32,
    pub(super) warm_up: Leg,
    pub(super) dropped_s: u64,
    pub(super) counted: Leg,
    /// What is left of the load afterwards.
    pub(super) after: Option<Leg>,
}

/// A stretch of constant rate.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Leg {
    /// Requests per second.
    pub(super) rate: f64,
    pub(super) seconds: u64,
}

/// What the generator prints, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// From now on requests count.
    Counting,
    /// From now on they no longer do.
    Counted,
    /// Every counted request has ended.
    Done(Tally),
}

/// The counted requests, by the time they were scheduled at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) scheduled: u64,
    /// 200, in full and in the deadline.
    pub(super) served: u64,
    pub(super) refused: u64,
    /// Refusals that said when to come back.
    pub(super) with_retry_after: u64,
    /// Not answered within the deadline.
    pub(super) late: u64,
    /// Answered otherwise, or not connected.
    pub(super) failed: u64,
    /// Of the served, in milliseconds from the scheduled arrival; `None` without any.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// From the scheduled arrival to the generator beginning with it.
    pub(super) lag_p99_ms: Option<f64>,
    /// What the last failure was.
    pub(super) failure: Option<String>,
    /// What was scheduled after the counted load, by the tenth of a second.
    pub(super) after: Vec<Tenth>,
}

/// A tally in the making.
struct Counter {
    tally: Tally,
    latency: Histogram<u64>,
    lag: Histogram<u64>,
}

/// How a request ended.
enum End {
    Answered(Answer),
    Late,
    Failed(String),
}

/// Does what the plan says, then ends; also ends when its standard input does.
pub(crate) fn run(args: &Args) -> Result<()> {
    let plan: Plan = serde_json::from_str(&args.plan)?;
    thread::spawn(|| {
        std::io::stdin().lock().read_to_end(&mut Vec::new()).ok();
        std::process::exit(1);
    });
    let client = Arc::new(Client::new(&plan.target)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tally = match plan.load {
            Load::Closed { clients, settle_s, counted_s } => {
                closed(client, clients, Instant::now() + Duration::from_secs(settle_s), counted_s).await?;
                Tally::default()
            }
            Load::Open(load) => {
                let start = Instant::now() + LEAD;
                let counting = start + Duration::from_secs(load.warm_up.seconds + load.dropped_s);
                let marks = tokio::spawn(mark(counting, load.counted.seconds));
                let tally = open(client, &load, start, counting).await?;
                marks.await??;
                tally
            }
        };
        wire::say(&Said::Done(tally))?;
        Ok(())
    })
}

/// Tells when counting begins and ends.
async fn mark(counting: Instant, seconds: u64) -> Result<()> {
    sleep_until(counting.into()).await;
    wire::say(&Said::Counting)?;
    sleep_until((counting + Duration::from_secs(seconds)).into()).await;
    wire::say(&Said::Counted)?;
    Ok(())
}

async fn closed(client: Arc<Client>, clients: u32, counting: Instant, seconds: u64) -> Result<()> {
    for _ in 0..clients {
        let client = Arc::clone(&client);
        // They end with the process.
        tokio::spawn(async move { while client.exchange().await.is_ok() {} });
    }
    mark(counting, seconds).await
}

async fn open(client: Arc<Client>, load: &Open, start: Instant, counting: Instant) -> Result<Tally> {
    let Open { seed, deadline_ms, retries, warm_up, dropped_s, counted, after } = *load;
    let deadline = Duration::from_millis(deadline_ms);
    let dropped = Leg { rate: counted.rate, seconds: dropped_s };
    let legs = [Some(warm_up), Some(dropped), Some(counted), after];
    let arrivals = Arrivals::new(Rng::new(seed, 0), &legs.into_iter().flatten().collect::<Vec<_>>());
    let counted = counting + Duration::from_secs(counted.seconds);
    let counter = Arc::new(Mutex::new(Counter::new()?));
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize));
    let (hand, mut handed) = mpsc::channel(HAND_OVER);
    thread::spawn(move || {
        let mut awake = start;
        for after in arrivals {
            let scheduled = start + Duration::from(after);
            if scheduled > awake {
                wire::wait_until(scheduled.max(awake + PACE));
                awake = Instant::now();
            }
            if hand.blocking_send(scheduled).is_err() {
                return;
            }
        }
    });
    while let Some(scheduled) = handed.recv().await {
        let client = Arc::clone(&client);
        let counter = Arc::clone(&counter);
        let lag = scheduled.elapsed();
        let permit = Arc::clone(&in_flight).try_acquire_owned();
        tokio::spawn(async move {
            let end = match permit {
                Ok(_) => ask(&client, scheduled, deadline, retries).await,
                Err(_) => End::Failed("too many requests under way in the generator".to_owned()),
            };
            let latency = scheduled.elapsed();
            let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
            if scheduled >= counted {
                counter.count_after(scheduled - counted, &end);
            } else if scheduled >= counting {
                counter.count(end, latency, lag);
            }
            drop(counter);
            drop(permit);
        });
    }
    // All permits back: all requests ended, none later than its deadline.
    drop(in_flight.acquire_many(IN_FLIGHT_MAX).await?);
    let tally = counter.lock().unwrap_or_else(PoisonError::into_inner).finish();
    Ok(tally)
}

async fn ask(client: &Client, scheduled: Instant, deadline: Duration, retries: u32) -> End {
    let mut end = attempt(client, scheduled, deadline).await;
    for _ in 0..retries {
        if matches!(end, End::Answered(Answer::Served)) {
            break;
        }
        end = attempt(client, Instant::now(), deadline).await;
    }
    match end {
        End::Answered(Answer::Served) if scheduled.elapsed() > deadline => End::Late,
        end => end,
    }
}

async fn attempt(client: &Client, begun: Instant, deadline: Duration) -> End {
    match timeout_at((begun + deadline).into(), client.exchange()).await {
        // The timer is up to a millisecond late; the deadline is not.
        Ok(Ok(_)) if begun.elapsed() > deadline => End::Late,
        Ok(Ok(answer)) => End::Answered(answer),
        Ok(Err(error)) => End::Failed(error.to_string()),
        Err(_) => End::Late,
    }
}

impl Counter {
    fn new() -> Result<Counter> {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, 3)?;
        Ok(Counter { tally: Tally::default(), latency: histogram.clone(), lag: histogram })
    }

    fn count(&mut self, end: End, latency: Duration, lag: Duration) {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.lag.saturating_record(micros(lag));
        let tally = &mut self.tally;
        tally.scheduled += 1;
        match end {
            End::Answered(Answer::Served) => {
                tally.served += 1;
                self.latency.saturating_record(micros(latency));
            }
            End::Answered(Answer::Refused(hint)) => {
                tally.refused += 1;
                tally.with_retry_after += u64::from(hint == Hint::RetryAfter);
            }
            End::Answered(Answer::Other(status)) => {
                tally.failed += 1;
                tally.failure = Some(format!("status {status}"));
            }
            End::Late => tally.late += 1,
            End::Failed(failure) => {
                tally.failed += 1;
                tally.failure = Some(failure);
            }
        }
    }

    /// Counts a request that was scheduled so long after the counted load.
    fn count_after(&mut self, after: Duration, end: &End) {
        let tenth = usize::try_from(after.as_millis() / 100).unwrap_or(usize::MAX);
        let tenths = &mut self.tally.after;
        if tenths.len() <= tenth {
            tenths.resize(tenth + 1, Tenth::default());
        }
        tenths[tenth].add(matches!(end, End::Answered(Answer::Served)));
    }

    fn finish(&self) -> Tally {
        let quantile = |histogram: &Histogram<u64>, q| {
            (!histogram.is_empty()).then(|| histogram.value_at_quantile(q) as f64 / 1e3)
        };
        Tally {
            p50_ms: quantile(&self.latency, 0.5),
            p99_ms: quantile(&self.latency, 0.99),
            lag_p99_ms: quantile(&self.lag, 0.99),
            ..self.tally.clone()
        }
    }
}

/// A Poisson process whose rate changes from leg to leg: when each request arrives, from the start.
struct Arrivals {
    rng: Rng,
    /// When each leg ends, and the mean gap between its arrivals; the last leg first.
    legs: Vec<(Span, Span)>,
    at: Span,
}

impl Arrivals {
    fn new(rng: Rng, legs: &[Leg]) -> Arrivals {
        let mut end = Span::ZERO;
        let mut ends: Vec<_> = legs
            .iter()
            .map(|leg| {
                end += Span::from_secs(leg.seconds);
                (end, Span::from_secs_f64(1.0 / leg.rate))
            })
            .collect();
        ends.reverse();
        Arrivals { rng, legs: ends, at: Span::ZERO }
    }
}

impl Iterator for Arrivals {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        loop {
            let &(end, gap) = self.legs.last()?;
            let next = self.at + self.rng.exponential(gap);
            if next < end {
                self.at = next;
                return Some(next);
            }
            // The process has no memory: the next leg may begin it anew.
            self.at = end;
            self.legs.pop();
        }
    }
}
