//! CSI drivers that fail, hang, die and go, and kubelets that are killed meanwhile: nothing is lost,
//! nothing is left mounted.

use std::time::Duration;

use fake_csi::FakeCsi;
use serde_json::{Value, json};
use tonic::Status;

use crate::{storage::claim, support::Bed};

const SLEEP: &str = "exec sleep 1000";

fn free() -> Value {
    json!({ "attachRequired": false })
}

async fn until_called(bed: &Bed, driver: &FakeCsi, call: &str, times: usize) {
    bed.eventually(async || (driver.count(call, "data") >= times).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_is_told_and_tried_again() {
    let Some(bed) = Bed::own("csi-fails").await else { return };
    let kubelet = bed.ready().await;
    bed.bind_csi("data", json!({})).await;
    bed.create_with("p", claim("data"), SLEEP).await;
    bed.until_event("MountVolume.MountDevice failed for volume \"pv-data\" : kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name nst.csi.test not found in the list of registered CSI drivers").await;
    let mut config = bed.driver_config();
    config.versions = vec!["0.3.0".to_owned()];
    let old = FakeCsi::start(config).unwrap();
    bed.eventually(async || old.registered().is_some_and(|it| it.is_err()).then_some(())).await;
    drop(old);
    let driver = FakeCsi::start(bed.driver_config()).unwrap();
    driver.inject("NodeStageVolume", Status::internal("no disk"));
    driver.inject("NodePublishVolume", Status::internal("no mount"));
    let driver_object = json!({ "metadata": { "name": crate::storage::DRIVER }, "spec": free() });
    bed.create(
        &kube::Api::<k8s_openapi::api::storage::v1::CSIDriver>::all(bed.client()),
        driver_object,
    )
    .await;
    bed.until_event("MountVolume.MountDevice failed for volume \"pv-data\" : rpc error: code = Internal desc = no disk").await;
    bed.until_event("MountVolume.SetUp failed for volume \"pv-data\" : rpc error: code = Internal desc = no mount").await;
    bed.until_ready("p").await;
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_ends_only_when_its_driver_has_let_go() {
    let Some(bed) = Bed::own("csi-dies").await else { return };
    let kubelet = bed.ready().await;
    let mut driver = bed.start_driver(bed.driver_config(), free()).await;
    bed.bind_csi("data", json!({})).await;
    bed.create_with("p", claim("data"), "echo kept > /v/f; exec sleep 1000").await;
    bed.until_ready("p").await;
    driver.kill();
    let before = bed.container_id("p", 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bed.container_id("p", 0).await, before, "the pod does not need the driver");
    bed.delete_pod("p", 0).await;
    bed.until_event("UnmountVolume.TearDown failed").await;
    driver.serve().unwrap();
    bed.until_gone("p").await;
    bed.until_nothing_is_left().await;
    assert_eq!(std::fs::read_to_string(driver.volume("data").join("f")).unwrap(), "kept\n");
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_whose_socket_goes_is_forgotten_until_it_comes_back() {
    let Some(bed) = Bed::own("csi-goes").await else { return };
    let kubelet = bed.ready().await;
    let mut driver = bed.start_driver(bed.driver_config(), free()).await;
    bed.bind_csi("data", json!({})).await;
    driver.remove_socket().unwrap();
    driver.kill();
    bed.until_registered(false).await;
    let annotations = bed.node().await.metadata.annotations.unwrap_or_default();
    assert!(!annotations.contains_key("csi.volume.kubernetes.io/nodeid"), "{annotations:?}");
    bed.create_with("p", claim("data"), SLEEP).await;
    bed.until_event("not found in the list of registered CSI drivers").await;
    driver.serve().unwrap();
    bed.until_ready("p").await;
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_that_is_killed_between_two_calls_leaves_nothing() {
    let Some(bed) = Bed::own("csi-killed").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    bed.bind_csi("data", json!({})).await;
    driver.hang("NodePublishVolume", true);
    // Ends when it is asked to: pods that are found gone get their full grace.
    let script = "trap 'exit 0' TERM; while true; do busybox sleep 0.1; done";
    bed.create_with("p", claim("data"), script).await;
    until_called(&bed, &driver, "NodePublishVolume", 1).await;
    kubelet.kill().await;
    driver.hang("NodePublishVolume", false);
    // The next one finishes what was begun.
    let kubelet = bed.start_kubelet().await;
    bed.until_ready("p").await;
    kubelet.kill().await;
    // And one that finds the pod gone takes it all away.
    bed.delete_pod("p", 0).await;
    let kubelet = bed.start_kubelet().await;
    bed.until_gone("p").await;
    bed.until_nothing_is_left().await;
    assert!(driver.count("NodeUnpublishVolume", "data") >= 1);
    assert_eq!(driver.count("NodeUnstageVolume", "data"), 1);
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_deleted_while_a_call_hangs_is_taken_away() {
    let Some(bed) = Bed::own("csi-hangs").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    bed.bind_csi("data", json!({})).await;
    driver.hang("NodeStageVolume", true);
    bed.create_with("p", claim("data"), SLEEP).await;
    until_called(&bed, &driver, "NodeStageVolume", 1).await;
    // Other pods are not held up.
    bed.create_with("other", json!({ "emptyDir": {} }), SLEEP).await;
    bed.until_ready("other").await;
    bed.end_pod("p").await;
    bed.end_pod("other").await;
    bed.until_nothing_is_left().await;
    assert_eq!(driver.count("NodeUnstageVolume", "data"), 1, "the call may have done something");
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_in_use_is_not_torn_away() {
    let Some(bed) = Bed::own("csi-busy").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    bed.bind_csi("data", json!({})).await;
    bed.create_with("p", claim("data"), "echo x > /v/f; exec sleep 1000").await;
    let pod = bed.until_ready("p").await;
    let uid = pod.metadata.uid.unwrap();
    let path = format!("kubelet/pods/{uid}/volumes/kubernetes.io~csi/pv-data/mount/f");
    let file = bed.folder().join(path);
    let held = bed.eventually(async || std::fs::File::open(&file).ok()).await;
    bed.delete_pod("p", 0).await;
    bed.until_event("UnmountVolume.TearDown failed").await;
    assert!(bed.events().await.contains("Unmounter.TearDownAt failed: rpc error: code = Internal"));
    assert_eq!(driver.count("NodeUnstageVolume", "data"), 0);
    drop(held);
    bed.until_gone("p").await;
    // The same with what is staged: it is let go behind the pod.
    driver.inject("NodeUnstageVolume", Status::internal("busy"));
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
