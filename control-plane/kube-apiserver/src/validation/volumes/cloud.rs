//! Kinds of volumes that pods and PersistentVolumes share: of hosts, networks, clouds.
//!
//! Upstream: `validateVolumeSource`, `ValidatePersistentVolumeSpec` in pkg/apis/core/validation.

use serde_json::Value;

use super::{driver, host_path, no_backsteps};
use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text},
};

/// In upstream's order, in which the first is the one that counts.
const KINDS: [&str; 31] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "local",
    "csi",
    "ephemeral",
    "image",
];
const UP_TO_255: &str = "must be between 0 and 255, inclusive";

pub(in crate::validation) fn kinds_of(volume: &Value) -> Vec<&'static str> {
    KINDS.into_iter().filter(|it| volume[*it].is_object()).collect()
}

/// Fields of a kind that must be there, in upstream's order.
fn required(kind: &str) -> &'static [&'static str] {
    match kind {
        "gitRepo" => &["repository"],
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "nfs" => &["server", "path"],
        "iscsi" => &["targetPortal", "iqn"],
        "glusterfs" => &["endpoints", "path"],
        "rbd" => &["monitors", "image"],
        "cephfs" => &["monitors"],
        "quobyte" => &["registry", "volume"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "azureDisk" => &["diskName", "diskURI"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "storageos" => &["volumeName"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "local" => &["path"],
        _ => &[],
    }
}

/// Of a pod's volume, or of a PersistentVolume.
pub(in crate::validation) fn source(
    faults: &mut Faults,
    at: &str,
    kind: &str,
    volume: &Value,
    name: &str,
    is_persistent: bool,
) {
    // Upstream's path of this kind has another name.
    let told = if kind == "gcePersistentDisk" { "persistentDisk" } else { kind };
    let (it, field) = (&volume[kind], format!("{at}.{told}"));
    if kind == "hostPath" {
        return host_path(faults, &field, it);
    }
    for name in required(kind) {
        if fields::is_unset(&it[*name]) {
            faults.required(format!("{field}.{name}"));
        }
    }
    match kind {
        "gitRepo" => {
            super::descending_path(faults, &format!("{field}.directory"), text(it, "directory"));
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(faults, &field, it),
        "nfs" if !text(it, "path").starts_with('/') => {
            faults.invalid(format!("{field}.path"), text(it, "path"), "must be an absolute path");
        }
        "iscsi" => iscsi(faults, at, it, name),
        "fc" => fibre(faults, &field, it),
        "flocker" => flocker(faults, &field, it),
        "flexVolume" => options(faults, &field, it),
        "azureDisk" => azure(faults, &field, it),
        "local" => no_backsteps(faults, &format!("{field}.path"), text(it, "path")),
        "cinder" | "storageos" if it["secretRef"].is_object() => {
            let names: &[&str] = if is_persistent { &["name", "namespace"] } else { &["name"] };
            for name in names {
                faults.text(format!("{field}.secretRef.{name}"), &it["secretRef"][*name]);
            }
        }
        "csi" => persistent_csi(faults, &field, it),
        _ => {}
    }
}

fn partition(faults: &mut Faults, at: &str, it: &Value) {
    if let Some(number) = it["partition"].as_i64().filter(|it| !(0..=255).contains(it)) {
        faults.invalid(format!("{at}.partition"), number, "must be between 1 and 255, inclusive");
    }
}

fn iscsi(faults: &mut Faults, at: &str, it: &Value, volume: &str) {
    let field = format!("{at}.iscsi");
    let lun = it["lun"].as_i64().unwrap_or_default();
    if !(0..=255).contains(&lun) {
        faults.invalid(format!("{field}.lun"), lun, UP_TO_255);
    }
    let iqn = text(it, "iqn");
    if !iqn.is_empty() && !["iqn", "eui", "naa"].iter().any(|it| iqn.starts_with(it)) {
        let why = "must be valid format starting with iqn, eui, or naa";
        faults.invalid(format!("{field}.iqn"), iqn, why);
    }
    let is_checked = it["chapAuthDiscovery"] == true || it["chapAuthSession"] == true;
    if is_checked && !it["secretRef"].is_object() {
        faults.required(format!("{field}.secretRef"));
    }
    let whole = volume.len() + 1 + text(it, "targetPortal").len();
    if it["initiatorName"].is_string() && whole > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        faults.invalid(format!("{at}.name"), volume, why);
    }
}

fn fibre(faults: &mut Faults, at: &str, it: &Value) {
    let has = |list: &str| items(it, list).next().is_some();
    let field = format!("{at}.targetWWNs");
    match (has("targetWWNs"), has("wwids")) {
        (false, false) => {
            let why = "must specify either targetWWNs or wwids, but not both";
            faults.add(FieldError::required(&*field, why));
        }
        (true, true) => {
            let why = "targetWWNs and wwids can not be specified simultaneously";
            faults.invalid(&*field, it["targetWWNs"].clone(), why);
        }
        _ => {}
    }
    match it["lun"].as_i64() {
        _ if !has("targetWWNs") => {}
        None => {
            let why = "lun is required if targetWWNs is specified";
            faults.add(FieldError::required(format!("{at}.lun"), why));
        }
        Some(lun) if !(0..=255).contains(&lun) => {
            faults.invalid(format!("{at}.lun"), lun, UP_TO_255);
        }
        Some(_) => {}
    }
}

fn flocker(faults: &mut Faults, at: &str, it: &Value) {
    let (name, id) = (text(it, "datasetName"), text(it, "datasetUUID"));
    match (name.is_empty(), id.is_empty()) {
        (true, true) => {
            let why = "one of datasetName and datasetUUID is required";
            faults.add(FieldError::required(at, why));
        }
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            faults.invalid(at, "resource", why);
        }
        _ => {}
    }
    if name.contains('/') {
        faults.invalid(format!("{at}.datasetName"), name, "must not contain '/'");
    }
}

fn options(faults: &mut Faults, at: &str, it: &Value) {
    for (key, _) in it["options"].as_object().into_iter().flatten() {
        let space = key.split_once('/').map_or(key.as_str(), |(space, _)| space);
        let space = format!(".{}", space.to_lowercase());
        if space.ends_with(".kubernetes.io") || space.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            faults.invalid(format!("{at}.options[{key}]"), key.as_str(), why);
        }
    }
}

fn azure(faults: &mut Faults, at: &str, it: &Value) {
    for (field, supported) in [
        ("cachingMode", &["None", "ReadOnly", "ReadWrite"]),
        ("kind", &["Dedicated", "Managed", "Shared"]),
    ] {
        if let Some(value) = it[field].as_str().filter(|it| !supported.contains(it)) {
            faults.add(FieldError::not_supported(format!("{at}.{field}"), value, supported));
        }
    }
    let uri = text(it, "diskURI");
    let form = match it["kind"].as_str() {
        Some("Managed") if !uri.starts_with("/subscriptions/") => {
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
        }
        Some(kind) if kind != "Managed" && !uri.starts_with("https://") => {
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        }
        _ => return,
    };
    faults.add(FieldError::not_supported(format!("{at}.diskURI"), uri, &[form]));
}

fn persistent_csi(faults: &mut Faults, at: &str, it: &Value) {
    driver(faults, &format!("{at}.driver"), text(it, "driver"));
    faults.text(format!("{at}.volumeHandle"), &it["volumeHandle"]);
    for secret in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if it[secret].is_object() {
            secret_reference(faults, &format!("{at}.{secret}"), &it[secret]);
        }
    }
}

/// A Secret by name and namespace.
fn secret_reference(faults: &mut Faults, at: &str, it: &Value) {
    for (field, check) in
        [("name", fields::subdomain as fn(&str) -> Vec<String>), ("namespace", fields::label)]
    {
        match text(it, field) {
            "" => faults.required(format!("{at}.{field}")),
            value => faults.each(&format!("{at}.{field}"), value, check(value)),
        }
    }
}
