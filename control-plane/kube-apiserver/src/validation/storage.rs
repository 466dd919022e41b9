//! PersistentVolumes and claims to them.
//!
//! Upstream: `ValidatePersistentVolume`, `ValidatePersistentVolumeClaim` in
//! pkg/apis/core/validation.

mod claim_update;
mod classes;

use serde_json::{Map, Value};

pub(super) use self::{
    claim_update::{check as claim_update, status as claim_status},
    classes::{new_attachment, update as class_update, validate as class},
};
use super::{Faults, fields, items, node_selector, text, volumes};
use crate::{resources::meta, status::FieldError};

const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const INLINE: &str = "in the context of inline volumes";

pub(super) fn volume(faults: &mut Faults, object: &Value) {
    volume_spec(faults, "spec", &object["spec"], meta(object, "name"), false);
}

/// Of a PersistentVolume, or as a VolumeAttachment carries it for a pod's own volume.
fn volume_spec(faults: &mut Faults, at: &str, spec: &Value, name: &str, is_inline: bool) {
    if is_inline {
        inline(faults, at, spec);
    }
    access_modes(faults, at, spec, "");
    if !is_inline {
        capacity(faults, &format!("{at}.capacity"), &spec["capacity"]);
        supported(faults, at, spec, "persistentVolumeReclaimPolicy", RECLAIM_POLICIES);
    }
    let affinity = &spec["nodeAffinity"];
    if affinity.is_object() && !is_inline {
        let field = format!("{at}.nodeAffinity.required");
        if affinity["required"].is_object() {
            node_selector::check(faults, &field, &affinity["required"]);
        } else {
            let why = "must specify required node constraints";
            faults.add(FieldError::required(field, why));
        }
    }
    of_kind(faults, at, spec, name);
    let path = spec["hostPath"]["path"].as_str().unwrap_or_default();
    let is_root = path.starts_with('/') && path.split('/').all(|it| matches!(it, "" | "."));
    if is_root && spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        faults.forbidden(format!("{at}.persistentVolumeReclaimPolicy"), why);
    }
    if !is_inline {
        class_name(faults, &format!("{at}.storageClassName"), text(spec, "storageClassName"));
        supported(faults, at, spec, "volumeMode", VOLUME_MODES);
    }
    attributes_class(faults, at, spec);
}

fn inline(faults: &mut Faults, at: &str, spec: &Value) {
    for field in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
        if !fields::is_unset(&spec[field]) {
            faults.forbidden(format!("{at}.{field}"), format!("may not be specified {INLINE}"));
        }
    }
    if !spec["csi"].is_object() {
        let why = format!("has to be specified {INLINE}");
        faults.add(FieldError::required(format!("{at}.csi"), why));
    }
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !matches!(policy, "" | "Retain") {
        let field = format!("{at}.persistentVolumeReclaimPolicy");
        faults.forbidden(field, format!("may only be Retain {INLINE}"));
    }
    if spec["volumeMode"].as_str().is_some_and(|it| it != "Filesystem") {
        let why = format!("may not specify volumeMode other than Filesystem {INLINE}");
        faults.forbidden(format!("{at}.volumeMode"), why);
    }
}

fn supported(faults: &mut Faults, at: &str, spec: &Value, field: &str, supported: &[&str]) {
    let value = text(spec, field);
    if spec[field].is_string() && !supported.contains(&value) {
        faults.add(FieldError::not_supported(format!("{at}.{field}"), value, supported));
    }
}

fn access_modes(faults: &mut Faults, at: &str, spec: &Value, why: &str) {
    let field = format!("{at}.accessModes");
    let modes: Vec<&str> = items(spec, "accessModes").filter_map(|(_, it)| it.as_str()).collect();
    if modes.is_empty() {
        faults.add(FieldError::required(&*field, why));
    }
    for mode in modes.iter().filter(|it| !ACCESS_MODES.contains(it)) {
        faults.add(FieldError::not_supported(&*field, *mode, ACCESS_MODES));
    }
    let is_other = |it: &&str| *it != "ReadWriteOncePod" && ACCESS_MODES.contains(it);
    if modes.contains(&"ReadWriteOncePod") && modes.iter().any(is_other) {
        faults.forbidden(field, "may not use ReadWriteOncePod with other access modes");
    }
}

fn capacity(faults: &mut Faults, at: &str, capacity: &Value) {
    let empty = Map::new();
    let amounts = capacity.as_object().unwrap_or(&empty);
    if amounts.is_empty() {
        faults.required(at);
    }
    if !amounts.contains_key("storage") || amounts.len() > 1 {
        faults.add(FieldError::not_supported(at, capacity.clone(), &["storage"]));
    }
    for (name, amount) in amounts {
        let field = format!("{at}[{name}]");
        let Some(quantity) = fields::quantity(amount) else { continue };
        if quantity.value() < 0 {
            faults.invalid(&*field, quantity.value(), "must be a valid resource quantity");
        }
        positive(faults, &field, amount);
    }
}

fn positive(faults: &mut Faults, field: &str, amount: &Value) {
    if fields::quantity(amount).is_some_and(|it| it.is_negative() || it.is_zero()) {
        faults.invalid(field, amount.clone(), "must be greater than zero");
    }
}

