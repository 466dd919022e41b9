//! The controllers and the scheduler against the real API server, in virtual time.
//!
//! Kubelets are imitated by [`support::kubelet`]: they run whatever is bound to a node.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod accounts;
mod attach;
mod batch;
mod budgets;
mod certificates;
mod devices;
mod extenders;
mod failures;
mod lifecycle;
mod oddities;
mod ownership;
mod preemption;
mod profiles;
mod resource_claims;
mod service_ranges;
mod storage;
mod support;
mod switches;
mod tokens;
mod workloads;
