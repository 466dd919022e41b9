//! EC2 Auto Scaling: groups of instances that keep their size.
//!
//! Calls change what a group shall be; a reconciler ([`AutoScaling::run`]) makes it so through
//! EC2's own API. What is to be done is decided by a pure function of the group, what EC2 says and
//! the date ([`plan`]).
//!
//! **Invariant:** no instance is launched that is not written down first: the activity's id is the
//! launch's client token, so that a pass that died in between finds its instance again.
//! Deviation: no launch configurations or load balancers; asking for them is answered with none, making
//! them is refused.

mod activities;
mod capacity;
mod faults;
mod groups;
mod hooks;
mod kinds;
mod launch;
mod members;
pub mod plan;
mod policies;
mod reconcile;
pub mod records;
mod refreshes;
mod requirements;
mod scheduled;
mod serve;
mod service;
mod settings;
mod shape;
mod standby;
mod tags;
mod targets;
mod template;
mod warm_pools;

pub use crate::{
    serve::routes,
    service::{AutoScaling, Config},
    targets::LaunchRights,
};

pub(crate) use crate::service::Call;

#[cfg(test)]
mod tests;
