//! Nodes, leases, classes, and servers of other APIs.

use serde_json::Value;

use super::{Faults, fields, items, node_selector, pod::requirements, text};
use crate::{resources::meta, status::FieldError};

/// User-made priorities end here; above are the system's.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;

pub(super) fn node(faults: &mut Faults, object: &Value) {
    node_selector::taints(faults, "metadata.taints", object);
    node_resources(faults, &object["status"]);
    let cidrs: Vec<&str> =
        items(&object["spec"], "podCIDRs").filter_map(|(_, it)| it.as_str()).collect();
    let field = "spec.podCIDRs";
    for (index, cidr) in cidrs.iter().enumerate() {
        let at = format!("{field}[{index}]");
        fields::cidr(faults, &at, cidr);
        if cidrs[..index].contains(cidr) {
            faults.add(FieldError::duplicate(at, *cidr));
        }
    }
    let of_four = cidrs.iter().filter(|it| !it.contains(':')).count();
    if cidrs.len() > 2 || cidrs.len() == 2 && of_four != 1 {
        let why = "may specify no more than one CIDR for each IP family";
        faults.invalid(field, object["spec"]["podCIDRs"].clone(), why);
    }
}

fn node_resources(faults: &mut Faults, status: &Value) {
    for list in ["capacity", "allocatable"] {
        for (name, amount) in status[list].as_object().into_iter().flatten() {
            requirements::amount(faults, &format!("status.{list}.{name}"), name, amount);
        }
    }
}

/// Of the node or of its status: upstream looks at both with the same eyes.
pub(super) fn node_update(faults: &mut Faults, old: &Value, new: &Value) {
    node_resources(faults, &new["status"]);
    let addresses: Vec<&Value> = items(&new["status"], "addresses").map(|(_, it)| it).collect();
    for (index, it) in addresses.iter().enumerate() {
        if addresses[..index].contains(it) {
            let field = format!("status.addresses[{index}]");
            faults.add(FieldError::duplicate(field, (*it).clone()));
        }
    }
    let (before, after) = (&old["spec"], &new["spec"]);
    if items(before, "podCIDRs").next().is_some() && before["podCIDRs"] != after["podCIDRs"] {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        faults.forbidden("spec.podCIDRs", why);
    }
    let provider = |spec: &Value| text(spec, "providerID").to_owned();
    if !provider(before).is_empty() && provider(before) != provider(after) {
        let why = "node updates may not change providerID except from \"\" to valid";
        faults.forbidden("spec.providerID", why);
    }
    node_selector::taints(faults, "metadata.taints", new);
    if text(before, "externalID") != text(after, "externalID") {
        faults.forbidden("spec.externalID", "may not be updated");
    }
}

pub(super) fn lease(faults: &mut Faults, object: &Value) {
    let seconds = &object["spec"]["leaseDurationSeconds"];
    if let Some(seconds) = seconds.as_i64().filter(|it| *it <= 0) {
        faults.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0");
    }
    let moves = &object["spec"]["leaseTransitions"];
    if let Some(moves) = moves.as_i64().filter(|it| *it < 0) {
        faults.invalid("spec.leaseTransitions", moves, "must be greater than or equal to 0");
    }
    let spec = &object["spec"];
    let (strategy, holder) = (text(spec, "strategy"), text(spec, "preferredHolder"));
    if let Some(name) = spec["strategy"].as_str() {
        lease_strategy(faults, "spec.strategy", name);
    }
    if !holder.is_empty() && strategy.is_empty() {
        let why = "may only be specified when `strategy` is defined";
        faults.forbidden("spec.preferredHolder", why);
    }
}

/// Kubernetes' own, or somebody's under their domain.
fn lease_strategy(faults: &mut Faults, field: &str, name: &str) {
    match name.split('/').count() {
        1 if name != "OldestEmulationVersion" => {
            let known = &["OldestEmulationVersion"];
            faults.add(FieldError::not_supported(field, name, known));
        }
        1 => {}
        2 => faults.each(field, name, fields::qualified_name(name)),
        _ => {
            let why = "must be a valid label with optional prefix";
            faults.invalid(field, name, why);
        }
    }
}

