//! A small harness: contenders take turns in one run, so that what disturbs the machine disturbs
//! them alike. Figures are medians; only their ratios travel to other machines.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// What one operation costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of one operation, in nanoseconds, over all threads.
    pub cpu: f64,
    /// Operations in a microsecond of all threads together, by the wall clock.
    pub rate: f64,
}

/// Runs `work` on so many threads at once; `work` takes the thread's number and says how many
/// operations it did.
pub fn measure(threads: usize, work: impl Fn(usize) -> u64 + Sync) -> Cost {
    let barrier = Barrier::new(threads);
    let worker = |number: usize| {
        barrier.wait();
        let (begin, cpu) = (Instant::now(), cpu_time());
        let operations = work(number);
        (begin, Instant::now(), cpu_time() - cpu, operations)
    };
    let times: Vec<_> = thread::scope(|scope| {
        let worker = &worker;
        let workers: Vec<_> = (0..threads).map(|number| scope.spawn(move || worker(number))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a bench does not panic")).collect()
    });
    let begin = times.iter().map(|time| time.0).min().expect("at least one thread");
    let end = times.iter().map(|time| time.1).max().expect("at least one thread");
    let operations = times.iter().map(|time| time.3).sum::<u64>() as f64;
    let cpu = times.iter().map(|time| time.2).sum::<u64>() as f64 / operations;
    Cost { cpu, rate: operations / (end - begin).as_secs_f64() / 1e6 }
}

/// Runs `work` on this thread, whose caches are warm; `work` says how many operations it did.
pub fn measure_here(work: impl FnOnce() -> u64) -> Cost {
    let (begin, cpu) = (Instant::now(), cpu_time());
    let operations = work() as f64;
    let cpu = (cpu_time() - cpu) as f64 / operations;
    Cost { cpu, rate: operations / begin.elapsed().as_secs_f64() / 1e6 }
}

fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// One that takes part, under its name.
pub struct Contender<'a> {
    name: &'static str,
    run: Box<dyn Fn() -> Cost + 'a>,
}

impl<'a> Contender<'a> {
    /// `run` measures it once.
    pub fn new(name: &'static str, run: impl Fn() -> Cost + 'a) -> Contender<'a> {
        Contender { name, run: Box::new(run) }
    }
}

/// Lets them take turns, once unmeasured and then `repeats` times, and prints the medians. Returns
/// those in the order of the contenders.
pub fn compare(title: &str, repeats: usize, contenders: &[Contender<'_>]) -> Vec<Cost> {
    contenders.iter().for_each(|contender| _ = (contender.run)());
    let mut costs = vec![Vec::new(); contenders.len()];
    for _ in 0..repeats {
        for (contender, costs) in contenders.iter().zip(&mut costs) {
            costs.push((contender.run)());
        }
    }
    println!("{title}");
    let medians = costs.iter().map(|costs| Cost {
        cpu: median(costs.iter().map(|cost| cost.cpu)),
        rate: median(costs.iter().map(|cost| cost.rate)),
    });
    let medians: Vec<Cost> = medians.collect();
    for (contender, cost) in contenders.iter().zip(&medians) {
        println!("  {:<34} {:>8.1} ns {:>8.1} M/s", contender.name, cost.cpu, cost.rate);
    }
    medians
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
