//! Which security groups a pod gets: the union of those of all policies that select it.
//!
//! Upstream: `GetMatchingSecurityGroupForPods` in `pkg/utils`.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::vpc_resources::{SecurityGroupPolicy, SecurityGroupPolicySpec};
use controller::{matches, selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

type Labels = BTreeMap<String, String>;

/// In the order of the policies, each once. A policy without selectors or groups is no policy.
pub(crate) fn groups_of(
    policies: &[Arc<SecurityGroupPolicy>],
    pod: Option<&Labels>,
    account: Option<&Labels>,
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for policy in policies.iter().filter(|it| selects(&it.spec, pod, account)) {
        for group in &policy.spec.security_groups.groups {
            if !found.contains(group) {
                found.push(group.clone());
            }
        }
    }
    found
}

fn selects(spec: &SecurityGroupPolicySpec, pod: Option<&Labels>, account: Option<&Labels>) -> bool {
    let is_valid = spec.pod_selector.is_some() || spec.service_account_selector.is_some();
    let is_selected = |by: &Option<LabelSelector>, labels: Option<&Labels>| {
        // One that cannot be read selects nobody, one that is missing has no say.
        by.is_none() || selector(by.as_ref()).is_some_and(|it| matches(&it, labels))
    };
    is_valid
        && is_selected(&spec.pod_selector, pod)
        && is_selected(&spec.service_account_selector, account)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(spec: Value) -> Arc<SecurityGroupPolicy> {
        let object = json!({ "metadata": { "name": "p", "namespace": "x" }, "spec": spec });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn labels(text: &str) -> Labels {
        text.split(',').map(|it| (it.to_owned(), "1".to_owned())).collect()
    }

    fn groups(spec: Value) -> Vec<String> {
        let mut spec = spec;
        spec["securityGroups"] = json!({ "groupIds": ["sg-1"] });
        groups_of(&[policy(spec)], Some(&labels("app")), Some(&labels("account")))
    }

    #[test]
    fn both_selectors_have_to_select_and_a_missing_one_has_no_say() {
        let of = |label: &str| json!({ "matchLabels": { label: "1" } });
        for (spec, is_selected) in [
            (json!({ "podSelector": of("app") }), true),
            (json!({ "podSelector": of("other") }), false),
            (json!({ "podSelector": {} }), true),
            (json!({ "serviceAccountSelector": of("account") }), true),
            (json!({ "serviceAccountSelector": of("app") }), false),
            (json!({ "podSelector": of("app"), "serviceAccountSelector": of("account") }), true),
            (json!({ "podSelector": of("app"), "serviceAccountSelector": of("other") }), false),
            (json!({ "podSelector": of("other"), "serviceAccountSelector": of("account") }), false),
            (json!({}), false),
            (
                json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Odd" }] } }),
                false,
            ),
        ] {
            assert_eq!(!groups(spec.clone()).is_empty(), is_selected, "{spec}");
        }
    }

    #[test]
    fn groups_of_all_policies_are_joined_without_repetition() {
        let of = |groups: &[&str]| {
            policy(json!({ "podSelector": {}, "securityGroups": { "groupIds": groups } }))
        };
        let all = [of(&["sg-2", "sg-1"]), of(&[]), of(&["sg-1", "sg-3"])];
        assert_eq!(groups_of(&all, None, None), ["sg-2", "sg-1", "sg-3"]);
    }
}
