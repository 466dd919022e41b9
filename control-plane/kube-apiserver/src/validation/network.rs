//! Services, endpoints, network policies, ingresses.
//!
//! Upstream: `ValidateService` in pkg/apis/core/validation, pkg/apis/{discovery,networking}.

use std::collections::HashSet;

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const MAX_ENDPOINTS: usize = 1000;

pub(super) fn service(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let kind = text(spec, "type");
    let is_headless = spec["clusterIP"] == "None";
    let has_ports = spec["ports"].as_array().is_some_and(|it| !it.is_empty());
    if !has_ports && kind != "ExternalName" && !is_headless {
        faults.required("spec.ports");
    }
    faults.one_of("spec.type", &spec["type"], TYPES);
    faults.one_of("spec.sessionAffinity", &spec["sessionAffinity"], &["ClientIP", "None"]);
    match kind {
        "ExternalName" => {
            let name = text(spec, "externalName").trim_end_matches('.');
            if name.is_empty() {
                faults.required("spec.externalName");
            } else {
                faults.each("spec.externalName", name, fields::subdomain(name));
            }
            if !text(spec, "clusterIP").is_empty() {
                let why = "may not be set for ExternalName services";
                faults.add(FieldError::forbidden("spec.clusterIPs", why));
            }
        }
        "NodePort" | "LoadBalancer" if is_headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            faults.invalid("spec.clusterIPs[0]", "None", why);
        }
        _ => {}
    }
    fields::labels(faults, "spec.selector", &spec["selector"]);
    service_ports(faults, spec, kind);
    for (field, supported) in [
        ("externalTrafficPolicy", &["Cluster", "Local"]),
        ("internalTrafficPolicy", &["Cluster", "Local"]),
        ("ipFamilyPolicy", &["PreferDualStack", "SingleStack"]),
    ] {
        let value = text(spec, field);
        let is_known = supported.contains(&value) || value == "RequireDualStack";
        if !value.is_empty() && !is_known {
            let supported: &[&str] = supported;
            faults.add(FieldError::not_supported(format!("spec.{field}"), value, supported));
        }
    }
    external_policy(faults, spec, kind);
    families(faults, spec);
}

fn external_policy(faults: &mut Faults, spec: &Value, kind: &str) {
    let is_reachable = matches!(kind, "NodePort" | "LoadBalancer")
        || spec["externalIPs"].as_array().is_some_and(|it| !it.is_empty());
    if !text(spec, "externalTrafficPolicy").is_empty() && !is_reachable {
        let why = "may only be set for externally-accessible services";
        let policy = spec["externalTrafficPolicy"].clone();
        faults.invalid("spec.externalTrafficPolicy", policy, why);
    }
    let timeout = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if let Some(seconds) = timeout.as_i64().filter(|it| !(1..=86400).contains(it)) {
        let why = "must be greater than 0 and less than 86400";
        faults.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, why);
    }
    for (index, address) in items(spec, "externalIPs") {
        self::address(
            faults,
            &format!("spec.externalIPs[{index}]"),
            address.as_str().unwrap_or_default(),
        );
    }
    let distribution = text(spec, "trafficDistribution");
    let supported = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    if !distribution.is_empty() && !supported.contains(&distribution) {
        let field = "spec.trafficDistribution";
        faults.add(FieldError::not_supported(field, distribution, &supported));
    }
}

/// The cluster has one family; which one is seen where addresses are given out.
fn families(faults: &mut Faults, spec: &Value) {
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        faults.invalid("spec.ipFamilyPolicy", "RequireDualStack", why);
    }
}

