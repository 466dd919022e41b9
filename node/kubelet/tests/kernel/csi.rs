//! Volumes of a real CSI driver, as they should go.

use std::time::Duration;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume},
    storage::v1::{CSINode, VolumeAttachment},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    storage::{DRIVER, claim},
    support::{self, Bed, NODE},
};

const FREE: &str = r#"{"attachRequired":false}"#;

fn free() -> serde_json::Value {
    serde_json::from_str(FREE).unwrap()
}

fn named(mut volume: serde_json::Value) -> serde_json::Value {
    volume["name"] = json!("v");
    volume
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_staged_once_published_for_each_pod_and_taken_away_with_the_last() {
    let Some(bed) = Bed::own("csi").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    let node = bed.node().await;
    let annotations = node.metadata.annotations.unwrap();
    assert_eq!(annotations["csi.volume.kubernetes.io/nodeid"], r#"{"nst.csi.test":"node-1"}"#);
    assert_eq!(node.metadata.labels.unwrap()["topology.nst.csi.test/zone"], "a");
    let of_node = Api::<CSINode>::all(bed.client()).get(NODE).await.unwrap().spec.drivers.remove(0);
    assert_eq!(of_node.topology_keys.unwrap(), ["topology.nst.csi.test/zone"]);
    assert_eq!(of_node.allocatable.unwrap().count, Some(8));
    // The driver is told last.
    bed.eventually(async || (driver.registered() == Some(Ok(()))).then_some(())).await;

    bed.bind_csi("data", json!({ "csi": { "fsType": "ext4" } })).await;
    let script = "echo $HOSTNAME >> /v/names; exec sleep 1000";
    let group = json!({ "securityContext": { "fsGroup": 4711 } });
    bed.create_with_spec("one", claim("data"), script, group).await;
    bed.until_ready("one").await;
    bed.create_with("two", claim("data"), script).await;
    bed.until_ready("two").await;
    let file = driver.volume("data").join("names");
    bed.eventually(async || {
        let names = std::fs::read_to_string(&file).unwrap_or_default();
        (names == "one\ntwo\n").then_some(())
    })
    .await;
    assert_eq!(driver.count("NodeStageVolume", "data"), 2, "asked for each pod, done once");
    assert_eq!(driver.count("NodePublishVolume", "data"), 2);
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(driver.volume("data")).unwrap();
    assert_eq!((found.gid(), found.mode() & 0o2070), (4711, 0o2070));

    let stats = bed.summary().await;
    let pods = stats["pods"].as_array().unwrap();
    let volume = pods.iter().find(|it| it["podRef"]["name"] == "one").unwrap()["volume"][0].clone();
    assert_eq!(volume["pvcRef"], json!({ "name": "data", "namespace": "default" }));
    assert_eq!((&volume["capacityBytes"], &volume["name"]), (&json!(1 << 20), &json!("v")));
    assert_eq!(volume["volumeHealthStats"]["abnormal"], false);

    bed.end_pod("one").await;
    assert_eq!(driver.count("NodeUnstageVolume", "data"), 0, "the other pod uses it");
    bed.end_pod("two").await;
    bed.until_nothing_is_left().await;
    assert_eq!(driver.count("NodeUnpublishVolume", "data"), 2);
    assert_eq!(driver.count("NodeUnstageVolume", "data"), 1);
    assert!(driver.volume("data").join("names").exists(), "the data outlives its pods");
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_has_to_be_attached_waits_for_the_controller() {
    let Some(bed) = Bed::own("attach").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), json!({})).await;
    bed.bind_csi("data", json!({})).await;
    bed.create_with("p", claim("data"), "exec sleep 1000").await;
    let unique = "kubernetes.io/csi/nst.csi.test^data".to_owned();
    let in_use = async |wanted: bool| {
        bed.eventually(async || {
            let status = bed.node().await.status.unwrap();
            let has = status.volumes_in_use.unwrap_or_default().contains(&unique);
            (has == wanted).then_some(())
        })
        .await;
    };
    in_use(true).await;
    assert_eq!(driver.count("NodeStageVolume", "data"), 0);
    let id = Sha256::digest(format!("data{DRIVER}{NODE}"));
    let id: String = id.iter().map(|it| format!("{it:02x}")).collect();
    let attachments = Api::<VolumeAttachment>::all(bed.client());
    let attachment = json!({
        "metadata": { "name": format!("csi-{id}") },
        "spec": { "attacher": DRIVER, "nodeName": NODE, "source": { "persistentVolumeName": "pv-data" } },
    });
    bed.create(&attachments, attachment).await;
    let status = json!({ "status": { "attached": true, "attachmentMetadata": { "slot": "7" } } });
    let name = format!("csi-{id}");
    attachments.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    // The controller says so in the node's status, too; until then it may be on its way out again.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(driver.count("NodeStageVolume", "data"), 0);
    let attached = json!([{ "name": unique, "devicePath": "" }]);
    let status = Patch::Merge(json!({ "status": { "volumesAttached": attached } }));
    let nodes = Api::<Node>::all(bed.client());
    nodes.patch_status(bed.node_name(), &PatchParams::default(), &status).await.unwrap();
    bed.until_ready("p").await;
    for call in ["NodeStageVolume", "NodePublishVolume"] {
        let calls = driver.calls();
        let asked = calls.iter().find(|it| it.name == call).unwrap();
        assert!(asked.text.contains(r#""slot": "7""#), "{}", asked.text);
    }
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    in_use(false).await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_growth_that_can_never_be_is_given_back_and_a_smaller_one_is_done() {
    let Some(bed) = Bed::own("csi-shrink").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    bed.bind_csi("data", json!({})).await;
    driver.inject("NodeExpandVolume", tonic::Status::out_of_range("too much"));
    let volumes = Api::<PersistentVolume>::all(bed.client());
    let (claims, params) = (bed.claims(), PatchParams::default());
    let grow = async |size: &str| {
        let larger = json!({ "spec": { "capacity": { "storage": size } } });
        volumes.patch("pv-data", &params, &Patch::Merge(larger)).await.unwrap();
        let pending = json!({ "status": { "allocatedResourceStatuses": { "storage": "NodeResizePending" } } });
        claims.patch_status("data", &params, &Patch::Merge(pending)).await.unwrap();
    };
    grow("4Gi").await;
    bed.create_with("p", claim("data"), "exec sleep 1000").await;
    bed.until_event("VolumeResizeFailed: NodeExpandVolume.NodeExpandVolume failed for volume \"pv-data\" : Expander.NodeExpand failed to expand the volume: rpc error: code = OutOfRange desc = too much").await;
    bed.until_ready("p").await;
    let status = claims.get("data").await.unwrap().status.unwrap();
    assert_eq!(status.allocated_resource_statuses.unwrap()["storage"], "NodeResizeInfeasible");
    assert_eq!(status.conditions.unwrap()[0].type_, "NodeResizeError");
    // The resizer asks for what there is.
    grow("2Gi").await;
    bed.end_pod("p").await;
    bed.create_with("q", claim("data"), "exec sleep 1000").await;
    bed.until_ready("q").await;
    bed.eventually(async || {
        let status = claims.get("data").await.unwrap().status.unwrap();
        let is_done = status.allocated_resource_statuses.is_none_or(|it| it.is_empty())
            && status.conditions.is_none_or(|it| it.is_empty());
        (is_done && status.capacity.unwrap()["storage"].0 == "2Gi").then_some(())
    })
    .await;
    bed.end_pod("q").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_for_one_pod_is_given_to_the_next_when_the_first_has_gone() {
    let Some(bed) = Bed::own("one-pod").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    bed.bind_csi("data", json!({})).await;
    let volumes = Api::<PersistentVolume>::all(bed.client());
    let one = Patch::Merge(json!({ "spec": { "accessModes": ["ReadWriteOncePod"] } }));
    volumes.patch("pv-data", &PatchParams::default(), &one).await.unwrap();
    bed.create_with("p", claim("data"), "exec sleep 1000").await;
    bed.until_ready("p").await;
    bed.create_with("q", claim("data"), "exec sleep 1000").await;
    bed.until_event("MountVolume.SetUp failed for volume \"pv-data\" : volume uses the ReadWriteOncePod access mode and is already in use by another pod").await;
    let waiting = support::waiting(&bed.pod("q").await.status.unwrap());
    assert_eq!(waiting.as_deref(), Some("ContainerCreating"));
    assert_eq!(driver.count("NodePublishVolume", "data"), 1);
    bed.end_pod("p").await;
    bed.until_ready("q").await;
    bed.end_pod("q").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_volume_knows_its_pod_and_goes_with_it() {
    let Some(bed) = Bed::own("inline").await else { return };
    let kubelet = bed.ready().await;
    let spec = json!({
        "attachRequired": false,
        "podInfoOnMount": true,
        "volumeLifecycleModes": ["Ephemeral"],
        "tokenRequests": [{ "audience": "vault" }],
    });
    let driver = bed.start_driver(bed.driver_config(), spec).await;
    let volume = json!({ "csi": { "driver": DRIVER, "volumeAttributes": { "own": "x" } } });
    // Our API server gives nodes tokens only for audiences that the pod itself names.
    let token = json!({ "serviceAccountToken": { "audience": "vault", "path": "t" } });
    let tokens = json!({ "name": "tokens", "projected": { "sources": [token] } });
    let volumes = json!({ "volumes": [named(volume), tokens] });
    bed.create_with_spec("p", json!({}), "echo in > /v/file; exec sleep 1000", volumes).await;
    bed.until_ready("p").await;
    let calls = driver.calls();
    let asked = calls.iter().find(|it| it.name == "NodePublishVolume").unwrap();
    for part in [
        r#""own": "x""#,
        r#""csi.storage.k8s.io/pod.name": "p""#,
        r#""csi.storage.k8s.io/ephemeral": "true""#,
        r#""csi.storage.k8s.io/serviceAccount.name": "default""#,
        r#"\"vault\":{"#,
    ] {
        assert!(asked.text.contains(part), "{part} in {}", asked.text);
    }
    assert!(asked.volume.starts_with("csi-"));
    assert_eq!(driver.count("NodeStageVolume", &asked.volume), 0);
    // The driver says that it serves no persistent volumes.
    bed.bind_csi("data", json!({})).await;
    bed.create_with("other", claim("data"), "exec sleep 1000").await;
    bed.until_event("MountVolume.NewMounter initialization failed for volume \"pv-data\" : volume mode \"Persistent\" not supported by driver nst.csi.test (only supports [\"Ephemeral\"])").await;
    for name in ["p", "other"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_kubelet_finds_volumes_asks_again_and_lets_them_grow() {
    let Some(bed) = Bed::own("csi-again").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    bed.bind_csi("data", json!({})).await;
    bed.create_with("p", claim("data"), "exec sleep 1000").await;
    bed.until_ready("p").await;
    let before = bed.container_id("p", 0).await;
    kubelet.kill().await;
    let volumes = Api::<PersistentVolume>::all(bed.client());
    let larger = json!({ "spec": { "capacity": { "storage": "2Gi" } } });
    volumes.patch("pv-data", &PatchParams::default(), &Patch::Merge(larger)).await.unwrap();
    let kubelet = bed.start_kubelet().await;
    bed.eventually(async || {
        let status = bed.claims().get("data").await.unwrap().status.unwrap();
        (status.capacity.unwrap()["storage"].0 == "2Gi").then_some(())
    })
    .await;
    assert_eq!(driver.count("NodeExpandVolume", "data"), 1);
    bed.until_event("FileSystemResizeSuccessful: MountVolume.NodeExpandVolume succeeded").await;
    assert_eq!(driver.count("NodePublishVolume", "data"), 2, "what it does not know it asks for");
    assert_eq!((bed.container_id("p", 0).await, bed.restarts("p").await), (before, 0));
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_given_to_containers_as_one() {
    let Some(bed) = Bed::own("csi-block").await else { return };
    if !std::path::Path::new("/dev/loop0").exists() {
        println!("csi-block: not run: needs a loop device");
        return;
    }
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    let attributes = json!({ "volumeAttributes": { "device": "/dev/loop0" } });
    bed.bind_csi("disk", json!({ "volumeMode": "Block", "csi": attributes })).await;
    let script = "[ -b /dev/data ] && echo device || echo no; exec sleep 1000";
    let mut container = bed.container("main", script);
    container["volumeMounts"] = json!([]);
    container["volumeDevices"] = json!([{ "name": "v", "devicePath": "/dev/data" }]);
    let volume = named(claim("disk"));
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [volume],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    bed.until_ready("p").await;
    bed.eventually(async || (bed.log("p", "main").await == "device\n").then_some(())).await;
    // A mount of it is refused.
    bed.create_with("files", claim("disk"), "exec sleep 1000").await;
    bed.until_event("failed to process volumes=[v]: volume v has volumeMode Block, but is specified in volumeMounts").await;
    for name in ["p", "files"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    assert_eq!(driver.count("NodeUnpublishVolume", "disk"), 1);
    assert_eq!(driver.count("NodeUnstageVolume", "disk"), 1);
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_pod_brings_is_published_for_it_and_goes_when_it_does() {
    let Some(bed) = Bed::own("csi-ephemeral").await else { return };
    let kubelet = bed.ready().await;
    let driver = bed.start_driver(bed.driver_config(), free()).await;
    let template = json!({ "metadata": { "labels": { "of": "p" } }, "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": "1Gi" } },
    }});
    let volume = json!({ "ephemeral": { "volumeClaimTemplate": template } });
    let script = "echo $HOSTNAME > /v/name; exec sleep 1000";
    bed.create_with("p", volume, script).await;
    bed.until_event("error processing PVC default/p-v: failed to fetch PVC from API server").await;
    let uid = bed.pod("p").await.metadata.uid;
    let owner = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true, "blockOwnerDeletion": true },
    ]}});
    let source = json!({ "csi": { "driver": DRIVER, "volumeHandle": "own" } });
    bed.bind("p-v", source, owner).await;
    bed.until_ready("p").await;
    let file = driver.volume("own").join("name");
    bed.eventually(async || (std::fs::read_to_string(&file).ok()? == "p\n").then_some(())).await;
    let stats = bed.summary().await;
    let volume = &stats["pods"][0]["volume"][0];
    assert_eq!(volume["pvcRef"], json!({ "name": "p-v", "namespace": "default" }));
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    assert_eq!(driver.count("NodeUnpublishVolume", "own"), 1);
    assert_eq!(driver.count("NodeUnstageVolume", "own"), 1);
    let (_, page) = bed.ask("GET", "/metrics").await;
    let counted = format!(
        "csi_operations_seconds_count{{driver_name=\"{DRIVER}\",grpc_status_code=\"OK\",method_name=\"/csi.v1.Node/NodePublishVolume\",migrated=\"false\"}} 1\n"
    );
    assert!(page.contains(&counted), "{page}");
    kubelet.kill().await;
}
