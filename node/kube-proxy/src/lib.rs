//! kube-proxy: Services as nftables maps.
//!
//! A packet to a Service's address meets one map lookup that says how many endpoints there are and
//! one that picks an endpoint at random. Both are hash maps of the kernel, so the cost of a packet
//! and of a change does not depend on how many Services there are: a new endpoint is an element
//! more. Services with session affinity, local traffic policies or source ranges have chains of
//! their own.
//!
//! - [`service_map`], [`endpoint_slices`]: what the API says, reduced · [`compile`]: one port of a
//!   Service as a [`compile::Fragment`] of the ruleset · [`ruleset`]: fragments as a table, and what
//!   turns one into another · [`proxier`]: state, and the kernel kept equal to it
//! - [`watch`]: the API's events · [`run`]: passes · [`conntrack`], [`host`]: what is set beside the
//!   rules · [`health`], [`service_health`], [`metrics`], [`server`]: what others ask · [`config`],
//!   [`command`]
//!
//! **Invariant:** only the tables `ip kube-proxy` and `ip6 kube-proxy` are touched; a change is one
//! transaction, so no packet meets half of it.
//!
//! Upstream: kube-proxy's nftables mode. Deviation: endpoints are elements of maps keyed by address,
//! port and number, not chains.

use api_kube as _;

pub mod command;
pub mod compile;
pub mod config;
pub mod conntrack;
pub mod endpoint_slices;
pub mod health;
pub mod host;
pub mod metrics;
pub mod proxier;
pub mod ruleset;
pub mod run;
pub mod server;
pub mod service_health;
pub mod service_map;
pub mod watch;
