//! What a Service needs, from what it says and what it said before: pure.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::FINALIZER;

/// One with a class is another controller's.
pub(super) fn wants(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    is_load_balancer(service) && spec.is_some_and(|it| it.load_balancer_class.is_none())
}

fn is_load_balancer(service: &Service) -> bool {
    kind(service) == "LoadBalancer"
}

fn kind(service: &Service) -> &str {
    service.spec.as_ref().and_then(|it| it.type_.as_deref()).unwrap_or_default()
}

/// Whether a load balancer that was made for it is to go.
pub(super) fn cleanup(service: &Service) -> bool {
    service.finalizers().iter().any(|it| it == FINALIZER)
        && (service.metadata.deletion_timestamp.is_some() || !is_load_balancer(service))
}

/// Whether a change matters to a load balancer.
pub(super) fn update(old: &Service, new: &Service) -> bool {
    if !wants(old) && !wants(new) {
        return false;
    }
    wants(old) != wants(new) || differ(old, new)
}

/// Whether what was made for `old` does for `new`.
pub(super) fn differ(old: &Service, new: &Service) -> bool {
    let (one, other) = (old.spec.clone().unwrap_or_default(), new.spec.clone().unwrap_or_default());
    old.uid() != new.uid()
        || old.annotations() != new.annotations()
        || one.ports != other.ports
        || one.load_balancer_source_ranges != other.load_balancer_source_ranges
        || one.session_affinity != other.session_affinity
        || one.session_affinity_config != other.session_affinity_config
        || one.load_balancer_ip != other.load_balancer_ip
        || one.external_ips != other.external_ips
        || one.external_traffic_policy != other.external_traffic_policy
        || one.health_check_node_port != other.health_check_node_port
}

/// What upstream tells of a change: of the first thing that changed.
pub(super) fn event(old: &Service, new: &Service) -> Option<(&'static str, String)> {
    if !update(old, new) {
        return None;
    }
    if wants(old) != wants(new) {
        return Some(("Type", format!("{} -> {}", kind(old), kind(new))));
    }
    let (one, other) = (old.spec.clone().unwrap_or_default(), new.spec.clone().unwrap_or_default());
    let list = |it: &Option<Vec<String>>| format!("[{}]", it.clone().unwrap_or_default().join(" "));
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let number = |it: Option<i32>| it.unwrap_or_default();
    let changed = |is: bool, reason, from: String, to: String| {
        is.then(|| (reason, format!("{from} -> {to}")))
    };
    let (ranges, others) = (&one.load_balancer_source_ranges, &other.load_balancer_source_ranges);
    changed(ranges != others, "LoadBalancerSourceRanges", list(ranges), list(others))
        .or_else(|| {
            let (ip, other) = (&one.load_balancer_ip, &other.load_balancer_ip);
            changed(ip != other, "LoadbalancerIP", text(ip), text(other))
        })
        .or_else(|| {
            let (is, to) = (&one.external_traffic_policy, &other.external_traffic_policy);
            changed(is != to, "ExternalTrafficPolicy", text(is), text(to))
        })
        .or_else(|| {
            let (is, to) = (one.health_check_node_port, other.health_check_node_port);
            let (from, into) = (number(is).to_string(), number(to).to_string());
            changed(is != to, "HealthCheckNodePort", from, into)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(kind: &str, more: Value) -> Service {
        let mut it = json!({
            "metadata": { "name": "web", "uid": "1", "finalizers": [FINALIZER] },
            "spec": { "type": kind, "ports": [{ "port": 80 }] },
        });
        for (pointer, value) in more.as_object().unwrap() {
            let (at, key) = pointer.rsplit_once('/').unwrap();
            it.pointer_mut(at).unwrap()[key] = value.clone();
        }
        serde_json::from_value(it).unwrap()
    }

    #[test]
    fn a_service_with_a_class_is_somebody_elses() {
        assert!(wants(&service("LoadBalancer", json!({}))));
        assert!(!wants(&service("NodePort", json!({}))));
        let class = json!({ "/spec/loadBalancerClass": "service.k8s.aws/nlb" });
        assert!(!wants(&service("LoadBalancer", class)));
    }

    #[test]
    fn what_is_deleted_or_of_another_type_now_is_cleaned_up() {
        assert!(!cleanup(&service("LoadBalancer", json!({}))));
        assert!(cleanup(&service("ClusterIP", json!({}))));
        let deleted = json!({ "/metadata/deletionTimestamp": "2026-11-29T00:00:00Z" });
        assert!(cleanup(&service("LoadBalancer", deleted.clone())));
        let mut foreign = service("LoadBalancer", deleted);
        foreign.metadata.finalizers = None;
        assert!(!cleanup(&foreign));
    }

    #[test]
    fn a_change_that_matters_starts_a_pass_and_is_told() {
        let old = service("LoadBalancer", json!({}));
        let labels = service("LoadBalancer", json!({ "/metadata/labels": { "a": "b" } }));
        assert!(!update(&old, &labels));
        let annotated = service("LoadBalancer", json!({ "/metadata/annotations": { "a": "b" } }));
        assert!(update(&old, &annotated));
        let ranges = json!({ "/spec/loadBalancerSourceRanges": ["10.0.0.0/8"] });
        let told = event(&old, &service("LoadBalancer", ranges));
        assert_eq!(told, Some(("LoadBalancerSourceRanges", "[] -> [10.0.0.0/8]".to_owned())));
        let told = event(&old, &service("ClusterIP", json!({})));
        assert_eq!(told, Some(("Type", "LoadBalancer -> ClusterIP".to_owned())));
    }
}
