//! A kubelet as it runs on a host whose `/` is private: what containers mount in their volumes reaches
//! the host and other containers, and none of it stays.
//!
//! Upstream: `test/e2e_node/emptydir_bidirectional_teardown_linux_test.go`,
//! `test/e2e/node/mount_propagation.go`.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{on_host::OnHost, shares::is_inside, support::Bed};

/// Of each mount at the kubelet's folder, whether it is shared.
fn mounts_of_root(bed: &Bed) -> Vec<bool> {
    let root = bed.root().canonicalize().unwrap().display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = table.lines().filter(|it| it.split(' ').nth(4) == Some(&root));
    own.map(|it| it.contains(" shared:")).collect()
}

fn container(bed: &Bed, name: &str, how: &str, script: &str) -> Value {
    let mut container = bed.container(name, script);
    container["volumeMounts"] =
        json!([{ "name": "v", "mountPath": "/v", "mountPropagation": how }]);
    container["securityContext"] = json!({ "privileged": how == "Bidirectional" });
    container
}

fn pod(name: &str, containers: &[Value]) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": containers, "volumes": [{ "name": "v", "emptyDir": {} }],
        },
    })
}

/// The message's file is a mount in the volume, which the host has, too.
async fn says_its_message_in_a_volume(bed: &Bed) {
    let mut main = container(bed, "main", "Bidirectional", "echo said > /v/log.txt");
    main["terminationMessagePath"] = json!("/v/log.txt");
    bed.create_pod(pod("says", &[main])).await;
    let ended = bed.until("says", |it| it.phase.as_deref() == Some("Succeeded")).await;
    let status = ended.status.unwrap().container_statuses.unwrap().remove(0);
    let message = status.state.unwrap().terminated.unwrap().message;
    assert_eq!(message.as_deref(), Some("said\n"));
    bed.delete_pod("says", 0).await;
    bed.until_gone("says").await;
    bed.until_nothing_is_left().await;
}

/// Returns the volume's folder on the host.
async fn mounts_for_others(bed: &Bed) -> PathBuf {
    let sees = "until [ -e /v/inner/file ]; do busybox sleep 0.1; done; \
                busybox cat /v/inner/file > /v/sees; exec sleep 1000";
    let not = "n=0; while :; do n=$((n+1)); \
               echo $n $(busybox cat /v/inner/file 2>/dev/null || echo nothing) > /v/not; \
               busybox sleep 0.1; done";
    let makes = "busybox mkdir /v/inner && busybox mount -t tmpfs tmpfs /v/inner && \
                 echo made > /v/inner/file; exec sleep 1000";
    let containers = [
        container(bed, "sees", "HostToContainer", sees),
        container(bed, "not", "None", not),
        container(bed, "makes", "Bidirectional", makes),
    ];
    bed.create_pod(pod("shares", &containers)).await;
    let made = bed.until_ready("shares").await;
    let uid = made.metadata.uid.unwrap();
    let volume = bed.root().join(format!("pods/{uid}/volumes/kubernetes.io~empty-dir/v"));
    let read = |file: &str| fs::read_to_string(volume.join(file)).unwrap_or_default();
    bed.eventually(async || (read("sees") == "made\n").then_some(())).await;
    assert_eq!(read("inner/file"), "made\n", "the host has it");
    let before = read("not");
    let later = async || Some(read("not")).filter(|it| *it != before && !it.is_empty());
    let later = bed.eventually(later).await;
    assert!(later.ends_with(" nothing\n"), "{later}");
    volume
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_shared_on_a_host_that_shares_nothing_and_no_mount_stays() {
    let test = "shared_root::volumes_are_shared_on_a_host_that_shares_nothing_and_no_mount_stays";
    if !is_inside(test, "nst-none", "#!/bin/sh\n") {
        return;
    }
    let Some(bed) = Bed::own("shared-root").await else { return };
    let kubelet = OnHost::prepare(&bed, &json!({})).await;
    assert_eq!(mounts_of_root(&bed), [true]);
    says_its_message_in_a_volume(&bed).await;
    let volume = mounts_for_others(&bed).await;
    kubelet.end().await;
    assert_eq!(mounts_of_root(&bed), [true], "the pod goes on in it");
    let kubelet = OnHost::start(&bed, &json!({})).await;
    assert_eq!((mounts_of_root(&bed), bed.restarts("shares").await), (vec![true], 0));
    // It stays until the kubelet has ended it, which may only just be about to know it.
    bed.delete_pod("shares", 1).await;
    bed.until_gone("shares").await;
    bed.until_nothing_is_left().await;
    assert!(!volume.exists());
    kubelet.end().await;
    assert!(mounts_of_root(&bed).is_empty());
}
