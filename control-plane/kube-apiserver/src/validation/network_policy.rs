//! NetworkPolicies.
//!
//! Upstream: `ValidateNetworkPolicy` in pkg/apis/networking/validation.

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const TYPES: &[&str] = &["Ingress", "Egress"];

pub(super) fn check(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    fields::selector(faults, "spec.podSelector", &spec["podSelector"]);
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(spec, list) {
            let at = format!("spec.{list}[{index}]");
            for (number, it) in items(rule, "ports") {
                port(faults, &format!("{at}.ports[{number}]"), it);
            }
            for (number, it) in items(rule, peers) {
                peer(faults, &format!("{at}.{peers}[{number}]"), it);
            }
        }
    }
    if items(spec, "policyTypes").count() > TYPES.len() {
        let why = "may not specify more than two policyTypes";
        return faults.invalid("spec.policyTypes", spec["policyTypes"].clone(), why);
    }
    for (index, kind) in items(spec, "policyTypes") {
        let kind = kind.as_str().unwrap_or_default();
        if !TYPES.contains(&kind) {
            let field = format!("spec.policyTypes[{index}]");
            faults.add(FieldError::not_supported(field, kind, TYPES));
        }
    }
}

fn port(faults: &mut Faults, at: &str, port: &Value) {
    let protocol = text(port, "protocol");
    if !port["protocol"].is_null() && !PROTOCOLS.contains(&protocol) {
        faults.add(FieldError::not_supported(format!("{at}.protocol"), protocol, PROTOCOLS));
    }
    if !port["port"].is_null() {
        fields::port_or_name(faults, &format!("{at}.port"), &port["port"]);
    }
    let Some(end) = port["endPort"].as_i64() else { return };
    let field = format!("{at}.endPort");
    let Some(start) = port["port"].as_i64() else {
        let lacks = if port["port"].is_null() { "not specified" } else { "non-numeric" };
        return faults.invalid(field, end, format!("may not be specified when `port` is {lacks}"));
    };
    if end < start {
        // What is told is where it begins.
        faults.invalid(&*field, start, "must be greater than or equal to `port`");
    }
    fields::port(faults, &field, &port["endPort"]);
}

fn peer(faults: &mut Faults, at: &str, peer: &Value) {
    let is_set = |field: &str| peer[field].is_object();
    for selector in ["podSelector", "namespaceSelector"] {
        fields::selector(faults, &format!("{at}.{selector}"), &peer[selector]);
    }
    if is_set("ipBlock") {
        block(faults, &format!("{at}.ipBlock"), &peer["ipBlock"]);
    }
    let selects = is_set("podSelector") || is_set("namespaceSelector");
    if !selects && !is_set("ipBlock") {
        faults.add(FieldError::required(at, "must specify a peer"));
    } else if selects && is_set("ipBlock") {
        faults.forbidden(at, "may not specify both ipBlock and another peer");
    }
}

fn block(faults: &mut Faults, at: &str, block: &Value) {
    let (cidr, field) = (text(block, "cidr"), format!("{at}.cidr"));
    if cidr.is_empty() {
        return faults.required(field);
    }
    let Ok(range) = cidr.parse::<ipnet::IpNet>() else {
        return fields::cidr(faults, &field, cidr);
    };
    for (index, except) in items(block, "except") {
        let (field, except) =
            (format!("{at}.except[{index}]"), except.as_str().unwrap_or_default());
        match except.parse::<ipnet::IpNet>() {
            Err(_) => fields::cidr(faults, &field, except),
            Ok(it) if range.contains(&it.network()) && it.prefix_len() > range.prefix_len() => {}
            Ok(_) => faults.invalid(field, except, "must be a strict subset of `cidr`"),
        }
    }
}
