//! The network policy agent: PolicyEndpoints of a node's pods as one nftables table of the node, as
//! the container `aws-eks-nodeagent` of `aws-node` keeps it.
//!
//! - [`state`]: the PolicyEndpoints that name pods of this node · [`ruleset`]: them as a table ·
//!   [`watch`]: the API's events · `enforcer`: the kernel kept equal to the state · [`metrics`],
//!   [`verdicts`]: what was dropped, and the log of it · [`command`]
//!
//! A policed pod has a chain in each direction in which it is isolated; pods with the same rules
//! share it. What a pod sends is known by its link, what is sent to it by its address. Replies and
//! connections that are established pass. What the node itself sends (the kubelet's probes) and what
//! is sent to the node are not forwarded and so not policed.
//!
//! **Invariant:** only the table `inet aws-network-policy` is touched; a change is one transaction,
//! and what is there stays until the first list is complete.
//!
//! Upstream: aws/aws-network-policy-agent.
//! Deviation: nftables instead of eBPF at the pod's link, so that Services are policed by the endpoint
//! that kube-proxy chose, fragments and IP options are read as the kernel reads them, and a CIDR may
//! have any number of ports.
//! Deviation: an established connection goes on when a policy comes that would not let it begin.
//! Deviation: in strict mode the table denies every pod's link that it does not know, so the plug-in
//! need not ask. Without `enableNetworkPolicy` there is no such container, and `aws-node` removes the
//! table.
//! Deviation: what is dropped is counted by the kernel whether or not verdicts are logged, and by
//! policy too; verdicts go to no CloudWatch.

pub mod command;
mod enforcer;
pub mod metrics;
pub mod ruleset;
mod server;
pub mod state;
pub mod verdicts;
pub mod watch;
