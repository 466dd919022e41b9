//! What is known of a pod's persistent volumes, and which nodes can have them.
//!
//! Upstream: `volumebinding`, `volumezone`.

pub mod matching;

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
    /// Waits for the pod, and there are volumes that would do; the best first.
    Choosable {
        claim: String,
        volumes: Vec<Candidate>,
        /// Whether one is made where none of them can be reached.
        is_provisionable: bool,
    },
    /// A volume is being made for this node.
    Selected {
        node: String,
    },
    /// The volume that the claim is bound to is gone or lost.
    Lost {
        claim: String,
    },
    Bound {
        terms: Option<Vec<NodeSelectorTerm>>,
        labels: BTreeMap<String, String>,
    },
}

/// A volume that a claim may have, and which nodes can reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub name: String,
    pub terms: Option<Vec<NodeSelectorTerm>>,
}

/// What a claim is given once its pod's node is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenVolume {
    pub claim: String,
    /// `None`: a new one, by its class's provisioner.
    pub volume: Option<String>,
}

impl PodInfo {
    /// What each claim that waits for the pod's node is given there, no volume twice; `None` where
    /// that cannot be.
    pub fn choose_volumes(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Vec<ChosenVolume>> {
        let mut chosen = Vec::<ChosenVolume>::new();
        for fact in &self.volumes {
            match fact {
                VolumeFact::Unbindable => return None,
                VolumeFact::Provisionable { claim } => {
                    chosen.push(ChosenVolume { claim: claim.clone(), volume: None });
                }
                VolumeFact::Choosable { claim, volumes, is_provisionable } => {
                    let is_open = |it: &&Candidate| {
                        let terms = it.terms.as_ref();
                        terms.is_none_or(|it| matches_node_selector_terms(it, name, labels))
                            && !chosen.iter().any(|other| other.volume.as_ref() == Some(&it.name))
                    };
                    let volume = volumes.iter().find(is_open).map(|it| it.name.clone());
                    if volume.is_none() && !is_provisionable {
                        return None;
                    }
                    chosen.push(ChosenVolume { claim: claim.clone(), volume });
                }
                _ => {}
            }
        }
        Some(chosen)
    }

    /// Whether a volume is still being made for the pod.
    pub fn waits_for_volumes(&self) -> bool {
        self.volumes.iter().any(|it| matches!(it, VolumeFact::Selected { .. }))
    }

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
        if self.choose_volumes(name, labels).is_none() {
            return Some(Reason::NoVolumeToBind);
        }
        self.volumes.iter().find_map(|fact| match fact {
            VolumeFact::Selected { node } => (node != name).then_some(Reason::VolumeNodeAffinity),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    fn on(host: &str) -> Option<Vec<NodeSelectorTerm>> {
        let term = serde_json::json!({ "matchExpressions": [
            { "key": "host", "operator": "In", "values": [host] }] });
        Some(vec![serde_json::from_value(term).unwrap()])
    }

    fn choosable(claim: &str, volumes: &[(&str, &str)], is_provisionable: bool) -> VolumeFact {
        let candidate =
            |(name, host): &(&str, &str)| Candidate { name: (*name).into(), terms: on(host) };
        VolumeFact::Choosable {
            claim: claim.into(),
            volumes: volumes.iter().map(candidate).collect(),
            is_provisionable,
        }
    }

    fn chosen(facts: Vec<VolumeFact>, host: &str) -> Option<Vec<(String, Option<String>)>> {
        let pod = PodInfo { volumes: facts, ..pod("{}") };
        let labels = [("host".to_owned(), host.to_owned())].into();
        let objection = pod.volume_objection(host, &labels);
        let chosen = pod.choose_volumes(host, &labels);
        assert_eq!(chosen.is_none(), objection == Some(Reason::NoVolumeToBind));
        Some(chosen?.into_iter().map(|it| (it.claim, it.volume)).collect())
    }

    #[test]
    fn claims_that_wait_for_the_node_get_what_can_be_reached_from_it_and_no_volume_twice() {
        let volumes = [("v1", "a"), ("v2", "a"), ("v3", "b")];
        let two = |is_provisionable| {
            vec![
                choosable("x", &volumes, is_provisionable),
                choosable("y", &volumes, is_provisionable),
            ]
        };
        let pair =
            |claim: &str, volume: Option<&str>| (claim.to_owned(), volume.map(str::to_owned));
        assert_eq!(
            chosen(two(false), "a"),
            Some(vec![pair("x", Some("v1")), pair("y", Some("v2"))])
        );
        assert_eq!(chosen(two(false), "b"), None, "there is one only");
        assert_eq!(chosen(two(true), "b"), Some(vec![pair("x", Some("v3")), pair("y", None)]));
        assert_eq!(chosen(vec![VolumeFact::Unbindable], "a"), None);
    }

    #[test]
    fn a_volume_that_is_being_made_keeps_the_pod_to_its_node() {
        let pod = PodInfo { volumes: vec![VolumeFact::Selected { node: "a".into() }], ..pod("{}") };
        let labels = BTreeMap::new();
        assert_eq!(pod.volume_objection("a", &labels), None);
        assert_eq!(pod.volume_objection("b", &labels), Some(Reason::VolumeNodeAffinity));
        assert!(pod.waits_for_volumes());
    }
}
