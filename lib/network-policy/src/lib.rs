//! What NetworkPolicies mean. Pure.
//!
//! - [`resolve`]: a policy and a [`World`] of pods and namespaces give PolicyEndpoints, in which
//!   selectors and named ports are gone · [`concerns_pod`], [`concerns_namespace`]: whose changes
//!   can change them
//!   · [`Compiled`]: the policy read once, for who asks often
//! - [`grants`]: a PolicyEndpoint as ranges of addresses and ports, which the node agent compiles for
//!   the kernel · [`PodRules`]: what a pod may do under all its PolicyEndpoints, decided on the same
//!   values
//! - [`Revision`]: what tells whether all parts of a large policy are there
//!
//! Policies are additive: a pod is isolated in a direction as soon as one policy with that
//! `policyType` selects it, and then whatever any of its policies allows is allowed.
//!
//! Upstream: `pkg/resolvers`, `pkg/policyendpoints` of aws/amazon-network-policy-controller-k8s.
//! Deviation: a pod without an address, of the host's network or that has ended is no peer; one that
//! is terminating keeps its policies and stays a peer until it has ended.
//! Deviation: a Service's ClusterIP is not among the peers: the agent sees packets after kube-proxy.
//! Deviation: each PolicyEndpoint is whole by itself: its rules are those of the pods that it names.
//! Named ports are resolved for each pod, not for all that a policy selects.

mod grant;
mod parts;
mod policy;
mod range;
mod resolve;
mod rules;
mod world;

pub use self::{
    grant::{Direction, Grant, PortRange, Protocol, grants},
    parts::Revision,
    policy::{Compiled, policy_types},
    range::{Range, Ranges},
    resolve::resolve,
    rules::PodRules,
    world::{World, concerns_namespace, concerns_pod, is_same_to_policies},
};

/// How many pods or peers one PolicyEndpoint holds, unless told otherwise.
pub const CHUNK_SIZE: usize = 200;

/// The agent's table in the node's network namespace, in family `inet`.
pub const TABLE: &str = "aws-network-policy";
