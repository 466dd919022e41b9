//! Which pods and claims a ResourceQuota with scopes is about: those that are in all of them.
//!
//! Upstream: `podMatchesScopeFunc`, `pvcMatchesScopeFunc`.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, PodAffinityTerm, PodSpec, ResourceQuotaSpec,
    ScopedResourceSelectorRequirement,
};

use crate::{QosClass, qos_class};

/// Whether the quota is limited to some pods.
pub(super) fn has_scopes(quota: &ResourceQuotaSpec) -> bool {
    requirements(quota).next().is_some()
}

/// Whether a quota that is limited counts this pod.
pub(super) fn covers(quota: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    requirements(quota).all(|it| is_in(&it, spec))
}

/// Whether a quota that is limited counts this claim of a volume: by its VolumeAttributesClasses,
/// those that it has, asks for, or is on the way to.
pub(super) fn covers_claim(quota: &ResourceQuotaSpec, claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let wished = claim.spec.as_ref().and_then(|it| it.volume_attributes_class_name.as_deref());
    let current = status.and_then(|it| it.current_volume_attributes_class_name.as_deref());
    let modified = status.and_then(|it| it.modify_volume_status.as_ref());
    let target = modified.and_then(|it| it.target_volume_attributes_class_name.as_deref());
    let classes: Vec<_> =
        [wished, current, target].into_iter().flatten().filter(|it| !it.is_empty()).collect();
    requirements(quota).all(|it| {
        let values = it.values.as_deref().unwrap_or_default();
        let is_listed = |class: &&str| values.iter().any(|value| value == class);
        it.scope_name == "VolumeAttributesClass"
            && match it.operator.as_str() {
                "In" => classes.iter().any(is_listed),
                // One that is not listed is enough, whichever others it has.
                "NotIn" => classes.is_empty() || !classes.iter().all(is_listed),
                "Exists" => !classes.is_empty(),
                "DoesNotExist" => classes.is_empty(),
                _ => false,
            }
    })
}

fn requirements(
    quota: &ResourceQuotaSpec,
) -> impl Iterator<Item = ScopedResourceSelectorRequirement> {
    let plain = quota.scopes.iter().flatten().map(|it| ScopedResourceSelectorRequirement {
        scope_name: it.clone(),
        operator: "Exists".into(),
        values: None,
    });
    let selector = quota.scope_selector.iter();
    let selected = selector.flat_map(|it| it.match_expressions.iter().flatten()).cloned();
    plain.chain(selected)
}

fn is_in(requirement: &ScopedResourceSelectorRequirement, spec: &PodSpec) -> bool {
    let is_terminating = spec.active_deadline_seconds.is_some_and(|it| it >= 0);
    let is_best_effort = || qos_class(spec) == QosClass::BestEffort;
    match requirement.scope_name.as_str() {
        "Terminating" => is_terminating,
        "NotTerminating" => !is_terminating,
        "BestEffort" => is_best_effort(),
        "NotBestEffort" => !is_best_effort(),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        "PriorityClass" => has_class(requirement, spec.priority_class_name.as_deref()),
        _ => false,
    }
}

fn has_class(requirement: &ScopedResourceSelectorRequirement, class: Option<&str>) -> bool {
    let class = class.filter(|it| !it.is_empty());
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_listed = class.is_some_and(|it| values.iter().any(|value| value == it));
    match requirement.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => class.is_some(),
        "DoesNotExist" => class.is_none(),
        _ => false,
    }
}

