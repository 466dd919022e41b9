//! What a ResourceQuota counts: which objects of its namespace, and how much each of them takes.
//!
//! The API server asks this before it lets an object in, the controller for the numbers that users
//! read; so both count alike.
//!
//! Upstream: `pkg/quota/v1/evaluator/core`.

mod scope;
mod usage;

pub use self::usage::{Counted, quota_kind};
