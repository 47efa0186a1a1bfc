//! The quotas that requests spend, and their users: they outlive a config.
//!
//! **Prevents** a reload from being an amnesty, and two requests from waiting for each other for ever.
//!
//! **Mechanics.** A quota of a route, or of the gateway, goes on as the one of a new config that has its name. One
//! that was given no name, or another, is known by what it grants, wherever in the list it stands now; one that
//! grants something else and never had a name, by its place. In a gate each quota is asked while those before it
//! are held, and requests of an old road and of a new one are on their way at the same time. So every gate asks its
//! quotas in the order in which they were first made, in whatever order a config lists them.
//!
//! **Edges.** What nothing goes on as begins anew, with nothing spent; which quotas do is said.

use std::collections::HashMap;
use std::sync::Arc;

use seawall::Threads;
use seawall::core::gate::Rule;
use seawall::core::time::Time;
use seawall_config::{Config, Throttle};
use serde_json::{Value, json};

/// A quota, its users, and which of all that were made it is.
#[derive(Clone)]
struct Known {
    throttle: Throttle,
    number: u64,
    rule: Arc<Rule<Threads>>,
}

/// Every quota of a config.
#[derive(Default)]
pub(super) struct Quotas {
    /// By route; those of the gateway under no name.
    known: HashMap<String, Vec<Known>>,
    made: u64,
}

/// As which quota of a new config one of before goes on: the first of these that holds.
const GOES_ON_AS: [fn(&Throttle, &Throttle) -> bool; 4] = [
    |before, new| new.is_named && before.name == new.name,
    |before, new| (&before.config.plans, before.config.shape) == (&new.config.plans, new.config.shape),
    |before, new| before.config.quota() == new.config.quota(),
    |before, new| !before.is_named && !new.is_named && before.name == new.name,
];

impl Quotas {
    /// Takes in the quotas of a config, those that go on with their users; forgets the others.
    pub(super) fn take_in(&mut self, config: &Config, now: Time) {
        let mut before = std::mem::take(&mut self.known);
        for (route, throttles) in scopes(config) {
            let before = before.remove(route).unwrap_or_default();
            let heirs = heirs(&before, &throttles);
            let known = throttles.iter().zip(heirs).map(|(throttle, heir)| {
                let (number, rule) = match heir.map(|at| &before[at]) {
                    Some(kept) if kept.rule.configured(throttle.config, now).is_some() => {
                        (kept.number, kept.rule.clone())
                    }
                    Some(_) | None => {
                        self.made += 1;
                        (self.made, Arc::new(Rule::new(throttle.config, now)))
                    }
                };
                Known { throttle: (*throttle).clone(), number, rule }
            });
            let known = known.collect();
            self.known.insert(route.to_owned(), known);
        }
    }

