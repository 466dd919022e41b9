//! Node affinity and node selectors.
//!
//! Terms are alternatives, requirements within a term must all hold, an empty term matches nothing.
//! Upstream: `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::PodInfo;

/// Whether any of the terms selects a node of this name with these labels.
pub fn matches_node_selector_terms(
    terms: &[NodeSelectorTerm],
    name: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    terms.iter().any(|term| matches_term(term, name, labels))
}

pub(crate) fn matches_term(
    term: &NodeSelectorTerm,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
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
    let is_listed = || value.is_some_and(|value| values.iter().any(|it| it == value));
    let numbers = || {
        let limit = values.first()?.parse::<i64>().ok()?;
        Some((value?.parse::<i64>().ok()?, limit))
    };
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, limit)| value > limit),
        "Lt" => numbers().is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

impl PodInfo {
    /// Whether node selector and required node affinity allow this node.
    pub(crate) fn accepts_node(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let is_selected =
            self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let terms = self.required_nodes.as_ref();
        is_selected && terms.is_none_or(|it| matches_node_selector_terms(it, name, labels))
    }

    /// The only nodes that can do, when every term of the affinity names nodes.
    pub(crate) fn preselected_nodes(&self) -> Option<Vec<&str>> {
        let terms = self.required_nodes.as_ref()?;
        let mut names = Vec::new();
        for term in terms {
            let mut fields = term.match_fields.iter().flatten();
            let named = fields.find(|it| it.key == "metadata.name" && it.operator == "In")?;
            names.extend(named.values.iter().flatten().map(String::as_str));
        }
        Some(names)
    }
}

/// As the scheduler sees it, for a node that may not be in any cluster (DaemonSet controller).
pub fn node_affinity_matches(pod: &Pod, name: &str, labels: &BTreeMap<String, String>) -> bool {
    PodInfo::new(pod).accepts_node(name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[test]
    fn requirements_hold_as_documented() {
        let labels =
            [("zone".to_owned(), "a".to_owned()), ("cpus".to_owned(), "8".to_owned())].into();
        for (key, operator, values, expected) in [
            ("zone", "In", vec!["a", "b"], true),
            ("zone", "In", vec!["b"], false),
            ("zone", "NotIn", vec!["b"], true),
            ("missing", "NotIn", vec!["b"], true),
            ("missing", "Exists", vec![], false),
            ("missing", "DoesNotExist", vec![], true),
            ("cpus", "Gt", vec!["7"], true),
            ("cpus", "Gt", vec!["8"], false),
            ("cpus", "Lt", vec!["9"], true),
            ("zone", "Gt", vec!["1"], false),
        ] {
            let requirement = NodeSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|it| (*it).to_owned()).collect()),
            };
            let term =
                NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
            assert_eq!(matches_term(&term, "n", &labels), expected, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn an_empty_term_matches_no_node_and_a_name_preselects_one() {
        assert!(!matches_term(&NodeSelectorTerm::default(), "n", &BTreeMap::new()));
        let pod =
            pod(r#"{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms":[{"matchFields":[
                {"key":"metadata.name","operator":"In","values":["n1"]}]}]}}}}"#);
        assert_eq!(pod.preselected_nodes(), Some(vec!["n1"]));
        assert!(pod.accepts_node("n1", &BTreeMap::new()));
        assert!(!pod.accepts_node("n2", &BTreeMap::new()));
    }
}
