//! Balance: which host is asked first.
//!
//! Round robin: each host in turn. It knows nothing of the hosts; whether one may be used is its
//! back gate's decision, and the next in turn is asked when it refuses.

/// Hands out hosts in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// The host to ask first among `hosts`; 0 when there are none.
    pub fn next(&mut self, hosts: usize) -> usize {
        let host = self.next % hosts.max(1);
        self.next = (host + 1) % hosts.max(1);
        host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_in_turn_also_when_their_number_changes() {
        let mut turn = RoundRobin::default();
        assert_eq!([3, 3, 3, 3, 2, 2, 0, 1].map(|hosts| turn.next(hosts)), [0, 1, 2, 0, 1, 0, 0, 0]);
    }
}