pub(super) fn priority_class(faults: &mut Faults, object: &Value) {
    let (name, value) =
        (text(&object["metadata"], "name"), object["value"].as_i64().unwrap_or_default());
    let is_system = matches!(name, "system-node-critical" | "system-cluster-critical");
    if name.starts_with("system-") && !is_system {
        let why = "priority class names with 'system-' prefix are reserved for system use only. error: name is not allowed";
        faults.add(FieldError::forbidden("metadata.name", why));
    }
    if value > HIGHEST_USER_PRIORITY && !is_system {
        let why =
            format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        faults.add(FieldError::forbidden("value", why));
    }
    let policy = text(object, "preemptionPolicy");
    let supported = &["Never", "PreemptLowerPriority"];
    if !policy.is_empty() && !supported.contains(&policy) {
        faults.add(FieldError::not_supported("preemptionPolicy", policy, supported));
    }
}

pub(super) fn priority_class_update(faults: &mut Faults, old: &Value, new: &Value) {
    if old["value"] != new["value"] {
        faults.add(FieldError::forbidden("value", "may not be changed in an update."));
    }
    faults.immutable("preemptionPolicy", &old["preemptionPolicy"], &new["preemptionPolicy"]);
}

pub(super) fn api_service(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let (name, expected) = (meta(object, "name"), crate::aggregation::expected_name(object));
    if name != expected {
        faults.invalid(
            "metadata.name",
            name,
            format!("must be `spec.version+\".\"+spec.group`: {expected:?}"),
        );
    }
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        faults.add(FieldError::required("spec.group", why));
    }
    if !group.is_empty() {
        faults.each("spec.group", group, fields::subdomain(group));
    }
    faults.each("spec.version", version, fields::label_1035(version));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let value = spec[field].as_i64().unwrap_or_default();
        if !(1..=most).contains(&value) {
            let why = format!("must be positive and less than {most}");
            faults.invalid(format!("spec.{field}"), value, why);
        }
    }
    if spec["service"].is_object() {
        api_server(faults, spec);
        return;
    }
    let bundle = text(spec, "caBundle").len() / 4 * 3;
    if bundle > 0 {
        let why = "local APIServices may not have a caBundle";
        faults.invalid("spec.caBundle", format!("{bundle} bytes"), why);
    }
    if spec["insecureSkipTLSVerify"] == true {
        let why = "local APIServices may not have insecureSkipTLSVerify";
        faults.invalid("spec.insecureSkipTLSVerify", true, why);
    }
}

/// An APIService that hands its version to a server behind a Service.
fn api_server(faults: &mut Faults, spec: &Value) {
    if crate::resources::builtin::has_group(text(spec, "group")) {
        let why = "built-in groups are served by this server alone";
        faults.add(FieldError::forbidden("spec.service", why));
    }
    let service = &spec["service"];
    for field in ["namespace", "name"] {
        if text(service, field).is_empty() {
            faults.required(format!("spec.service.{field}"));
        }
    }
    let port = service["port"].as_i64().unwrap_or_default();
    if !(1..=65_535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        faults.invalid("spec.service.port", port, why);
    }
    if spec["insecureSkipTLSVerify"] == true && !text(spec, "caBundle").is_empty() {
        let why = "may not be true if caBundle is present";
        faults.invalid("spec.insecureSkipTLSVerify", true, why);
    }
}

pub(super) fn runtime_class(faults: &mut Faults, object: &Value) {
    let handler = text(object, "handler");
    if handler.is_empty() {
        faults.required("handler");
    } else {
        faults.each("handler", handler, fields::label(handler));
    }
    if object["overhead"].is_object() {
        let limits = serde_json::json!({ "limits": object["overhead"]["podFixed"] });
        requirements::check(faults, "overhead", &limits, None);
    }
    if object["scheduling"].is_object() {
        let labels = &object["scheduling"]["nodeSelector"];
        fields::labels(faults, "scheduling.nodeSelector", labels);
        tolerations_once(faults, &object["scheduling"]);
    }
}

fn tolerations_once(faults: &mut Faults, scheduling: &Value) {
    let list = "scheduling.tolerations";
    node_selector::tolerations(faults, list, scheduling);
    let all: Vec<&Value> = items(scheduling, "tolerations").map(|(_, it)| it).collect();
    for (index, it) in all.iter().enumerate() {
        if all[..index].contains(it) {
            faults.add(FieldError::duplicate(format!("{list}[{index}]"), (*it).clone()));
        }
    }
}
