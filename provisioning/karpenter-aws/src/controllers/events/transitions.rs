//! Conditions that become another status are told of as events, as upstream's operators do.
//!
//! What an object's `Ready` depends on is unknown until somebody has said it; of other conditions the
//! first word is no transition. Of an object that was there before, nothing is told.
//!
//! Upstream: `status` of awslabs/operatorpkg.

use controller::{Recorder, Store};
use k8s_openapi::{
    api::core::v1::NodeCondition, apimachinery::pkg::apis::meta::v1::Condition as OfKarpenter,
};
use kube::Resource;

/// A condition, of whichever type it is.
pub(in crate::controllers) trait Condition {
    fn kind(&self) -> &str;
    fn status(&self) -> &str;
    fn reason(&self) -> &str;
    fn message(&self) -> &str;
}

impl Condition for OfKarpenter {
    fn kind(&self) -> &str {
        &self.type_
    }

    fn status(&self) -> &str {
        &self.status
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn message(&self) -> &str {
        &self.message
    }
}

impl Condition for NodeCondition {
    fn kind(&self) -> &str {
        &self.type_
    }

    fn status(&self) -> &str {
        &self.status
    }

    fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }
}

/// Those that are told of: what Karpenter says, and what it acts on.
const KINDS: [&str; 28] = [
    "Ready",
    "Launched",
    "Registered",
    "Initialized",
    "Consolidatable",
    "Drifted",
    "Drained",
    "VolumesDetached",
    "InstanceTerminating",
    "ConsistentStateFound",
    "DisruptionReason",
    "ValidationSucceeded",
    "NodeClassReady",
    "NodeRegistrationHealthy",
    "AMIsReady",
    "SubnetsReady",
    "SecurityGroupsReady",
    "InstanceProfileReady",
    "CapacityReservationsReady",
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
    "AcceleratedHardwareReady",
    "StorageReady",
    "NetworkingReady",
    "KernelReady",
    "ContainerRuntimeReady",
];

/// Tells of the transitions of all objects in a store. `depends_on`: what their `Ready` depends on.
pub(in crate::controllers) fn follow<K, C>(
    store: &Store<K>,
    recorder: &Recorder,
    depends_on: &'static [&'static str],
    conditions: impl Fn(&K) -> &[C] + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
    C: Condition,
{
    let recorder = recorder.clone();
    store.subscribe(move |change| {
        let (Some(old), Some(new)) = (&change.old, &change.new) else { return };
        for (kind, message) in transitions(conditions(old), conditions(new), depends_on) {
            recorder.normal(&**new, kind, message);
        }
    });
}

fn transitions<C: Condition>(
    before: &[C],
    after: &[C],
    depends_on: &[&str],
) -> Vec<(&'static str, String)> {
    let each = after.iter().filter_map(|it| {
        let kind = KINDS.iter().find(|kind| **kind == it.kind())?;
        let is_awaited = *kind == "Ready" || depends_on.contains(kind);
        let known = before.iter().find(|known| known.kind() == it.kind());
        let was = known.map(Condition::status).or(is_awaited.then_some("Unknown"))?;
        if was == it.status() {
            return None;
        }
        let mut text = format!(
            "Status condition transitioned, Type: {kind}, Status: {was} -> {}, Reason: {}",
            it.status(),
            it.reason()
        );
        if !it.message().is_empty() {
            text += &format!(", Message: {}", it.message());
        }
        Some((*kind, text))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: &str, status: &str) -> NodeCondition {
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some("R".to_owned()),
            message: Some("m".to_owned()),
            ..NodeCondition::default()
        }
    }

    #[test]
    fn what_becomes_another_is_told_and_the_first_word_of_what_nobody_waits_for_is_not() {
        let told = |before: &[NodeCondition], after: &[NodeCondition]| {
            transitions(before, after, &["Launched"])
        };
        let (yes, no) = (node("Ready", "True"), node("Ready", "False"));
        let said = |was: &str| {
            format!(
                "Status condition transitioned, Type: Ready, Status: {was} -> True, Reason: R, \
                 Message: m"
            )
        };
        let of = std::slice::from_ref;
        assert_eq!(told(of(&no), of(&yes)), [("Ready", said("False"))]);
        assert_eq!(told(of(&yes), of(&yes)), []);
        assert_eq!(told(&[], of(&yes)), [("Ready", said("Unknown"))]);
        assert_eq!(told(&[], &[node("Drifted", "True")]), []);
        assert_eq!(told(&[], &[node("Launched", "Unknown")]), []);
        assert_eq!(told(&[], &[node("Launched", "True")]).len(), 1);
    }
}
