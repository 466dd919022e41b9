//! Who is bound to whom, who waits, and what is said about it.

use super::*;

fn claim(spec: Value, annotations: Value) -> PersistentVolumeClaim {
    let mut full = json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
        "resources": { "requests": { "storage": "1Gi" } } });
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": { "namespace": "n", "name": "c", "uid": "1", "annotations": annotations },
        "spec": full }))
    .unwrap()
}

fn volume_of(name: &str, to: Value, phase: &str) -> Arc<PersistentVolume> {
    Arc::new(
        serde_json::from_value(json!({ "metadata": { "name": name },
            "spec": { "capacity": { "storage": "2Gi" }, "storageClassName": "slow",
                "accessModes": ["ReadWriteOnce"], "claimRef": to,
                "persistentVolumeReclaimPolicy": "Retain" },
            "status": { "phase": phase } }))
        .unwrap(),
    )
}

fn free(name: &str) -> Arc<PersistentVolume> {
    volume_of(name, Value::Null, "Available")
}

fn to(uid: &str) -> Value {
    json!({ "namespace": "n", "name": "c", "uid": uid })
}

fn class(name: &str, mode: &str, is_default: bool) -> Arc<StorageClass> {
    let annotations = json!({ DEFAULT_CLASS: is_default.to_string() });
    Arc::new(
        serde_json::from_value(json!({ "metadata": { "name": name, "annotations": annotations },
            "provisioner": "example.com/disk", "volumeBindingMode": mode }))
        .unwrap(),
    )
}

/// In short: what is done, and about what.
fn told(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
) -> String {
    match (Claims { volumes, classes }).plan(claim) {
        ClaimPlan::Nothing => "nothing".into(),
        ClaimPlan::Class(name) => format!("class {name}"),
        ClaimPlan::Bind(volume) => format!("bind {}", name(&*volume)),
        ClaimPlan::Lost { reason, .. } => format!("lost {reason}"),
        ClaimPlan::Wait { reason, message, .. } => format!("{reason}: {message}"),
        ClaimPlan::Provision { provisioner, .. } => format!("provision {provisioner}"),
    }
}

#[test]
fn a_claim_is_bound_provisioned_or_waits_and_says_why() {
    let plain = || claim(json!({}), json!({}));
    let slow = |mode: &str| vec![class("slow", mode, false)];
    let nothing =
        "FailedBinding: no persistent volumes available for this claim and no storage class is set";
    for (what, claim, volumes, classes, expected) in [
        ("a free volume", plain(), vec![free("v")], slow("Immediate"), "bind v"),
        ("none", plain(), vec![], slow("Immediate"), "provision example.com/disk"),
        (
            "no class",
            plain(),
            vec![],
            vec![],
            "ProvisioningFailed: storageclass.storage.k8s.io \"slow\" not found",
        ),
        (
            "its consumer first",
            plain(),
            vec![free("v")],
            slow("WaitForFirstConsumer"),
            "WaitForFirstConsumer: waiting for first consumer to be created before binding",
        ),
        (
            "the scheduler has chosen a volume",
            plain(),
            vec![free("v"), volume_of("w", to("1"), "Available")],
            slow("WaitForFirstConsumer"),
            "bind w",
        ),
        (
            "the scheduler has chosen a node",
            claim(json!({}), json!({ SELECTED_NODE: "node" })),
            vec![],
            slow("WaitForFirstConsumer"),
            "provision example.com/disk",
        ),
        (
            "the default class",
            claim(json!({ "storageClassName": null }), json!({})),
            vec![],
            vec![class("slow", "Immediate", false), class("fast", "Immediate", true)],
            "class fast",
        ),
        (
            "no default",
            claim(json!({ "storageClassName": null }), json!({})),
            vec![],
            slow("Immediate"),
            nothing,
        ),
        (
            "no class wanted",
            claim(json!({ "storageClassName": "" }), json!({})),
            vec![],
            vec![class("fast", "Immediate", true)],
            nothing,
        ),
        (
            "a certain one",
            claim(json!({ "volumeName": "v" }), json!({})),
            vec![free("v")],
            vec![],
            "bind v",
        ),
        (
            "a certain one that is taken",
            claim(json!({ "volumeName": "v" }), json!({})),
            vec![volume_of("v", to("2"), "Bound")],
            vec![],
            "FailedBinding: volume \"v\" already bound to a different claim.",
        ),
        (
            "a certain one that is too small",
            claim(
                json!({ "volumeName": "v", "resources": { "requests": { "storage": "3Gi" } } }),
                json!({}),
            ),
            vec![free("v")],
            vec![],
            "VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small",
        ),
    ] {
        assert_eq!(told(&claim, &volumes, &classes), expected, "{what}");
    }
}

