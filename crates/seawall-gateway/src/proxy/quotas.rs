//! The quotas that requests spend, and their users: they outlive a config.
//!
//! **Prevents** a reload from being an amnesty, and two requests from waiting for each other for ever.
//!
//! **Mechanics.** A quota is known by its route and its name, those of the gateway by their name alone. In a
//! gate each is asked while those before it are held, and requests of an old road and of a new one are on
//! their way at the same time. So every gate asks its quotas in the order in which they were first made,
//! in whatever order a config lists them.

use std::collections::HashMap;
use std::sync::Arc;

use seawall::Threads;
use seawall::core::gate::Rule;
use seawall::core::time::Time;
use seawall_config::{Config, Throttle};

/// A quota, and which of all that were made it is.
type Numbered = (u64, Arc<Rule<Threads>>);

/// Every quota of a config.
#[derive(Default)]
pub(super) struct Quotas {
    /// By route and name.
    rules: HashMap<(String, String), Numbered>,
    made: u64,
}

impl Quotas {
    /// These quotas of a route, each with its users, in the order in which they are asked.
    pub(super) fn of(
        &mut self,
        route: &str,
        throttles: &[Throttle],
        now: Time,
    ) -> (Vec<Throttle>, Vec<Arc<Rule<Threads>>>) {
        let rules = throttles.iter().map(|throttle| (throttle.clone(), self.rule(route, throttle, now)));
        let mut rules: Vec<_> = rules.collect();
        rules.sort_by_key(|(_, (number, _))| *number);
        rules.into_iter().map(|(throttle, (_, rule))| (throttle, rule)).unzip()
    }

    /// The quota of this name, with its users; a new one when its table would be another.
    fn rule(&mut self, route: &str, throttle: &Throttle, now: Time) -> Numbered {
        let route = if throttle.shared { "" } else { route };
        let key = (route.to_owned(), throttle.name.clone());
        if let Some((number, rule)) = self.rules.get(&key) {
            if rule.configured(throttle.config, now).is_some() {
                return (*number, rule.clone());
            }
            tracing::warn!(route, throttle = throttle.name, "another table: its users begin anew");
        }
        self.made += 1;
        let rule = (self.made, Arc::new(Rule::new(throttle.config, now)));
        self.rules.insert(key, rule.clone());
        rule
    }

    /// Forgets what the config does not name.
    pub(super) fn forget_all_but(&mut self, config: &Config) {
        self.rules.retain(|(route, quota), _| {
            let own = config.routes.iter().find(|other| other.name == *route);
            let own = own.into_iter().flat_map(|route| &route.throttle).filter(|other| !other.shared);
            let over_all = config.throttle.iter().filter(|_| route.is_empty());
            own.chain(over_all).any(|other| other.name == *quota)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(over_all: &str, own: &str) -> Config {
        let quota = |name: &str| format!("{{ name = \"{name}\", rate = \"1/h\", burst = 9 }},");
        let list = |names: &str| names.split_whitespace().map(quota).collect::<String>();
        let text = format!(
            "throttle = [{}]\n[upstream.u]\nhosts = [\"http://h:1\"]\n[route.a]\nupstream = \"u\"\nthrottle = [{}]\n\
             [route.b]\npath = \"/b\"\nupstream = \"u\"\n",
            list(over_all),
            list(own)
        );
        Config::from_toml(&text, Path::new("seawall.toml")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The names in the order in which route `a` asks them, and what it asks.
    fn asked(quotas: &mut Quotas, config: &Config) -> (String, Vec<Arc<Rule<Threads>>>) {
        let route = config.routes.iter().find(|route| route.name == "a").unwrap();
        let (throttles, rules) = quotas.of("a", &route.throttle, Time::ZERO);
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
    fn routes_share_those_of_the_gateway_and_what_is_not_named_is_forgotten() {
        let mut quotas = Quotas::default();
        let whole = config("x", "p");
        let (_, of_a) = asked(&mut quotas, &whole);
        let (_, of_b) = quotas.of("b", &whole.throttle, Time::ZERO);
        assert!(Arc::ptr_eq(&of_a[0], &of_b[0]));
        quotas.forget_all_but(&whole);
        assert_eq!(quotas.rules.len(), 2);
        quotas.forget_all_but(&config("", "p"));
        assert_eq!(quotas.rules.len(), 1);
        let (_, again) = asked(&mut quotas, &whole);
        assert!(!again.iter().any(|rule| Arc::ptr_eq(rule, &of_a[0])), "it begins anew");
    }
}
