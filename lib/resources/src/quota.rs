//! Which pods a ResourceQuota is about, and what they take of it.
//!
//! A quota without scopes is about everything of its namespace; one with scopes only about the pods
//! that are in all of them, and about nothing else.
//!
//! Upstream: `pkg/quota/v1/evaluator/core/pods.go` (`podMatchesScopeFunc`,
//! `podComputeUsageHelper`).

use k8s_openapi::api::{
    core::v1::{
        PersistentVolumeClaim, Pod, PodAffinityTerm, PodSpec, ResourceQuotaSpec,
        ScopedResourceSelectorRequirement,
    },
    resource::v1::ResourceClaimSpec,
};

use crate::{Amounts, Format, QosClass, Quantity, pod_limits, pod_requests, qos_class};

/// Before the number of devices of a class that a namespace's ResourceClaims may ask for.
pub const DEVICES_OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// `AllocationResultsMaxSize`: what a request for all devices may come to.
const ALL_DEVICES: i64 = 32;

/// How many devices of a class a ResourceClaim asks for, at most.
pub fn quota_devices(claim: &ResourceClaimSpec, class: &str) -> i64 {
    let count = |of: &str, mode: Option<&str>, count: Option<i64>| match mode {
        _ if of != class => 0,
        Some("All") => ALL_DEVICES,
        _ => count.unwrap_or(1),
    };
    let requests = claim.devices.iter().flat_map(|it| it.requests.iter().flatten());
    let each = requests.map(|request| match &request.exactly {
        Some(it) => count(&it.device_class_name, it.allocation_mode.as_deref(), it.count),
        None => {
            let subs = request.first_available.iter().flatten();
            let counts = subs
                .map(|it| count(&it.device_class_name, it.allocation_mode.as_deref(), it.count));
            counts.max().unwrap_or(0)
        }
    });
    each.fold(0, i64::saturating_add)
}

/// Whether the quota is limited to some pods.
pub fn quota_has_scopes(quota: &ResourceQuotaSpec) -> bool {
    requirements(quota).next().is_some()
}

/// Whether the quota counts this pod.
pub fn quota_covers(quota: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    requirements(quota).all(|it| is_in(&it, spec))
}

/// What pods take together of the resources that a quota limits.
#[derive(Clone, Debug, Default)]
pub struct PodUsage {
    requests: Amounts,
    limits: Amounts,
}

impl PodUsage {
    pub fn add(&mut self, pod: &Pod) {
        self.requests.add(&pod_requests(pod));
        self.limits.add(&pod_limits(pod));
    }

    /// The amount of what a quota calls `name`; `None`: it is not about what pods take.
    pub fn amount(&self, name: &str) -> Option<Quantity> {
        const SIZES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
        let is_size = |it: &str| SIZES.contains(&it);
        let is_request = |it: &str| is_size(it) || it.starts_with("hugepages-") || it.contains('/');
        let (amounts, resource) = match name.split_once('.') {
            Some(("limits", it)) if is_size(it) => (&self.limits, it),
            Some(("requests", it)) if is_request(it) => (&self.requests, it),
            _ if is_size(name) || name.starts_with("hugepages-") || name == "pods" => {
                (&self.requests, name)
            }
            _ => return None,
        };
        let amount = amounts.amount(resource);
        Some(match resource {
            "cpu" => Quantity::from_millis(amount),
            "memory" | "ephemeral-storage" => Quantity::new(amount, Format::BinarySi),
            it if it.starts_with("hugepages-") => Quantity::new(amount, Format::BinarySi),
            _ => Quantity::new(amount, Format::DecimalSi),
        })
    }
}

