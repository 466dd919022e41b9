//! Volumes of pods, and what they have in common with PersistentVolumes.
//!
//! Upstream: `ValidateVolumes` in pkg/apis/core/validation.

mod cloud;
mod projected;

use std::collections::HashMap;

use serde_json::Value;

pub(super) use self::cloud::{kinds_of, source};
use super::{Faults, fields, items, pod::environment, storage, text};
use crate::status::FieldError;

const HOST_PATHS: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// Checks a spec's volumes, and returns those in which nothing is wrong. The pod's name is empty
/// where it is not known.
pub(super) fn validate<'a>(
    faults: &mut Faults,
    list: &str,
    spec: &'a Value,
    pod: &str,
) -> HashMap<&'a str, &'a Value> {
    let mut good = HashMap::new();
    let created = |it: &Value| format!("{pod}-{}", text(it, "name"));
    let made: Vec<String> = items(spec, "volumes")
        .filter(|(_, it)| it["ephemeral"].is_object() && !pod.is_empty())
        .map(|(_, it)| created(it))
        .collect();
    for (index, volume) in items(spec, "volumes") {
        let at = format!("{list}[{index}]");
        let name = text(volume, "name");
        let before = faults.count();
        only_source(faults, &at, volume, pod);
        if name.is_empty() {
            faults.required(format!("{at}.name"));
        } else {
            faults.each(&format!("{at}.name"), name, fields::label(name));
        }
        if good.contains_key(name) {
            faults.add(FieldError::duplicate(format!("{at}.name"), name));
        }
        if faults.count() == before {
            good.insert(name, volume);
        }
        let claim = text(&volume["persistentVolumeClaim"], "claimName");
        if made.iter().any(|it| it == claim) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            faults.invalid(format!("{at}.persistentVolumeClaim.claimName"), claim, why);
        }
    }
    good
}

fn only_source(faults: &mut Faults, at: &str, volume: &Value, pod: &str) {
    let kinds = kinds_of(volume);
    let Some((first, others)) = kinds.split_first() else {
        return faults.add(FieldError::required(at, "must specify a volume type"));
    };
    for extra in others {
        faults.forbidden(format!("{at}.{extra}"), "may not specify more than 1 volume type");
    }
    of_kind(faults, at, first, volume, pod);
}

fn of_kind(faults: &mut Faults, at: &str, kind: &str, volume: &Value, pod: &str) {
    let (it, field) = (&volume[kind], format!("{at}.{kind}"));
    match kind {
        "emptyDir" => {
            if fields::quantity(&it["sizeLimit"]).is_some_and(|it| it.is_negative()) {
                let why = "SizeLimit field must be a valid resource quantity";
                faults.forbidden(format!("{field}.sizeLimit"), why);
            }
        }
        "secret" => {
            faults.text(format!("{field}.secretName"), &it["secretName"]);
            keys(faults, &field, it);
        }
        "configMap" => {
            faults.text(format!("{field}.name"), &it["name"]);
            keys(faults, &field, it);
        }
        "persistentVolumeClaim" => faults.text(format!("{field}.claimName"), &it["claimName"]),
        "downwardAPI" => {
            mode(faults, format!("{field}.defaultMode"), &it["defaultMode"]);
            for (_, file) in items(it, "items") {
                downward_file(faults, &field, file);
            }
        }
        "projected" => projected::check(faults, &field, it),
        "csi" => csi(faults, &field, it),
        "ephemeral" => ephemeral(faults, at, volume, pod),
        "image" => {
            if !pod.is_empty() {
                faults.text(format!("{field}.reference"), &it["reference"]);
            }
            faults.one_of(&format!("{field}.pullPolicy"), &it["pullPolicy"], PULL_POLICIES);
        }
        _ => source(faults, at, kind, volume, text(volume, "name"), false),
    }
}

fn csi(faults: &mut Faults, at: &str, csi: &Value) {
    driver(faults, &format!("{at}.driver"), text(csi, "driver"));
    let secret = &csi["nodePublishSecretRef"];
    if !secret.is_object() {
        return;
    }
    match text(secret, "name") {
        "" => faults.required(format!("{at}.nodePublishSecretRef.name")),
        name => faults.each(&format!("{at}.name"), name, fields::subdomain(name)),
    }
}

