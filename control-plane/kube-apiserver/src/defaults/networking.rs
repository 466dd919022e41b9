//! Defaults of Services, their endpoints, and network policies.

use serde_json::{Value, json};

use super::{at, each, or, or_text};

/// Upstream's three hours.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) fn service(object: &mut Value) {
    let spec = at(object, "spec");
    or_text(spec, "sessionAffinity", "None");
    or_text(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "ClientIP" {
        let client = at(at(spec, "sessionAffinityConfig"), "clientIP");
        or(client, "timeoutSeconds", json!(AFFINITY_SECONDS));
    } else if let Some(fields) = spec.as_object_mut() {
        fields.remove("sessionAffinityConfig");
    }
    for port in each(spec, "ports") {
        or_text(port, "protocol", "TCP");
        let number = port["port"].clone();
        let target = port["targetPort"].clone();
        if target.is_null() || target == 0 || target == "" {
            port["targetPort"] = number;
        }
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        or(spec, "internalTrafficPolicy", json!("Cluster"));
        if spec["clusterIP"] == "None" {
            or(spec, "clusterIPs", json!(["None"]));
        }
    }
    let has_external = spec["externalIPs"].as_array().is_some_and(|it| !it.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || kind == "ClusterIP" && has_external {
        or(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        or(spec, "allocateLoadBalancerNodePorts", json!(true));
        let balancer = object.pointer_mut("/status/loadBalancer");
        for ingress in balancer.into_iter().flat_map(|it| each(it, "ingress")) {
            if ingress["ip"].as_str().is_some_and(|it| !it.is_empty()) {
                or_text(ingress, "ipMode", "VIP");
            }
        }
    }
}

pub(super) fn endpoints(object: &mut Value) {
    for subset in each(object, "subsets") {
        for port in each(subset, "ports") {
            or_text(port, "protocol", "TCP");
        }
    }
}

pub(super) fn endpoint_slice(object: &mut Value) {
    for port in each(object, "ports") {
        or(port, "name", json!(""));
        or(port, "protocol", json!("TCP"));
    }
}

pub(super) fn policy(object: &mut Value) {
    let spec = at(object, "spec");
    let has_egress = spec["egress"].as_array().is_some_and(|it| !it.is_empty());
    if spec["policyTypes"].as_array().is_none_or(Vec::is_empty) {
        spec["policyTypes"] =
            if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    at(spec, "podSelector");
    for list in ["ingress", "egress"] {
        for rule in each(spec, list) {
            for port in each(rule, "ports") {
                or(port, "protocol", json!("TCP"));
            }
        }
    }
}
