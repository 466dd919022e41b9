//! ResourceSlices: the devices that a driver offers.

use serde_json::{Value, json};

use super::{Faults, devices, items, node_selector, pool, text, twins, volumes};
use crate::status::FieldError;

/// `ResourceSliceMaxDevices`, and with what makes a device larger.
const DEVICES: usize = 128;
const LARGE_DEVICES: usize = 64;
const COUNTER_SETS: usize = 8;
const WHERE: &str =
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
const WHERE_OF_DEVICE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

pub(super) fn check(faults: &mut Faults, spec: &Value, old: Option<&Value>) {
    volumes::driver(faults, "spec.driver", text(spec, "driver"));
    pool(faults, "spec.pool.name", text(&spec["pool"], "name"));
    let number = |field: &str| spec["pool"][field].as_i64().unwrap_or(0);
    let count = number("resourceSliceCount");
    if count <= 0 {
        faults.invalid("spec.pool.resourceSliceCount", count, "must be greater than zero");
    }
    if number("generation") < 0 {
        let why = "must be greater than or equal to zero";
        faults.invalid("spec.pool.generation", number("generation"), why);
    }
    place(faults, "spec", spec, true);
    if !spec["sharedCounters"].is_null() && !spec["devices"].is_null() {
        faults.invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed");
    }
    offered(faults, spec, old);
    counter_sets(faults, spec);
}

fn offered(faults: &mut Faults, spec: &Value, old: Option<&Value>) {
    let field = "spec.devices";
    let is_large = |it: &Value| {
        ["taints", "consumesCounters"].iter().any(|list| items(it, list).next().is_some())
    };
    let most =
        if items(spec, "devices").any(|(_, it)| is_large(it)) { LARGE_DEVICES } else { DEVICES };
    if !super::is_short(faults, field, &spec["devices"], most) {
        return;
    }
    let is_each_somewhere = spec["perDeviceNodeSelection"] == true;
    for (index, device) in items(spec, "devices") {
        let at = format!("{field}[{index}]");
        let before = old.and_then(|old| {
            items(old, "devices").map(|(_, it)| it).find(|it| it["name"] == device["name"])
        });
        devices::check(faults, &at, device, before);
        if is_each_somewhere {
            place(faults, &at, device, false);
        } else if ["nodeName", "nodeSelector", "allNodes"].iter().any(|it| !device[*it].is_null()) {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            faults.invalid(at, Value::Null, why);
        }
    }
    twins(faults, field, &spec["devices"], super::name_of("name"));
}

fn counter_sets(faults: &mut Faults, spec: &Value) {
    let field = "spec.sharedCounters";
    if !super::is_short(faults, field, &spec["sharedCounters"], COUNTER_SETS) {
        return;
    }
    for (index, set) in items(spec, "sharedCounters") {
        devices::counters(faults, &format!("{field}[{index}]"), set, "name");
    }
    twins(faults, field, &spec["sharedCounters"], super::name_of("name"));
}

/// The nodes that devices are for are said in one way.
fn place(faults: &mut Faults, at: &str, owner: &Value, is_slice: bool) {
    let mut ways = Vec::new();
    match owner["nodeName"].as_str() {
        Some("") => {
            let why = if is_slice {
                "must be either unset or set to a non-empty string"
            } else {
                "must not be empty"
            };
            faults.invalid(format!("{at}.nodeName"), "", why);
        }
        Some(name) => {
            ways.push("`nodeName`");
            super::fields::object_name(faults, &format!("{at}.nodeName"), &json!(name));
        }
        None => {}
    }
    if !owner["nodeSelector"].is_null() {
        ways.push("`nodeSelector`");
        let field = format!("{at}.nodeSelector");
        node_selector::check(faults, &field, &owner["nodeSelector"]);
        let terms = &owner["nodeSelector"]["nodeSelectorTerms"];
        if is_slice && terms.as_array().map_or(0, Vec::len) != 1 {
            let why = "must have exactly one node selector term";
            faults.invalid(format!("{field}.nodeSelectorTerms"), terms.clone(), why);
        }
    }
    for (field, way) in
        [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        match owner[field].as_bool() {
            Some(true) => ways.push(way),
            Some(false) => {
                let why = "must be either unset or set to true";
                faults.invalid(format!("{at}.{field}"), false, why);
            }
            None => {}
        }
    }
    let all = || format!("{{{}}}", ways.join(", "));
    match (ways.len(), is_slice) {
        (0, _) => {
            let why = if is_slice { WHERE } else { WHERE_OF_DEVICE };
            faults.add(FieldError::required(at, why));
        }
        (1, _) => {}
        (_, true) => {
            faults.invalid(at, all(), format!("{WHERE}, but multiple fields are set"));
        }
        (_, false) => faults.invalid(at, all(), WHERE_OF_DEVICE),
    }
}
