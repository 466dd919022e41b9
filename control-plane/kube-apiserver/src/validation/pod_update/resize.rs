//! `pods/resize`: processors and memory of containers that run.
//!
//! Upstream: `ValidatePodResize` in pkg/apis/core/validation.

use serde_json::{Value, json};

use super::{MIRROR, drop_field};
use crate::{
    qos,
    validation::{Faults, items, pod},
};

pub(in crate::validation) fn check(faults: &mut Faults, old: &Value, new: &Value) {
    if old["metadata"]["annotations"][MIRROR].is_string() {
        return faults.forbidden("[]", "static pods cannot be resized");
    }
    if old["spec"]["os"]["name"] == "windows" {
        return faults.forbidden("[]", "windows pods cannot be resized");
    }
    let before = faults.count();
    let (own, init) = ("containers", "initContainers");
    if !are_in_place(faults, own, old, new) | !are_in_place(faults, init, old, new) {
        return;
    }
    pod::pod(faults, new);
    if qos::class(&old["spec"]) != qos::class(&new["spec"]) {
        let why = "Pod QOS Class may not change as a result of resizing";
        faults.invalid("spec", new["status"]["qosClass"].clone(), why);
    }
    if !is_supported(old) {
        faults.forbidden("spec", "Pod running on node without support for resize");
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in items(&old["spec"], list) {
            let resized = &new["spec"][list][index];
            let is_sidecar = container["restartPolicy"] == "Always";
            if list == "containers" || is_sidecar {
                let at = format!("spec.{list}[{index}].resources");
                removed(faults, &at, &container["resources"], &resized["resources"]);
            }
            let why = match (list, is_sidecar) {
                ("containers", _) => "only cpu and memory resources are mutable",
                (_, true) => "only cpu and memory resources for sidecar containers are mutable",
                (_, false) => "resources for non-sidecar init containers are immutable",
            };
            let is_open = list == "containers" || is_sidecar;
            if rest(container, is_open) != rest(resized, is_open) {
                faults.forbidden("spec", why);
            }
        }
    }
    if faults.count() == before && spec_rest(old) != spec_rest(new) {
        faults.forbidden("spec", "only cpu and memory resources are mutable");
    }
}

/// Whether the containers are the same ones, in their order.
fn are_in_place(faults: &mut Faults, list: &str, old: &Value, new: &Value) -> bool {
    let before = faults.count();
    let names = |pod: &Value| -> Vec<Value> {
        items(&pod["spec"], list).map(|(_, it)| it["name"].clone()).collect()
    };
    let (known, given) = (names(old), names(new));
    if known.len() != given.len() {
        let why = format!("{list} may not be added or removed on resize");
        faults.forbidden(format!("spec.{list}"), why);
        return false;
    }
    for (index, _) in known.iter().zip(&given).enumerate().filter(|(_, (old, new))| old != new) {
        let why = format!("{list} may not be renamed or reordered on resize");
        faults.forbidden(format!("spec.{list}[{index}].name"), why);
    }
    faults.count() == before
}

/// A node that knows of it says what its containers have.
fn is_supported(pod: &Value) -> bool {
    let mut running = items(&pod["status"], "containerStatuses")
        .filter(|(_, it)| it["state"]["running"].is_object());
    running.next().is_none_or(|(_, it)| it["resources"].is_object())
}

fn removed(faults: &mut Faults, at: &str, old: &Value, new: &Value) {
    for (kind, what) in [("requests", "requests"), ("limits", "limits")] {
        let known = old[kind].as_object().into_iter().flatten();
        if known.into_iter().any(|(name, _)| new[kind][name].is_null()) {
            faults.forbidden(format!("{at}.{kind}"), format!("resource {what} cannot be removed"));
        }
    }
}

/// A container without what a resize may change.
fn rest(container: &Value, is_open: bool) -> Value {
    let mut rest = container.clone();
    drop_field(&mut rest, "resizePolicy");
    if is_open {
        drop_amounts(&mut rest["resources"]);
    }
    rest
}

fn drop_amounts(resources: &mut Value) {
    for kind in ["requests", "limits"] {
        if let Some(amounts) = resources.get_mut(kind) {
            drop_field(amounts, "cpu");
            drop_field(amounts, "memory");
        }
        if resources.get(kind).is_some_and(|it| *it == json!({})) {
            drop_field(resources, kind);
        }
    }
}

fn spec_rest(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for list in ["containers", "initContainers"] {
        drop_field(&mut spec, list);
    }
    if let Some(resources) = spec.get_mut("resources") {
        drop_amounts(resources);
    }
    spec
}
