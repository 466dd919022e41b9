//! Whether a persistent volume can be had on this node: pods that name their node themselves were never
//! seen by the scheduler, which knows too.
//!
//! Upstream: `checkNodeAffinity` in `pkg/volume/util/operationexecutor`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Volume};
use scheduling::matches_node_selector_terms;

use super::{MountError, MountVolumeError, Volumes, claims::Bound};
use crate::pod::PodExt;

/// Told as a `FailedMount`, as the same step of a volume with files is.
pub(super) const OF_DEVICE: &str = "MapVolume.NodeAffinity check";
const OF_FILES: &str = "MountVolume.NodeAffinity check";

impl Volumes {
    /// What the pod has it keeps, however the node is labelled from then on.
    pub(super) async fn check_affinity(
        &self,
        pod: &Pod,
        volume: &Volume,
        bound: &Bound,
    ) -> Result<(), MountError> {
        let made = self.made.lock().get(&pod.uid()).is_some_and(|it| it.contains_key(&volume.name));
        if made || self.is_allowed(&bound.volume) {
            return Ok(());
        }
        // Who chose this node may know of labels that the watch has not brought yet.
        self.node_object.refresh(&self.client, &self.node_name).await;
        if self.is_allowed(&bound.volume) {
            return Ok(());
        }
        let mode = bound.volume.spec.as_ref().and_then(|it| it.volume_mode.as_deref());
        Err(MountError::Step {
            step: if mode == Some("Block") { OF_DEVICE } else { OF_FILES },
            volume: bound.volume.metadata.name.clone().unwrap_or_default(),
            source: MountVolumeError::Text("no matching NodeSelectorTerms".to_owned()),
        })
    }

    fn is_allowed(&self, volume: &PersistentVolume) -> bool {
        let known = self.node_object.known();
        allows(volume, known.as_ref().map_or(&self.own_labels, |it| &it.labels))
    }
}

fn allows(volume: &PersistentVolume, labels: &BTreeMap<String, String>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|it| it.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required.as_ref());
    // Upstream asks about the labels alone: a term about the node's name finds none.
    required.is_none_or(|it| matches_node_selector_terms(&it.node_selector_terms, "", labels))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_volume_that_names_nodes_is_had_on_no_other() {
        let volume = |affinity: Value| -> PersistentVolume {
            serde_json::from_value(json!({ "spec": { "nodeAffinity": affinity } })).unwrap()
        };
        let here = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let of = |zone| {
            let wants = json!({ "key": "zone", "operator": "In", "values": [zone] });
            let terms = json!([{ "matchExpressions": [wants] }]);
            volume(json!({ "required": { "nodeSelectorTerms": terms } }))
        };
        assert!(allows(&of("a"), &here) && !allows(&of("b"), &here));
        assert!(!allows(&of("a"), &BTreeMap::new()));
        assert!(allows(&volume(Value::Null), &here) && allows(&volume(json!({})), &here));
        let wants = json!({ "key": "metadata.name", "operator": "In", "values": ["n"] });
        let terms = json!([{ "matchFields": [wants] }]);
        assert!(!allows(&volume(json!({ "required": { "nodeSelectorTerms": terms } })), &here));
    }
}
