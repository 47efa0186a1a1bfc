//! How the file descriptors that the process may have are shared out.
//!
//! **Prevents** clients from taking those that requests need to their upstreams, both from taking those of operators
//! and probes, and a gateway that says that it serves, and cannot.
//!
//! **Mechanics.** First come the process itself (log, state and config, listeners, what wakes each worker, health
//! checks, what is exported) and operators and probes; of the rest, clients have half and upstreams the other. The
//! process takes as many descriptors as it is allowed: it is often started with a thousand.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most connections of clients that are open at a time, however many descriptors there are.
const CLIENTS_MAX: u64 = 65_536;
/// Descriptors that the process asks for where it may have any number.
const WANTED: u64 = 4 * CLIENTS_MAX;
/// What the process needs for itself.
const OWN: u64 = 32;
/// What a worker does.
const OF_WORKER: u64 = 8;
/// The least and the most connections to a listener for operators or probes.
const OPERATORS: (u64, u64) = (4, 256);

/// How many connections of each kind may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Of clients, to each worker of each listener.
    pub(crate) clients: usize,
    /// To upstreams, from each of those workers.
    pub(crate) upstreams: usize,
    /// To a listener for operators or probes.
    pub(crate) operators: usize,
}

impl Shares {
    /// Those of this process, with so many workers for all listeners. An error says how many descriptors it lacks.
    pub(crate) fn new(workers: usize) -> io::Result<Shares> {
        let limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.unwrap_or(WANTED);
        let raised = Rlimit { current: Some(wanted), ..limit };
        let is_raised = limit.current.is_some_and(|current| current < wanted)
            && setrlimit(Resource::Nofile, raised).is_ok();
        Shares::of(if is_raised { Some(wanted) } else { limit.current }, workers)
    }

    fn of(descriptors: Option<u64>, workers: usize) -> io::Result<Shares> {
        let (descriptors, workers) = (descriptors.unwrap_or(WANTED), workers.max(1) as u64);
        let operators = (descriptors / 16).clamp(OPERATORS.0, OPERATORS.1);
        let reserve = OWN + OF_WORKER * workers + 2 * operators;
        let each = descriptors.saturating_sub(reserve) / (2 * workers);
        if each == 0 {
            let least = OWN + (OF_WORKER + 2) * workers + 2 * OPERATORS.0;
            let lacks = format!(
                "the process may have {descriptors} file descriptors, and needs {least} at least: raise `ulimit -n`, \
                 or LimitNOFILE of its service"
            );
            return Err(io::Error::other(lacks));
        }
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let clients = each.min((CLIENTS_MAX / workers).max(1));
        Ok(Shares { clients: count(clients), upstreams: count(each), operators: count(operators) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_and_operators_need_is_kept_and_the_rest_halved() {
        let of = |descriptors, workers| {
            let Shares { clients, upstreams, operators } = Shares::of(descriptors, workers).unwrap();
            (clients, upstreams, operators)
        };
        assert_eq!(of(Some(80), 2), (5, 5, 5));
        assert_eq!(of(Some(1_024), 2), (212, 212, 64));
        assert_eq!(of(Some(1_024), 16), (23, 23, 64));
        assert_eq!(of(None, 2), (32_768, 65_396, 256));
        assert_eq!(of(Some(u64::MAX), 1).0, 65_536);
    }

    #[test]
    fn too_few_are_told_with_how_many_are_needed() {
        for (workers, least) in [(1, 50), (2, 60), (64, 680)] {
            let lacks = Shares::of(Some(least - 1), workers).unwrap_err().to_string();
            assert!(lacks.contains(&format!("needs {least} at least")), "{lacks}");
            assert!(Shares::of(Some(20), workers).is_err());
        }
        assert_eq!(Shares::of(Some(60), 2).unwrap().clients, 1);
    }
}
