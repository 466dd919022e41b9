//! Placement groups: the one that a class selects, and what is said of instances in it.
//!
//! Which partition an instance is in EC2 decides, unless the claim's pods do. What a group has no room
//! for says nothing of instances elsewhere.
//!
//! Upstream: `pkg/providers/placementgroup`, `designs/placement-groups.md` of
//! aws/karpenter-provider-aws.

use api_kube::karpenter::{Ec2NodeClass, NodeClaim, PlacementGroupSelector, labels};
use aws_ec2::{instance::Instance, launch_template_request::LaunchTemplatePlacementRequest};
use karpenter_core::Requirements;

use super::{Context, launch::Failed};
use crate::Group;

/// The words by which EC2 says that a spread has no room in a zone, for whatever type.
const SPREAD_IS_FULL: &str = "spread placement group can have";

impl Context {
    /// Looks up what the class selects; whether it is there.
    pub(super) async fn find_group(
        &self,
        selector: &PlacementGroupSelector,
    ) -> Result<bool, String> {
        let found = self.cloud.placement_group(selector).await;
        let found = found.map_err(|error| telemetry::chain(&error).to_string())?;
        let mut known = self.groups.lock();
        match found {
            Some(group) => known.insert(key(selector), group),
            None => known.remove(&key(selector)),
        };
        Ok(known.contains_key(&key(selector)))
    }

    /// The group of a class as it was found last; `Err`: it selects one that is not known.
    pub(super) fn group_of(&self, class: &Ec2NodeClass) -> Result<Option<Group>, Failed> {
        let Some(selector) = &class.spec.placement_group_selector else { return Ok(None) };
        let missing = || Failed::Class(not_found(selector));
        self.groups.lock().get(&key(selector)).cloned().ok_or_else(missing).map(Some)
    }

    /// The partition that an instance is in, if its group has any.
    pub(super) async fn partition(
        &self,
        group: Option<&Group>,
        id: &str,
    ) -> Result<Option<i64>, Failed> {
        if group.is_none_or(|it| it.partitions.is_none()) {
            return Ok(None);
        }
        let found = self.cloud.instance(id).await?.as_ref().and_then(partition_of);
        // The same call is answered with the same instance.
        let unknown = || Failed::Call {
            reason: "LaunchFailed",
            message: format!("EC2 does not tell yet in which partition {id} is"),
        };
        found.ok_or_else(unknown).map(Some)
    }

    /// Whether a claim's node is in another group than its class selects.
    pub(super) fn group_drift(
        &self,
        claim: &NodeClaim,
        class: &Ec2NodeClass,
    ) -> Option<&'static str> {
        let wanted = self.group_of(class).ok()?.map(|it| it.id);
        let labels = claim.metadata.labels.as_ref();
        let is_in = labels.and_then(|it| it.get(labels::PLACEMENT_GROUP_ID));
        (is_in != wanted.as_ref()).then_some("PlacementGroupDrift")
    }
}

pub(super) fn partition_of(instance: &Instance) -> Option<i64> {
    instance.placement.as_ref()?.partition_number
}

/// What a launch template says of it.
pub(super) fn placement(group: &Group, wanted: &Requirements) -> LaunchTemplatePlacementRequest {
    LaunchTemplatePlacementRequest {
        group_id: Some(group.id.clone()),
        partition_number: chosen(group, wanted).map(i64::from),
        ..LaunchTemplatePlacementRequest::default()
    }
}

/// The partition that a claim has to be in; `None`: whichever.
fn chosen(group: &Group, wanted: &Requirements) -> Option<u32> {
    let asked = wanted.get(labels::PLACEMENT_GROUP_PARTITION)?;
    let mut all = 1..=group.partitions?;
    match all.clone().all(|it| asked.has(&it.to_string())) {
        true => None,
        false => all.find(|it| asked.has(&it.to_string())),
    }
}

/// The type and the way to pay that are not to be had in a zone of a group, where EC2 said so of these.
pub(super) fn lacking<'a>(message: &str, kind: &'a str, way: &'a str) -> (&'a str, &'a str) {
    if message.contains(SPREAD_IS_FULL) { ("*", "*") } else { (kind, way) }
}

pub(super) fn not_found(selector: &PlacementGroupSelector) -> String {
    let name = selector.name.as_deref().or(selector.id.as_deref()).unwrap_or_default();
    format!("Placement group \"{name}\" not found")
}

fn key(selector: &PlacementGroupSelector) -> String {
    match (&selector.id, &selector.name) {
        (Some(id), _) => format!("id/{id}"),
        (None, name) => format!("name/{}", name.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use api_kube::karpenter::NodeSelectorRequirement;

    use super::*;

    #[test]
    fn a_partition_is_named_where_the_claim_cannot_be_in_any() {
        let group = Group { id: "pg-1".to_owned(), partitions: Some(3) };
        let of = |values: &[&str]| {
            let wanted =
                NodeSelectorRequirement::new(labels::PLACEMENT_GROUP_PARTITION, "In", values);
            placement(&group, &Requirements::from_api(&[wanted])).partition_number
        };
        assert_eq!(of(&["2", "3"]), Some(2));
        assert_eq!(of(&["1", "2", "3"]), None);
        let nothing = placement(&group, &Requirements::from_api(&[]));
        assert_eq!((nothing.group_id.as_deref(), nothing.partition_number), (Some("pg-1"), None));
    }
}
