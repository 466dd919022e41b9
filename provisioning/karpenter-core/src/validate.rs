//! What makes a NodePool one that cannot be used, whoever has let it in.
//!
//! An API server refuses most of this from the definition's schema and rules; manifests that no
//! server has seen, and servers that do not evaluate rules, are why it is looked at here again.
//!
//! Upstream: `RuntimeValidate` of `pkg/apis/v1/nodepool_validation.go` and `nodeclaim_validation.go`
//! of kubernetes-sigs/karpenter.

use std::collections::BTreeSet;

use api_kube::karpenter::{AWS_GROUP, Budget, GROUP, NodePool, NodeSelectorRequirement, labels};
use k8s_openapi::api::core::v1::Taint;

use crate::disruption::budget::schedule;

const OPERATORS: [&str; 8] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"];

/// What is wrong with a pool; nothing where it can be used.
pub fn faults(pool: &NodePool) -> Vec<String> {
    let template = &pool.spec.template;
    let mut faults = Vec::new();
    for (key, value) in &template.metadata.labels {
        let all = name_fault(key).or_else(|| restricted(key)).or_else(|| value_fault(value));
        faults.extend(all.map(|it| format!("label {key}={value}: {it}")));
    }
    let mut seen = BTreeSet::new();
    for taint in template.spec.taints.iter().chain(&template.spec.startup_taints) {
        let is_new = seen.insert((taint.key.as_str(), taint.effect.as_str()));
        let fault = if is_new { taint_fault(taint) } else { Some("there are two".to_owned()) };
        faults.extend(fault.map(|it| format!("taint {}:{}: {it}", taint.key, taint.effect)));
    }
    for requirement in &template.spec.requirements {
        let fault = requirement_fault(requirement);
        faults.extend(
            fault.map(|it| {
                format!("requirement {} {}: {it}", requirement.key, requirement.operator)
            }),
        );
    }
    if pool.spec.replicas.is_some() {
        let mut limits = pool.spec.limits.iter().flatten();
        if limits.any(|(name, _)| name != "nodes") {
            faults.push("only 'limits.nodes' is supported on static NodePools".to_owned());
        }
        if pool.spec.weight.is_some() {
            faults.push("'weight' is not supported on static NodePools".to_owned());
        }
    }
    let budgets = pool.spec.disruption.budgets.iter().filter_map(budget_fault);
    faults.extend(budgets.map(|it| format!("budget: {it}")));
    faults
}

fn requirement_fault(it: &NodeSelectorRequirement) -> Option<String> {
    key_fault(&it.key).or_else(|| form_fault(it))
}

/// Of a NodeOverlay, which may also name pools.
pub(crate) fn overlay_requirement_fault(it: &NodeSelectorRequirement) -> Option<String> {
    let of_key = if it.key == labels::NODE_POOL { None } else { key_fault(&it.key) };
    of_key.or_else(|| form_fault(it))
}

fn key_fault(key: &str) -> Option<String> {
    name_fault(key).or_else(|| restricted(key))
}

/// What is wrong with a requirement whatever its key.
fn form_fault(it: &NodeSelectorRequirement) -> Option<String> {
    if !OPERATORS.contains(&it.operator.as_str()) {
        return Some(format!("the operator is none of {}", OPERATORS.join(", ")));
    }
    if let Some((value, fault)) =
        it.values.iter().find_map(|value| Some((value, value_fault(value)?)))
    {
        return Some(format!("{value}: {fault}"));
    }
    match it.operator.as_str() {
        "In" if it.values.is_empty() => Some("a value is needed".to_owned()),
        "In" if it.min_values.is_some_and(|least| it.values.len() < least as usize) => {
            Some(format!("{} values are fewer than its minValues", it.values.len()))
        }
        "Gt" | "Lt" | "Gte" | "Lte" => match it.values.as_slice() {
            [one] if one.parse::<u32>().is_ok() => None,
            _ => Some("one value is needed that is a whole number, 0 or more".to_owned()),
        },
        _ => None,
    }
}

fn taint_fault(taint: &Taint) -> Option<String> {
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
        return Some("the effect is none of NoSchedule, PreferNoSchedule, NoExecute".to_owned());
    }
    name_fault(&taint.key).or_else(|| value_fault(taint.value.as_deref().unwrap_or_default()))
}

fn budget_fault(budget: &Budget) -> Option<String> {
    let number = budget.nodes.strip_suffix('%').unwrap_or(&budget.nodes);
    if number.parse::<u32>().is_err() {
        return Some(format!("{} is neither a number nor a percentage", budget.nodes));
    }
    match (&budget.schedule, &budget.duration) {
        (None, None) => None,
        (Some(text), Some(duration)) => match (schedule(text), budget.duration()) {
            (Err(why), _) => Some(format!("{text} is no schedule: {why}")),
            (Ok(_), None) => Some(format!("{duration} is no duration")),
            (Ok(_), Some(_)) => None,
        },
        _ => Some("a schedule needs a duration, and a duration a schedule".to_owned()),
    }
}

