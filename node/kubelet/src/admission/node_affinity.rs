//! `nodeSelector` and required node affinity against the labels that the node has now.
//!
//! Upstream: `component-helpers/scheduling/corev1/nodeaffinity`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

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
    let fits = required
        .is_none_or(|it| it.node_selector_terms.iter().any(|term| fits(term, labels, &name)));
    is_selected && fits
}

fn fits(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|it| holds(it, labels.get(&it.key).map(String::as_str)))
        && fields.iter().all(|it| it.key == "metadata.name" && holds(it, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_listed = value.is_some_and(|it| values.iter().any(|listed| listed == it));
    let number = |it: Option<&str>| it.and_then(|it| it.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(a, b)| a > b),
        "Lt" => number(value).zip(bound).is_some_and(|(a, b)| a < b),
        _ => false,
    }
}
