//! What the bench found: one struct, shown as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::generator::Tally;
use super::origin::{SERVICE, WORKERS};
use super::recovery::{back_after, share};

#[cfg(test)]
mod tests;

/// The part of the requests that must be served in time for the load to be carried.
const BACK: f64 = 0.95;
/// Above this p99 lag the generator itself disturbs the result, in milliseconds.
const LAG_MAX_MS: f64 = 5.0;
/// Below this relative determinant all points have the same mix, which tells the two costs not apart.
const SINGULAR: f64 = 1e-6;

/// A whole run.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) schema: u32,
    pub(super) through: String,
    pub(super) seed: u64,
    pub(super) deadline_ms: u64,
    /// The origin's measured saturated completions per second.
    pub(super) capacity: f64,
    pub(super) points: Vec<Point>,
    /// What a refusal costs the gateway; `None` when the points do not tell.
    pub(super) refusal: Option<Refusal>,
}

/// One offered load.
#[derive(Serialize)]
pub(super) struct Point {
    /// The offered load as a multiple of the capacity.
    pub(super) at: f64,
    /// Counted, without warm-up and the dropped seconds.
    pub(super) seconds: f64,
    pub(super) tally: Tally,
    /// Completions per second of the origin, whether or not anyone still waited.
    pub(super) origin_per_s: f64,
    /// Processor seconds while counting.
    pub(super) cpu_s: Cpu,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cpu {
    /// `None` without a gateway, or with a proxy that the bench did not start.
    pub(super) gateway: Option<f64>,
    pub(super) generator: f64,
    pub(super) origin: f64,
}

/// The gateway's processor time per request, by how the request ended, from all points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Refusal {
    /// Per refused request, in microseconds.
    pub(super) refused_us: f64,
    /// Per request that was let through, in microseconds.
    pub(super) admitted_us: f64,
    /// A refusal's cost over that of a served request, with the origin's work of 10 ms.
    pub(super) c: f64,
}

impl Point {
    fn offered(&self) -> f64 {
        self.tally.scheduled as f64 / self.seconds
    }

    fn goodput(&self) -> f64 {
        self.tally.served as f64 / self.seconds
    }

    /// Goodput in percent of what was possible: the offered load below capacity, capacity above.
    fn goodput_percent(&self, capacity: f64) -> f64 {
        let possible = if self.at < 1.0 { self.offered() } else { capacity };
        100.0 * self.goodput() / possible
    }

    fn percent(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.tally.scheduled.max(1) as f64
    }
}

impl Refusal {
    /// The two costs that explain the gateway's time at every point best (least squares).
    pub(super) fn fit(points: &[Point]) -> Option<Refusal> {
        let (mut aa, mut ar, mut rr, mut at, mut rt) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for point in points {
            let micros = point.cpu_s.gateway? * 1e6;
            let refused = point.tally.refused as f64;
            let admitted = (point.tally.scheduled - point.tally.refused) as f64;
            aa += admitted * admitted;
            ar += admitted * refused;
            rr += refused * refused;
            at += admitted * micros;
            rt += refused * micros;
        }
        let determinant = aa * rr - ar * ar;
        if determinant <= SINGULAR * aa * rr {
            return None;
        }
        let refused_us = (rt * aa - at * ar) / determinant;
        let admitted_us = (at * rr - rt * ar) / determinant;
        let served_us = admitted_us + SERVICE.as_secs_f64() * 1e6;
        Some(Refusal { refused_us, admitted_us, c: refused_us / served_us })
    }
}

const COLUMNS: [&str; 15] = [
    "at",
    "offered/s",
    "goodput/s",
    "of possible",
    "refused",
    "late",
    "failed",
    "p50 ms",
    "p99 ms",
    "retry-after",
    "origin/s",
    "gateway cpu s",
    "us/request",
    "generator cpu s",
    "origin cpu s",
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "through {}; capacity {:.1}/s ({WORKERS} workers, exponential {SERVICE}); deadline {} ms; seed {}",
            self.through, self.capacity, self.deadline_ms, self.seed
        )?;
        let rows: Vec<_> = self.points.iter().map(|point| row(point, self.capacity)).collect();
        let widths: Vec<_> = (0..COLUMNS.len())
            .map(|column| rows.iter().map(|row| row[column].len()).chain([COLUMNS[column].len()]).max())
            .map(Option::unwrap_or_default)
            .collect();
        for row in [COLUMNS.map(str::to_owned)].iter().chain(&rows) {
            let cells: Vec<_> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
            writeln!(f, "{}", cells.join("  "))?;
        }
        writeln!(
            f,
            "goodput: 200 in full within the deadline, from the scheduled arrival; p50 and p99 are of these"
        )?;
        writeln!(f, "of possible: of the offered load below 1x, of the capacity from there on")?;
        if let Some(Refusal { refused_us, admitted_us, c }) = self.refusal {
            writeln!(
                f,
                "gateway: {admitted_us:.0} us per request let through, {refused_us:.0} us per refusal; \
                 c = {:.2} % of a served request with its {SERVICE} of work",
                c * 100.0
            )?;
        }
        self.points.iter().try_for_each(|point| recovery(point, f))?;
        self.points.iter().try_for_each(|point| remarks(point, f))
    }
}

fn row(point: &Point, capacity: f64) -> [String; COLUMNS.len()] {
    let tally = &point.tally;
    let missing = || "-".to_owned();
    let millis = |value: Option<f64>| value.map_or_else(missing, |value| format!("{value:.1}"));
    let percent = |count| format!("{:.2} %", point.percent(count));
    let seconds = |value: f64| format!("{value:.2}");
    let per_request = |cpu: f64| format!("{:.1}", cpu * 1e6 / tally.scheduled.max(1) as f64);
    let hinted = match tally.refused {
        0 => missing(),
        refused => format!("{:.1} %", 100.0 * tally.with_retry_after as f64 / refused as f64),
    };
    [
        format!("{}x", point.at),
        format!("{:.1}", point.offered()),
        format!("{:.1}", point.goodput()),
        format!("{:.1} %", point.goodput_percent(capacity)),
        percent(tally.refused),
        percent(tally.late),
        percent(tally.failed),
        millis(tally.p50_ms),
        millis(tally.p99_ms),
        hinted,
        format!("{:.1}", point.origin_per_s),
        point.cpu_s.gateway.map_or_else(missing, seconds),
        point.cpu_s.gateway.map_or_else(missing, per_request),
        seconds(point.cpu_s.generator),
        seconds(point.cpu_s.origin),
    ]
}

/// How soon clients were served after the load had fallen.
fn recovery(point: &Point, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let tenths = &point.tally.after;
    if tenths.is_empty() {
        return Ok(());
    }
    let back = match back_after(tenths, BACK) {
        Some(seconds) => format!("from {seconds:.1} s on"),
        None => "never".to_owned(),
    };
    let (percent, all) = (BACK * 100.0, share(tenths) * 100.0);
    let at = point.at;
    writeln!(f, "{at}x: after the load fell, {percent:.0} % in time {back}; {all:.1} % of all since then")
}

/// What makes a point doubtful.
fn remarks(point: &Point, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(failure) = &point.tally.failure {
        writeln!(f, "{}x: the last failure was: {failure}", point.at)?;
    }
    match point.tally.lag_p99_ms {
        Some(lag) if lag > LAG_MAX_MS => writeln!(
            f,
            "{}x: doubtful, the generator itself was late (p99 {lag:.1} ms): the machine is too busy",
            point.at
        ),
        _ => Ok(()),
    }
}
