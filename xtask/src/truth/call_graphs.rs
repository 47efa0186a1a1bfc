//! Requests that need several calls to one service.

use seawall_lab::scenario::Quantity;

use super::drawn::{Experiment, Groups, share};
use super::table::{Table, figure};

pub(super) fn rows(table: &mut Table) {
    table.section("x calls of each request, each refused by chance: p^x");
    for x in 1..=4 {
        let calls = vec!["\"call b\""; x].join(", ");
        let scenario = Experiment::new(&format!(
            "[scenario]\nname = \"parts\"\nduration = \"60s\"\nwarmup = \"20s\"\n\
             [[clients]]\nname = \"all\"\nrate = \"1000/s\"\ncalls = \"a\"\n\
             [[service]]\nname = \"a\"\ntime = {{ constant = \"1ms\" }}\nscript = [[{calls}]]\n\
             [[service]]\nname = \"b\"\ntime = {{ exponential = \"10ms\" }}\nfailures = \"30%\"\n"
        ));
        let figures = vec![figure("success", 0.7_f64.powi(x as i32), share(Quantity::Goodput))];
        table.compare(&format!("x={x} p=.7"), &scenario, figures);
    }
    table.section("x calls of each request, fed twice the capacity: C/(xf) at best");
    for x in 1..=4 {
        let name = format!("x={x} f=2C");
        if !table.wants(&name) || table.fast {
            continue;
        }
        let calls = vec!["\"call b\""; x].join(", ");
        let scenario = Experiment::new(&format!(
            "[scenario]\nname = \"shares\"\nduration = \"120s\"\nwarmup = \"60s\"\n\
             [[clients]]\nname = \"all\"\nrate = \"1600/s\"\nusers = 10000\ndeadline = \"2s\"\ncalls = \"a\"\n\
             [[service]]\nname = \"a\"\ntime = {{ constant = \"1ms\" }}\nscript = [{calls}]\n\
             [[service]]\nname = \"b\"\nworkers = 8\ntime = {{ exponential = \"10ms\" }}\n"
        ));
        let config = "[upstream.b]\nhosts = [\"http://b:80\"]\n[route.b]\npath = \"/*\"\nupstream = \"b\"\n";
        let mut groups = Groups::new();
        groups.play(&scenario.with(config), table.seed()..table.seed() + 16);
        let got = groups.estimate(&share(Quantity::Goodput));
        let best = 1.0 / (2.0 * x as f64);
        table.within(&format!("{name} success"), 0.95 * best..=1.01 * best, got.mean);
    }
}