/// The name of a CSI driver, or of a driver of devices.
pub(super) fn driver(faults: &mut Faults, field: &str, name: &str) {
    const LONGEST: usize = 63;
    if name.is_empty() {
        faults.required(field);
    }
    if name.len() > LONGEST {
        faults.add(FieldError::too_long(field, LONGEST));
    }
    faults.each(field, name, fields::subdomain(&name.to_lowercase()));
}

fn ephemeral(faults: &mut Faults, at: &str, volume: &Value, pod: &str) {
    let template = &volume["ephemeral"]["volumeClaimTemplate"];
    let field = format!("{at}.ephemeral.volumeClaimTemplate");
    if !template.is_object() {
        return faults.required(field);
    }
    super::metadata::template(faults, &format!("{field}.metadata"), &template["metadata"]);
    storage::claim(faults, &format!("{field}.spec"), &template["spec"]);
    let name = text(volume, "name");
    if !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{name}");
        for why in fields::subdomain(&claim) {
            faults.invalid(format!("{at}.name"), name, format!("PVC name {claim:?}: {why}"));
        }
    }
}

pub(super) fn host_path(faults: &mut Faults, at: &str, it: &Value) {
    let path = text(it, "path");
    if path.is_empty() {
        return faults.required(format!("{at}.path"));
    }
    no_backsteps(faults, &format!("{at}.path"), path);
    if let Some(kind) = it["type"].as_str().filter(|it| !HOST_PATHS.contains(it)) {
        faults.add(FieldError::not_supported(format!("{at}.type"), kind, HOST_PATHS));
    }
}

/// `items` of a ConfigMap or Secret: a key and a path within the volume.
fn keys(faults: &mut Faults, at: &str, source: &Value) {
    mode(faults, format!("{at}.defaultMode"), &source["defaultMode"]);
    for (index, item) in items(source, "items") {
        let at = format!("{at}.items[{index}]");
        faults.text(format!("{at}.key"), &item["key"]);
        local_path(faults, format!("{at}.path"), text(item, "path"));
        mode(faults, format!("{at}.mode"), &item["mode"]);
    }
}

fn mode(faults: &mut Faults, field: String, mode: &Value) {
    if let Some(mode) = mode.as_i64().filter(|it| !(0..=0o777).contains(it)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        faults.invalid(field, mode, why);
    }
}

/// Upstream tells the files of a volume without their place in the list.
fn downward_file(faults: &mut Faults, at: &str, file: &Value) {
    local_path(faults, format!("{at}.path"), text(file, "path"));
    let (field, resource) = (&file["fieldRef"], &file["resourceFieldRef"]);
    if field.is_object() {
        environment::field(faults, &format!("{at}.fieldRef"), field, environment::FILES);
        if resource.is_object() {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            faults.invalid(at, "resource", why);
        }
    } else if resource.is_object() {
        environment::resource(faults, &format!("{at}.resourceFieldRef"), resource, true);
    } else {
        let why = "one of fieldRef and resourceFieldRef is required";
        faults.add(FieldError::required(at, why));
    }
    mode(faults, format!("{at}.mode"), &file["mode"]);
}

/// Of a file within a volume; names that begin with two dots are the kubelet's own.
pub(super) fn local_path(faults: &mut Faults, field: String, path: &str) {
    if path.is_empty() {
        return faults.required(field);
    }
    descending_path(faults, &field, path);
    if path.starts_with("..") && !path.starts_with("../") {
        faults.invalid(&field, path, "must not start with '..'");
    }
}

/// A relative path that stays below where it begins; the empty one does.
pub(super) fn descending_path(faults: &mut Faults, field: &str, path: &str) {
    if path.starts_with('/') {
        faults.invalid(field, path, "must be a relative path");
    }
    no_backsteps(faults, field, path);
}

pub(super) fn no_backsteps(faults: &mut Faults, field: &str, path: &str) {
    if path.split('/').any(|it| it == "..") {
        faults.invalid(field, path, "must not contain '..'");
    }
}