/// Whether a quota that is limited counts this claim of a volume: by its VolumeAttributesClasses, those that
/// it has, asks for, or is on the way to.
pub fn quota_covers_claim(quota: &ResourceQuotaSpec, claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let wished = claim.spec.as_ref().and_then(|it| it.volume_attributes_class_name.as_deref());
    let current = status.and_then(|it| it.current_volume_attributes_class_name.as_deref());
    let modified = status.and_then(|it| it.modify_volume_status.as_ref());
    let target = modified.and_then(|it| it.target_volume_attributes_class_name.as_deref());
    let classes: Vec<_> =
        [wished, current, target].into_iter().flatten().filter(|it| !it.is_empty()).collect();
    requirements(quota).all(|it| {
        let values = it.values.as_deref().unwrap_or_default();
        let is_listed = classes.iter().any(|class| values.iter().any(|value| value == class));
        it.scope_name == "VolumeAttributesClass"
            && match it.operator.as_str() {
                "In" => is_listed,
                "NotIn" => !is_listed,
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

    fn covers(quota: Value, spec: Value) -> bool {
        let mut full = json!({ "containers": [{ "name": "c" }] });
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let pod: Pod = serde_json::from_value(json!({ "spec": full })).unwrap();
        quota_covers(&serde_json::from_value(quota).unwrap(), &pod)
    }

    #[test]
    fn pods_take_what_they_ask_for_under_the_names_that_quotas_have_for_it() {
        let pod: Pod = serde_json::from_value(json!({ "spec": {
            "containers": [{ "name": "c", "resources": {
                "requests": { "cpu": "500m", "example.com/dongle": "2", "hugepages-2Mi": "4Mi" },
                "limits": { "memory": "1Gi" } } }],
            "overhead": { "cpu": "100m" } } }))
        .unwrap();
        let mut usage = PodUsage::default();
        usage.add(&pod);
        usage.add(&pod);
        for (name, expected) in [
            ("pods", Some("2")),
            ("cpu", Some("1200m")),
            ("requests.cpu", Some("1200m")),
            ("limits.cpu", Some("0")),
            ("limits.memory", Some("2Gi")),
            ("requests.example.com/dongle", Some("4")),
            ("hugepages-2Mi", Some("8Mi")),
            ("requests.hugepages-2Mi", Some("8Mi")),
            // Nobody limits these, or they are of other kinds.
            ("limits.example.com/dongle", None),
            ("example.com/dongle", None),
            ("requests.storage", None),
            ("services", None),
            ("gold.storageclass.storage.k8s.io/requests.storage", None),
        ] {
            let found = usage.amount(name).map(|it| it.to_string());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
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
            assert_eq!(covers(quota.clone(), spec.clone()), expected, "{quota} {spec}");
        }
    }

    #[test]
    fn a_claim_asks_for_as_many_devices_of_a_class_as_its_worst_case() {
        let sub = |class: &str, count: i64| json!({ "name": class, "deviceClassName": class, "count": count });
        let claim = json!({ "devices": { "requests": [
            { "name": "a", "exactly": { "deviceClassName": "gold", "count": 3 } },
            { "name": "b", "exactly": { "deviceClassName": "gold" } },
            { "name": "c", "firstAvailable": [sub("gold", 2), sub("gold", 5), sub("tin", 9)] },
            { "name": "d", "exactly": { "deviceClassName": "nic", "allocationMode": "All" } },
        ] } });
        let claim: ResourceClaimSpec = serde_json::from_value(claim).unwrap();
        let counts = ["gold", "tin", "nic", "none"].map(|it| quota_devices(&claim, it));
        assert_eq!(counts, [9, 9, 32, 0]);
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
        let counts = [&gold, &leaving, &plain].map(|it| quota_covers_claim(&is_gold, it));
        assert_eq!(counts, [true, true, false]);
        assert!(quota_covers_claim(&quota("DoesNotExist", Value::Null), &plain));
        assert!(quota_covers_claim(&quota("NotIn", json!(["gold"])), &plain));
        let of_pods = serde_json::from_value(json!({ "scopes": ["Terminating"] })).unwrap();
        assert!(!quota_covers_claim(&of_pods, &gold));
    }
}
