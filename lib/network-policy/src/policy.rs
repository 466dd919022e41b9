//! A policy read once: its selectors parsed, so that a thousand pods cost a thousand comparisons.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::Pod,
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};

use crate::world::{Labels, World, name_of, namespace_of};

/// A NetworkPolicy as it is resolved and compared. Keep it for as long as the policy stays the same.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) types: Vec<String>,
    /// As it is written.
    pub(crate) pod_selector: LabelSelector,
    pub(crate) subject: Matcher,
    pub(crate) ingress: Vec<Rule>,
    pub(crate) egress: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) ports: Vec<NetworkPolicyPort>,
    /// None: everything.
    pub(crate) peers: Vec<Peer>,
}

#[derive(Clone, Debug)]
pub(crate) enum Peer {
    Block {
        cidr: String,
        except: Vec<String>,
    },
    Pods {
        /// `None`: the policy's own namespace.
        namespaces: Option<Matcher>,
        pods: Matcher,
    },
}

/// A selector; one that is malformed selects nothing.
#[derive(Clone, Debug)]
pub(crate) struct Matcher(Option<Vec<Requirement>>);

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    /// `None`: whatever it is.
    values: Option<Vec<String>>,
    /// Whether those that have it are the ones that are left out.
    is_negated: bool,
}

impl Requirement {
    fn of(it: &LabelSelectorRequirement) -> Option<Self> {
        let values = it.values.clone().unwrap_or_default();
        let (values, is_negated) = match it.operator.as_str() {
            "In" => (Some(values), false),
            "NotIn" => (Some(values), true),
            "Exists" => (None, false),
            "DoesNotExist" => (None, true),
            _ => return None,
        };
        Some(Self { key: it.key.clone(), values, is_negated })
    }

    fn holds(&self, labels: &Labels) -> bool {
        let has = labels.get(&self.key).is_some_and(|value| match &self.values {
            Some(values) => values.iter().any(|it| it == value),
            None => true,
        });
        has != self.is_negated
    }
}

impl Matcher {
    /// A missing selector of a peer's pods or of a policy selects everything.
    fn of(selector: Option<&LabelSelector>) -> Self {
        let labels = selector.and_then(|it| it.match_labels.as_ref()).into_iter().flatten();
        let equal = labels.map(|(key, value)| {
            let values = Some(vec![value.clone()]);
            Some(Requirement { key: key.clone(), values, is_negated: false })
        });
        let expressions = selector.and_then(|it| it.match_expressions.as_ref());
        Self(equal.chain(expressions.into_iter().flatten().map(Requirement::of)).collect())
    }

    pub(crate) fn matches(&self, labels: Option<&Labels>) -> bool {
        static NONE: Labels = Labels::new();
        let labels = labels.unwrap_or(&NONE);
        self.0.as_ref().is_some_and(|all| all.iter().all(|it| it.holds(labels)))
    }
}

/// The directions in which a policy isolates what it selects.
pub fn policy_types(spec: &NetworkPolicySpec) -> Vec<String> {
    match &spec.policy_types {
        Some(types) if !types.is_empty() => types.clone(),
        _ => {
            let has_egress = spec.egress.as_ref().is_some_and(|it| !it.is_empty());
            let types = if has_egress { &["Ingress", "Egress"][..] } else { &["Ingress"] };
            types.iter().map(|it| (*it).to_owned()).collect()
        }
    }
}

impl Compiled {
    /// `None` for a policy without a `spec`, which the API does not let in.
    pub fn of(policy: &NetworkPolicy) -> Option<Self> {
        let spec = policy.spec.as_ref()?;
        let types = policy_types(spec);
        let has = |direction: &str| types.iter().any(|it| it == direction);
        let ingress = spec.ingress.iter().flatten().filter(|_| has("Ingress"));
        let egress = spec.egress.iter().flatten().filter(|_| has("Egress"));
        Some(Self {
            namespace: namespace_of(policy).to_owned(),
            name: name_of(policy).to_owned(),
            pod_selector: spec.pod_selector.clone().unwrap_or_default(),
            subject: Matcher::of(spec.pod_selector.as_ref()),
            ingress: ingress.map(|it| Rule::of(it.ports.as_ref(), it.from.as_ref())).collect(),
            egress: egress.map(|it| Rule::of(it.ports.as_ref(), it.to.as_ref())).collect(),
            types,
        })
    }

