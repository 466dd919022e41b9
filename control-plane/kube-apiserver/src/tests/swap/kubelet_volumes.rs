//! kubelet of upstream: what it reads and tells of the volumes and devices of its pods, and of no others.

use super::*;

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const ATTACHMENTS: &str = "/apis/storage.k8s.io/v1/volumeattachments";
const DEVICES: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";

/// A volume and its claim, bound to each other, and the volume attached to a node.
async fn attached(cluster: &Cluster, name: &str, node: &str) {
    let volume = json!({"metadata": {"name": name}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": name},
        "claimRef": {"namespace": "default", "name": name},
    }});
    cluster.made(VOLUMES, volume).await;
    let claim = json!({"metadata": {"name": name}, "spec": {
        "volumeName": name, "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }});
    cluster.made(CLAIMS, claim).await;
    let attachment = json!({"metadata": {"name": format!("csi-{name}")}, "spec": {
        "attacher": "ebs.csi.aws.com", "nodeName": node,
        "source": {"persistentVolumeName": name},
    }});
    cluster.made(ATTACHMENTS, attachment).await;
}

async fn cluster_with_volumes() -> Cluster {
    let cluster = cluster().await.with_default_account().await;
    cluster.with_node("n1").await;
    for (name, node) in [("own", "n1"), ("others", "n2")] {
        attached(&cluster, name, node).await;
        let device = json!({"metadata": {"name": name}, "spec": {}});
        cluster.made(DEVICES, device).await;
    }
    let mut own = pod("a");
    own["spec"]["nodeName"] = "n1".into();
    own["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "own"}}]);
    own["spec"]["resourceClaims"] = json!([{"name": "d", "resourceClaimName": "own"}]);
    cluster.made("/api/v1/namespaces/default/pods", own).await;
    cluster
}

#[tokio::test]
async fn the_kubelet_of_upstream_reads_its_pods_claims_volumes_attachments_and_devices() {
    let cluster = cluster_with_volumes().await;
    let kubelet = Component::node(&cluster, "n1");
    for (path, prefix) in [(CLAIMS, ""), (VOLUMES, ""), (ATTACHMENTS, "csi-"), (DEVICES, "")] {
        let found = done(kubelet.ask("GET", &format!("{path}/{prefix}own")).await);
        assert_eq!(found["metadata"]["name"], format!("{prefix}own"), "{path}");
        let (code, refused) = kubelet.ask("GET", &format!("{path}/{prefix}others")).await;
        assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")), "{path}");
        assert_eq!(kubelet.ask("GET", path).await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn the_kubelet_of_upstream_tells_how_far_a_claims_growth_is_on_its_node() {
    let cluster = cluster_with_volumes().await;
    let kubelet = Component::node(&cluster, "n1");
    let patch = json!({"status": {
        "allocatedResources": {"storage": "2Gi"},
        "allocatedResourceStatuses": {"storage": "NodeResizeInProgress"},
    }});
    let path = format!("{CLAIMS}/own/status");
    let told = done(kubelet.patch(&path, STRATEGIC, &patch).await);
    assert_eq!(told["status"]["allocatedResourceStatuses"]["storage"], "NodeResizeInProgress");
    let (code, _) = kubelet.patch(&format!("{CLAIMS}/others/status"), STRATEGIC, &patch).await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn the_kubelet_of_upstream_says_which_volumes_are_in_use() {
    let cluster = cluster_with_volumes().await;
    let kubelet = Component::node(&cluster, "n1");
    let used = "kubernetes.io/csi/ebs.csi.aws.com^own";
    let patch = json!({"status": {"volumesInUse": [used]}});
    let told = done(kubelet.patch("/api/v1/nodes/n1/status", STRATEGIC, &patch).await);
    assert_eq!(told["status"]["volumesInUse"], json!([used]));
    let gone = json!({"status": {"volumesInUse": null}});
    let told = done(kubelet.patch("/api/v1/nodes/n1/status", STRATEGIC, &gone).await);
    assert_eq!(told["status"]["volumesInUse"], Value::Null);
}
