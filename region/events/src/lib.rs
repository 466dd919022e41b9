//! Amazon EventBridge: the account's default bus, rules with event patterns, and their targets.
//!
//! Whoever puts events on the bus does it by `PutEvents`, AWS's own services too: only they may use
//! sources that begin with `aws.`. An event that matches a rule is kept for each of its targets before
//! the call is answered, and carried there afterwards with the service's own rights: a queue lets
//! `events.amazonaws.com` in by its policy, or does not.
//!
//! **Invariant:** an event that was accepted reaches each target of the rules that matched it then, or
//! the target's dead-letter queue, or is given up after the target's retry policy; also across crashes.
//! It may arrive twice.
//!
//! Upstream: Amazon EventBridge API reference, version 2015-10-07, and user guide, "Event patterns".
//! Deviation: targets are SQS queues; no buses of the account's own, no schedules, archives, pipes or
//! connections. What such a request asks for is refused. Numbers of exact matches are compared as JSON
//! reads them, so that `3.0e2` and `300.0` are the same.

mod buses;
mod delivery;
mod faults;
mod input;
pub mod pattern;
mod put;
mod records;
mod rules;
mod serve;
mod service;
mod tags;
mod targets;

pub use crate::{
    serve::routes,
    service::{Config, EventBridge},
};

#[cfg(test)]
mod tests;
