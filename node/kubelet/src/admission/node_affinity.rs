//! `nodeSelector` and required node affinity against the labels that the node has now.
//!
//! Upstream: `component-helpers/scheduling/corev1/nodeaffinity`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorTerm, Pod};
use scheduling::matches_node_selector_terms;

use crate::pod::PodExt;

pub(super) fn matches(pod: &Pod, labels: &BTreeMap<String, String>) -> bool {
    let spec = PodExt::spec(pod);
    let is_selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|it| it.node_affinity.as_ref())
        .and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    let name = labels.get("kubernetes.io/hostname").cloned().unwrap_or_default();
    let name = spec.node_name.clone().unwrap_or(name);
    let selects = |terms: &[NodeSelectorTerm]| matches_node_selector_terms(terms, &name, labels);
    is_selected && required.is_none_or(|it| selects(&it.node_selector_terms))
}