fn service_ports(faults: &mut Faults, spec: &Value, kind: &str) {
    let count = spec["ports"].as_array().map_or(0, Vec::len);
    let (mut names, mut places, mut nodes) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (index, port) in items(spec, "ports") {
        let at = format!("spec.ports[{index}]");
        let name = text(port, "name");
        if name.is_empty() && count > 1 {
            faults.required(format!("{at}.name"));
        } else if !name.is_empty() {
            faults.each(&format!("{at}.name"), name, fields::label(name));
            if !names.insert(name) {
                faults.add(FieldError::duplicate(format!("{at}.name"), name));
            }
        }
        fields::port(faults, &format!("{at}.port"), &port["port"]);
        faults.one_of(&format!("{at}.protocol"), &port["protocol"], PROTOCOLS);
        if !port["targetPort"].is_null() && kind != "ExternalName" {
            fields::port_or_name(faults, &format!("{at}.targetPort"), &port["targetPort"]);
        }
        let number = port["nodePort"].as_i64().unwrap_or_default();
        let protocol = text(port, "protocol");
        if number != 0 && matches!(kind, "ClusterIP" | "ExternalName") {
            let why = format!("may not be used when `type` is '{kind}'");
            faults.add(FieldError::forbidden(format!("{at}.nodePort"), why));
        } else if number != 0 && !nodes.insert((number, protocol)) {
            faults.add(FieldError::duplicate(format!("{at}.nodePort"), number));
        }
        if !places.insert((port["port"].as_i64(), protocol)) {
            faults.add(FieldError::duplicate(at, port.clone()));
        }
    }
}

pub(super) fn service_update(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    let keeps_address = before["type"] != "ExternalName" && after["type"] != "ExternalName";
    let had_one = !text(before, "clusterIP").is_empty();
    if keeps_address && had_one && before["clusterIP"] != after["clusterIP"] {
        let shown = after["clusterIP"].as_str().map_or_else(Vec::new, |it| vec![it.to_owned()]);
        faults.invalid("spec.clusterIPs[0]", shown, "may not change once set");
    }
}

fn address(faults: &mut Faults, field: &str, address: &str) {
    let why = match address.parse::<std::net::IpAddr>() {
        Err(_) => Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        Ok(it) => special(it),
    };
    if let Some(why) = why {
        faults.invalid(field, address, why);
    }
}

/// Why an address cannot be that of an endpoint.
pub(super) fn special(address: std::net::IpAddr) -> Option<&'static str> {
    match address {
        it if it.is_unspecified() => Some("may not be unspecified (0.0.0.0 or ::)"),
        it if it.is_loopback() => Some("may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        it if is_link_local(it) => {
            Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
        }
        it if it.is_multicast() => {
            Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
        }
        _ => None,
    }
}

fn is_link_local(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(it) => it.is_link_local(),
        std::net::IpAddr::V6(it) => it.is_unicast_link_local(),
    }
}

pub(super) fn endpoints(faults: &mut Faults, object: &Value) {
    for (index, subset) in items(object, "subsets") {
        let at = format!("subsets[{index}]");
        let is_empty = |list: &str| subset[list].as_array().is_none_or(Vec::is_empty);
        if is_empty("addresses") && is_empty("notReadyAddresses") {
            let why = "must specify `addresses` or `notReadyAddresses`";
            faults.add(FieldError::required(at.clone(), why));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (number, it) in items(subset, list) {
                address(faults, &format!("{at}.{list}[{number}].ip"), text(it, "ip"));
            }
        }
        for (number, port) in items(subset, "ports") {
            fields::port(faults, &format!("{at}.ports[{number}].port"), &port["port"]);
        }
    }
}

pub(super) fn slice(faults: &mut Faults, object: &Value) {
    faults.one_of("addressType", &object["addressType"], &["FQDN", "IPv4", "IPv6"]);
    let kind = text(object, "addressType");
    if object["endpoints"].as_array().is_some_and(|it| it.len() > MAX_ENDPOINTS) {
        let detail = format!("must have at most {MAX_ENDPOINTS} items");
        faults.add(FieldError::invalid("endpoints", Value::Null, detail));
    }
    for (index, endpoint) in items(object, "endpoints") {
        let at = format!("endpoints[{index}]");
        if endpoint["addresses"].as_array().is_none_or(Vec::is_empty) {
            let why = "must contain at least 1 address";
            faults.add(FieldError::required(format!("{at}.addresses"), why));
        }
        for (number, it) in items(endpoint, "addresses") {
            let field = format!("{at}.addresses[{number}]");
            let it = it.as_str().unwrap_or_default();
            match kind {
                "IPv4" if it.parse::<std::net::Ipv4Addr>().is_err() => {
                    faults.invalid(field, it, "must be a valid IPv4 address");
                }
                "IPv6" if it.parse::<std::net::Ipv6Addr>().is_err() => {
                    faults.invalid(field, it, "must be a valid IPv6 address");
                }
                "FQDN" => faults.each(&field, it, fields::subdomain(it)),
                _ => address(faults, &field, it),
            }
        }
    }
    let mut names = HashSet::new();
    for (index, port) in items(object, "ports") {
        let name = text(port, "name");
        if !names.insert(name) {
            faults.add(FieldError::duplicate(format!("ports[{index}].name"), name));
        }
        if !port["port"].is_null() {
            fields::port(faults, &format!("ports[{index}].port"), &port["port"]);
        }
    }
}

