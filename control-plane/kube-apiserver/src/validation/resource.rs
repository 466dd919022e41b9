//! ResourceSlices, ResourceClaims and their templates.
//!
//! Upstream: pkg/apis/resource/validation.
//!
//! Deviation: of resource.k8s.io, selectors, configurations, and the attributes, capacities, counters
//! and taints of devices are checked for their types only.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const DRIVER_LENGTH: usize = 63;
const POOL_LENGTH: usize = 253;
/// `ResourceSliceMaxDevices`
const DEVICES: usize = 128;
/// `DeviceRequestsMaxSize`
const REQUESTS: usize = 32;
/// `ResourceClaimReservedForMaxSize`
const CONSUMERS: usize = 256;
const WHERE: &str =
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

pub(super) fn validate(faults: &mut Faults, plural: &str, object: &Value) {
    match plural {
        "resourceslices" => slice(faults, &object["spec"]),
        "resourceclaims" => claim(faults, "spec", &object["spec"]),
        "resourceclaimtemplates" => claim(faults, "spec.spec", &object["spec"]["spec"]),
        _ => {}
    }
}

pub(super) fn update(faults: &mut Faults, plural: &str, old: &Value, new: &Value) {
    let (old, new) = (&old["spec"], &new["spec"]);
    match plural {
        "resourceslices" => {
            faults.immutable("spec.pool.name", &old["pool"]["name"], &new["pool"]["name"]);
            faults.immutable("spec.driver", &old["driver"], &new["driver"]);
            faults.immutable("spec.nodeName", &old["nodeName"], &new["nodeName"]);
        }
        "resourceclaims" | "resourceclaimtemplates" => faults.immutable("spec", old, new),
        _ => {}
    }
}

// === Slices ===

fn slice(faults: &mut Faults, spec: &Value) {
    driver(faults, "spec.driver", text(spec, "driver"));
    pool(faults, "spec.pool", &spec["pool"]);
    place(faults, spec);
    let mut names = BTreeSet::new();
    for (at, device) in items(spec, "devices") {
        let (field, name) = (format!("spec.devices[{at}]"), text(device, "name"));
        if name.is_empty() {
            faults.required(format!("{field}.name"));
        } else {
            faults.each(&format!("{field}.name"), name, fields::label(name));
        }
        if !names.insert(name) {
            faults.add(FieldError::duplicate(field, name));
        }
    }
    too_many(faults, "spec.devices", &spec["devices"], DEVICES);
}

fn driver(faults: &mut Faults, field: &str, name: &str) {
    if name.is_empty() {
        return faults.required(field);
    }
    if name.len() > DRIVER_LENGTH {
        faults.add(FieldError::too_long(field, DRIVER_LENGTH));
    }
    faults.each(field, name, fields::subdomain(name));
}

fn pool(faults: &mut Faults, field: &str, pool: &Value) {
    let (name, at) = (text(pool, "name"), format!("{field}.name"));
    if name.is_empty() {
        faults.required(at);
    } else if name.len() > POOL_LENGTH {
        faults.add(FieldError::too_long(at, POOL_LENGTH));
    } else {
        for part in name.split('/') {
            faults.each(&at, part, fields::subdomain(part));
        }
    }
    let number = |field: &str| pool[field].as_i64().unwrap_or(0);
    if number("resourceSliceCount") <= 0 {
        let count = number("resourceSliceCount");
        faults.invalid(format!("{field}.resourceSliceCount"), count, "must be greater than zero");
    }
    if number("generation") < 0 {
        let why = "must be greater than or equal to zero";
        faults.invalid(format!("{field}.generation"), number("generation"), why);
    }
}

