//! Whether a node is what its NodeClaim says, and whether it can go when it is to.
//!
//! A claim is looked at when its node is there, and every ten minutes from then on. What is wrong is
//! told as `FailedConsistencyCheck`; `ConsistentStateFound` says whether anything was. Nothing is done
//! about it. Upstream: `pkg/controllers/nodeclaim/consistency`.

use std::collections::BTreeMap;

use api_kube::karpenter::NodeClaim;
use controller::{ApplyError, object};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{core::v1 as core, policy::v1::PodDisruptionBudget};
use karpenter_core::disruption::blocking_budgets;
use resources::{Amounts, node_capacity};
use tracing::warn;

use super::{Context, PERIOD};

const AGAIN: SignedDuration = SignedDuration::from_mins(10);
const KIND: &str = "ConsistentStateFound";
/// A node that has less than so much of what was expected is not what was asked for.
const ENOUGH: f64 = 0.9;

impl Context {
    pub(super) async fn watch_consistency(&self) {
        // By the uid of the claim: when it is to be looked at again.
        let mut due: BTreeMap<String, Timestamp> = BTreeMap::new();
        loop {
            tokio::time::sleep(PERIOD).await;
            let now = self.clock.now();
            let mut next = BTreeMap::new();
            for claim in self.claims.all() {
                let Some(uid) = claim.metadata.uid.clone() else { continue };
                let at = due.get(&uid).copied().unwrap_or(now);
                let at = if at <= now { self.look_at(&claim, now).await } else { at };
                next.insert(uid, at);
            }
            due = next;
        }
    }

    /// Looks at a claim, and says when to look again.
    async fn look_at(&self, claim: &NodeClaim, now: Timestamp) -> Timestamp {
        let Some(node) = self.node_of(claim) else { return now };
        match self.check_consistency(claim, &node).await {
            Ok(()) => now.checked_add(AGAIN).unwrap_or(now),
            Err(error) => {
                warn!(claim = claim.name(), error = %telemetry::chain(&error), "not noted yet");
                now
            }
        }
    }

    async fn check_consistency(
        &self,
        claim: &NodeClaim,
        node: &core::Node,
    ) -> Result<(), ApplyError> {
        let issues = match object::is_terminating(claim) {
            true => self.in_the_way(node),
            false => misshapen(claim, node),
        };
        for issue in &issues {
            self.events.inconsistent(claim, issue);
        }
        let said = match issues.is_empty() {
            true => (KIND, Some(true), KIND, ""),
            false => (KIND, Some(false), "ConsistencyCheckFailed", "Consistency Check Failed"),
        };
        self.say(claim, &[said], |_| {}).await
    }

    /// What keeps the node of a claim that is being deleted.
    fn in_the_way(&self, node: &core::Node) -> Vec<String> {
        let pods = self.pods_on(node.metadata.name.as_deref().unwrap_or_default());
        let pods: Vec<&core::Pod> = pods.iter().map(|it| &**it).collect();
        let budgets: Vec<PodDisruptionBudget> =
            self.budgets.all().iter().map(|it| (**it).clone()).collect();
        let blocking = blocking_budgets(&budgets, &pods);
        let names: Vec<String> = blocking.iter().map(|it| format!("{it:?}")).collect();
        let said = || format!("can't drain node, PDB {} is blocking evictions", names.join(" "));
        (!names.is_empty()).then(said).into_iter().collect()
    }
}

/// What a node that is ready for pods has much less of than its claim was promised, of what the claim
/// wants.
fn misshapen(claim: &NodeClaim, node: &core::Node) -> Vec<String> {
    if !claim.is_true("Initialized") {
        return Vec::new();
    }
    let promised = claim.status.as_ref().map(|it| &it.capacity);
    let expected = Amounts::from_list(promised);
    let found = node_capacity(node);
    let on_node = node.status.as_ref().and_then(|it| it.capacity.as_ref());
    let written = |of: Option<&BTreeMap<String, _>>, name: &str| {
        let it: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> =
            of.and_then(|it| it.get(name));
        it.map_or("0", |it| it.0.as_str()).to_owned()
    };
    let wanted = Amounts::from_list(Some(&claim.spec.resources.requests));
    let mut issues = Vec::new();
    for name in claim.spec.resources.requests.keys() {
        let (expected, found) = (expected.amount(name), found.amount(name));
        if wanted.amount(name) == 0 || expected == 0 {
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "amounts of a node are far below 2^52")]
        let share = found as f64 / expected as f64;
        if share < ENOUGH {
            let (promised, has) = (written(promised, name), written(on_node, name));
            issues.push(format!(
                "expected {promised} of resource {name}, but found {has} ({:.1}% of expected)",
                share * 100.0
            ));
        }
    }
    issues
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_has_nine_tenths_of_what_its_claim_was_promised_at_least() {
        let claim = |is_ready: bool, wanted: &str| -> NodeClaim {
            let status = if is_ready { "True" } else { "False" };
            serde_json::from_value(json!({ "metadata": { "name": "a" },
                "spec": { "resources": { "requests": { "cpu": "1", "memory": wanted } } },
                "status": { "capacity": { "cpu": "2", "memory": "8Gi" },
                    "conditions": [{ "type": "Initialized", "status": status, "reason": "",
                        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } }))
            .unwrap()
        };
        let node = |memory: &str| -> core::Node {
            serde_json::from_value(json!({ "metadata": { "name": "n" },
                "status": { "capacity": { "cpu": "2", "memory": memory } } }))
            .unwrap()
        };
        for (is_ready, wanted, memory, expected) in [
            (true, "1Gi", "7500Mi", None),
            (true, "1Gi", "4Gi", Some("4Gi (50.0% of expected)")),
            (true, "0", "4Gi", None),
            (false, "1Gi", "4Gi", None),
        ] {
            let found = misshapen(&claim(is_ready, wanted), &node(memory));
            let expected =
                expected.map(|it| format!("expected 8Gi of resource memory, but found {it}"));
            assert_eq!(found, Vec::from_iter(expected), "{is_ready} {wanted} {memory}");
        }
    }
}
