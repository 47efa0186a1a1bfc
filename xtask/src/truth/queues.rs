//! Queues: one service, no protection, Poisson arrivals. Times are in units of the mean service time.

use seawall_lab::scenario::Quantity;

use super::drawn::{Experiment, Reading, mean, quantile, rate, share};
use super::reference::{erlang_b, erlang_below, erlang_c, in_deadline, mmck, quantile_of};
use super::table::{Figure, Table, figure};

/// Rows of queueing theory, worked out beforehand: M/M/1, M/M/c, M/M/c/K and M/G/1.
const CLOSED_FORMS: &str = include_str!("closed_forms.csv");
/// Arrivals of one seed, of all rows and of those in the fast part.
const ARRIVALS: f64 = 400_000.0;
const ARRIVALS_FAST: f64 = 20_000.0;

/// A service, in units of its mean service time.
#[derive(Clone, Copy)]
struct Queue<'a> {
    workers: u32,
    /// Places in all, those of the workers among them.
    places: Option<u32>,
    lambda: f64,
    /// The distribution, for a mean that is put in for `MEAN`.
    time: &'a str,
    /// More keys of the service.
    more: &'a str,
    /// More keys of its clients.
    clients: &'a str,
}

const EXPONENTIAL: &str = "{ exponential = \"MEAN\" }";

impl Queue<'_> {
    fn new(workers: u32, lambda: f64) -> Queue<'static> {
        Queue { workers, places: None, lambda, time: EXPONENTIAL, more: "", clients: "" }
    }

    /// The mean service time in milliseconds, so long that the warm-up is long enough, and no longer.
    fn millis(&self) -> u32 {
        if self.workers <= 2 { 10 } else { 100 }
    }

    fn unit(&self) -> f64 {
        f64::from(self.millis()) / 1e3
    }

    fn experiment(&self, table: &Table) -> Experiment {
        let Queue { workers, places, lambda, time, more, clients } = self;
        let per_minute = (lambda / self.unit() * 60.0).round();
        let (arrivals, warmup) = if table.fast { (ARRIVALS_FAST, 20.0) } else { (ARRIVALS, 100.0) };
        let seconds = (arrivals / per_minute * 60.0).max(1.0).ceil() + warmup;
        let time = time.replace("MEAN", &format!("{}ms", self.millis()));
        let queue = places.map_or(String::new(), |places| format!("queue = {}\n", places - workers));
        Experiment::new(&format!(
            "[scenario]\nname = \"queue\"\nduration = \"{seconds}s\"\nwarmup = \"{warmup}s\"\n\
             [[clients]]\nname = \"all\"\nrate = \"{per_minute}/m\"\ncalls = \"q\"\n{clients}\n\
             [[service]]\nname = \"q\"\nworkers = {workers}\n{queue}time = {time}\n{more}\n"
        ))
    }
}

pub(super) fn rows(table: &mut Table) {
    table.section("Formulas");
    formulas(table);
    table.section("Queues");
    for line in CLOSED_FORMS.lines().skip(1) {
        closed_form(table, line);
    }
    basics(table);
    blocking(table);
    spread(table);
    patience(table);
    table.section("Too long a FIFO: M/M/1/K, deadline 20, nobody cancels, goodput");
    long_fifo(table);
    table.section("A queue as long as there are workers: p99 at saturation over that without load");
    short_queue(table);
    table.section("Standing queue or burst: M/M/8 with a static queue");
    static_queue(table);
    table.section("What a rejection costs");
    rejection(table);
}

fn formulas(table: &mut Table) {
    for (c, rho, exact) in [(2, 0.9, 0.852_632), (4, 0.9, 0.787_753), (8, 0.7, 0.270_603)] {
        table.exact(&format!("Erlang C({c}, {rho})"), exact, rounded(erlang_c(c, rho)));
    }
    for (c, a, exact) in [(2, 1.5, 0.310_345), (10, 8.0, 0.121_661), (10, 10.0, 0.214_582)] {
        table.exact(&format!("Erlang B({c}, {a})"), exact, rounded(erlang_b(c, a)));
    }
    for (c, k, lambda, exact) in [(1, 5, 1.0, 0.166_667), (1, 10, 0.9, 0.050_814), (4, 20, 3.6, 0.016_805)] {
        let blocked = mmck(c, k, lambda)[k as usize];
        table.exact(&format!("M/M/{c}/{k} blocking at {lambda}"), exact, rounded(blocked));
    }
    for (k, lambda, exact) in [(10, 0.8, 0.780_981), (50, 1.0, 0.392_157), (10, 10.0, 0.995_309)] {
        let got = in_deadline(k, lambda, 20.0);
        table.exact(&format!("M/M/1/{k} in-deadline goodput at {lambda}"), exact, rounded(got));
    }
}

