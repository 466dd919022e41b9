//! Pods that are alike for a decision, and what each such class asks for.
//!
//! Alternatives are the terms of the required node affinity, crossed with the zones of the volumes.
//! While preferences are respected, the heaviest preferred term is part of each alternative, and
//! preferred affinities and soft spreading count as hard ones; [`Relaxation`] says what has been
//! given up. Upstream: `preferences.go`, whose order of giving up it is. Deviation: upstream tries
//! one required term at a time and drops it on failure; here all terms are tried in their order.

use std::{collections::BTreeSet, fmt::Write, sync::Arc};

use k8s_openapi::api::core::v1::{NodeSelectorTerm, Taint, Toleration};
use scheduling::{PodInfo, Spread, Term, VolumeFact, find_untolerated};

use crate::requirement::{Requirement, Requirements};

/// More alternatives than these are not tried.
const MOST_ALTERNATIVES: usize = 64;

/// One way to satisfy a pod's node selector, node affinity and volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Alternative {
    pub(crate) requirements: Requirements,
    /// The only nodes that do, by name; a new node has none of them.
    pub(crate) names: Option<BTreeSet<String>>,
}

/// How many preferences of each kind have been given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Relaxation {
    affinity: usize,
    anti_affinity: usize,
    nodes: usize,
    spread: usize,
    /// `PreferNoSchedule` taints are tolerated.
    tolerant: bool,
}

impl Relaxation {
    /// Everything is given up from the start.
    pub(crate) fn all(pod: &PodInfo) -> Self {
        Self {
            affinity: pod.preferred_affinity.len(),
            anti_affinity: pod.preferred_anti_affinity.len(),
            nodes: pod.preferred_nodes.len(),
            spread: pod.spread.iter().filter(|it| !it.is_hard).count(),
            tolerant: true,
        }
    }

    /// One more is given up; `None` where there is none left.
    pub(crate) fn next(self, pod: &PodInfo) -> Option<Self> {
        let all = Self::all(pod);
        if self.affinity < all.affinity {
            return Some(Self { affinity: self.affinity + 1, ..self });
        }
        if self.anti_affinity < all.anti_affinity {
            return Some(Self { anti_affinity: self.anti_affinity + 1, ..self });
        }
        if self.nodes < all.nodes {
            return Some(Self { nodes: self.nodes + 1, ..self });
        }
        if self.spread < all.spread {
            return Some(Self { spread: self.spread + 1, ..self });
        }
        (!self.tolerant).then_some(Self { tolerant: true, ..self })
    }
}

/// What of a weighted list is left when the heaviest `given_up` are gone.
fn kept<T>(list: &[(i64, T)], given_up: usize) -> Vec<&T> {
    let mut sorted: Vec<_> = list.iter().collect();
    sorted.sort_by_key(|(weight, _)| -weight);
    sorted.into_iter().skip(given_up).map(|(_, it)| it).collect()
}

/// What a pod asks for, at one stage of giving up.
#[derive(Debug)]
pub(crate) struct Wishes<'a> {
    pub(crate) alternatives: Vec<Alternative>,
    /// Without preferences and volumes: the nodes whose pods a spread counts.
    pub(crate) required: Vec<Alternative>,
    pub(crate) affinity: Vec<&'a Term>,
    pub(crate) preferred_affinity: Vec<&'a Term>,
    pub(crate) anti_affinity: Vec<&'a Term>,
    pub(crate) spread: Vec<&'a Spread>,
    pub(crate) tolerant: bool,
}

impl<'a> Wishes<'a> {
    pub(crate) fn new(pod: &'a PodInfo, relaxation: Relaxation) -> Self {
        let mut anti_affinity: Vec<&Term> = pod.anti_affinity.iter().collect();
        anti_affinity.extend(kept(&pod.preferred_anti_affinity, relaxation.anti_affinity));
        let hard = pod.spread.iter().filter(|it| it.is_hard);
        let soft = pod.spread.iter().filter(|it| !it.is_hard).skip(relaxation.spread);
        let preferred = kept(&pod.preferred_nodes, relaxation.nodes).first().copied();
        Self {
            alternatives: alternatives(pod, preferred),
            required: required(pod, None),
            affinity: pod.affinity.iter().collect(),
            preferred_affinity: kept(&pod.preferred_affinity, relaxation.affinity),
            anti_affinity,
            spread: hard.chain(soft).collect(),
            tolerant: relaxation.tolerant,
        }
    }
}

/// The node selector and the terms of the node affinity.
fn required(pod: &PodInfo, preferred: Option<&NodeSelectorTerm>) -> Vec<Alternative> {
    let mut base =
        Alternative { requirements: Requirements::from_labels(&pod.node_selector), names: None };
    if let Some(term) = preferred {
        base.requirements.add_all(&Requirements::from_term(term));
    }
    match &pod.required_nodes {
        None => vec![base],
        Some(terms) => crossed(&[base], terms),
    }
}

