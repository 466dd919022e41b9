//! The storage group: classes, attachments, drivers.
//!
//! Upstream: pkg/apis/storage/validation.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text, volumes},
};

const LARGEST: usize = 256 * 1024;
const MOST_PARAMETERS: usize = 512;
const LONGEST_NODE_ID: usize = 256;
const EITHER: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";

pub(in crate::validation) fn validate(faults: &mut Faults, plural: &str, object: &Value) {
    match plural {
        "storageclasses" => storage_class(faults, object),
        "volumeattributesclasses" => {
            provisioner(faults, "driverName", text(object, "driverName"));
            parameters(faults, &object["parameters"], false);
        }
        "volumeattachments" => attachment(faults, object),
        "csinodes" => node(faults, object),
        "csidrivers" => driver(faults, &object["spec"]),
        "csistoragecapacities" => {
            fields::selector(faults, "nodeTopology", &object["nodeTopology"]);
            let class = text(object, "storageClassName");
            faults.each("storageClassName", class, fields::subdomain(class));
            if fields::quantity(&object["capacity"]).is_some_and(|it| it.is_negative()) {
                let why = "must be greater than or equal to 0";
                faults.invalid("capacity", object["capacity"].clone(), why);
            }
        }
        _ => {}
    }
}

fn storage_class(faults: &mut Faults, object: &Value) {
    provisioner(faults, "provisioner", text(object, "provisioner"));
    parameters(faults, &object["parameters"], true);
    for (field, supported) in [
        ("reclaimPolicy", &["Delete", "Retain"]),
        ("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]),
    ] {
        let value = text(object, field);
        if !value.is_empty() && !supported.contains(&value) {
            faults.add(FieldError::not_supported(field, value, supported));
        }
    }
    for (index, term) in items(object, "allowedTopologies") {
        let list = format!("allowedTopologies[{index}].matchLabelExpressions");
        let mut keys = HashSet::new();
        for (index, it) in items(term, "matchLabelExpressions") {
            let (at, key) = (format!("{list}[{index}]"), text(it, "key"));
            let mut values = HashSet::new();
            if items(it, "values").next().is_none() {
                faults.required(format!("{at}.values"));
            }
            for (index, value) in items(it, "values") {
                if !values.insert(value.as_str()) {
                    let field = format!("{at}.values[{index}]");
                    faults.add(FieldError::duplicate(field, value.clone()));
                }
            }
            faults.each(&format!("{at}.key"), key, fields::qualified_name(key));
            if !keys.insert(key) {
                faults.add(FieldError::duplicate(format!("{at}.key"), key));
            }
        }
        let twin =
            |(_, it): (usize, &Value)| it["matchLabelExpressions"] == term["matchLabelExpressions"];
        if items(object, "allowedTopologies").take(index).any(twin) {
            faults.add(FieldError::duplicate(list, ""));
        }
    }
}

fn provisioner(faults: &mut Faults, field: &str, name: &str) {
    if name.is_empty() {
        return faults.required(field);
    }
    let name = name.to_lowercase();
    faults.each(field, &name, fields::qualified_name(&name));
}

fn parameters(faults: &mut Faults, parameters: &Value, may_be_empty: bool) {
    const AT: &str = "parameters";
    let count = parameters.as_object().map_or(0, serde_json::Map::len);
    if count > MOST_PARAMETERS {
        return faults.add(FieldError::too_long(AT, MOST_PARAMETERS));
    }
    if !parameters[""].is_null() {
        faults.invalid(AT, "", "field can not be empty.");
    }
    too_large(faults, AT, parameters);
    if count == 0 && !may_be_empty {
        let why = "must contain at least one key/value pair";
        faults.add(FieldError::required(AT, why));
    }
}

fn too_large(faults: &mut Faults, field: &str, texts: &Value) {
    let all = texts.as_object().into_iter().flatten();
    let size: usize = all.map(|(key, it)| key.len() + it.as_str().map_or(0, str::len)).sum();
    if size > LARGEST {
        faults.add(FieldError::too_long(field, LARGEST));
    }
}

fn attachment(faults: &mut Faults, object: &Value) {
    let (spec, source) = (&object["spec"], &object["spec"]["source"]);
    faults.text("spec.attacher", &spec["attacher"]);
    let at = "spec.source";
    match (source["inlineVolumeSpec"].is_object(), source["persistentVolumeName"].as_str()) {
        (false, None) => faults.add(FieldError::required(at, EITHER)),
        (true, Some(_)) => faults.forbidden(at, EITHER),
        (false, Some("")) => {
            let why = "must specify non empty persistentVolumeName";
            faults.add(FieldError::required(format!("{at}.persistentVolumeName"), why));
        }
        (false, Some(_)) => {}
        (true, None) => {
            let at = format!("{at}.inlineVolumeSpec");
            super::volume_spec(faults, &at, &source["inlineVolumeSpec"], "", true);
        }
    }
    let node = text(spec, "nodeName");
    faults.each("spec.nodeName", node, fields::subdomain(node));
    attachment_status(faults, &object["status"]);
}

/// What is asked of new ones alone.
pub(in crate::validation) fn new_attachment(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    volumes::driver(faults, "spec.attacher", text(spec, "attacher"));
    if let Some(name) = spec["source"]["persistentVolumeName"].as_str() {
        faults.each("spec.source.persistentVolumeName", name, fields::subdomain(name));
    }
}

fn attachment_status(faults: &mut Faults, status: &Value) {
    const LONGEST: usize = 1024;
    too_large(faults, "status.attachmentMetadata", &status["attachmentMetadata"]);
    for field in ["attachError", "detachError"] {
        let (it, at) = (&status[field], format!("status.{field}"));
        if text(it, "message").len() > LONGEST {
            // With upstream's number.
            faults.add(FieldError::too_long(format!("{at}.message"), LARGEST));
        }
        if let Some(code) = it["errorCode"].as_i64().filter(|it| *it < 0) {
            let why = "must be between 0 and 2147483647, inclusive";
            faults.invalid(format!("{at}.errorCode"), code, why);
        }
    }
}

fn node(faults: &mut Faults, object: &Value) {
    let mut names = HashSet::new();
    for (index, it) in items(&object["spec"], "drivers") {
        let at = format!("spec.drivers[{index}]");
        let (name, id) = (text(it, "name"), text(it, "nodeID"));
        volumes::driver(faults, &format!("{at}.name"), name);
        if id.is_empty() {
            faults.required(format!("{at}.nodeID"));
        }
        if id.len() > LONGEST_NODE_ID {
            let why = format!("must be {LONGEST_NODE_ID} characters or less");
            faults.invalid(format!("{at}.nodeID"), id, why);
        }
        faults.not_negative(&format!("{at}.allocatable.count"), &it["allocatable"]["count"]);
        if !names.insert(name) {
            faults.add(FieldError::duplicate(format!("{at}.name"), name));
        }
        let mut keys = HashSet::new();
        for (_, key) in items(it, "topologyKeys") {
            let key = key.as_str().unwrap_or_default();
            if key.is_empty() {
                faults.required(&*at);
            }
            if !keys.insert(key) {
                faults.add(FieldError::duplicate(&*at, key));
            }
            faults.each(&at, key, fields::qualified_name(key));
        }
    }
}

fn driver(faults: &mut Faults, spec: &Value) {
    // The first as upstream spells it.
    for (field, told) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
        ("seLinuxMount", "seLinuxMount"),
    ] {
        if spec[field].is_null() {
            faults.required(format!("spec.{told}"));
        }
    }
    let policies = &["File", "None", "ReadWriteOnceWithFSType"];
    if let Some(it) = spec["fsGroupPolicy"].as_str().filter(|it| !policies.contains(it)) {
        faults.add(FieldError::not_supported("spec.fsGroupPolicy", it, policies));
    }
    token_requests(faults, spec);
    for (_, mode) in items(spec, "volumeLifecycleModes") {
        let mode = mode.as_str().unwrap_or_default();
        if !matches!(mode, "Persistent" | "Ephemeral") {
            let known = &["Persistent", "Ephemeral"];
            faults.add(FieldError::not_supported("spec.volumeLifecycleModes", mode, known));
        }
    }
    if let Some(period) = spec["nodeAllocatableUpdatePeriodSeconds"].as_i64().filter(|it| *it < 10)
    {
        let why = "must be greater than or equal to 10 seconds";
        faults.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, why);
    }
}