/// To the six digits that are published.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// What the columns of the table are read from.
fn readings(unit: f64, workers: u32) -> [(&'static str, Reading); 14] {
    let busy = move |total: &seawall_lab::experiment::Total| {
        let (queues, seconds) = total.queues();
        queues[0].busy_s / seconds
    };
    let waits = |read: fn(&seawall_lab::Queueing) -> f64, unit: f64| -> Reading {
        Box::new(move |total| read(&total.queues().0[0]) / unit)
    };
    let c = f64::from(workers);
    [
        ("p_abandon", share(Quantity::Abandoned)),
        ("util", Box::new(move |total| busy(total) / c)),
        ("p_block", share(Quantity::Shed)),
        ("p_wait", waits(|queue| queue.waited as f64 / queue.waits.count() as f64, 1.0)),
        ("throughput", rate(Quantity::Goodput, 1.0 / unit)),
        ("Lq", waits(|queue| queue.waits.mean().unwrap_or(0.0) * queue.waits.count() as f64, 1.0)),
        ("L", Box::new(busy)),
        ("W", mean(unit)),
        ("Wq", waits(|queue| queue.waits.mean().unwrap_or(0.0), unit)),
        ("Wq_p99", waits(|queue| queue.waits.quantile(0.99).unwrap_or(0.0), unit)),
        ("W_p50", quantile(0.5, unit)),
        ("W_p90", quantile(0.9, unit)),
        ("W_p99", quantile(0.99, unit)),
        ("W_p999", quantile(0.999, unit)),
    ]
}

/// A row of the table of closed forms.
fn closed_form(table: &mut Table, line: &str) {
    let cells: Vec<&str> = line.split(',').collect();
    let column = |name: &str| {
        let mut heads = CLOSED_FORMS.lines().next().unwrap_or_default().split(',');
        let place = heads.position(|head| head == name)?;
        cells.get(place)?.parse::<f64>().ok()
    };
    let given = |name: &str| {
        let of = cells[1].split(' ').find_map(|given| given.strip_prefix(name)?.strip_prefix('='));
        of.and_then(|text| text.parse::<f64>().ok())
    };
    let lambda = given("lambda").unwrap_or(1.0);
    let workers = given("c").unwrap_or(1.0) as u32;
    let time = match given("cv2") {
        Some(0.0) => "{ constant = \"MEAN\" }".to_owned(),
        Some(cv2) => format!("{{ gamma = {{ mean = \"MEAN\", cv2 = {cv2:?} }} }}"),
        None => EXPONENTIAL.to_owned(),
    };
    let patience = given("theta").map_or(String::new(), |theta| {
        format!("queue.patience.exponential = \"{:.0}us\"", if workers <= 2 { 1e4 } else { 1e5 } / theta)
    });
    let places = given("K").map(|places| places as u32);
    let queue = Queue { places, time: &time, more: &patience, ..Queue::new(workers, lambda) };
    let heavy = column("util").is_some_and(|util| util > 0.85) || given("cv2").is_some_and(|cv2| cv2 > 1.0);
    if table.fast && (heavy || workers > 4 || lambda > 2.0 && places.is_some()) {
        return;
    }
    let mut figures = Vec::new();
    for (name, read) in readings(queue.unit(), workers) {
        let Some(exact) = column(name) else { continue };
        // Sojourns of those who left are no answers.
        if !patience.is_empty() && (name == "W" || name.starts_with("W_"))
            || patience.is_empty() && name == "p_abandon"
        {
            continue;
        }
        let far = name == "W_p999" || matches!(name, "W_p99" | "Wq_p99") && table.fast;
        let queued: Option<Reading> = match name {
            // Whole numbers of requests by Little's law, from the sum of waits.
            "Lq" => Some(Box::new(move |total| read(total) / total.queues().1)),
            "L" => Some(Box::new(move |total| {
                let (queues, seconds) = total.queues();
                let queue = &queues[0];
                let waiting = queue.waits.mean().unwrap_or(0.0) * queue.waits.count() as f64;
                read(total) + waiting / seconds
            })),
            _ if far && (heavy || table.fast) => None,
            _ => Some(read),
        };
        figures.extend(queued.map(|read| figure(name, exact, read)));
    }
    table.compare(&format!("{} {}", cells[0], cells[1]), &queue.experiment(table), figures);
}

fn basics(table: &mut Table) {
    let unit = 0.01;
    if !table.fast {
        table.compare(
            "M/M/1 lambda=0.9",
            &Queue::new(1, 0.9).experiment(table),
            vec![
                figure("W", 10.0, mean(unit)),
                figure("p50", 6.931_472, quantile(0.5, unit)),
                figure("p99", 46.051_702, quantile(0.99, unit)),
            ],
        );
    }
}

fn blocking(table: &mut Table) {
    let refused = |exact| vec![figure("refused", exact, share(Quantity::Shed))];
    for (c, k, lambda) in [(1, 5, 1.0), (1, 10, 0.9), (4, 20, 3.6)] {
        let exact = mmck(c, k, lambda)[k as usize];
        let queue = Queue { places: Some(k), ..Queue::new(c, lambda) };
        table.compare(&format!("M/M/{c}/{k} lambda={lambda}"), &queue.experiment(table), refused(exact));
    }
    // Insensitive to the distribution.
    for (c, a) in [(2, 1.5), (10, 8.0), (10, 10.0)] {
        for (name, time) in [
            ("M", EXPONENTIAL),
            ("D", "{ constant = \"MEAN\" }"),
            ("cv²=4", "{ gamma = { mean = \"MEAN\", cv2 = 4.0 } }"),
        ] {
            let queue = Queue { places: Some(c), time, ..Queue::new(c, a) };
            let what = format!("M/{name}/{c}/{c} lambda={a}");
            table.compare(&what, &queue.experiment(table), refused(erlang_b(c, a)));
        }
    }
}

/// Pollaczek and Khinchine: the mean wait is ρ (1 + cv²) / (2 (1 − ρ)).
fn spread(table: &mut Table) {
    let lognormal = "{ lognormal = { median = \"4472us\", p99 = \"85544us\" } }";
    for (name, time, cv2) in [
        ("constant", "{ constant = \"MEAN\" }", 0.0),
        ("exponential", EXPONENTIAL, 1.0),
        ("gamma cv²=4", "{ gamma = { mean = \"MEAN\", cv2 = 4.0 } }", 4.0),
        ("lognormal cv²=4", lognormal, 4.0),
        ("bimodal", "{ bimodal = { usual = \"5ms\", rare = \"55ms\", share = \"10%\" } }", 2.25),
        ("weibull", "{ weibull = { scale = \"5ms\", shape = 0.5 } }", 5.0),
    ] {
        for rho in [0.5, 0.9] {
            if table.fast && (rho > 0.5 || cv2 != 0.0) {
                continue;
            }
            let exact = rho * (1.0 + cv2) / (2.0 * (1.0 - rho));
            let read: Reading = Box::new(|total| total.queues().0[0].waits.mean().unwrap_or(0.0) / 0.01);
            let queue = Queue { time, ..Queue::new(1, rho) };
            let what = format!("M/G/1 {name} rho={rho}");
            table.compare(&what, &queue.experiment(table), vec![figure("Wq", exact, read)]);
        }
    }
}

/// Erlang A: those who wait leave after an exponential time.
fn patience(table: &mut Table) {
    for (c, lambda, theta) in [(1, 1.2, 0.5), (4, 4.8, 1.0), (8, 7.2, 0.5)] {
        let (mut weights, mut above, mut n) = (vec![1.0_f64], f64::INFINITY, 0);
        while above > 1e-14 {
            n += 1;
            let leaves = f64::from(n.min(c)) + theta * f64::from(n.max(c) - c);
            weights.push(weights[n as usize - 1] * lambda / leaves);
            above = if n > c { weights[n as usize] } else { 1.0 };
        }
        let all: f64 = weights.iter().sum();
        let waiting: f64 =
            weights.iter().zip(0_u32..).map(|(weight, n)| weight * f64::from(n.max(c) - c)).sum::<f64>()
                / all;
        let left = theta * waiting / lambda;
        let mut queue = Queue::new(c, lambda);
        let patience = format!("queue.patience.exponential = \"{:.0}ms\"", f64::from(queue.millis()) / theta);
        queue.places = None;
        let queue = Queue { more: &patience, ..queue };
        let figures = vec![figure("left", left, share(Quantity::Abandoned))];
        table.compare(&format!("M/M/{c}+M lambda={lambda} theta={theta}"), &queue.experiment(table), figures);
    }
}

fn long_fifo(table: &mut Table) {
    for (k, at) in [
        (10, [(0.8, 0.780_981), (1.0, 0.908_345), (1.2, 0.967_458), (2.0, 0.996_375), (10.0, 0.995_309)]),
        (50, [(0.8, 0.785_356), (1.0, 0.392_157), (1.2, 0.005_890), (2.0, 0.0), (10.0, 0.0)]),
    ] {
        for (lambda, exact) in at {
            if table.fast && (k == 50 || lambda > 2.0) {
                continue;
            }
            let queue = Queue { places: Some(k), clients: "deadline = \"200ms\"", ..Queue::new(1, lambda) };
            let figures = vec![figure("goodput", exact, rate(Quantity::Goodput, 100.0))];
            table.compare(&format!("K={k} lambda={lambda}"), &queue.experiment(table), figures);
        }
    }
}

/// At saturation whoever comes in waits for as many departures as there are workers.
fn short_queue(table: &mut Table) {
    for (c, published) in [(1, 1.44), (8, 1.23)] {
        let unloaded = -f64::ln(0.01);
        let above = |t: f64| {
            // The sum of an Erlang time of the queue and an exponential one, by steps.
            let steps = 20_000;
            let dt = t / f64::from(steps);
            let of = |step: i32| {
                let at = (f64::from(step) + 0.5) * dt;
                (-at).exp() * dt * (1.0 - erlang_below(c, f64::from(c) * (t - at)))
            };
            (-t).exp() + (0..steps).map(of).sum::<f64>()
        };
        let exact = quantile_of(above, 0.01) / unloaded;
        table.exact(&format!("c={c} to three digits"), published, (exact * 100.0).round() / 100.0);
        if !table.fast {
            // So many times too many that a free place is taken at once.
            let lambda = 300.0 * f64::from(c);
            let queue = Queue { places: Some(2 * c), ..Queue::new(c, lambda) };
            let read = quantile(0.99, unloaded * queue.unit());
            table.compare(
                &format!("c={c} simulated"),
                &queue.experiment(table),
                vec![figure("p99", exact, read)],
            );
        }
    }
}

fn static_queue(table: &mut Table) {
    let refused = |places: u32| mmck(8, 8 + places, 7.2)[8 + places as usize];
    let least = (0..100).find(|places| refused(*places) <= 0.005).unwrap_or(0);
    table.exact("places for at most .5 % refused at .9", 26.0, f64::from(least));
    for (places, lambda, what, exact) in
        [(26, 14.4, "p99 in ms", 79.0), (15, 14.4, "p99 in ms, at most", 66.0), (15, 7.2, "refused", 0.017)]
    {
        let queue = Queue { places: Some(8 + places), ..Queue::new(8, lambda) };
        let name = format!("{places} places, lambda={lambda}");
        let figures: Vec<Figure> = match what {
            "refused" => {
                table.exact(&format!("{name} refused"), exact, (refused(places) * 1e3).round() / 1e3);
                vec![figure(what, refused(places), share(Quantity::Shed))]
            }
            _ if table.fast => continue,
            _ => {
                let p99 = static_p99(places, lambda);
                let (row, p99_ms) = (format!("{name} {what}"), (p99 * 10.0).round());
                match what {
                    "p99 in ms, at most" => table.within(&row, 0.0..=exact, p99_ms),
                    _ => table.exact(&row, exact, p99_ms),
                }
                vec![figure("p99", p99, quantile(0.99, queue.unit()))]
            }
        };
        table.compare(&name, &queue.experiment(table), figures);
    }
}

/// The p99 of M/M/8 with so many places to wait, over those let in.
fn static_p99(places: u32, lambda: f64) -> f64 {
    let chances = mmck(8, 8 + places, lambda);
    let let_in: f64 = chances[..8 + places as usize].iter().sum();
    let above = |t: f64| {
        let mut all = chances[..8].iter().sum::<f64>() * (-t).exp();
        for n in 8..8 + places {
            let (steps, departures) = (400, n - 7);
            let dt = t / f64::from(steps);
            let of = |step: i32| {
                let at = (f64::from(step) + 0.5) * dt;
                (-at).exp() * dt * (1.0 - erlang_below(departures, 8.0 * (t - at)))
            };
            all += chances[n as usize] * ((-t).exp() + (0..steps).map(of).sum::<f64>());
        }
        all / let_in
    };
    quantile_of(above, 0.01)
}

/// The server spends c on each refusal: what is left is (1 − cN) / (1 − c).
fn rejection(table: &mut Table) {
    for (n, c) in [(2.0, 0.01), (5.0, 0.05), (10.0, 0.003), (10.0, 0.05)] {
        let exact = (1.0 - c * n) / (1.0 - c);
        let refusal = format!("refusal = \"{:.0}us\"", c * 10_000.0);
        let queue = Queue { places: Some(40), more: &refusal, ..Queue::new(1, n) };
        let figures = vec![figure("goodput", exact, rate(Quantity::Goodput, 100.0))];
        table.compare(&format!("N={n} c={c}"), &queue.experiment(table), figures);
    }
}
