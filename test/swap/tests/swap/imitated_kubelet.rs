//! A node whose pods run by saying so: what controllers and schedulers see of a kubelet.

use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

const PACE: Duration = Duration::from_millis(100);
/// As often as upstream's node lease is renewed.
const RENEWAL: Duration = Duration::from_secs(10);

fn ready(now: Timestamp) -> Value {
    json!({ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": format!("{now:.0}"), "lastTransitionTime": format!("{now:.0}") })
}

pub(crate) async fn register(client: &Client, name: &str) {
    let resources = json!({ "cpu": "4", "memory": "8Gi", "pods": "50" });
    let node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" } },
        "status": { "capacity": resources, "allocatable": resources,
            "conditions": [ready(Clock::system().now())],
            "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
    });
    let node: Node = serde_json::from_value(node).unwrap();
    let nodes = Api::<Node>::all(client.clone());
    nodes.create(&PostParams::default(), &node).await.unwrap();
}

/// Renews the node's lease, and runs what is bound to it.
pub(crate) async fn run(client: Client, name: &'static str) {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let pods = Api::<Pod>::all(client.clone());
    let mine = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let mut renewed = tokio::time::Instant::now() - RENEWAL;
    let mut address = 10_u8;
    loop {
        if renewed.elapsed() >= RENEWAL {
            renewed = tokio::time::Instant::now();
            renew(&client, &leases, name).await;
        }
        for pod in pods.list(&mine).await.map(|it| it.items).unwrap_or_default() {
            let own = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            if pod.metadata.deletion_timestamp.is_some() {
                drop(own.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await);
                continue;
            }
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            if phase.is_none_or(|it| it == "Pending") {
                address = address.wrapping_add(1);
                let status = Patch::Merge(running(&pod, address));
                drop(own.patch_status(&pod.name_any(), &PatchParams::default(), &status).await);
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn renew(client: &Client, leases: &Api<Lease>, name: &str) {
    let now = Clock::system().now();
    let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": 40,
        "renewTime": format!("{now:.6}") });
    let lease: Lease =
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
    if leases.create(&PostParams::default(), &lease).await.is_err() {
        let patch = Patch::Merge(json!({ "spec": spec }));
        drop(leases.patch(name, &PatchParams::default(), &patch).await);
    }
    let nodes = Api::<Node>::all(client.clone());
    let status = Patch::Strategic(json!({ "status": { "conditions": [ready(now)] } }));
    drop(nodes.patch_status(name, &PatchParams::default(), &status).await);
}

/// Containers of the image `exits` end with success at once.
fn running(pod: &Pod, address: u8) -> Value {
    let now = format!("{:.0}", Clock::system().now());
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let is_over = containers.clone().any(|it| it.image.as_deref() == Some("exits"));
    let state = match is_over {
        true => json!({ "terminated": { "exitCode": 0, "finishedAt": now } }),
        false => json!({ "running": { "startedAt": now } }),
    };
    let statuses: Vec<Value> = containers
        .map(|it| {
            json!({ "name": it.name, "image": it.image, "imageID": "", "restartCount": 0,
                "ready": !is_over, "started": !is_over, "state": state })
        })
        .collect();
    let ip = format!("198.51.100.{address}");
    let condition = |kind: &str, is_true: bool| {
        let status = if is_true { "True" } else { "False" };
        json!({ "type": kind, "status": status, "lastTransitionTime": now })
    };
    json!({ "status": {
        "phase": if is_over { "Succeeded" } else { "Running" },
        "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": "192.0.2.1", "startTime": now,
        "containerStatuses": statuses,
        "conditions": [condition("PodScheduled", true), condition("Initialized", true),
            condition("ContainersReady", !is_over), condition("Ready", !is_over)],
    } })
}
