//! The runtime, the disk and other peers fail under the kubelet.
//!
//! What must hold: no container is lost or started twice, other pods are not held up, everything
//! converges afterwards, and nothing is left behind.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::support::{self, Bed};

const SECOND: Duration = Duration::from_secs(1);

fn sleeping(bed: &Bed, name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [bed.container("main", "exec sleep 1000")],
        },
    })
}

async fn end(bed: &Bed, names: &[&str]) {
    for name in names {
        bed.delete_pod(name, 0).await;
    }
    for name in names {
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_hangs_or_hides_its_socket_costs_no_container() {
    let Some(bed) = Bed::new("hang").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    bed.create_pod(sleeping(&bed, "stays")).await;
    bed.until_ready("stays").await;
    let before = bed.container_id("stays", 0).await;
    bed.pause_containerd(true);
    bed.create_pod(sleeping(&bed, "during-pause")).await;
    tokio::time::sleep(3 * SECOND).await;
    bed.pause_containerd(false);
    bed.until_ready("during-pause").await;
    bed.hide_socket(true);
    bed.create_pod(sleeping(&bed, "during-hiding")).await;
    tokio::time::sleep(SECOND).await;
    bed.hide_socket(false);
    bed.until_ready("during-hiding").await;
    assert_eq!(bed.container_id("stays", 0).await, before);
    for name in ["stays", "during-pause", "during-hiding"] {
        assert_eq!(bed.restarts(name).await, 0, "{name}");
    }
    end(&bed, &["stays", "during-pause", "during-hiding"]).await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_the_pod_runs_when_there_is_room() {
    let Some(bed) = Bed::new("full").await else { return };
    bed.install_cni();
    let root = bed.give_a_small_disk();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    bed.create_pod(sleeping(&bed, "stays")).await;
    bed.until_ready("stays").await;
    let filler = root.join("filler");
    // It ends with an error when the disk is full; that is what it is for.
    drop(fs::write(&filler, vec![0; 8 << 20]));
    bed.create_config_map("settings", &[("big", &"x".repeat(100_000))]).await;
    let mut pod = sleeping(&bed, "full");
    pod["spec"]["volumes"] = json!([{ "name": "v", "configMap": { "name": "settings" } }]);
    bed.create_pod(pod).await;
    bed.until_event("No space left on device").await;
    assert_eq!(bed.restarts("stays").await, 0);
    fs::remove_file(&filler).unwrap();
    bed.until_ready("full").await;
    end(&bed, &["stays", "full"]).await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_is_told_before_anybody_is_evicted() {
    let Some(bed) = Bed::own("filling").await else { return };
    bed.install_cni();
    let root = bed.give_a_small_disk();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    bed.create_pod(sleeping(&bed, "stays")).await;
    bed.until_ready("stays").await;
    let is_on = async |wanted: &str| {
        bed.eventually(async || {
            let conditions = bed.node().await.status?.conditions?;
            let found = conditions.into_iter().find(|it| it.type_ == "DiskFillingUp")?;
            (found.status == wanted).then_some(())
        })
        .await;
    };
    is_on("False").await;
    // Of 4 MiB; at nine tenths eviction would begin.
    fs::write(root.join("filler"), vec![0; 3520 << 10]).unwrap();
    bed.until_event("DiskFillingUp: The disk of the node (nodefs) is 8").await;
    is_on("True").await;
    assert_eq!(bed.pod("stays").await.status.unwrap().phase.as_deref(), Some("Running"));
    fs::remove_file(root.join("filler")).unwrap();
    is_on("False").await;
    end(&bed, &["stays"]).await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_hangs_holds_up_nobody_else_and_ends_with_its_pod() {
    let Some(bed) = Bed::new("pull").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    // A registry that accepts and never answers.
    let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = registry.local_addr().unwrap().port();
    let mut pod = sleeping(&bed, "hangs");
    pod["spec"]["containers"][0]["image"] = json!(format!("127.0.0.1:{port}/never:1"));
    bed.create_pod(pod).await;
    bed.until_event("hangs Pulling").await;
    bed.create_pod(sleeping(&bed, "other")).await;
    bed.until_ready("other").await;
    bed.delete_pod("hangs", 0).await;
    bed.until_gone("hangs").await;
    end(&bed, &["other"]).await;
    drop(registry);
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_hangs_is_a_failure_of_its_own_container_only() {
    let Some(bed) = Bed::new("probe").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    let mut pod = sleeping(&bed, "hangs");
    pod["spec"]["containers"][0]["readinessProbe"] = json!({
        "exec": { "command": ["/bin/busybox", "sleep", "1000"] }, "periodSeconds": 1,
    });
    bed.create_pod(pod).await;
    bed.until_event("hangs Unhealthy: Readiness probe").await;
    bed.create_pod(sleeping(&bed, "other")).await;
    bed.until_ready("other").await;
    assert_eq!(bed.restarts("hangs").await, 0);
    end(&bed, &["hangs", "other"]).await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_made_and_deleted_leave_nothing_behind() {
    let Some(bed) = Bed::alone("churn").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    let mut before = 0;
    for round in 0..4 {
        let names: Vec<String> = (0..8).map(|it| format!("p-{round}-{it}")).collect();
        for name in &names {
            bed.create_pod(sleeping(&bed, name)).await;
        }
        for name in &names {
            bed.until(name, |it| it.phase.as_deref() == Some("Running")).await;
            assert_eq!(support::restarts(&bed.until_ready(name).await.status.unwrap()), 0);
        }
        end(&bed, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        if round == 0 {
            before = bed.descriptors();
        }
    }
    let after = bed.descriptors();
    assert!(after <= before + 4, "descriptors: {before}, then {after}");
    kubelet.kill().await;
}
