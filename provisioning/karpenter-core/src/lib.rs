//! Which nodes to make for pending pods, and which to take away: Karpenter's decisions as values.
//!
//! [`solve()`] finds a place for each pod of a [`World`]: a node that there is, or a new one, of which
//! the [`Outcome`] says what it may be, what it costs and what no choice could cost less than; for a
//! pod without a place it says the nearest miss. All is pure: no clock, client or random number.
//!
//! Instance types with their offerings are options in the order of price; what a requirement leaves
//! is a set of bits, worked out once. Pods that are alike are one class, and a place that has refused
//! a class for good is not asked again. Upstream's own benchmark spends nine tenths of its time on
//! that set algebra.
//!
//! Upstream: `pkg/controllers/provisioning/scheduling` of kubernetes-sigs/karpenter (v1.14).
//! Deviation: capacity buffers and devices (DRA) take no part. Of several reservations that a new
//! node could be in one is kept for it; upstream keeps all of them for it until it is launched.

use api_kube as _;

mod bits;
mod bound;
mod catalog;
mod class;
pub mod disruption;
mod engine;
mod explain;
mod outcome;
mod overlay;
mod place;
mod plan;
pub mod requirement;
mod snapshot;
mod solve;
mod state;
mod static_pool;
mod topology;
mod validate;
mod world;

pub use self::{
    explain::{Barren, Miss, Reason},
    outcome::{MOST_INSTANCE_TYPES, NewClaim, OptionOf, Outcome, Unschedulable},
    overlay::{Overlays, Refusal, overlay_faults},
    plan::{disrupt, provision},
    requirement::{Requirement, Requirements},
    snapshot::{Pending, Snapshot, is_reschedulable},
    solve::{Effort, solve},
    static_pool::{Scaling, scaling, static_claims},
    validate::faults,
    world::{
        InstanceType, Limits, MinValues, Namespaces, Node, Offering, Pool, Preferences,
        Reservation, Used, World,
    },
};