pub(super) fn policy(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    fields::selector(faults, "spec.podSelector", &spec["podSelector"]);
    for (index, kind) in items(spec, "policyTypes") {
        let kind = kind.as_str().unwrap_or_default();
        if !matches!(kind, "Ingress" | "Egress") {
            let field = format!("spec.policyTypes[{index}]");
            faults.add(FieldError::not_supported(field, kind, &["Egress", "Ingress"]));
        }
    }
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(spec, list) {
            let at = format!("spec.{list}[{index}]");
            for (number, port) in items(rule, "ports") {
                policy_port(faults, &format!("{at}.ports[{number}]"), port);
            }
            for (number, it) in items(rule, peers) {
                peer(faults, &format!("{at}.{peers}[{number}]"), it);
            }
        }
    }
}

fn policy_port(faults: &mut Faults, at: &str, port: &Value) {
    let protocol = text(port, "protocol");
    if !protocol.is_empty() && !PROTOCOLS.contains(&protocol) {
        faults.add(FieldError::not_supported(format!("{at}.protocol"), protocol, PROTOCOLS));
    }
    if !port["port"].is_null() {
        fields::port_or_name(faults, &format!("{at}.port"), &port["port"]);
    }
    if let Some(end) = port["endPort"].as_i64() {
        match port["port"].as_i64() {
            Some(start) if end < start => {
                faults.invalid(
                    format!("{at}.endPort"),
                    end,
                    "must be greater than or equal to `port`",
                );
            }
            None => {
                let lacks = if port["port"].is_null() { "not specified" } else { "non-numeric" };
                let why = format!("may not be specified when `port` is {lacks}");
                faults.invalid(format!("{at}.endPort"), end, why);
            }
            _ => {}
        }
    }
}

fn peer(faults: &mut Faults, at: &str, peer: &Value) {
    let is_set = |field: &str| peer[field].is_object();
    if !["podSelector", "namespaceSelector", "ipBlock"].into_iter().any(is_set) {
        faults.add(FieldError::required(at, "must specify a peer"));
    }
    if is_set("ipBlock") && (is_set("podSelector") || is_set("namespaceSelector")) {
        let why = "may not specify both ipBlock and another peer";
        faults.add(FieldError::forbidden(at, why));
    }
    if is_set("ipBlock") {
        let cidr = text(&peer["ipBlock"], "cidr");
        let field = format!("{at}.ipBlock.cidr");
        let Ok(block) = cidr.parse::<ipnet::IpNet>() else {
            faults.invalid(
                field,
                cidr,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
            return;
        };
        for (index, except) in items(&peer["ipBlock"], "except") {
            let except = except.as_str().unwrap_or_default();
            let is_inside =
                except.parse::<ipnet::IpNet>().is_ok_and(|it| block.contains(&it) && it != block);
            if !is_inside {
                let why = format!("must be a strict subset of `cidr`: \"{cidr}\"");
                faults.invalid(format!("{at}.ipBlock.except[{index}]"), except, why);
            }
        }
    }
}

pub(super) fn ingress(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let has_rules = spec["rules"].as_array().is_some_and(|it| !it.is_empty());
    if !has_rules && !spec["defaultBackend"].is_object() {
        faults.invalid(
            "spec",
            spec.clone(),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    for (index, rule) in items(spec, "rules") {
        for (number, path) in items(&rule["http"], "paths") {
            let at = format!("spec.rules[{index}].http.paths[{number}]");
            let kind = text(path, "pathType");
            let supported = &["Exact", "ImplementationSpecific", "Prefix"];
            if kind.is_empty() {
                faults.add(FieldError::required(
                    format!("{at}.pathType"),
                    "pathType must be specified",
                ));
            } else if !supported.contains(&kind) {
                faults.add(FieldError::not_supported(format!("{at}.pathType"), kind, supported));
            }
            let value = text(path, "path");
            if kind != "ImplementationSpecific" && !value.starts_with('/') {
                faults.invalid(format!("{at}.path"), value, "must be an absolute path");
            }
        }
    }
}
