//! Where a container sees its pod's volumes: as folders, or as devices.
//!
//! Upstream: `ValidateVolumeMounts`, `ValidateVolumeDevices` in pkg/apis/core/validation.

use std::collections::HashSet;

use serde_json::Value;

use super::Scope;
use crate::{
    status::FieldError,
    validation::{Faults, items, text, volumes},
};

const PROPAGATIONS: &[&str] = &["Bidirectional", "HostToContainer", "None"];
const RECURSIVE: &[&str] = &["Disabled", "Enabled", "IfPossible"];

pub(super) fn check(faults: &mut Faults, at: &str, container: &Value, scope: &Scope<'_>) {
    mounts(faults, &format!("{at}.volumeMounts"), container, scope);
    devices(faults, &format!("{at}.volumeDevices"), container, scope);
}

fn has(container: &Value, list: &str, field: &str, wanted: &str) -> bool {
    !wanted.is_empty() && items(container, list).any(|(_, it)| text(it, field) == wanted)
}

fn mounts(faults: &mut Faults, list: &str, container: &Value, scope: &Scope<'_>) {
    let mut paths = HashSet::new();
    for (index, mount) in items(container, "volumeMounts") {
        let at = format!("{list}[{index}]");
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            faults.required(format!("{at}.name"));
        }
        if !scope.volumes.contains_key(name) {
            faults.add(FieldError::not_found(format!("{at}.name"), name));
        }
        if path.is_empty() {
            faults.required(format!("{at}.mountPath"));
        }
        if !paths.insert(path) {
            faults.invalid(format!("{at}.mountPath"), path, "must be unique");
        }
        if has(container, "volumeDevices", "name", name) {
            faults.invalid(format!("{at}.name"), name, "must not already exist in volumeDevices");
        }
        if has(container, "volumeDevices", "devicePath", path) {
            let why = "must not already exist as a path in volumeDevices";
            faults.invalid(format!("{at}.mountPath"), path, why);
        }
        sub_paths(faults, list, &at, mount);
        how(faults, list, mount, container);
    }
}

/// Some of the paths that upstream tells are of the whole list.
fn sub_paths(faults: &mut Faults, list: &str, at: &str, mount: &Value) {
    let (plain, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
    volumes::descending_path(faults, &format!("{list}.subPath"), plain);
    if !plain.is_empty() && !expression.is_empty() {
        let why = "subPathExpr and subPath are mutually exclusive";
        faults.invalid(format!("{at}.subPathExpr"), expression, why);
    }
    volumes::descending_path(faults, &format!("{list}.subPathExpr"), expression);
}

fn how(faults: &mut Faults, list: &str, mount: &Value, container: &Value) {
    let field = format!("{list}.mountPropagation");
    let propagation = mount["mountPropagation"].as_str();
    if let Some(it) = propagation.filter(|it| !PROPAGATIONS.contains(it)) {
        faults.add(FieldError::not_supported(&*field, it, PROPAGATIONS));
    }
    let is_privileged = container["securityContext"]["privileged"] == true;
    if propagation == Some("Bidirectional") && !is_privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        faults.forbidden(field, why);
    }
    let field = format!("{list}.recursiveReadOnly");
    match mount["recursiveReadOnly"].as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount["readOnly"] != true {
                faults.forbidden(&*field, "may only be specified when readOnly is true");
            }
            if propagation.is_some_and(|it| it != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                faults.forbidden(field, why);
            }
        }
        Some(other) => faults.add(FieldError::not_supported(field, other, RECURSIVE)),
    }
}

fn devices(faults: &mut Faults, list: &str, container: &Value, scope: &Scope<'_>) {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for (index, device) in items(container, "volumeDevices") {
        let at = format!("{list}[{index}]");
        let (name, path) = (text(device, "name"), text(device, "devicePath"));
        let (name_at, path_at) = (format!("{at}.name"), format!("{at}.devicePath"));
        if name.is_empty() {
            faults.required(&*name_at);
        } else if !names.insert(name) {
            faults.invalid(&*name_at, name, "must be unique");
        }
        match scope.volumes.get(name) {
            Some(it) if it["persistentVolumeClaim"].is_object() || it["ephemeral"].is_object() => {}
            Some(_) => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                faults.invalid(&*name_at, name, why);
            }
            None => faults.add(FieldError::not_found(&*name_at, name)),
        }
        if path.is_empty() {
            faults.required(&*path_at);
        } else if paths.contains(path) {
            faults.invalid(&*path_at, path, "must be unique");
        }
        if path.split('/').any(|it| it == "..") {
            faults.invalid(&*path_at, path, "can not contain backsteps ('..')");
        } else {
            paths.insert(path);
        }
        if has(container, "volumeMounts", "name", name) {
            faults.invalid(&*name_at, name, "must not already exist in volumeMounts");
        }
        if has(container, "volumeMounts", "mountPath", path) {
            let why = "must not already exist as a path in volumeMounts";
            faults.invalid(path_at, path, why);
        }
    }
}
