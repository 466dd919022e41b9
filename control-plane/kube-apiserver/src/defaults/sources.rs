//! Where the content of volumes is from, of pods and of PersistentVolumes; and claims.

use serde_json::{Value, json};

use super::{at, or, or_text, round};

pub(super) fn apply(volume: &mut Value) {
    if volume["hostPath"].is_object() {
        or(at(volume, "hostPath"), "type", json!(""));
    }
    for (source, defaults) in TEXTS {
        if volume[source].is_object() {
            let source = at(volume, source);
            for (field, value) in defaults {
                or_text(source, field, value);
            }
        }
    }
    if volume["azureDisk"].is_object() {
        let disk = at(volume, "azureDisk");
        for (field, value) in [("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("kind", "Shared")]
        {
            or(disk, field, json!(value));
        }
        or(disk, "readOnly", json!(false));
    }
}

const TEXTS: [(&str, &[(&str, &str)]); 3] = [
    ("iscsi", &[("iscsiInterface", "default")]),
    ("rbd", &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")]),
    ("scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]),
];

pub(super) fn persistent_volume(volume: &mut Value) {
    let spec = at(volume, "spec");
    or_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    or(spec, "volumeMode", json!("Filesystem"));
    round(spec, "capacity");
    apply(spec);
}

pub(super) fn claim(spec: &mut Value) {
    or(spec, "volumeMode", json!("Filesystem"));
    if spec["resources"].is_object() {
        round(at(spec, "resources"), "limits");
        round(at(spec, "resources"), "requests");
    }
}