/// Whether the pod's wishes about other pods reach into other namespaces.
fn crosses_namespaces(spec: &PodSpec) -> bool {
    let crosses = |it: &PodAffinityTerm| {
        it.namespaces.as_ref().is_some_and(|it| !it.is_empty()) || it.namespace_selector.is_some()
    };
    let Some(affinity) = &spec.affinity else { return false };
    let near = affinity.pod_affinity.iter().flat_map(|it| {
        let required = it.required_during_scheduling_ignored_during_execution.iter().flatten();
        let preferred = it.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(preferred.map(|it| &it.pod_affinity_term))
    });
    let far = affinity.pod_anti_affinity.iter().flat_map(|it| {
        let required = it.required_during_scheduling_ignored_during_execution.iter().flatten();
        let preferred = it.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(preferred.map(|it| &it.pod_affinity_term))
    });
    near.chain(far).any(crosses)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{self, Value, json};

    use super::*;

    fn is_covered(quota: Value, spec: Value) -> bool {
        let mut full = json!({ "containers": [{ "name": "c" }] });
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let pod: Pod = serde_json::from_value(json!({ "spec": full })).unwrap();
        covers(&serde_json::from_value(quota).unwrap(), &pod)
    }

    #[test]
    fn a_pod_is_counted_when_it_is_in_all_scopes() {
        let sized = json!({ "containers": [{ "name": "c",
            "resources": { "requests": { "cpu": "1" } } }] });
        let classes = |operator: &str, values: Value| {
            json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass",
                "operator": operator, "values": values }] } })
        };
        let high = json!({ "priorityClassName": "high" });
        let near = json!({ "affinity": { "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                { "topologyKey": "zone", "namespaces": ["other"] }] } } });
        for (quota, spec, expected) in [
            (json!({}), json!({}), true),
            (json!({ "scopes": ["Terminating"] }), json!({ "activeDeadlineSeconds": 5 }), true),
            (json!({ "scopes": ["Terminating"] }), json!({}), false),
            (json!({ "scopes": ["NotTerminating"] }), json!({}), true),
            (json!({ "scopes": ["BestEffort"] }), json!({}), true),
            (json!({ "scopes": ["BestEffort"] }), sized.clone(), false),
            (json!({ "scopes": ["NotBestEffort", "NotTerminating"] }), sized.clone(), true),
            (json!({ "scopes": ["NotBestEffort", "Terminating"] }), sized, false),
            (classes("In", json!(["high"])), high.clone(), true),
            (classes("In", json!(["low"])), high.clone(), false),
            (classes("NotIn", json!(["low"])), json!({}), true),
            (classes("Exists", json!([])), json!({}), false),
            (classes("DoesNotExist", json!([])), high, false),
            (json!({ "scopes": ["CrossNamespacePodAffinity"] }), near, true),
            (json!({ "scopes": ["CrossNamespacePodAffinity"] }), json!({}), false),
        ] {
            assert_eq!(is_covered(quota.clone(), spec.clone()), expected, "{quota} {spec}");
        }
    }

    #[test]
    fn a_claim_is_counted_by_the_attributes_classes_that_it_names() {
        let quota = |operator: &str, values: Value| -> ResourceQuotaSpec {
            serde_json::from_value(json!({ "scopeSelector": { "matchExpressions": [{
                "scopeName": "VolumeAttributesClass", "operator": operator, "values": values }] } }))
            .unwrap()
        };
        let claim = |spec: Value, status: Value| -> PersistentVolumeClaim {
            serde_json::from_value(json!({ "spec": spec, "status": status })).unwrap()
        };
        let gold = claim(json!({ "volumeAttributesClassName": "gold" }), json!({}));
        let leaving = claim(
            json!({ "volumeAttributesClassName": "tin" }),
            json!({ "currentVolumeAttributesClassName": "gold" }),
        );
        let plain = claim(json!({}), json!({}));
        let is_gold = quota("In", json!(["gold"]));
        let counts = [&gold, &leaving, &plain].map(|it| covers_claim(&is_gold, it));
        assert_eq!(counts, [true, true, false]);
        assert!(covers_claim(&quota("DoesNotExist", Value::Null), &plain));
        let not_gold =
            [&gold, &leaving, &plain].map(|it| covers_claim(&quota("NotIn", json!(["gold"])), it));
        assert_eq!(not_gold, [false, true, true]);
        let of_pods = serde_json::from_value(json!({ "scopes": ["Terminating"] })).unwrap();
        assert!(!covers_claim(&of_pods, &gold));
    }
}
