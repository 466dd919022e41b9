//! Nodes that have been ill for too long go, whatever budgets say; behind the gate `NodeRepair`.
//!
//! Which conditions are an illness, and for how long they are borne, is AWS's policy. Where more than
//! a fifth of a pool (rounded up) is ill, the cause is likely elsewhere, and nothing is done.
//!
//! Upstream: `pkg/controllers/node/health` of kubernetes-sigs/karpenter, `RepairPolicies` of
//! aws/karpenter-provider-aws.

use std::sync::Arc;

use api_kube::karpenter::{NodeClaim, annotations, labels};
use controller::{ApplyError, Key};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::{info, warn};

use super::{Context, PERIOD};

/// A condition's type and status, and how long it is borne.
struct Policy(&'static str, &'static str, SignedDuration);

const POLICIES: [Policy; 7] = [
    Policy("Ready", "False", SignedDuration::from_mins(30)),
    Policy("Ready", "Unknown", SignedDuration::from_mins(30)),
    Policy("AcceleratedHardwareReady", "False", SignedDuration::from_mins(10)),
    Policy("StorageReady", "False", SignedDuration::from_mins(30)),
    Policy("NetworkingReady", "False", SignedDuration::from_mins(30)),
    Policy("KernelReady", "False", SignedDuration::from_mins(30)),
    Policy("ContainerRuntimeReady", "False", SignedDuration::from_mins(30)),
];

/// The share of a pool that may be ill, in percent.
const MOST_ILL: usize = 20;

/// An illness, and when it is borne no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Illness {
    condition: String,
    until: Timestamp,
}

/// The illness that is borne no longer first.
fn illness(node: &core::Node) -> Option<Illness> {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_deref());
    let ill = conditions.unwrap_or_default().iter().filter_map(|it| {
        let policy = POLICIES.iter().find(|p| p.0 == it.type_ && p.1 == it.status)?;
        let since = it.last_transition_time.as_ref()?.0;
        Some(Illness { condition: it.type_.clone(), until: since.checked_add(policy.2).ok()? })
    });
    ill.min_by_key(|it| it.until)
}

/// Whether so many of so many are too many to be ill each for its own reason.
fn is_epidemic(ill: usize, all: usize) -> bool {
    ill > (all * MOST_ILL).div_ceil(100)
}

impl Context {
    pub(super) async fn watch_health(&self) {
        if !self.config.gates.node_repair {
            return;
        }
        loop {
            tokio::time::sleep(PERIOD).await;
            for claim in self.claims.all() {
                if let Err(error) = self.check_health(&claim).await {
                    let error = telemetry::chain(&error);
                    warn!(claim = claim.name(), %error, "a node is not repaired yet");
                }
            }
        }
    }

    async fn check_health(&self, claim: &NodeClaim) -> Result<(), ApplyError> {
        let Some(node) = self.node_of(claim) else { return Ok(()) };
        let now = self.clock.now();
        let Some(illness) = illness(&node).filter(|it| it.until <= now) else { return Ok(()) };
        if claim.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let pool = pool_of(&node);
        let found = pool.and_then(|it| self.pools.get(&Key::new("", it)));
        let nodes = self.nodes.all();
        let of_pool: Vec<&Arc<core::Node>> = match pool {
            Some(pool) => nodes.iter().filter(|it| pool_of(it) == Some(pool)).collect(),
            None => nodes.iter().collect(),
        };
        let ill = of_pool.iter().filter(|it| illness_of(it)).count();
        if is_epidemic(ill, of_pool.len()) {
            self.events.repair_blocked(&node, claim, found.as_deref());
            return Ok(());
        }
        self.end_grace_period(claim).await?;
        info!(claim = claim.name(), condition = illness.condition, "repairing");
        self.count_disrupted(claim, "unhealthy");
        let of = [("condition", illness.condition.as_str()), ("nodepool", pool.unwrap_or(""))];
        self.metrics.add("nodeclaims_unhealthy_disrupted_total", &of, 1.0);
        self.delete_claim(claim, "its node has been ill for too long").await
    }

    /// Budgets and do-not-disrupt hold no more: the grace period ends now.
    pub(super) async fn end_grace_period(&self, claim: &NodeClaim) -> Result<(), ApplyError> {
        let now = self.clock.now();
        let marks = claim.metadata.annotations.as_ref();
        let noted = marks.and_then(|it| it.get(annotations::TERMINATION_TIMESTAMP));
        if noted.and_then(|it| it.parse().ok()).is_some_and(|it: Timestamp| it <= now) {
            return Ok(());
        }
        let text = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch =
            json!({ "metadata": { "annotations": { annotations::TERMINATION_TIMESTAMP: text } } });
        let api = Api::<NodeClaim>::all(self.client.clone());
        match api.patch(claim.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApplyError::new::<NodeClaim>("patch", claim.name(), error)),
            Ok(_) => Ok(()),
        }
    }
}

fn illness_of(node: &core::Node) -> bool {
    illness(node).is_some()
}

fn pool_of(node: &core::Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(labels::NODE_POOL).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_borne_least_counts_and_only_what_is_an_illness() {
        let node = |conditions: serde_json::Value| -> core::Node {
            serde_json::from_value(json!({ "status": { "conditions": conditions } })).unwrap()
        };
        let at = "2026-01-01T00:00:00Z";
        let of = |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": at });
        let since: Timestamp = at.parse().unwrap();
        for (conditions, expected) in [
            (json!([of("Ready", "True"), of("DiskPressure", "True")]), None),
            (json!([of("Ready", "Unknown")]), Some(("Ready", 30))),
            (
                json!([of("Ready", "False"), of("AcceleratedHardwareReady", "False")]),
                Some(("AcceleratedHardwareReady", 10)),
            ),
            (json!([of("AcceleratedHardwareReady", "Unknown")]), None),
        ] {
            let found = illness(&node(conditions.clone()));
            let expected = expected.map(|(condition, minutes)| Illness {
                condition: condition.to_owned(),
                until: since + SignedDuration::from_mins(minutes),
            });
            assert_eq!(found, expected, "{conditions}");
        }
    }

    #[test]
    fn a_fifth_rounded_up_may_be_ill() {
        for (ill, all, expected) in [
            (1, 1, false),
            (1, 3, false),
            (2, 5, true),
            (2, 6, false),
            (20, 100, false),
            (21, 100, true),
        ] {
            assert_eq!(is_epidemic(ill, all), expected, "{ill} of {all}");
        }
    }
}
