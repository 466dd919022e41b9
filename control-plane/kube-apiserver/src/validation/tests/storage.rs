//! What must hold of volumes' and claims' validation.

use serde_json::{Value, json};

use super::{changes, faults};

fn named(change: &Value, rest: Value) -> Value {
    let mut object = json!({ "metadata": { "name": "a" } });
    for it in [&rest, change] {
        object.as_object_mut().unwrap().extend(it.as_object().unwrap().clone());
    }
    object
}

fn volume(change: Value) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" },
        "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": "vol-1" },
    });
    spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    named(&json!({}), json!({ "spec": spec }))
}

#[test]
fn a_volume_has_a_size_modes_and_one_source() {
    let of = |change: Value| faults("", "persistentvolumes", volume(change));
    assert_eq!(of(json!({})), [""; 0]);
    assert_eq!(of(json!({ "accessModes": [] })), ["spec.accessModes: Required value"]);
    assert_eq!(
        of(json!({ "accessModes": ["ReadWriteOncePod", "ReadOnlyMany"] })),
        ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"]
    );
    assert_eq!(
        of(json!({ "capacity": { "storage": "0" } })),
        ["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"]
    );
    assert_eq!(of(json!({ "csi": null })), ["spec: Required value: must specify a volume type"]);
    assert_eq!(
        of(json!({ "csi": null, "local": { "path": "/x" } })),
        ["spec.nodeAffinity: Required value: Local volume requires node affinity"]
    );
    assert_eq!(
        of(json!({ "hostPath": { "path": "/x" } })),
        ["spec.csi: Forbidden: may not specify more than 1 volume type"]
    );
}

#[test]
fn a_volumes_source_stays_but_for_the_secret_that_it_grows_with() {
    let csi = |more: Value| {
        let mut csi = json!({ "driver": "ebs.csi.aws.com", "volumeHandle": "vol-1" });
        csi.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        volume(json!({ "csi": csi }))
    };
    let of = |more: Value| changes("", "persistentvolumes", csi(json!({})), csi(more));
    let secret = json!({ "name": "s", "namespace": "n" });
    assert_eq!(of(json!({ "controllerExpandSecretRef": secret })), [""; 0]);
    assert_eq!(
        of(json!({ "volumeHandle": "vol-2" })),
        [
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n"
        ]
    );
}

#[test]
fn a_claim_is_filled_from_one_source_and_stays_until_it_is_bound() {
    let claim = |change: Value, phase: &str| {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
        });
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        named(&json!({}), json!({ "spec": spec, "status": { "phase": phase } }))
    };
    let of = |change: Value| faults("", "persistentvolumeclaims", claim(change, "Pending"));
    assert_eq!(of(json!({ "storageClassName": "" })), [""; 0]);
    assert_eq!(
        of(json!({ "dataSource": { "kind": "Any", "name": "n" } })),
        [
            "spec.dataSource: Invalid value: \"Any\": must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        ]
    );
    let pair = |name: &str| {
        let source = |name: &str| json!({ "kind": "PersistentVolumeClaim", "name": name });
        json!({ "dataSource": source("a"), "dataSourceRef": source(name) })
    };
    assert_eq!(of(pair("a")), [""; 0]);
    assert_eq!(
        of(pair("b")),
        ["spec: Invalid value: \"spec.dataSource\": must match dataSourceRef"]
    );
    let grown = json!({ "resources": { "requests": { "storage": "2Gi" } } });
    let from = |phase: &str| {
        let (old, new) = (claim(json!({}), phase), claim(grown.clone(), phase));
        changes("", "persistentvolumeclaims", old, new)
    };
    assert_eq!(from("Bound"), [""; 0]);
    assert_eq!(
        from("Pending"),
        [
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"
        ]
    );
}

#[test]
fn the_storage_groups_objects_have_upstreams_bounds() {
    let of =
        |plural: &str, object: Value| faults("storage.k8s.io", plural, named(&object, json!({})));
    assert_eq!(
        of("storageclasses", json!({ "provisioner": "a/b/c" })).len(),
        1,
        "a qualified name"
    );
    assert_eq!(
        of("storageclasses", json!({ "provisioner": "a", "reclaimPolicy": "Recycle" })),
        ["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""]
    );
    assert_eq!(
        of("volumeattributesclasses", json!({ "driverName": "d" })),
        ["parameters: Required value: must contain at least one key/value pair"]
    );
    let attachment = |source: Value| {
        let spec = json!({ "attacher": "d", "nodeName": "n", "source": source });
        of("volumeattachments", json!({ "spec": spec }))
    };
    assert_eq!(attachment(json!({ "persistentVolumeName": "v" })), [""; 0]);
    let either = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    assert_eq!(attachment(json!({})), [format!("spec.source: Required value: {either}")]);
    let node = |drivers: Value| of("csinodes", json!({ "spec": { "drivers": drivers } }));
    assert_eq!(
        node(json!([{ "name": "d", "nodeID": "i" }, { "name": "d", "nodeID": "" }])),
        ["spec.drivers[1].nodeID: Required value", "spec.drivers[1].name: Duplicate value: \"d\""]
    );
    let driver = |change: Value| of("csidrivers", json!({ "spec": change }));
    assert_eq!(driver(json!({})), [""; 0]);
    assert_eq!(
        driver(json!({ "tokenRequests": [{ "audience": "a", "expirationSeconds": 1 }] })),
        [
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes"
        ]
    );
}
