//! Where a pod may run, where it runs best, and why it cannot: pure functions over a [`Cluster`].
//!
//! The scheduler decides with them; autoscalers simulate with them; [`explain()`] tells all that they
//! say about each node. A [`Cluster`] is cheap to change by one pod or node and to ask about thousands of pods a
//! second: equal label sets are interned and counted per node, so spreading 10,000 replicas costs
//! as much as spreading ten.
//!
//! Upstream: the default plug-ins of `pkg/scheduler/framework/plugins`, their order, weights and
//! messages. Deviation: of volumes only claims are looked at: two pods that name one RBD image or iSCSI
//! disk themselves may share a node (`VolumeRestrictions`).
//!
//! **Invariant:** no clock, client, lock or random number in here.

use api_kube as _;

mod affinity;
mod cluster;
mod csi;
mod devices;
mod evaluate;
mod explain;
mod filter;
mod label_sets;
mod node;
mod pod;
mod preemption;
mod profile;
mod reason;
pub mod resourceclaim;
mod score;
mod taint;
pub mod volume;

#[cfg(test)]
mod testing;

pub use self::{
    affinity::{matches_node_selector_terms, node_affinity_matches},
    cluster::Cluster,
    csi::{CsiFact, CsiVolume},
    devices::{
        AllocateError, Binding, ClaimRequest, Consumed, DeviceFact, DeviceId, Effort, Given,
        Inventory, RequestError, Taken, tolerates_device,
    },
    evaluate::{
        Choice, Feasible, Found, choose, evaluate, evaluate_one, feasible, filter_node, search,
    },
    explain::{Explanation, NodeAnswer, Objection, explain},
    node::NodeInfo,
    pod::{HostPort, PodInfo, Spread, Term},
    preemption::{Budget, Candidate, Preemption, candidates, least, preempt},
    profile::{AddedAffinity, DefaultConstraint, Fit, Plugins, Profile, Scorer, Strategy},
    reason::{CLAIM_IS_FREED, Diagnosis, NO_CLAIMS_TO_FREE, Plugin, Reason, Verdict},
    taint::{find_untolerated, tolerates},
    volume::VolumeFact,
};