fn alternatives(pod: &PodInfo, preferred: Option<&NodeSelectorTerm>) -> Vec<Alternative> {
    let mut all = required(pod, preferred);
    for volume in &pod.volumes {
        if let VolumeFact::Bound { terms, labels } = volume {
            if let Some(terms) = terms {
                all = crossed(&all, terms);
            }
            let zones = labels.get(api_kube::karpenter::labels::ZONE);
            if let Some(zones) = zones {
                let zones = Requirement::of(zones.split("__"));
                all.iter_mut().for_each(|it| {
                    it.requirements.add(api_kube::karpenter::labels::ZONE, zones.clone());
                });
            }
        }
    }
    all
}

/// Each of `all` with each of the terms. An empty term selects nothing.
fn crossed(all: &[Alternative], terms: &[NodeSelectorTerm]) -> Vec<Alternative> {
    let is_something = |term: &&NodeSelectorTerm| {
        term.match_expressions.as_ref().is_some_and(|it| !it.is_empty())
            || term.match_fields.as_ref().is_some_and(|it| !it.is_empty())
    };
    let terms: Vec<_> = terms.iter().filter(is_something).collect();
    let each = all.iter().flat_map(|base| {
        terms.iter().map(move |term| {
            let mut next = base.clone();
            next.requirements.add_all(&Requirements::from_term(term));
            for field in term.match_fields.iter().flatten().filter(|it| it.operator == "In") {
                let listed: BTreeSet<String> = field.values.iter().flatten().cloned().collect();
                next.names = Some(match next.names {
                    Some(names) => names.intersection(&listed).cloned().collect(),
                    None => listed,
                });
            }
            next
        })
    });
    each.take(MOST_ALTERNATIVES).collect()
}

/// Whether a pod may be on a node with these taints.
pub(crate) fn tolerates(taints: &[Taint], tolerations: &[Toleration], tolerant: bool) -> bool {
    let effects: &[&str] = match tolerant {
        true => &["NoSchedule", "NoExecute"],
        false => &["NoSchedule", "NoExecute", "PreferNoSchedule"],
    };
    find_untolerated(taints, tolerations, effects).is_none()
}

/// The same text for pods that are alike.
pub(crate) fn signature(pod: &PodInfo) -> String {
    let mut text = String::with_capacity(256);
    // Writing to a String cannot fail.
    let mut put = |it: std::fmt::Arguments| text.write_fmt(it).unwrap_or_default();
    let requests = &pod.requests;
    put(format_args!(
        "{}\u{1}{},{},{}",
        pod.namespace, requests.cpu_millis, requests.memory, requests.ephemeral_storage
    ));
    for (name, amount) in &requests.scalars {
        put(format_args!(",{name}={amount}"));
    }
    for (key, value) in &pod.labels {
        put(format_args!("\u{1}{key}={value}"));
    }
    for (key, value) in &pod.node_selector {
        put(format_args!("\u{2}{key}={value}"));
    }
    if let Some(terms) = &pod.required_nodes {
        put(format_args!("\u{3}{terms:?}"));
    }
    for it in &pod.tolerations {
        put(format_args!("\u{4}{it:?}"));
    }
    let is_plain = pod.affinity.is_empty()
        && pod.anti_affinity.is_empty()
        && pod.preferred_affinity.is_empty()
        && pod.preferred_anti_affinity.is_empty();
    if !is_plain {
        put(format_args!(
            "\u{5}{:?}{:?}{:?}{:?}",
            pod.affinity, pod.anti_affinity, pod.preferred_affinity, pod.preferred_anti_affinity
        ));
    }
    if !pod.preferred_nodes.is_empty() {
        put(format_args!("\u{6}{:?}", pod.preferred_nodes));
    }
    if !pod.spread.is_empty() {
        put(format_args!("\u{7}{:?}", pod.spread));
    }
    if !pod.host_ports.is_empty() {
        put(format_args!("\u{8}{:?}", pod.host_ports));
    }
    if !pod.volumes.is_empty() {
        put(format_args!("\u{9}{:?}", pod.volumes));
    }
    text
}

/// What keeps a pod from being considered at all: a reference that nothing satisfies.
pub(crate) fn unsatisfiable(pod: &PodInfo) -> Option<String> {
    let of_volume = pod.volumes.iter().find_map(|it| match it {
        VolumeFact::Missing { claim } => {
            Some(format!("PersistentVolumeClaim {claim} is not found"))
        }
        VolumeFact::Terminating { claim } => {
            Some(format!("PersistentVolumeClaim {claim} is being deleted"))
        }
        VolumeFact::Lost { claim, .. } => {
            Some(format!("the volume of PersistentVolumeClaim {claim} is gone"))
        }
        VolumeFact::UnboundImmediate => {
            Some("a PersistentVolumeClaim waits for its volume".to_owned())
        }
        VolumeFact::Unbindable => {
            Some("no volume can be made for a PersistentVolumeClaim".to_owned())
        }
        VolumeFact::Provisionable { .. }
        | VolumeFact::Choosable { .. }
        | VolumeFact::Selected { .. }
        | VolumeFact::Bound { .. } => None,
    });
    let of_devices = pod.devices.is_some();
    of_volume.or_else(|| {
        of_devices.then(|| "it claims devices (DRA), which no instance type describes".to_owned())
    })
}

/// The pod, shared.
pub(crate) type Shared = Arc<PodInfo>;