fn token_requests(faults: &mut Faults, spec: &Value) {
    let mut audiences = HashSet::new();
    for (index, it) in items(spec, "tokenRequests") {
        let (at, audience) = (format!("spec.tokenRequests[{index}]"), text(it, "audience"));
        if !audiences.insert(audience) {
            faults.add(FieldError::duplicate(format!("{at}.audience"), audience));
            continue;
        }
        let why = match it["expirationSeconds"].as_i64() {
            Some(seconds) if seconds < 600 => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > 1 << 32 => {
                "may not specify a duration larger than 2^32 seconds"
            }
            _ => continue,
        };
        faults.invalid(format!("{at}.expirationSeconds"), it["expirationSeconds"].clone(), why);
    }
}

pub(in crate::validation) fn update(faults: &mut Faults, plural: &str, old: &Value, new: &Value) {
    let mut stays = |field: &'static str| {
        if old[field] != new[field] {
            faults.forbidden(field, format!("updates to {field} are forbidden."));
        }
    };
    match plural {
        "storageclasses" => {
            ["parameters", "provisioner", "reclaimPolicy"].into_iter().for_each(stays);
            let mode = |it: &Value| it["volumeBindingMode"].clone();
            faults.immutable("volumeBindingMode", &mode(old), &mode(new));
        }
        "volumeattributesclasses" => {
            stays("driverName");
            stays("parameters");
        }
        "volumeattachments" => faults.immutable("spec", &old["spec"], &new["spec"]),
        "csidrivers" => {
            let field = |it: &Value, name: &str| it["spec"][name].clone();
            for (name, told) in [
                ("attachRequired", "attachedRequired"),
                ("volumeLifecycleModes", "volumeLifecycleModes"),
            ] {
                faults.immutable(&format!("spec.{told}"), &field(old, name), &field(new, name));
            }
        }
        "csinodes" => node_update(faults, old, new),
        "csistoragecapacities" => {
            for field in ["nodeTopology", "storageClassName"] {
                faults.immutable(field, &old[field], &new[field]);
            }
        }
        _ => {}
    }
}

/// A driver that stays on a node stays as it is, but for how much it takes.
fn node_update(faults: &mut Faults, old: &Value, new: &Value) {
    let rest = |driver: &Value| {
        let mut driver = driver.clone();
        if let Some(fields) = driver.as_object_mut() {
            fields.remove("allocatable");
        }
        driver
    };
    for (_, before) in items(&old["spec"], "drivers") {
        let mut same =
            items(&new["spec"], "drivers").filter(|(_, it)| it["name"] == before["name"]);
        if let Some((_, after)) = same.next() {
            faults.immutable("spec.drivers", &rest(before), &rest(after));
        }
    }
}