#[test]
fn a_bound_claim_whose_volume_is_gone_or_anothers_is_lost() {
    let bound = |name: &str| claim(json!({ "volumeName": name }), json!({ BIND_COMPLETED: "yes" }));
    assert_eq!(told(&bound(""), &[], &[]), "lost ClaimLost");
    assert_eq!(told(&bound("v"), &[], &[]), "lost ClaimLost");
    assert_eq!(told(&bound("v"), &[volume_of("v", to("2"), "Bound")], &[]), "lost ClaimMisbound");
    let mut done = bound("v");
    assert_eq!(told(&done, &[volume_of("v", to("1"), "Bound")], &[]), "bind v", "no status yet");
    done.status = serde_json::from_value(json!({ "phase": "Bound",
        "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "2Gi" } }))
    .unwrap();
    assert_eq!(told(&done, &[volume_of("v", to("1"), "Bound")], &[]), "nothing");
}

#[test]
fn both_sides_are_written_once_and_remember_who_wrote_them() {
    let (free, open) = (free("v"), claim(json!({}), json!({})));
    let patch = bind_volume(&free, &open).unwrap();
    assert_eq!(patch["spec"]["claimRef"]["uid"], "1");
    assert_eq!(patch["metadata"]["annotations"][BOUND_BY_CONTROLLER], "yes");
    let promised = volume_of("v", to(""), "Available");
    let patch = bind_volume(&promised, &open).unwrap();
    assert_eq!(patch["metadata"], Value::Null, "a user has promised it");
    assert_eq!(bind_volume(&volume_of("v", to("1"), "Bound"), &open), None);

    let patch = bind_claim(&open, &free).unwrap();
    assert_eq!(patch["spec"]["volumeName"], "v");
    assert_eq!(patch["metadata"]["annotations"].as_object().unwrap().len(), 2);
    let named = claim(json!({ "volumeName": "v" }), json!({}));
    let patch = bind_claim(&named, &free).unwrap();
    assert_eq!(patch["metadata"]["annotations"], json!({ BIND_COMPLETED: "yes" }));
    let done = claim(json!({ "volumeName": "v" }), json!({ BIND_COMPLETED: "yes" }));
    assert_eq!(bind_claim(&done, &free), None);
}

#[test]
fn a_volume_follows_its_claim() {
    let named = |name: &str| claim(json!({ "volumeName": name }), json!({}));
    for (what, it, claim, expected) in [
        ("new", volume_of("v", Value::Null, "Pending"), None, VolumePlan::Phase("Available")),
        ("promised", volume_of("v", to(""), "Available"), None, VolumePlan::Nothing),
        ("half bound", volume_of("v", to("1"), "Available"), Some(named("")), VolumePlan::Nothing),
        (
            "bound",
            volume_of("v", to("1"), "Available"),
            Some(named("v")),
            VolumePlan::Phase("Bound"),
        ),
        ("its claim is gone", volume_of("v", to("1"), "Bound"), None, VolumePlan::Release),
        (
            "another claim of that name",
            volume_of("v", to("0"), "Bound"),
            Some(named("v")),
            VolumePlan::Release,
        ),
        ("released", volume_of("v", to("0"), "Released"), None, VolumePlan::Nothing),
        (
            "its claim took another",
            volume_of("v", to("1"), "Bound"),
            Some(named("w")),
            VolumePlan::Unbind,
        ),
    ] {
        assert_eq!(volume(&it, claim.as_ref()), expected, "{what}");
    }
}
