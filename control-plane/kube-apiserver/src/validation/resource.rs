//! ResourceSlices, DeviceClasses, ResourceClaims and their templates.
//!
//! Upstream: pkg/apis/resource/validation.
//!
//! Deviation: what selectors of devices may cost is not estimated before they are stored.

mod claims;
mod configuration;
mod devices;
mod policies;
mod selectors;
mod slices;
mod status;

use std::collections::BTreeSet;

use serde_json::Value;

pub(super) use self::status::claim_status;
use super::{Faults, fields, items, metadata, node_selector, text, volumes};
use crate::status::FieldError;

const POOL_LENGTH: usize = 253;

pub(super) fn validate(faults: &mut Faults, plural: &str, object: &Value, old: Option<&Value>) {
    let spec = &object["spec"];
    match plural {
        "resourceslices" => slices::check(faults, spec, old.map(|it| &it["spec"])),
        "deviceclasses" => {
            let old = old.map(|it| &it["spec"]);
            let is_stored = |field: &str| old.is_some_and(|it| it[field] == spec[field]);
            selectors::check(faults, "spec.selectors", &spec["selectors"], is_stored("selectors"));
            configuration::all(faults, "spec.config", &spec["config"], None, is_stored("config"));
            let name = text(spec, "extendedResourceName");
            if !name.is_empty() && !super::pod::requirements::is_extended(name) {
                let why = "must be a valid extended resource name";
                faults.invalid("spec.extendedResourceName", name, why);
            }
        }
        // What cannot change need not be good again.
        _ if old.is_some() => {}
        "resourceclaims" => claims::check(faults, "spec", spec),
        "resourceclaimtemplates" => {
            metadata::template(faults, "spec.metadata", &spec["metadata"]);
            claims::check(faults, "spec.spec", &spec["spec"]);
        }
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

// === What all share ===

/// Whether a list is short enough; the items of a longer one are not looked at.
fn is_short(faults: &mut Faults, field: &str, list: &Value, most: usize) -> bool {
    let count = list.as_array().map_or(0, Vec::len);
    if count > most {
        faults.add(FieldError::too_many(field, count, most));
    }
    count <= most
}

/// Each item that was there before.
fn twins<'a, K: Ord>(
    faults: &mut Faults,
    field: &str,
    list: &'a Value,
    key: impl Fn(&'a Value) -> (K, Value),
) {
    let mut seen = BTreeSet::new();
    for (at, item) in list.as_array().into_iter().flatten().enumerate() {
        let (key, shown) = key(item);
        if !seen.insert(key) {
            faults.add(FieldError::duplicate(format!("{field}[{at}]"), shown));
        }
    }
}

fn name_of<'a>(field: &'a str) -> impl Fn(&Value) -> (String, Value) + 'a {
    move |it| (text(it, field).to_owned(), it[field].clone())
}

fn label(faults: &mut Faults, field: &str, name: &str) {
    faults.each(field, name, fields::label(name));
}

fn pool(faults: &mut Faults, field: &str, name: &str) {
    if name.is_empty() {
        return faults.required(field);
    }
    if name.len() > POOL_LENGTH {
        faults.add(FieldError::too_long(field, POOL_LENGTH));
    }
    for part in name.split('/') {
        faults.each(field, part, fields::subdomain(part));
    }
}

/// `model`, or `example.com/model`.
fn qualified(faults: &mut Faults, field: &str, name: &str) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(faults, field, id),
        [domain, id] => {
            match domain {
                "" => faults.invalid(field, "", "the domain must not be empty"),
                domain => volumes::driver(faults, field, domain),
            }
            match id {
                "" => faults.invalid(field, "", "the name must not be empty"),
                id => identifier(faults, field, id),
            }
        }
        _ => {}
    }
}

fn fully_qualified(faults: &mut Faults, field: &str, name: &str) {
    qualified(faults, field, name);
    if !name.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        faults.invalid(field, name, why);
    }
}

fn identifier(faults: &mut Faults, field: &str, id: &str) {
    const LONGEST: usize = 32;
    if id.len() > LONGEST {
        faults.add(FieldError::too_long(field, LONGEST));
    }
    let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    if id.is_empty() || id.starts_with(|it: char| it.is_ascii_digit()) || !id.chars().all(is_word) {
        faults.invalid(
            field,
            id,
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
        );
    }
}

/// What gives way, and when it may.
fn conditions_to_bind(faults: &mut Faults, at: &str, owner: &Value) {
    const MOST: usize = 4;
    let (good, bad) = ("bindingConditions", "bindingFailureConditions");
    for list in [good, bad] {
        let field = format!("{at}.{list}");
        if is_short(faults, &field, &owner[list], MOST) {
            for (index, name) in items(owner, list) {
                let name = name.as_str().unwrap_or_default();
                faults.each(&format!("{field}[{index}]"), name, fields::qualified_name(name));
            }
        }
        twins(faults, &field, &owner[list], |it| (it.to_string(), it.clone()));
    }
    for (index, name) in items(owner, bad) {
        if items(owner, good).any(|(_, it)| it == name) {
            let why = "bindingFailureConditions must not overlap with bindingConditions";
            faults.invalid(format!("{at}.{bad}[{index}]"), name.clone(), why);
        }
    }
    let has = |list: &str| items(owner, list).next().is_some();
    for (one, other) in [(good, bad), (bad, good)] {
        if !has(one) && has(other) {
            let why = format!("{one} are required to use {other}");
            faults.invalid(format!("{at}.{one}"), owner[one].clone(), why);
        }
    }
}

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

fn taint(faults: &mut Faults, at: &str, taint: &Value) {
    let key = text(taint, "key");
    faults.each(&format!("{at}.key"), key, fields::qualified_name(key));
    let value = text(taint, "value");
    faults.each(&format!("{at}.value"), value, fields::label_value(value));
    faults.one_of(&format!("{at}.effect"), &taint["effect"], EFFECTS);
}

fn toleration(faults: &mut Faults, at: &str, toleration: &Value) {
    let key = text(toleration, "key");
    if !key.is_empty() {
        faults.each(&format!("{at}.key"), key, fields::qualified_name(key));
    }
    let value = text(toleration, "value");
    let field = format!("{at}.value");
    match text(toleration, "operator") {
        "Exists" if !value.is_empty() => {
            faults.invalid(field, value, "must be empty for operator `Exists`");
        }
        "Equal" => faults.each(&field, value, fields::label_value(value)),
        _ => {
            faults.one_of(&format!("{at}.operator"), &toleration["operator"], &["Equal", "Exists"]);
        }
    }
    let effect = text(toleration, "effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        faults.add(FieldError::not_supported(format!("{at}.effect"), effect, EFFECTS));
    }
}
