//! When volumes are attached and detached, and what is told.

use serde_json::{Value, json};

use super::*;

const NAME: &str = "kubernetes.io/csi/disk^h";

fn volume(is_exclusive: bool) -> Volume {
    let (name, driver, handle) = ("pv".into(), "disk".into(), "h".into());
    Volume { name, driver, handle, is_exclusive, pods: vec![pod("a", "p")] }
}

fn pod(namespace: &str, name: &str) -> Arc<Pod> {
    let value = json!({ "metadata": { "namespace": namespace, "name": name } });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn node(ready: &str, in_use: bool, attached: bool, taint: Option<&str>) -> Node {
    let (names, told) = (
        if in_use { json!([NAME]) } else { json!([]) },
        if attached { json!([{ "name": NAME, "devicePath": "" }]) } else { json!([]) },
    );
    let taints: Vec<_> =
        taint.iter().map(|it| json!({ "key": OUT_OF_SERVICE, "effect": it })).collect();
    serde_json::from_value(json!({ "metadata": { "name": "n" }, "spec": { "taints": taints },
        "status": { "conditions": [{ "type": "Ready", "status": ready }],
            "volumesInUse": names, "volumesAttached": told } }))
    .unwrap()
}

fn attachment(status: Value, deleted: bool) -> Arc<VolumeAttachment> {
    let date = deleted.then_some("1970-01-01T00:00:00Z");
    Arc::new(
        serde_json::from_value(json!({
            "metadata": { "name": volume(true).attachment_name("n"), "deletionTimestamp": date,
                "creationTimestamp": "1970-01-01T00:00:00Z" },
            "spec": { "attacher": "disk", "nodeName": "n",
                "source": { "persistentVolumeName": "pv" } },
            "status": status }))
        .unwrap(),
    )
}

fn planned(
    node: Option<&Node>,
    wanted: &[Volume],
    own: Option<Arc<VolumeAttachment>>,
    elsewhere: &[User],
    seconds: i64,
) -> Plan {
    let unwanted = [(volume(true).attachment_name("n"), Timestamp::UNIX_EPOCH)].into();
    let own: Vec<_> = own.into_iter().map(|it| (it, volume(true))).collect();
    plan(World {
        name: "n",
        node,
        wanted,
        own: &own,
        elsewhere: &|_| elsewhere.to_vec(),
        unwanted: &unwanted,
        now: Timestamp::from_second(seconds).unwrap(),
    })
}

fn attached() -> Option<Arc<VolumeAttachment>> {
    Some(attachment(json!({ "attached": true }), false))
}

#[test]
fn what_a_pod_needs_is_attached_and_reported_when_the_driver_has_done_it() {
    let (idle, wanted) = (node("True", false, false, None), [volume(true)]);
    let first = planned(Some(&idle), &wanted, None, &[], 0);
    assert_eq!((first.attach.len(), first.report), (1, None));
    let pending = Some(attachment(json!({ "attached": false }), false));
    let waits = planned(Some(&idle), &wanted, pending.clone(), &[], 20);
    assert_eq!((waits.attach.len(), waits.notes.len()), (0, 0));
    assert_eq!(waits.again, Some(Duration::from_secs(100)));
    let late = planned(Some(&idle), &wanted, pending, &[], 120);
    assert_eq!(
        late.notes[0].pods[0].1,
        "AttachVolume.Attach failed for volume \"pv\" : timed out waiting for external-attacher of disk \
         CSI driver to attach volume h"
    );
    let done = planned(Some(&idle), &wanted, attached(), &[], 1);
    assert_eq!(done.report, Some(vec![NAME.to_owned()]));
    assert_eq!(done.attached, [("pv".to_owned(), vec![pod("a", "p")])]);
    let told = node("True", true, true, None);
    assert_eq!(planned(Some(&told), &wanted, attached(), &[], 1), Plan::default());
}

#[test]
fn a_drivers_error_is_told_to_the_pods() {
    let error = json!({ "attached": false, "attachError": { "message": "rpc error: full" } });
    let idle = node("True", false, false, None);
    let plan = planned(Some(&idle), &[volume(true)], Some(attachment(error, false)), &[], 1);
    assert_eq!(
        plan.notes[0].message,
        "AttachVolume.Attach failed for volume \"pv\" : rpc error: full"
    );
}

#[test]
fn a_volume_for_one_node_waits_for_the_other_to_let_go() {
    let idle = node("True", false, false, None);
    let told = |pods: Vec<Arc<Pod>>| {
        let elsewhere = [User { node: "other".into(), pods }];
        let plan = planned(Some(&idle), &[volume(true)], None, &elsewhere, 0);
        assert!(plan.attach.is_empty());
        plan.notes[0].pods[0].1.clone()
    };
    let of = "Multi-Attach error for volume \"pv\" Volume is already";
    assert_eq!(
        told(vec![]),
        format!("{of} exclusively attached to one node and can't be attached to another")
    );
    assert_eq!(told(vec![pod("a", "y"), pod("a", "x")]), format!("{of} used by pod(s) x, y"));
    assert_eq!(
        told(vec![pod("b", "secret")]),
        format!("{of} used by 1 pod(s) in different namespaces")
    );
    let elsewhere = [User { node: "other".into(), pods: vec![] }];
    let shared = planned(Some(&idle), &[volume(false)], None, &elsewhere, 0);
    assert_eq!(shared.attach.len(), 1);
}

#[test]
fn what_nobody_needs_is_detached_once_the_node_has_unmounted_it() {
    let (used, unmounted) = (node("True", true, true, None), node("True", false, true, None));
    let day = 24 * 3600;
    let waits = planned(Some(&used), &[], attached(), &[], day);
    assert_eq!(waits, Plan::default(), "a healthy node has all the time");
    let plan = planned(Some(&unmounted), &[], attached(), &[], 0);
    assert_eq!((plan.report, plan.detach.len()), (Some(vec![]), 1));
    assert!(!plan.detach[0].is_forced);
    let going = Some(attachment(json!({ "attached": true }), true));
    let plan = planned(Some(&unmounted), &[volume(true)], going, &[], 0);
    assert_eq!((plan.attach.len(), plan.report), (0, Some(vec![])), "what goes is waited for");
}

#[test]
fn a_node_that_is_not_healthy_or_gone_has_six_minutes_and_one_out_of_service_none() {
    let sick = node("Unknown", true, true, None);
    for there in [Some(&sick), None] {
        let waits = planned(there, &[], attached(), &[], 300);
        assert_eq!((waits.detach.len(), waits.again), (0, Some(Duration::from_secs(60))));
        let plan = planned(there, &[], attached(), &[], 360);
        assert!(plan.detach[0].is_forced);
    }
    let out = node("Unknown", true, true, Some("NoExecute"));
    assert!(planned(Some(&out), &[], attached(), &[], 0).detach[0].is_forced);
    let not_yet = node("Unknown", true, true, Some("NoSchedule"));
    assert!(planned(Some(&not_yet), &[], attached(), &[], 0).detach.is_empty());
}

#[test]
fn an_attachment_is_named_as_the_kubelet_looks_for_it() {
    let name = volume(true).attachment_name("n");
    assert_eq!((name.len(), &name[..4]), (68, "csi-"));
    assert_ne!(name, volume(true).attachment_name("m"));
}