    /// Whether a pod with these labels is one that the policy selects or speaks of.
    pub fn concerns_pod(&self, pod: &Pod, namespace_labels: Option<&Labels>) -> bool {
        let is_here = self.namespace == namespace_of(pod);
        let labels = pod.metadata.labels.as_ref();
        let is_peer = |peer: &Peer| match peer {
            Peer::Block { .. } => false,
            Peer::Pods { namespaces, pods } => {
                namespaces.as_ref().map_or(is_here, |it| it.matches(namespace_labels))
                    && pods.matches(labels)
            }
        };
        // Egress to everybody or a block at a named port is to the pods that have it.
        let is_to_named = |rule: &Rule| {
            let is_block = |it: &Peer| matches!(it, Peer::Block { .. });
            rule.has_names() && (rule.peers.is_empty() || rule.peers.iter().any(is_block))
        };
        (is_here && self.subject.matches(labels))
            || self.peers().any(is_peer)
            || self.egress.iter().any(is_to_named)
    }

    /// Whether the policy speaks of pods of a namespace with these labels.
    pub fn concerns_namespace(&self, labels: Option<&Labels>) -> bool {
        self.peers().any(|it| match it {
            Peer::Pods { namespaces: Some(namespaces), .. } => namespaces.matches(labels),
            _ => false,
        })
    }

    fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.ingress.iter().chain(&self.egress).flat_map(|it| &it.peers)
    }
}

impl Rule {
    fn of(ports: Option<&Vec<NetworkPolicyPort>>, peers: Option<&Vec<NetworkPolicyPeer>>) -> Self {
        Self {
            ports: ports.cloned().unwrap_or_default(),
            peers: peers.into_iter().flatten().map(Peer::of).collect(),
        }
    }

    pub(crate) fn has_names(&self) -> bool {
        self.ports.iter().any(|it| matches!(it.port, Some(IntOrString::String(_))))
    }
}

impl Peer {
    fn of(peer: &NetworkPolicyPeer) -> Self {
        match &peer.ip_block {
            Some(block) => Self::Block {
                cidr: block.cidr.clone(),
                except: block.except.clone().unwrap_or_default(),
            },
            None => Self::Pods {
                namespaces: peer.namespace_selector.as_ref().map(|it| Matcher::of(Some(it))),
                pods: Matcher::of(peer.pod_selector.as_ref()),
            },
        }
    }

    /// All pods everywhere.
    pub(crate) fn anybody() -> Self {
        let all = LabelSelector::default();
        Self::Pods { namespaces: Some(Matcher::of(Some(&all))), pods: Matcher::of(None) }
    }

    /// The pods that are meant; none of a block. `here` is the policy's namespace.
    pub(crate) fn each_pod(&self, here: &str, world: &impl World, mut each: impl FnMut(&Arc<Pod>)) {
        let Self::Pods { namespaces, pods } = self else { return };
        let mut of_namespace = |namespace: &str| {
            let all = world.pods_in(namespace);
            all.iter().filter(|it| pods.matches(it.metadata.labels.as_ref())).for_each(&mut each);
        };
        match namespaces {
            None => of_namespace(here),
            Some(namespaces) => {
                for it in world.namespaces() {
                    if namespaces.matches(it.metadata.labels.as_ref()) {
                        of_namespace(name_of(&*it));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_selector_selects_nothing_and_a_missing_one_everything() {
        let malformed = LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "k".into(),
                operator: "Like".into(),
                values: None,
            }]),
            ..LabelSelector::default()
        };
        let labels = Labels::from([("k".to_owned(), "v".to_owned())]);
        for labels in [None, Some(&labels)] {
            assert!(!Matcher::of(Some(&malformed)).matches(labels));
            assert!(Matcher::of(None).matches(labels));
            assert!(Matcher::of(Some(&LabelSelector::default())).matches(labels));
        }
    }
}