fn of_kind(faults: &mut Faults, at: &str, spec: &Value, name: &str) {
    let kinds = volumes::kinds_of(spec);
    let Some((first, others)) = kinds.split_first() else {
        return faults.add(FieldError::required(at, "must specify a volume type"));
    };
    volumes::source(faults, at, first, spec, name, true);
    for extra in others {
        faults.forbidden(format!("{at}.{extra}"), "may not specify more than 1 volume type");
    }
    if *first == "local" && !spec["nodeAffinity"].is_object() {
        let why = "Local volume requires node affinity";
        faults.add(FieldError::required(format!("{at}.nodeAffinity"), why));
    }
}

fn class_name(faults: &mut Faults, field: &str, name: &str) {
    if !name.is_empty() {
        faults.each(field, name, fields::subdomain(name));
    }
}

fn attributes_class(faults: &mut Faults, at: &str, spec: &Value) {
    let Some(name) = spec["volumeAttributesClassName"].as_str() else { return };
    let field = format!("{at}.volumeAttributesClassName");
    if name.is_empty() {
        faults.add(FieldError::required(&*field, "an empty string is disallowed"));
    }
    class_name(faults, &field, name);
    if !spec["csi"].is_object() {
        let why = "has to be specified when using volumeAttributesClassName";
        faults.add(FieldError::required(format!("{at}.csi"), why));
    }
}

pub(super) fn volume_update(faults: &mut Faults, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    // A Secret for growing may be named once.
    let source = |spec: &Value| -> Map<String, Value> {
        let kinds = volumes::kinds_of(spec);
        let mut all: Map<String, Value> =
            kinds.into_iter().map(|it| (it.to_owned(), spec[it].clone())).collect();
        if before["csi"]["controllerExpandSecretRef"].is_null()
            && let Some(csi) = all.get_mut("csi").and_then(Value::as_object_mut)
        {
            csi.remove("controllerExpandSecretRef");
        }
        all
    };
    if source(before) != source(after) {
        let why = "spec.persistentvolumesource is immutable after creation\n";
        faults.forbidden("spec.persistentvolumesource", why);
    }
    // These two as upstream tells them.
    faults.immutable("volumeMode", &before["volumeMode"], &after["volumeMode"]);
    if before["nodeAffinity"].is_object()
        && renamed(&before["nodeAffinity"]) != renamed(&after["nodeAffinity"])
    {
        let why = "field is immutable, except for updating from beta label to GA";
        faults.invalid("nodeAffinity", after["nodeAffinity"].clone(), why);
    }
    let class = "volumeAttributesClassName";
    if before[class].is_string() && after[class].is_null() {
        let why = "update from non-nil value to nil is forbidden";
        faults.forbidden(format!("spec.{class}"), why);
    }
}

/// With the names that labels have today.
fn renamed(affinity: &Value) -> Value {
    const LABELS: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    let mut affinity = affinity.clone();
    let terms = affinity.pointer_mut("/required/nodeSelectorTerms").and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        for it in
            term.get_mut("matchExpressions").and_then(Value::as_array_mut).into_iter().flatten()
        {
            let key = text(it, "key").to_owned();
            if let Some((_, name)) = LABELS.iter().find(|(old, _)| *old == key) {
                it["key"] = (*name).into();
            }
        }
    }
    affinity
}

// === Claims ===

pub(super) fn claim(faults: &mut Faults, at: &str, spec: &Value) {
    access_modes(faults, at, spec, "at least 1 access mode is required");
    fields::selector(faults, &format!("{at}.selector"), &spec["selector"]);
    let (field, asked) =
        (format!("{at}.resources[storage]"), &spec["resources"]["requests"]["storage"]);
    if asked.is_null() {
        faults.required(field);
    } else {
        positive(faults, &field, asked);
    }
    class_name(faults, &format!("{at}.storageClassName"), text(spec, "storageClassName"));
    supported(faults, at, spec, "volumeMode", VOLUME_MODES);
    sources(faults, at, spec);
    let class = text(spec, "volumeAttributesClassName");
    class_name(faults, &format!("{at}.volumeAttributesClassName"), class);
}

/// What a new volume is filled from.
fn sources(faults: &mut Faults, at: &str, spec: &Value) {
    for name in ["dataSource", "dataSourceRef"] {
        let (it, at) = (&spec[name], format!("{at}.{name}"));
        if !it.is_object() {
            continue;
        }
        faults.text(format!("{at}.name"), &it["name"]);
        faults.text(format!("{at}.kind"), &it["kind"]);
        let group = text(it, "apiGroup");
        if group.is_empty() && it["kind"] != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            faults.invalid(&*at, it["kind"].clone(), why);
        } else if !group.is_empty() {
            faults.each(&format!("{at}.apiGroup"), group, fields::subdomain(group));
        }
        let namespace = text(it, "namespace");
        if name == "dataSourceRef" && !namespace.is_empty() {
            faults.each(&format!("{at}.namespace"), namespace, fields::label(namespace));
        }
    }
    let (old, new) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if !old.is_object() || !new.is_object() {
        return;
    }
    let is_same = ["apiGroup", "kind", "name"].iter().all(|it| old[it] == new[it]);
    let why = if !text(new, "namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if !is_same {
        "must match dataSourceRef"
    } else {
        return;
    };
    faults.invalid(at, format!("{at}.dataSource"), why);
}
