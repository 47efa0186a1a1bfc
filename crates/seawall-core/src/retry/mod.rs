//! Retry: how long to wait before an attempt, and whether there may be one at all.
//!
//! **Prevents** two opposite failures: giving up on a call that a second attempt would save, and
//! a retry storm, in which the attempts of many callers keep a service down that has long been
//! able to answer.
//!
//! **Mechanics.** [`backoff`] draws the wait; [`budget`] pays for the attempt, from what successes
//! put in. The course of a call through its attempts is [`crate::call`].

pub mod backoff;
pub mod budget;
