//! What an update of a Service keeps and what it drops, before anything is allocated.
//!
//! Addresses and ports that the client left out stay as they were. What the Service's new type has
//! no use for goes, if the client did not change it at the same time: it may have been filled in
//! by the server. What the client did change is left to the validation.
//!
//! Upstream: pkg/registry/core/service/storage/storage.go (`patchAllocatedValues`),
//! pkg/registry/core/service/strategy.go (`dropTypeDependentFields`).

use serde_json::Value;

use super::{has_cluster_ip, has_health_check_port, has_node_ports};

pub(crate) fn keep_allocations(old: &Value, new: &mut Value) {
    drop_what_no_longer_applies(old, new);
    let is_absent = |it: &Value| it.as_str().unwrap_or_default().is_empty();
    if has_cluster_ip(old) && has_cluster_ip(new) && is_absent(&new["spec"]["clusterIP"]) {
        keep(old, new, &["clusterIP", "clusterIPs"]);
    }
    if has_node_ports(old) && has_node_ports(new) {
        keep_node_ports(old, new);
    }
    let has_none = new["spec"]["healthCheckNodePort"].as_u64().unwrap_or_default() == 0;
    if has_health_check_port(old) && has_health_check_port(new) && has_none {
        keep(old, new, &["healthCheckNodePort"]);
    }
}

fn keep(old: &Value, new: &mut Value, fields: &[&str]) {
    for field in fields {
        let kept = &old["spec"][field];
        if !kept.is_null() {
            new["spec"][field] = kept.clone();
        }
    }
}

fn keep_node_ports(old: &Value, new: &mut Value) {
    let known = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in ports_mut(new) {
        if port["nodePort"].as_u64().unwrap_or_default() == 0 {
            let same = known
                .iter()
                .find(|it| it["port"] == port["port"] && it["protocol"] == port["protocol"]);
            if let Some(number) = same.map(|it| it["nodePort"].clone()).filter(|it| !it.is_null()) {
                port["nodePort"] = number;
            }
        }
    }
}

fn drop_what_no_longer_applies(old: &Value, new: &mut Value) {
    let is_external = |it: &Value| it["spec"]["type"] == "ExternalName";
    if is_external(new) && !is_external(old) {
        if new["spec"]["clusterIP"] == old["spec"]["clusterIP"] {
            remove(new, &["clusterIP", "clusterIPs"]);
        }
        drop_unchanged(old, new, &["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
    }
    if has_node_ports(old) && !has_node_ports(new) && node_ports(old) == node_ports(new) {
        for port in ports_mut(new) {
            port.as_object_mut().map(|it| it.remove("nodePort"));
        }
    }
    if has_health_check_port(old) && !has_health_check_port(new) {
        drop_unchanged(old, new, &["healthCheckNodePort"]);
    }
    let has_external_ips =
        |it: &Value| it["spec"]["externalIPs"].as_array().is_some_and(|it| !it.is_empty());
    let is_reachable =
        |it: &Value| it["spec"]["type"] == "NodePort" || is_balanced(it) || has_external_ips(it);
    if is_reachable(old) && !is_reachable(new) {
        drop_unchanged(old, new, &["externalTrafficPolicy"]);
    }
    if is_balanced(old) && !is_balanced(new) {
        drop_unchanged(old, new, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
}

fn is_balanced(service: &Value) -> bool {
    service["spec"]["type"] == "LoadBalancer"
}

fn drop_unchanged(old: &Value, new: &mut Value, fields: &[&str]) {
    for field in fields {
        if old["spec"][field] == new["spec"][field] {
            remove(new, &[field]);
        }
    }
}

fn remove(service: &mut Value, fields: &[&str]) {
    if let Some(spec) = service["spec"].as_object_mut() {
        fields.iter().for_each(|it| drop(spec.remove(*it)));
    }
}

/// The node ports in their order, those of ports without one as zero.
fn node_ports(service: &Value) -> Vec<u64> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.map(|it| it["nodePort"].as_u64().unwrap_or_default()).collect()
}

fn ports_mut(service: &mut Value) -> impl Iterator<Item = &mut Value> {
    service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten()
}
