//! What disruption needs to know of each NodeClaim: whether it has drifted from its NodePool or its
//! class, when a pod last came to its node or left it, and whether that is long enough ago for
//! consolidation.
//!
//! That its type is sold no more is found out where nodes are chosen. Upstream:
//! `pkg/cloudprovider/drift.go` of aws/karpenter-provider-aws, `pkg/controllers/nodeclaim/podevents`.

use std::collections::{BTreeMap, BTreeSet};

use api_kube::karpenter::{
    Ec2NodeClass, NodeClaim, NodeClaimStatus, annotations, capacity_types, labels,
};
use controller::{Key, object};
use jiff::Timestamp;
use karpenter_core::disruption::{HASH_VERSION, class_hash, is_consolidatable, pool_drift};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::warn;

use super::{Context, conditions, lifecycle::pool_of, merge, reservations};
use crate::cloud::instance_id;

/// Where an instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) subnet: String,
    pub(crate) groups: BTreeSet<String>,
    /// The capacity reservation that it is in.
    pub(crate) reservation: Option<String>,
}

/// How the claim differs from what its class would make; `placed`: where its instance is, if known.
pub(super) fn drift(
    claim: &NodeClaim,
    class: &Ec2NodeClass,
    placed: Option<&Placed>,
) -> Option<&'static str> {
    let marks = claim.metadata.annotations.as_ref();
    let read = |key: &str| marks.and_then(|it| it.get(key)).map(String::as_str);
    let is_ours = read(annotations::NODE_CLASS_HASH_VERSION) == Some(HASH_VERSION);
    if is_ours && read(annotations::NODE_CLASS_HASH) != Some(class_hash(class).as_str()) {
        return Some("NodeClassDrift");
    }
    let status = class.status.as_ref()?;
    // While a selector finds nothing, nothing is compared with it.
    let image = claim.status.as_ref().and_then(|it| it.image_id.as_deref());
    let is_known = |image: &str| status.amis.iter().any(|it| it.id == image);
    if !status.amis.is_empty() && image.is_some_and(|it| !is_known(it)) {
        return Some("AMIDrift");
    }
    let placed = placed?;
    let wanted: BTreeSet<String> = status.security_groups.iter().map(|it| it.id.clone()).collect();
    if !wanted.is_empty() && wanted != placed.groups {
        return Some("SecurityGroupDrift");
    }
    // An instance that was bought may be in an open reservation that nobody has selected.
    let is_reserved = reservations::capacity_type(claim) == capacity_types::RESERVED;
    let is_selected = |id: &str| status.capacity_reservations.iter().any(|it| it.id == id);
    if is_reserved && placed.reservation.as_deref().is_some_and(|it| !is_selected(it)) {
        return Some("CapacityReservationDrift");
    }
    let is_there = status.subnets.iter().any(|it| it.id == placed.subnet);
    (!status.subnets.is_empty() && !is_there).then_some("SubnetDrift")
}

