//! The connections of one worker, by the hosts that a road knows.
//!
//! **Mechanics.** Each request asks for those to a host of its upstream, and upstreams are few: they are found by
//! the identity of the list of hosts, not by what is in it. A road that is made anew has other lists; hosts
//! that were in one before keep their connections.
//!
//! **Edges.** What no road and no request holds any longer is let go when another list is met first, so that
//! reloads do not add up. Each worker does so for itself.

use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::room::Room;
use super::upstream::{Pool, Target};

/// The connections of one worker.
pub(super) struct Pools {
    upstreams: Vec<Upstream>,
    room: Rc<Room>,
}

/// Those to the hosts of an upstream, in their order.
struct Upstream {
    /// Not held: other workers know the list too.
    targets: Weak<[Target]>,
    pools: Vec<Rc<Pool>>,
}

impl Pools {
    /// None yet; there may be so many.
    pub(super) fn new(most: usize) -> Pools {
        Pools { upstreams: Vec::new(), room: Room::new(most) }
    }

    /// Those to one of these hosts.
    pub(super) fn of(&mut self, targets: &Arc<[Target]>, host: usize) -> Rc<Pool> {
        let known = self.upstreams.iter().position(|upstream| upstream.is(targets));
        let known = known.unwrap_or_else(|| {
            let upstream = self.upstream(targets);
            self.upstreams.retain(|upstream| upstream.targets.strong_count() > 0);
            self.upstreams.push(upstream);
            self.upstreams.len() - 1
        });
        self.upstreams[known].pools[host].clone()
    }

    fn upstream(&self, targets: &Arc<[Target]>) -> Upstream {
        let known = |target: &Target| {
            self.upstreams.iter().flat_map(|known| &known.pools).find(|pool| pool.leads_to(target)).cloned()
        };
        let pool = |target: &Target| known(target).unwrap_or_else(|| Pool::new(target.clone(), &self.room));
        Upstream { targets: Arc::downgrade(targets), pools: targets.iter().map(pool).collect() }
    }
}

impl Upstream {
    /// Whether these are its hosts: as long as the list is known here, no other one has its address.
    fn is(&self, targets: &Arc<[Target]>) -> bool {
        ptr::addr_eq(self.targets.as_ptr(), Arc::as_ptr(targets))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use seawall_config::Protocol;

    use super::*;

    fn hosts(names: &[&str]) -> Arc<[Target]> {
        let target = |name: &&str| Target {
            authority: (*name).to_owned(),
            protocol: Protocol::Http1,
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            secure: None,
        };
        names.iter().map(target).collect()
    }

    #[test]
    fn a_host_that_stays_keeps_its_connections() {
        let (mut pools, before) = (Pools::new(9), hosts(&["a:1", "b:1"]));
        let (a, b) = (pools.of(&before, 0), pools.of(&before, 1));
        assert!(Rc::ptr_eq(&a, &pools.of(&before, 0)));
        let after = hosts(&["b:1", "c:1"]);
        drop(before);
        assert!(Rc::ptr_eq(&b, &pools.of(&after, 0)));
        assert_eq!(Rc::strong_count(&a), 1, "nobody else holds what leads nowhere");
    }

    #[test]
    fn lists_that_roads_had_do_not_add_up_whoever_else_knew_them() {
        let (mut one, mut other) = (Pools::new(9), Pools::new(9));
        for _ in 0..100 {
            let road = hosts(&["a:1"]);
            one.of(&road, 0);
            other.of(&road, 0);
        }
        assert_eq!((one.upstreams.len(), other.upstreams.len()), (1, 1));
    }
}
