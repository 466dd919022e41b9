//! What of a Service stays: its addresses, its families, its load balancer's class.
//!
//! Upstream: `ValidateServiceUpdate` in pkg/apis/core/validation.

use serde_json::{Value, json};

use super::is_headless;
use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text},
};

const CHANGED: &str = "may not change once set";
const MODES: &[&str] = &["Proxy", "VIP"];

pub(in crate::validation) fn check(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    if before["type"] != "ExternalName" && after["type"] != "ExternalName" {
        if !(is_headless(before) && is_headless(after)) {
            let field = "spec.clusterIPs";
            stays(faults, field, &addresses(before), &addresses(after), after, "clusterIP");
        }
        if !is_headless(before) && !is_headless(after) {
            let (was, is) = (texts(before, "ipFamilies"), texts(after, "ipFamilies"));
            stays(faults, "spec.ipFamilies", &was, &is, after, "ipFamily");
        }
    }
    let balanced = |spec: &Value| spec["type"] == "LoadBalancer";
    if !balanced(before) || !balanced(after) {
        return;
    }
    if before["loadBalancerClass"] != after["loadBalancerClass"] {
        let class = after["loadBalancerClass"].clone();
        faults.invalid("spec.loadBalancerClass", class, CHANGED);
    }
    let is_local = |spec: &Value| spec["externalTrafficPolicy"] == "Local";
    let port = |spec: &Value| spec["healthCheckNodePort"].as_i64().unwrap_or_default();
    if is_local(before) && is_local(after) && port(before) != port(after) {
        faults.forbidden("spec.healthCheckNodePort", "field is immutable");
    }
}

fn texts<'a>(spec: &'a Value, list: &str) -> Vec<&'a str> {
    items(spec, list).filter_map(|(_, it)| it.as_str()).collect()
}

fn addresses(spec: &Value) -> Vec<&str> {
    match (texts(spec, "clusterIPs"), text(spec, "clusterIP")) {
        (all, "") => all,
        (all, first) if all.is_empty() => vec![first],
        (mut all, first) => {
            all[0] = first;
            all
        }
    }
}

/// The first stays; a second may come and, with the policy that says so, go.
fn stays(faults: &mut Faults, field: &str, old: &[&str], new: &[&str], spec: &Value, what: &str) {
    if old.len() == new.len() {
        for (index, _) in old.iter().zip(new).enumerate().filter(|(_, (was, is))| was != is) {
            faults.invalid(format!("{field}[{index}]"), json!(new), CHANGED);
        }
        return;
    }
    let first = format!("{field}[0]");
    if new.is_empty() {
        let why = format!("primary {what} can not be unset");
        return faults.invalid(first, json!(new), why);
    }
    if !old.is_empty() && old[0] != new[0] {
        faults.invalid(first, json!(new), CHANGED);
    }
    if old.len() > new.len() && spec["ipFamilyPolicy"] != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        faults.invalid("spec.ipFamilyPolicy", spec["ipFamilyPolicy"].clone(), why);
    }
}

/// Where a Service, or an Ingress, is reached.
pub(in crate::validation) fn load_balancer_status(
    faults: &mut Faults,
    object: &Value,
    is_service: bool,
) {
    let list = "status.loadBalancer.ingress";
    let status = &object["status"]["loadBalancer"];
    if is_service
        && object["spec"]["type"] != "LoadBalancer"
        && items(status, "ingress").next().is_some()
    {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        return faults.forbidden(list, why);
    }
    for (index, ingress) in items(status, "ingress") {
        let at = format!("{list}[{index}]");
        let (ip, name) = (text(ingress, "ip"), text(ingress, "hostname"));
        if !ip.is_empty() {
            fields::ip(faults, &format!("{at}.ip"), ip);
        }
        if is_service {
            mode(faults, &format!("{at}.ipMode"), &ingress["ipMode"], !ip.is_empty());
        }
        if !name.is_empty() {
            let field = format!("{at}.hostname");
            faults.each(&field, name, fields::subdomain(name));
            if name.parse::<std::net::IpAddr>().is_ok() {
                faults.invalid(field, name, "must be a DNS name, not an IP address");
            }
        }
    }
}

fn mode(faults: &mut Faults, field: &str, mode: &Value, has_ip: bool) {
    match mode.as_str() {
        None if has_ip => {
            let why = "must be specified when `ip` is set";
            faults.add(FieldError::required(field, why));
        }
        Some(_) if !has_ip => faults.forbidden(field, "may not be specified when `ip` is not set"),
        Some(it) if !MODES.contains(&it) => {
            faults.add(FieldError::not_supported(field, it, MODES));
        }
        _ => {}
    }
}
