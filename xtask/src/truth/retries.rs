//! Retries of a callee that fails by chance: what they cost and what they save.

use seawall_lab::scenario::{Phase, Quantity};

use super::drawn::{Experiment, Groups, Reading, attempts, share};
use super::table::{Table, figure, number};

/// Published means of three runs of ten thousand calls each.
const PUBLISHED: &str = include_str!("retry_policies.csv");
const PUBLISHED_CALLS: f64 = 30_000.0;

/// Calls to a service that fails with chance p.
fn failing(p: f64, retry: &str) -> Experiment {
    Experiment::new(&format!(
        "[scenario]\nname = \"retries\"\nduration = \"40s\"\nwarmup = \"20s\"\n\
         [[clients]]\nname = \"all\"\nrate = \"2000/s\"\ncalls = \"q\"\n{retry}\n\
         [[service]]\nname = \"q\"\ntime = {{ constant = \"1ms\" }}\nfailures = \"{:.4}%\"\n",
        p * 100.0
    ))
}

const THREE: &str = "retry = { attempts = 4, backoff = { kind = \"none\" } }";
const BUDGET: &str = "budget = \"10%\"";

pub(super) fn rows(table: &mut Table) {
    table.section("Retries of independent failures");
    for p in [0.1, 0.5, 0.75] {
        let load = (1.0 - f64::powi(p, 4)) / (1.0 - p);
        let figures = vec![
            figure("attempts", load, attempts()),
            figure("success", 1.0 - f64::powi(p, 4), share(Quantity::Goodput)),
        ];
        table.compare(&format!("three retries p={p}"), &failing(p, THREE), figures);
    }
    for p in [0.2, 0.5, 0.75] {
        let s = (1.0 - p) / (1.0 - 0.1 * (1.0 - p));
        let figures = vec![
            figure("attempts", 1.0 + 0.1 * s, attempts()),
            figure("success", s, share(Quantity::Goodput)),
        ];
        table.compare(
            &format!("budget of 10 % of successes p={p}"),
            &failing(p, &format!("{THREE}\n{BUDGET}")),
            figures,
        );
    }
    for (name, retry, load) in [("three retries", THREE, 4.0), ("budget", "retry = 3\nbudget = \"10%\"", 1.0)]
    {
        if table.wants(name) {
            let mut groups = Groups::new();
            groups.play(&failing(1.0, retry), table.seed()..table.seed() + 16);
            let got = groups.estimate(&attempts());
            table.within(&format!("{name} p=1 attempts"), load * 0.999..=load * 1.001, got.mean);
        }
    }
    table.section("Published retry policies, within three errors of both");
    published(table);
    table.section("Amplification down a chain whose last service is dead");
    chains(table);
}

fn published(table: &mut Table) {
    for line in PUBLISHED.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let number_in = |column: usize| cells[column].parse::<f64>().expect("the file holds numbers");
        let p = number_in(1);
        let retry = match cells[0] {
            "no_retries" => String::new(),
            "three_retries" => THREE.to_owned(),
            // Where there is enough for every retry, it does not matter what funds a budget: theirs is
            // filled by first attempts, and runs begin with a full one.
            "adaptive_10pct" if p <= 0.05 => format!("{THREE}\n{BUDGET}"),
            _ => continue,
        };
        let name = format!("{} p={p}", cells[0]);
        if !table.wants(&name) || table.fast && p != 0.5 {
            continue;
        }
        let mut groups = Groups::new();
        groups.play(&failing(p, &retry), table.seed()..table.seed() + 16);
        let (success, load) = (number_in(3), number_in(5));
        // What chance does to so few calls; what three runs differ says too little of it.
        let success_error = (success * (1.0 - success) / PUBLISHED_CALLS).sqrt();
        let spread = (load - 1.0).max(0.0) * (1.0 + p);
        let load_error = (spread / PUBLISHED_CALLS).sqrt() + 5e-6;
        let got = groups.estimate(&share(Quantity::Goodput));
        let both = 3.0 * success_error.hypot(got.error) + 1e-5;
        compare(table, &format!("{name} success"), success, got.mean, both);
        let got = groups.estimate(&attempts());
        compare(table, &format!("{name} attempts"), load, got.mean, 3.0 * load_error.hypot(got.error) + 1e-5);
    }
}

fn compare(table: &mut Table, name: &str, published: f64, got: f64, tolerance: f64) {
    let holds = (got - published).abs() <= tolerance;
    table.row(name, &number(published), &format!("{} within {}", number(got), number(tolerance)), holds);
}

/// (r + 1) to the depth where each layer retries r times; at most 1.1 to it with budgets of 10 %.
fn chains(table: &mut Table) {
    for depth in 1..=4_u32 {
        for r in [1, 2, 3] {
            let name = format!("depth {depth}, {r} retries each");
            if !table.wants(&name) || r == 3 && depth == 4 || table.fast && r > 1 {
                continue;
            }
            let got = leaf_load(table, &chain(depth, r), depth);
            let exact = f64::from(r + 1).powi(depth as i32);
            table.within(&name, exact * 0.995..=exact * 1.005, got);
        }
        let mut config = String::new();
        for layer in 1..=depth {
            config += &format!(
                "[upstream.s{layer}]\nhosts = [\"http://s{layer}:80\"]\nbreaker = false\neject = false\n\
                 [route.s{layer}]\npath = \"/s{layer}/*\"\nupstream = \"s{layer}\"\n"
            );
        }
        let got = leaf_load(table, &chain(depth, 0).with(&config), depth);
        table.within(&format!("depth {depth}, budgets of 10 %"), 0.99..=1.1_f64.powi(depth as i32), got);
    }
}

fn chain(depth: u32, retries: u32) -> Experiment {
    let mut text = format!(
        "[scenario]\nname = \"chain\"\nduration = \"60s\"\nwarmup = \"20s\"\n\
         [[clients]]\nname = \"all\"\nrate = \"50/s\"\ncalls = \"s1\"\nretry = {retries}\n"
    );
    for layer in 1..depth {
        text += &format!(
            "[[service]]\nname = \"s{layer}\"\ntime = {{ constant = \"1ms\" }}\n\
             script = [{{ call = \"s{}\", retry = {retries} }}]\n",
            layer + 1
        );
    }
    text +=
        &format!("[[service]]\nname = \"s{depth}\"\ntime = {{ constant = \"1ms\" }}\nfailures = \"100%\"\n");
    Experiment::new(&text)
}

fn leaf_load(table: &Table, experiment: &Experiment, depth: u32) -> f64 {
    let mut groups = Groups::new();
    groups.play(experiment, table.seed()..table.seed() + 16);
    let read: Reading = Box::new(move |total| {
        let load = total.load(Phase::Whole, Some(depth as usize - 1)).unwrap_or(f64::NAN);
        load / total.rate(Quantity::Offered, Phase::Whole, None).unwrap_or(f64::NAN)
    });
    groups.estimate(&read).mean
}
