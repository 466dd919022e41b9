//! What is known of a pod's persistent volumes, and which nodes can have them.
//!
//! Upstream: `volumebinding`, `volumezone`.

pub mod matching;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelectorTerm, TopologySelectorLabelRequirement, TopologySelectorTerm,
};
use kube::core::{Selector, SelectorExt};

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
    /// Waits for the pod, and there are volumes that would do, the best first, or places where one can be
    /// made.
    Choosable {
        claim: String,
        volumes: Vec<Candidate>,
        /// Where one is made when none of them can be reached; `None`: nowhere.
        provision: Option<Places>,
    },
    /// A volume is being made for this node.
    Selected {
        node: String,
    },
    /// The volume that the claim is bound to is gone or lost.
    Lost {
        claim: String,
        volume: String,
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

/// Where a class's provisioner can make a volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// `allowedTopologies`; without any it is everywhere.
    pub topologies: Vec<TopologySelectorTerm>,
    /// The nodes from which there is room for it; `None`: the driver does not tell of its room.
    pub with_room: Option<Vec<Selector>>,
}

impl Places {
    fn objection(&self, labels: &BTreeMap<String, String>) -> Option<Reason> {
        let has_value = |it: &TopologySelectorLabelRequirement| {
            labels.get(&it.key).is_some_and(|value| it.values.contains(value))
        };
        let is_met = |it: &TopologySelectorTerm| {
            let wanted = it.match_label_expressions.as_deref().unwrap_or_default();
            !wanted.is_empty() && wanted.iter().all(has_value)
        };
        if !self.topologies.is_empty() && !self.topologies.iter().any(is_met) {
            return Some(Reason::NoVolumeToBind);
        }
        let rooms = self.with_room.as_ref()?;
        (!rooms.iter().any(|it| it.matches(labels))).then_some(Reason::NotEnoughStorage)
    }
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
        self.choose(name, labels).ok()
    }

    fn choose(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<ChosenVolume>, Reason> {
        let mut chosen = Vec::<ChosenVolume>::new();
        for fact in &self.volumes {
            match fact {
                VolumeFact::Unbindable => return Err(Reason::NoVolumeToBind),
                VolumeFact::Provisionable { claim } => {
                    chosen.push(ChosenVolume { claim: claim.clone(), volume: None });
                }
                VolumeFact::Choosable { claim, volumes, provision } => {
                    let is_open = |it: &&Candidate| {
                        let terms = it.terms.as_ref();
                        terms.is_none_or(|it| matches_node_selector_terms(it, name, labels))
                            && !chosen.iter().any(|other| other.volume.as_ref() == Some(&it.name))
                    };
                    let volume = volumes.iter().find(is_open).map(|it| it.name.clone());
                    if volume.is_none() {
                        let places = provision.as_ref().ok_or(Reason::NoVolumeToBind)?;
                        places.objection(labels).map_or(Ok(()), Err)?;
                    }
                    chosen.push(ChosenVolume { claim: claim.clone(), volume });
                }
                _ => {}
            }
        }
        Ok(chosen)
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
            VolumeFact::Lost { claim, volume } => Some(format!(
                "persistentvolumeclaim \"{claim}\" bound to non-existent persistentvolume \"{volume}\""
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
        if let Err(reason) = self.choose(name, labels) {
            return Some(reason);
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

impl PodInfo {
    /// Which claim it is that a node does not do for, and why.
    pub(crate) fn volume_detail(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<String> {
        self.volumes.iter().find_map(|fact| {
            let alone = Self { volumes: vec![fact.clone()], ..self.clone() };
            alone.volume_objection(name, labels)?;
            match fact {
                VolumeFact::Choosable { claim, volumes, provision } => {
                    let none =
                        format!("claim {claim}: of {} volumes none can be reached", volumes.len());
                    let made = provision.as_ref().map(|_| "and none can be made here");
                    Some(
                        [Some(none.as_str()), made]
                            .into_iter()
                            .flatten()
                            .collect::<Vec<_>>()
                            .join(", "),
                    )
                }
                VolumeFact::Selected { node } => Some(format!("a volume is being made for {node}")),
                VolumeFact::Bound { terms: Some(terms), .. } => {
                    let terms: Vec<_> = terms.iter().map(term_text).collect();
                    Some(format!("its volume can be reached from {}", terms.join(" or ")))
                }
                VolumeFact::Bound { labels, .. } => {
                    let zone = [ZONE, LEGACY_ZONE].iter().find_map(|it| labels.get(*it))?;
                    Some(format!("its volume is in {zone}"))
                }
                _ => None,
            }
        })
    }
}

fn term_text(term: &NodeSelectorTerm) -> String {
    let fields = term.match_fields.iter().chain(&term.match_expressions).flatten();
    let texts: Vec<_> = fields
        .map(|it| {
            let values = it.values.as_deref().unwrap_or_default().join(", ");
            format!("{} {} [{values}]", it.key, it.operator.to_lowercase())
        })
        .collect();
    texts.join(" and ")
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
            provision: is_provisionable.then(Places::default),
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

    #[test]
    fn a_volume_is_made_where_its_class_allows_it_and_where_there_is_room() {
        let term = serde_json::json!({ "matchLabelExpressions": [
            { "key": "zone", "values": ["a", "b"] }] });
        let room = [("zone".to_owned(), "b".to_owned())].into_iter().collect();
        let limited = |with_room| VolumeFact::Choosable {
            claim: "x".into(),
            volumes: Vec::new(),
            provision: Some(Places {
                topologies: vec![serde_json::from_value(term.clone()).unwrap()],
                with_room,
            }),
        };
        let objection = |fact: VolumeFact, zone: &str| {
            let pod = PodInfo { volumes: vec![fact], ..pod("{}") };
            pod.volume_objection("n", &[("zone".to_owned(), zone.to_owned())].into())
        };
        assert_eq!(objection(limited(None), "a"), None);
        assert_eq!(objection(limited(None), "c"), Some(Reason::NoVolumeToBind));
        let here: Option<Vec<Selector>> = Some(vec![room]);
        assert_eq!(objection(limited(here.clone()), "b"), None);
        assert_eq!(objection(limited(here), "a"), Some(Reason::NotEnoughStorage));
        assert_eq!(objection(limited(Some(vec![])), "a"), Some(Reason::NotEnoughStorage));
    }
}