impl Context {
    /// Notes what is news about each claim; what cannot be written now is looked at again.
    pub(super) async fn watch_drift(&self) {
        let events = std::mem::take(&mut *self.pod_events.lock());
        for claim in self.claims.all() {
            let Some(status) = self.drifted(&claim, &events) else { continue };
            let api = Api::<NodeClaim>::all(self.client.clone());
            let mut patch = merge::status(claim.status.as_ref(), &status);
            patch["metadata"] = json!({ "resourceVersion": claim.metadata.resource_version });
            let patched = api
                .patch_status(claim.name(), &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            if let Err(error) = patched {
                warn!(claim = claim.name(), error = %telemetry::chain(&error), "not noted yet");
                // What has been taken is noted in the next round, unless more has come since.
                let node = status.node_name.as_ref().and_then(|it| events.get_key_value(it));
                if let Some((node, at)) = node {
                    self.pod_events.lock().entry(node.clone()).or_insert(*at);
                }
            }
        }
    }

    /// The claim's status, where there is something new in it.
    fn drifted(
        &self,
        claim: &NodeClaim,
        events: &BTreeMap<String, Timestamp>,
    ) -> Option<NodeClaimStatus> {
        if !claim.is_true("Launched") || object::is_terminating(claim) {
            return None;
        }
        let class = self.class(&claim.spec.node_class_ref.name)?;
        let mut status = claim.status.clone().unwrap_or_default();
        let id = status.provider_id.as_deref().and_then(instance_id);
        let placed = id.and_then(|it| self.placed.lock().get(it).cloned());
        let (now, generation) = (self.clock.now(), claim.metadata.generation);
        if let Some(at) = status.node_name.as_ref().and_then(|it| events.get(it)) {
            status.last_pod_event_time = Some(object::time(*at));
        }
        let as_of_now = NodeClaim { status: Some(status.clone()), ..claim.clone() };
        let pool = self.pools.get(&Key::new("", pool_of(claim)));
        let is_quiet = pool.as_ref().is_some_and(|it| is_consolidatable(it, &as_of_now, now));
        let node = self.node_of(claim);
        let labels = node.as_ref().and_then(|it| it.metadata.labels.as_ref());
        // Before that it has not those of its claim.
        let labels = labels.filter(|it| it.contains_key(labels::REGISTERED));
        let of_pool = pool.as_ref().and_then(|it| pool_drift(it, claim, labels));
        let all = &mut status.conditions;
        for (kind, reason) in [
            ("Drifted", {
                let of_class = || drift(claim, &class, placed.as_ref());
                of_pool.or_else(of_class).or_else(|| self.group_drift(claim, &class))
            }),
            ("Consolidatable", is_quiet.then_some("Consolidatable")),
        ] {
            match reason {
                None => all.retain(|it| it.type_ != kind),
                Some(why) => {
                    conditions::set(all, kind, Some(true), why, "", generation, now);
                }
            }
        }
        (claim.status.as_ref() != Some(&status)).then_some(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_drifts_when_its_class_changes_or_its_image_is_no_longer_chosen() {
        let class = |tag: &str, image: &str| -> Ec2NodeClass {
            serde_json::from_value(json!({ "metadata": { "name": "a" },
                "spec": { "tags": { "team": tag } },
                "status": { "amis": [{ "id": image, "requirements": [] }] } }))
            .unwrap()
        };
        let claim: NodeClaim = serde_json::from_value(json!({
            "metadata": { "name": "a", "annotations": {
                annotations::NODE_CLASS_HASH: class_hash(&class("x", "ami-1")),
                annotations::NODE_CLASS_HASH_VERSION: HASH_VERSION } },
            "status": { "imageID": "ami-1" } }))
        .unwrap();
        assert_eq!(drift(&claim, &class("x", "ami-1"), None), None);
        assert_eq!(drift(&claim, &class("x", "ami-2"), None), Some("AMIDrift"));
        assert_eq!(drift(&claim, &class("y", "ami-1"), None), Some("NodeClassDrift"));
    }

    #[test]
    fn a_claim_drifts_when_its_class_chooses_other_subnets_or_groups() {
        let class: Ec2NodeClass = serde_json::from_value(json!({ "metadata": { "name": "a" },
            "status": { "subnets": [{ "id": "subnet-1", "zone": "a" }],
                "securityGroups": [{ "id": "sg-1" }, { "id": "sg-2" }] } }))
        .unwrap();
        let claim: NodeClaim =
            serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
        for (subnet, groups, expected) in [
            ("subnet-1", &["sg-2", "sg-1"][..], None),
            ("subnet-2", &["sg-1", "sg-2"][..], Some("SubnetDrift")),
            ("subnet-1", &["sg-1"][..], Some("SecurityGroupDrift")),
            ("subnet-1", &["sg-1", "sg-2", "sg-3"][..], Some("SecurityGroupDrift")),
        ] {
            let groups = groups.iter().map(ToString::to_string).collect();
            let placed = Placed { subnet: subnet.to_owned(), groups, reservation: None };
            assert_eq!(drift(&claim, &class, Some(&placed)), expected, "{placed:?}");
        }
        assert_eq!(drift(&claim, &class, None), None, "nothing is known of the instance");
    }

    #[test]
    fn only_a_claim_of_reserved_capacity_drifts_from_the_reservations_of_its_class() {
        let class: Ec2NodeClass = serde_json::from_value(json!({ "metadata": { "name": "a" },
            "status": { "capacityReservations": [{ "id": "cr-1" }] } }))
        .unwrap();
        for (capacity_type, reservation, expected) in [
            ("reserved", "cr-1", None),
            ("reserved", "cr-2", Some("CapacityReservationDrift")),
            ("on-demand", "cr-2", None),
        ] {
            let claim: NodeClaim = serde_json::from_value(json!({ "metadata": { "name": "a",
                "labels": { "karpenter.sh/capacity-type": capacity_type } } }))
            .unwrap();
            let reservation = Some(reservation.to_owned());
            let placed = Placed { reservation, ..Placed::default() };
            assert_eq!(drift(&claim, &class, Some(&placed)), expected, "{placed:?}");
        }
    }
}
