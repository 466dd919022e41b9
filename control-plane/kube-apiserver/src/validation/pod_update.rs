//! What may change in a pod that exists.
//!
//! Upstream: `ValidatePodUpdate` in pkg/apis/core/validation.

mod ephemeral;
mod resize;
mod status;

use serde_json::Value;

pub(super) use self::{
    ephemeral::check as ephemeral, resize::check as resize, status::check as status,
};
use super::{Faults, items, text};
use crate::status::FieldError;

const FORBIDDEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

pub(super) fn check(faults: &mut Faults, old: &Value, new: &Value) {
    annotations(faults, old, new);
    let count = |pod: &Value, list: &str| items(&pod["spec"], list).count();
    for list in ["containers", "initContainers"] {
        if count(old, list) != count(new, list) {
            let why = "pod updates may not add or remove containers";
            faults.forbidden(format!("spec.{list}"), why);
            return;
        }
    }
    let deadline = |pod: &Value| pod["spec"]["activeDeadlineSeconds"].clone();
    if !deadline_shrinks(faults, &deadline(old), &deadline(new)) {
        return;
    }
    tolerations(faults, old, new);
    gates(faults, &old["spec"], &new["spec"]);
    let (mut before, mut after) = (old["spec"].clone(), new["spec"].clone());
    if items(&before, "schedulingGates").next().is_some() {
        gated(faults, &before, &after);
        for spec in [&mut before, &mut after] {
            drop_field(spec, "nodeSelector");
            drop_node_affinity(spec);
        }
    }
    for spec in [&mut before, &mut after] {
        for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
            drop_field(spec, field);
        }
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
            {
                drop_field(container, "image");
            }
        }
    }
    let was_negative =
        old["spec"]["terminationGracePeriodSeconds"].as_i64().is_some_and(|it| it < 0);
    if was_negative && after["terminationGracePeriodSeconds"] == 1 {
        drop_field(&mut before, "terminationGracePeriodSeconds");
        drop_field(&mut after, "terminationGracePeriodSeconds");
    }
    if before != after {
        faults.forbidden("spec", FORBIDDEN);
    }
}

/// Some annotations are the kubelet's.
fn annotations(faults: &mut Faults, old: &Value, new: &Value) {
    let of = |pod: &Value| pod["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    let (before, after) = (of(old), of(new));
    let mut told = |key: &str, did: &str| {
        let field = format!("metadata.annotations[{key}]");
        if key.starts_with(APP_ARMOR) {
            faults.forbidden(&*field, format!("may not {did} AppArmor annotations"));
        }
        if key == MIRROR {
            faults.forbidden(field, format!("may not {did} mirror pod annotation"));
        }
    };
    before.iter().filter(|(key, it)| after.get(*key) != Some(*it)).for_each(|(key, _)| {
        told(key, "remove or update");
    });
    after.keys().filter(|it| !before.contains_key(*it)).for_each(|key| told(key, "add"));
}

fn drop_field(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

fn drop_node_affinity(spec: &mut Value) {
    let Some(affinity) = spec.get_mut("affinity") else { return };
    drop_field(affinity, "nodeAffinity");
    if affinity.as_object().is_some_and(serde_json::Map::is_empty) {
        drop_field(spec, "affinity");
    }
}

/// Whether the rest is worth a look.
fn deadline_shrinks(faults: &mut Faults, old: &Value, new: &Value) -> bool {
    let at = "spec.activeDeadlineSeconds";
    match (old.as_i64(), new.as_i64()) {
        (_, Some(new)) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            faults.invalid(at, new, "must be between 0 and 2147483647, inclusive");
            false
        }
        (Some(old), Some(new)) if new > old => {
            faults.invalid(at, new, "must be less than or equal to previous value");
            false
        }
        (Some(_), None) => {
            faults.invalid(at, Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn tolerations(faults: &mut Faults, old: &Value, new: &Value) {
    let same = |a: &Value, b: &Value| {
        ["key", "operator", "value", "effect"].iter().all(|field| text(a, field) == text(b, field))
    };
    let is_kept = |it: &Value| items(&new["spec"], "tolerations").any(|(_, other)| same(it, other));
    if !items(&old["spec"], "tolerations").all(|(_, it)| is_kept(it)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        faults.forbidden("spec.tolerations", why);
    }
}

fn gates(faults: &mut Faults, before: &Value, after: &Value) {
    for (index, gate) in items(after, "schedulingGates") {
        let name = text(gate, "name");
        if !items(before, "schedulingGates").any(|(_, it)| text(it, "name") == name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            faults.forbidden(format!("spec.schedulingGates[{index}].name"), why);
        }
    }
}

/// Where a pod that waits may run can be narrowed, never widened.
fn gated(faults: &mut Faults, before: &Value, after: &Value) {
    let labels = before["nodeSelector"].as_object().into_iter().flatten();
    if labels.into_iter().any(|(key, value)| after["nodeSelector"][key] != *value) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        faults.invalid("spec.nodeSelector", after["nodeSelector"].clone(), why);
    }
    let terms = |spec: &Value| {
        let required = &spec["affinity"]["nodeAffinity"][REQUIRED];
        items(required, "nodeSelectorTerms").map(|(_, it)| it.clone()).collect::<Vec<_>>()
    };
    let (old, new) = (terms(before), terms(after));
    let at = format!("spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
    if !old.is_empty() && old.len() != new.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return faults.invalid(at, Value::from(new), why);
    }
    for (index, (old, new)) in old.iter().zip(&new).enumerate() {
        if !only_grows(old, new) {
            let why = "only additions are allowed (no mutations or deletions)";
            faults.add(FieldError::invalid(format!("{at}[{index}]"), new.clone(), why));
        }
    }
}

fn only_grows(old: &Value, new: &Value) -> bool {
    let list = |term: &Value, name: &str| term[name].as_array().cloned().unwrap_or_default();
    let parts = ["matchExpressions", "matchFields"];
    let matches_nothing = parts.iter().all(|it| list(old, it).is_empty());
    let asks = parts.iter().any(|it| !list(new, it).is_empty());
    !(matches_nothing && asks) && parts.iter().all(|it| list(new, it).starts_with(&list(old, it)))
}