    /// What taking in this config would do, as JSON: which quotas go on, which begin anew and which are forgotten.
    /// Those of a route are called by its name and theirs.
    pub(super) fn compared_with(&self, config: &Config) -> Value {
        let name = |route: &str, name: &str| format!("{route} {name}").trim_start().to_owned();
        let (mut kept, mut new, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (route, throttles) in scopes(config) {
            let before = self.known.get(route).map_or(&[][..], Vec::as_slice);
            let heirs = heirs(before, &throttles);
            for (throttle, heir) in throttles.iter().zip(&heirs) {
                let list = if heir.is_some() { &mut kept } else { &mut new };
                list.push(name(route, &throttle.name));
            }
            let left = before.iter().enumerate().filter(|(at, _)| !heirs.contains(&Some(*at)));
            gone.extend(left.map(|(_, left)| name(route, &left.throttle.name)));
        }
        let is_gone = |route: &String| !route.is_empty() && !config.routes.iter().any(|of| of.name == *route);
        let of_gone = self.known.iter().filter(|(route, _)| is_gone(route));
        gone.extend(
            of_gone.flat_map(|(route, left)| left.iter().map(|left| name(route, &left.throttle.name))),
        );
        [&mut kept, &mut new, &mut gone].into_iter().for_each(|list| list.sort());
        json!({ "kept": kept, "new": new, "gone": gone })
    }

    /// These quotas of a route, which were taken in, each with its users, in the order in which they are asked.
    pub(super) fn of(&self, route: &str, throttles: &[Throttle]) -> (Vec<Throttle>, Vec<Arc<Rule<Threads>>>) {
        let known = |throttle: &Throttle| {
            let known = self.known.get(if throttle.shared { "" } else { route });
            let known =
                known.and_then(|known| known.iter().find(|known| known.throttle.name == throttle.name));
            known.expect("the quotas of a config are taken in before its routes are made").clone()
        };
        let mut known: Vec<Known> = throttles.iter().map(known).collect();
        known.sort_by_key(|known| known.number);
        known.into_iter().map(|known| (known.throttle, known.rule)).unzip()
    }
}

/// The quotas of a config, by the route whose they are; those of the gateway under no name.
fn scopes(config: &Config) -> impl Iterator<Item = (&str, Vec<&Throttle>)> {
    let of_routes = config.routes.iter().map(|route| {
        let own = route.throttle.iter().filter(|throttle| !throttle.shared);
        (route.name.as_str(), own.collect())
    });
    std::iter::once(("", config.throttle.iter().collect())).chain(of_routes)
}

/// For each of these quotas which of those before goes on as it; each goes on as one at most.
fn heirs(before: &[Known], throttles: &[&Throttle]) -> Vec<Option<usize>> {
    let mut heirs = vec![None; throttles.len()];
    for goes_on_as in GOES_ON_AS {
        for (at, throttle) in throttles.iter().enumerate() {
            let heir = before.iter().enumerate().position(|(free, known)| {
                !heirs.contains(&Some(free))
                    && goes_on_as(&known.throttle, throttle)
                    && known.rule.fits(&throttle.config)
            });
            heirs[at] = heirs[at].or(heir);
        }
    }
    heirs
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parsed(over_all: &str, own: &str) -> Config {
        let text = format!(
            "throttle = [{over_all}]\n[upstream.u]\nhosts = [\"http://h:1\"]\n[route.a]\nupstream = \"u\"\n\
             throttle = [{own}]\n[route.b]\npath = \"/b\"\nupstream = \"u\"\n"
        );
        Config::from_toml(&text, Path::new("seawall.toml")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Quotas under these names, which all grant the same.
    fn config(over_all: &str, own: &str) -> Config {
        let quota = |name: &str| format!("{{ name = \"{name}\", rate = \"1/h\", burst = 9 }},");
        let list = |names: &str| names.split_whitespace().map(quota).collect::<String>();
        parsed(&list(over_all), &list(own))
    }

    /// Quotas of route `a` that grant so much an hour each, under a name where there is one: `x=9`.
    fn granting(own: &str) -> Config {
        let quota = |of: &str| {
            let (name, rate) = of.split_once('=').unwrap_or(("", of));
            let name = if name.is_empty() { String::new() } else { format!("name = \"{name}\", ") };
            format!("{{ {name}rate = \"{rate}/h\", burst = {rate} }},")
        };
        parsed("", &own.split_whitespace().map(quota).collect::<String>())
    }

    /// The names in the order in which route `a` asks them, and what it asks.
    fn asked(quotas: &mut Quotas, config: &Config) -> (String, Vec<Arc<Rule<Threads>>>) {
        let route = config.routes.iter().find(|route| route.name == "a").unwrap();
        quotas.take_in(config, Time::ZERO);
        let (throttles, rules) = quotas.of("a", &route.throttle);
        let names: Vec<&str> = throttles.iter().map(|throttle| throttle.name.as_str()).collect();
        (names.join(" "), rules)
    }

    #[test]
    fn the_order_in_which_quotas_are_asked_outlives_a_reload() {
        let mut quotas = Quotas::default();
        let (names, before) = asked(&mut quotas, &config("x y", "p q"));
        assert_eq!(names, "x y p q");
        let (names, after) = asked(&mut quotas, &config("z y x", "q n p"));
        assert_eq!(names, "x y p q z n", "new ones come last");
        assert!(before.iter().zip(&after).all(|(one, other)| Arc::ptr_eq(one, other)));
    }

    #[test]
    fn routes_share_those_of_the_gateway_and_what_is_not_there_any_more_is_forgotten() {
        let mut quotas = Quotas::default();
        let whole = config("x", "p");
        let (_, of_a) = asked(&mut quotas, &whole);
        let (_, of_b) = quotas.of("b", &whole.throttle);
        assert!(Arc::ptr_eq(&of_a[0], &of_b[0]));
        asked(&mut quotas, &config("", "p"));
        let (_, again) = asked(&mut quotas, &whole);
        assert!(!again.iter().any(|rule| Arc::ptr_eq(rule, &of_a[0])), "it begins anew");
    }

    /// Which of the quotas `before` (by their places from 0 on, `-` for none) go on as those `after`.
    fn gone_on(before: &str, after: &str) -> String {
        let mut quotas = Quotas::default();
        let (_, before) = asked(&mut quotas, &granting(before));
        let after = granting(after);
        quotas.take_in(&after, Time::ZERO);
        let route = after.routes.iter().find(|route| route.name == "a").unwrap();
        let as_what = route.throttle.iter().map(|throttle| {
            let (_, rules) = quotas.of("a", std::slice::from_ref(throttle));
            let at = before.iter().position(|rule| Arc::ptr_eq(rule, &rules[0]));
            at.map_or("-".to_owned(), |at| at.to_string())
        });
        as_what.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_quota_goes_on_by_its_name_by_what_it_grants_or_by_its_place() {
        for (before, after, expected) in [
            ("5 1000", "1000 5", "1 0"),
            ("5 1000", "1000", "1"),
            ("5 1000", "7 5 1000", "- 0 1"),
            ("5 1000", "9 1000", "0 1"),
            ("5 1000", "minute=5 hour=1000", "0 1"),
            ("x=5 y=1000", "y=5 x=1000", "1 0"),
            ("x=5 y=5", "y=5 z=5", "1 0"),
            ("x=5", "5", "0"),
            ("x=5", "z=5", "0"),
            ("x=5", "z=6", "-"),
            ("x=5", "6", "-"),
        ] {
            assert_eq!(gone_on(before, after), expected, "{before} -> {after}");
        }
    }

    #[test]
    fn what_begins_anew_is_named() {
        let mut quotas = Quotas::default();
        quotas.take_in(&config("x", "p q"), Time::ZERO);
        let compared = |config: &Config| {
            let told = quotas.compared_with(config);
            ["kept", "new", "gone"].map(|list| told[list].to_string().replace('"', ""))
        };
        assert_eq!(compared(&config("x", "q p")), ["[a p,a q,x]", "[]", "[]"]);
        assert_eq!(compared(&config("", "p q r")), ["[a p,a q]", "[a r]", "[x]"]);
        let mut larger = config("x", "p q");
        for throttle in larger.routes.iter_mut().flat_map(|route| &mut route.throttle) {
            throttle.config.max_users = 7;
        }
        assert_eq!(compared(&larger), ["[x]", "[a p,a q]", "[a p,a q]"]);
        larger.routes.clear();
        assert_eq!(compared(&larger), ["[x]", "[]", "[a p,a q]"]);
    }
}
