//! The agent of EKS Pod Identity: a pod's token for its service account's credentials, on the node.
//!
//! It listens on link-local addresses of the node, asks EKS Auth with the node role's rights, and
//! keeps what it got, so that pods wait for EKS Auth once. Who has a pod's token has its
//! credentials; no source address, no header beside `Authorization` has a say.
//!
//! - [`link`]: the link with the agent's addresses · [`token`]: what can be said of a token here
//! - [`cache`]: credentials by token, renewed before they end · [`source`]: EKS Auth
//! - [`limit`]: how many requests are taken · [`server`], [`probes`], [`metrics`]: what listens
//! - [`command`]: entry points
//!
//! **Invariant:** credentials are answered to the very token for which EKS Auth gave them, and never
//! longer than they hold.
//!
//! Upstream: eks-pod-identity-agent.
//! Deviation: an address that cannot be bound is told and left out, unless none can; upstream ends
//! where the node has no IPv6.
//! Deviation: hybrid nodes (`--rotate-credentials`) are not served.

pub mod cache;
pub mod command;
pub mod limit;
pub mod link;
pub mod metrics;
pub mod probes;
pub mod server;
pub mod source;
pub mod token;