/// Labels that Karpenter decides itself.
fn restricted(key: &str) -> Option<String> {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_in = |group: &str| {
        domain.strip_suffix(group).is_some_and(|it| it.is_empty() || it.ends_with('.'))
    };
    let is_known = labels::WELL_KNOWN.contains(&key) && key != labels::NODE_POOL;
    let is_ours = [GROUP, AWS_GROUP].into_iter().any(is_in) && !is_known;
    (is_ours || key == labels::HOSTNAME).then(|| "the label is restricted".to_owned())
}

/// A name with an optional domain before it.
fn name_fault(key: &str) -> Option<String> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(a, b)| (Some(a), b));
    let is_label = |it: &str| {
        let is_inner = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
        !it.is_empty() && !it.starts_with('-') && !it.ends_with('-') && it.chars().all(is_inner)
    };
    let is_good = domain.is_none_or(|it| it.len() <= 253 && it.split('.').all(is_label));
    let is_good = is_good && !name.is_empty() && value_fault(name).is_none();
    (!is_good).then(|| "the key is no qualified name".to_owned())
}

fn value_fault(value: &str) -> Option<String> {
    let is_inner = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    let is_outer = |it: char| it.is_ascii_alphanumeric();
    let is_good = value.len() <= 63
        && value.chars().all(is_inner)
        && value.starts_with(is_outer) != value.is_empty()
        && value.ends_with(is_outer) != value.is_empty();
    (!is_good).then(|| "a value is no label value".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(labels: Value, spec: Value) -> Vec<String> {
        let template = json!({ "metadata": { "labels": labels }, "spec": spec });
        let pool = json!({ "metadata": { "name": "a" }, "spec": { "template": template } });
        faults(&serde_json::from_value(pool).unwrap())
    }

    #[test]
    fn a_pool_that_can_be_used_has_no_faults() {
        let requirements = json!([
            { "key": labels::INSTANCE_CPU, "operator": "Gt", "values": ["3"] },
            { "key": labels::CAPACITY_TYPE, "operator": "In", "values": ["spot", "on-demand"],
                "minValues": 2 },
            { "key": "team", "operator": "Exists" },
        ]);
        let taints = json!([{ "key": "a", "effect": "NoSchedule" },
            { "key": "a", "effect": "NoExecute" }]);
        let labels = json!({ "example.com/Team": "red", "empty": "" });
        let none: Vec<String> = Vec::new();
        assert_eq!(of(labels, json!({ "requirements": requirements, "taints": taints })), none);
    }

    #[test]
    fn each_fault_of_a_requirement_is_found() {
        for (wrong, expected) in [
            (json!({ "key": "a", "operator": "Like" }), "operator"),
            (json!({ "key": "a", "operator": "In" }), "a value is needed"),
            (json!({ "key": "a", "operator": "In", "values": ["b"], "minValues": 2 }), "minValues"),
            (json!({ "key": "a", "operator": "Gt", "values": ["-1"] }), "label value"),
            (json!({ "key": "a", "operator": "Lt", "values": ["x"] }), "whole number"),
            (json!({ "key": "a", "operator": "Gte", "values": ["1", "2"] }), "whole number"),
            (json!({ "key": "a b", "operator": "Exists" }), "qualified name"),
            (json!({ "key": "karpenter.sh/nodepool", "operator": "Exists" }), "restricted"),
            (json!({ "key": "karpenter.k8s.aws/unknown", "operator": "Exists" }), "restricted"),
            (json!({ "key": "kubernetes.io/hostname", "operator": "Exists" }), "restricted"),
        ] {
            let found = of(json!({}), json!({ "requirements": [wrong] }));
            assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn each_fault_of_labels_taints_and_budgets_is_found() {
        let found = of(json!({ "a": "-", "karpenter.sh/x": "y" }), json!({}));
        assert_eq!(found.len(), 2, "{found:?}");
        let taint = json!({ "key": "a", "effect": "NoSchedule" });
        let odd = json!({ "key": "b", "effect": "Sometimes" });
        let found = of(json!({}), json!({ "taints": [taint, odd], "startupTaints": [taint] }));
        assert_eq!(found.len(), 2, "{found:?}");
        for spec in [
            json!({ "replicas": 1, "weight": 2 }),
            json!({ "replicas": 1, "limits": { "cpu": "3" } }),
        ] {
            let pool = json!({ "metadata": { "name": "a" }, "spec": spec });
            assert_eq!(faults(&serde_json::from_value(pool).unwrap()).len(), 1, "{spec}");
        }
        for budget in [
            json!({ "nodes": "many" }),
            json!({ "nodes": "1", "schedule": "@daily" }),
            json!({ "nodes": "1", "schedule": "nonsense", "duration": "8h" }),
            json!({ "nodes": "1", "schedule": "@daily", "duration": "long" }),
        ] {
            let pool = json!({ "metadata": { "name": "a" },
                "spec": { "disruption": { "budgets": [budget] } } });
            assert_eq!(faults(&serde_json::from_value(pool).unwrap()).len(), 1, "{budget}");
        }
    }
}
