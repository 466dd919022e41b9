//! `pods/status`: what a kubelet cannot take back.
//!
//! Upstream: `ValidatePodStatusUpdate` in pkg/apis/core/validation.

use std::{collections::HashSet, net::IpAddr};

use serde_json::Value;

use super::annotations;
use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text},
};

const OWN: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
const LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];
const HEALTH: &[&str] = &["Healthy", "Unhealthy", "Unknown"];
const OF_ONE_FAMILY: &str = "may specify no more than one IP for each IP family";

pub(in crate::validation) fn check(faults: &mut Faults, old: &Value, new: &Value) {
    annotations(faults, old, new);
    let (before, after) = (&old["status"], &new["status"]);
    for (index, condition) in items(after, "conditions") {
        let kind = text(condition, "type");
        if !OWN.contains(&kind) {
            // As upstream names the place.
            let field = format!("metadata.conditions[{index}].Type");
            faults.each(&field, kind, fields::qualified_name(kind));
        }
    }
    let nominated = text(after, "nominatedNodeName");
    if !nominated.is_empty() && nominated != text(before, "nominatedNodeName") {
        faults.each("status.nominatedNodeName", nominated, fields::subdomain(nominated));
    }
    if text(before, "qosClass") != text(after, "qosClass") {
        faults.invalid("status.qosClass", after["qosClass"].clone(), "field is immutable");
    }
    for (list, containers) in LISTS {
        terminated_stay(faults, list, containers, old, new);
    }
    claims(faults, after, &new["spec"]);
    addresses(faults, "status.podIPs", &after["podIPs"]);
    host_addresses(faults, after);
    for (list, containers) in LISTS {
        health(faults, list, containers, new);
    }
}

/// A container that has ended and is not to start again has ended.
fn terminated_stay(faults: &mut Faults, list: &str, kind: &str, old: &Value, new: &Value) {
    for (index, status) in items(&old["status"], list) {
        let ended = &status["state"]["terminated"];
        if !ended.is_object() || may_restart(&old["spec"], kind, status) {
            continue;
        }
        let mut now = items(&new["status"], list).filter(|(_, it)| it["name"] == status["name"]);
        if now.any(|(_, it)| !it["state"]["terminated"].is_object()) {
            let why = "may not be transitioned to non-terminated state";
            faults.forbidden(format!("status.{list}[{index}].state"), why);
        }
    }
}

fn may_restart(spec: &Value, kind: &str, status: &Value) -> bool {
    if kind == "ephemeralContainers" {
        return false;
    }
    let container = items(spec, kind).find(|(_, it)| it["name"] == status["name"]);
    let container = container.map_or(&Value::Null, |(_, it)| it);
    let restarts_all = ["containers", "initContainers"].into_iter().any(|list| {
        items(spec, list).any(|(_, it)| {
            items(it, "restartPolicyRules").any(|(_, it)| it["action"] == "RestartAllContainers")
        })
    });
    let has_rules = items(container, "restartPolicyRules").next().is_some();
    let own = container["restartPolicy"].as_str();
    let has_failed = status["state"]["terminated"]["exitCode"].as_i64().unwrap_or_default() != 0;
    match own.unwrap_or_else(|| text(spec, "restartPolicy")) {
        _ if restarts_all || has_rules => true,
        "Always" => true,
        "OnFailure" => has_failed,
        _ => false,
    }
}

fn claims(faults: &mut Faults, status: &Value, spec: &Value) {
    let mut names = HashSet::new();
    for (index, claim) in items(status, "resourceClaimStatuses") {
        let field = format!("status.resourceClaimStatuses[{index}].name");
        let name = text(claim, "name");
        if !items(spec, "resourceClaims").any(|(_, it)| text(it, "name") == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            faults.invalid(&*field, name, why);
        }
        if !names.insert(name) {
            faults.add(FieldError::duplicate(&*field, name));
        }
        if let Some(made) = claim["resourceClaimName"].as_str() {
            faults.each(&field, made, fields::subdomain(made));
        }
    }
}

/// At most one of each family, each once.
fn addresses(faults: &mut Faults, at: &str, list: &Value) {
    let all: Vec<&Value> = list.as_array().into_iter().flatten().collect();
    for (index, it) in all.iter().enumerate() {
        fields::ip(faults, &format!("{at}[{index}]"), text(it, "ip"));
    }
    if all.len() < 2 {
        return;
    }
    let parsed: Vec<IpAddr> = all.iter().filter_map(|it| text(it, "ip").parse().ok()).collect();
    let families: HashSet<bool> = parsed.iter().map(IpAddr::is_ipv4).collect();
    if families.len() != 2 || all.len() > 2 {
        faults.invalid(at, list.clone(), OF_ONE_FAMILY);
    }
    let mut seen = HashSet::new();
    for (index, it) in all.iter().enumerate() {
        if !seen.insert(text(it, "ip")) {
            faults.add(FieldError::duplicate(format!("{at}[{index}]"), (*it).clone()));
        }
    }
}

fn host_addresses(faults: &mut Faults, status: &Value) {
    let Some((_, first)) = items(status, "hostIPs").next() else { return };
    if text(first, "ip") != text(status, "hostIP") {
        faults.invalid("status.hostIPs[0].ip", text(first, "ip"), "must be equal to `hostIP`");
    }
    addresses(faults, "status.hostIPs", &status["hostIPs"]);
}

/// What is said of devices is of devices that the container has.
fn health(faults: &mut Faults, list: &str, kind: &str, pod: &Value) {
    for (index, status) in items(&pod["status"], list) {
        let at = format!("status.{list}[{index}].allocatedResourcesStatus");
        if kind == "ephemeralContainers" {
            if items(status, "allocatedResourcesStatus").next().is_some() {
                faults.forbidden(at, "must not be specified in container status");
            }
            continue;
        }
        let container = items(&pod["spec"], kind).find(|(_, it)| it["name"] == status["name"]);
        for (number, resource) in items(status, "allocatedResourcesStatus") {
            let at = format!("{at}[{number}]");
            if let Some((_, container)) = container {
                is_asked_for(faults, &at, resource, container);
            }
            let mut ids = HashSet::new();
            for (number, device) in items(resource, "resources") {
                let at = format!("{at}.resources[{number}]");
                let (id, health) = (text(device, "resourceID"), text(device, "health"));
                if !HEALTH.contains(&health) {
                    faults.add(FieldError::not_supported(format!("{at}.health"), health, HEALTH));
                }
                if !ids.insert(id) {
                    faults.add(FieldError::duplicate(format!("{at}.resourceID"), id));
                }
            }
        }
    }
}

fn is_asked_for(faults: &mut Faults, at: &str, resource: &Value, container: &Value) {
    let (name, asked) = (text(resource, "name"), &container["resources"]);
    let (is_known, why) = if let Some(claim) = name.strip_prefix("claim:") {
        let is_it = |it: &Value| match text(it, "request") {
            "" => text(it, "name") == claim,
            request => format!("{}/{request}", text(it, "name")) == claim,
        };
        let why = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
        (items(asked, "claims").any(|(_, it)| is_it(it)), why)
    } else {
        let is_known = !asked["requests"][name].is_null();
        (is_known, "must match one of the container's resource requests")
    };
    if !is_known {
        faults.invalid(format!("{at}.name"), name, why);
    }
}
