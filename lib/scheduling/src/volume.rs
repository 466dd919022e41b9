//! What is known of a pod's persistent volumes, and which nodes can have them.
//!
//! Upstream: `volumebinding`, `volumezone`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeSelectorTerm;

use crate::{Plugin, PodInfo, Reason, affinity::matches_node_selector_terms};

const ZONE: &str = "topology.kubernetes.io/zone";
const LEGACY_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const LEGACY_REGION: &str = "failure-domain.beta.kubernetes.io/region";

/// One claim that a pod uses.
#[derive(Clone, Debug, PartialEq)]
pub enum VolumeFact {
    /// The claim does not exist.
    Missing {
        claim: String,
    },
    /// The claim is being deleted.
    Terminating {
        claim: String,
    },
    /// Waits for its volume whatever the pod does.
    UnboundImmediate,
    /// Waits for the pod; a provisioner will make the volume wherever the pod goes.
    Provisionable {
        claim: String,
    },
    /// Waits for the pod, and nobody can make a volume.
    Unbindable,
    /// The volume that the claim is bound to is gone or lost.
    Lost {
        claim: String,
    },
    Bound {
        terms: Option<Vec<NodeSelectorTerm>>,
        labels: BTreeMap<String, String>,
    },
}

impl PodInfo {
    /// What makes asking the nodes pointless, in upstream's words.
    pub(crate) fn volume_prerequisite(&self) -> Option<(Plugin, String)> {
        let message = self.volumes.iter().find_map(|fact| match fact {
            VolumeFact::Missing { claim } => {
                Some(format!("persistentvolumeclaim \"{claim}\" not found"))
            }
            VolumeFact::Terminating { claim } => {
                Some(format!("persistentvolumeclaim \"{claim}\" is being deleted"))
            }
            VolumeFact::Lost { claim } => Some(format!(
                "persistentvolumeclaim \"{claim}\" bound to non-existent persistentvolume"
            )),
            VolumeFact::UnboundImmediate => {
                Some("pod has unbound immediate PersistentVolumeClaims".to_owned())
            }
            _ => None,
        });
        message.map(|it| (Plugin::VolumeBinding, it))
    }

    pub(crate) fn volume_objection(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Reason> {
        self.volumes.iter().find_map(|fact| match fact {
            VolumeFact::Unbindable => Some(Reason::NoVolumeToBind),
            VolumeFact::Bound { terms, labels: volume } => {
                let accepts = terms
                    .as_ref()
                    .is_none_or(|terms| matches_node_selector_terms(terms, name, labels));
                if !accepts {
                    return Some(Reason::VolumeNodeAffinity);
                }
                let is_elsewhere = !is_in_zone(volume, labels, [ZONE, LEGACY_ZONE])
                    || !is_in_zone(volume, labels, [REGION, LEGACY_REGION]);
                is_elsewhere.then_some(Reason::VolumeZone)
            }
            _ => None,
        })
    }
}

/// Whether the node is in (one of) the volume's zones, where the volume names any.
fn is_in_zone(
    volume: &BTreeMap<String, String>,
    node: &BTreeMap<String, String>,
    keys: [&str; 2],
) -> bool {
    let find =
        |labels: &BTreeMap<String, String>| keys.iter().find_map(|it| labels.get(*it).cloned());
    let Some(zones) = find(volume) else { return true };
    let Some(zone) = find(node) else { return true };
    zones.split("__").any(|it| it == zone)
}