/// The nodes that the devices are for are said in one way.
fn place(faults: &mut Faults, spec: &Value) {
    let mut ways = Vec::new();
    match spec["nodeName"].as_str() {
        Some("") => {
            faults.invalid(
                "spec.nodeName",
                "",
                "must be either unset or set to a non-empty string",
            );
        }
        Some(name) => {
            ways.push("`nodeName`");
            faults.each("spec.nodeName", name, fields::subdomain(name));
        }
        None => {}
    }
    if !spec["nodeSelector"].is_null() {
        ways.push("`nodeSelector`");
        let terms = &spec["nodeSelector"]["nodeSelectorTerms"];
        if terms.as_array().map_or(0, Vec::len) != 1 {
            let field = "spec.nodeSelector.nodeSelectorTerms";
            faults.invalid(field, terms.clone(), "must have exactly one node selector term");
        }
    }
    for (field, way) in
        [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        match spec[field].as_bool() {
            Some(true) => ways.push(way),
            Some(false) => {
                let why = "must be either unset or set to true";
                faults.invalid(format!("spec.{field}"), false, why);
            }
            None => {}
        }
    }
    match ways.len() {
        0 => faults.add(FieldError::required("spec", WHERE)),
        1 => {}
        _ => {
            let all = format!("{{{}}}", ways.join(", "));
            faults.invalid("spec", all, format!("{WHERE}, but multiple fields are set"));
        }
    }
}

// === Claims ===

fn claim(faults: &mut Faults, field: &str, spec: &Value) {
    let field = format!("{field}.devices.requests");
    let devices = &spec["devices"];
    let mut names = BTreeSet::new();
    for (at, request) in items(devices, "requests") {
        let (at, name) = (format!("{field}[{at}]"), text(request, "name"));
        if name.is_empty() {
            faults.required(format!("{at}.name"));
        } else {
            faults.each(&format!("{at}.name"), name, fields::label(name));
        }
        if !names.insert(name) {
            faults.add(FieldError::duplicate(at.clone(), name));
        }
        let alternatives = request["firstAvailable"].as_array().map_or(0, Vec::len);
        match (request["exactly"].is_object(), alternatives) {
            (true, 0) => class(faults, &format!("{at}.exactly"), &request["exactly"]),
            (false, 0) => faults
                .add(FieldError::required(at, "exactly one of `exactly` or `firstAvailable` is required")),
            (true, _) => faults.invalid(
                at,
                Value::Null,
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
            ),
            (false, _) => {
                for (of, sub) in items(request, "firstAvailable") {
                    class(faults, &format!("{at}.firstAvailable[{of}]"), sub);
                }
            }
        }
    }
    too_many(faults, &field, &devices["requests"], REQUESTS);
}

fn class(faults: &mut Faults, field: &str, request: &Value) {
    let (name, at) = (text(request, "deviceClassName"), format!("{field}.deviceClassName"));
    if name.is_empty() {
        return faults.required(at);
    }
    faults.each(&at, name, fields::subdomain(name));
}

/// What is given stays given: only the whole of it goes.
pub(super) fn claim_status(faults: &mut Faults, old: &Value, new: &Value) {
    let is_going = !new["metadata"]["deletionTimestamp"].is_null();
    let (old, new) = (&old["status"], &new["status"]);
    let consumers = |status: &Value| -> Vec<Value> {
        items(status, "reservedFor").map(|(_, it)| it.clone()).collect()
    };
    let field = "status.reservedFor";
    for (at, consumer) in items(new, "reservedFor") {
        for part in ["resource", "name", "uid"] {
            faults.text(format!("{field}[{at}].{part}"), &consumer[part]);
        }
    }
    too_many(faults, field, &new["reservedFor"], CONSUMERS);
    let (before, now) = (consumers(old), consumers(new));
    if !now.is_empty() && new["allocation"].is_null() {
        let why = "may not be specified when `allocated` is not set";
        faults.add(FieldError::forbidden(field, why));
    } else if is_going && now.iter().any(|it| !before.contains(it)) {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        faults.add(FieldError::forbidden(field, why));
    }
    if !old["allocation"].is_null() && !new["allocation"].is_null() {
        faults.immutable("status.allocation", &old["allocation"], &new["allocation"]);
    }
}

fn too_many(faults: &mut Faults, field: &str, list: &Value, most: usize) {
    let count = list.as_array().map_or(0, Vec::len);
    if count > most {
        faults.add(FieldError::too_many(field, count, most));
    }
}
