//! Pods that are deleted while they are made: who hears that one is gone finds that nothing of it runs,
//! and soon nothing at all.

use std::{fs, time::Duration};

use api_cri::v1;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::Bed;

/// Pods that are made side by side, and how often.
const WORKERS: u64 = 6;
const ROUNDS: u64 = 10;

fn pod(bed: &Bed, name: &str, kind: u64) -> Value {
    let mut main = bed.container("main", "exec sleep 1000");
    main["volumeMounts"] = json!([{ "name": "memory", "mountPath": "/m" },
        { "name": "secret", "mountPath": "/s" }]);
    if kind % 2 == 1 {
        main["lifecycle"] =
            json!({ "postStart": { "exec": { "command": ["/bin/busybox", "true"] } } });
    }
    let init = (kind.is_multiple_of(3)).then(|| json!([bed.container("first", "exit 0")]));
    json!({
        "metadata": { "name": name },
        "spec": {
            "nodeName": bed.node_name(), "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "initContainers": init, "containers": [main],
            "volumes": [
                { "name": "memory", "emptyDir": { "medium": "Memory" } },
                { "name": "secret", "secret": { "secretName": "s" } },
            ],
        },
    })
}

/// What of a pod is alive or holds something.
async fn held(bed: &Bed, uid: &str) -> Vec<String> {
    let mut client = bed.runtime();
    let filter = v1::PodSandboxFilter {
        label_selector: [("io.kubernetes.pod.uid".to_owned(), uid.to_owned())].into(),
        ..Default::default()
    };
    let request = v1::ListPodSandboxRequest { filter: Some(filter.clone()) };
    let sandboxes = client.list_pod_sandbox(request).await.unwrap().into_inner().items;
    let ready = sandboxes.into_iter().filter(|it| it.state == 0);
    let mut held: Vec<_> = ready.map(|it| format!("sandbox {}", it.id)).collect();
    let filter =
        v1::ContainerFilter { label_selector: filter.label_selector, ..Default::default() };
    let request = v1::ListContainersRequest { filter: Some(filter) };
    let containers = client.list_containers(request).await.unwrap().into_inner().containers;
    let running = v1::ContainerState::ContainerRunning as i32;
    let alive = containers.into_iter().filter(|it| it.state == running);
    held.extend(alive.map(|it| format!("container {}", it.id)));
    held.extend(bed.groups_of(uid));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    held.extend(mounts.lines().filter(|it| it.contains(uid)).map(str::to_owned));
    held
}

/// One pod from its making to its end, deleted after `delay`: what it leaves.
async fn life(bed: &Bed, name: &str, kind: u64, delay: Duration) -> Vec<String> {
    let pods = Api::<Pod>::namespaced(bed.client(), bed.namespace());
    let wanted = serde_json::from_value(pod(bed, name, kind)).unwrap();
    let made = pods.create(&PostParams::default(), &wanted).await.unwrap();
    tokio::time::sleep(delay).await;
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    bed.until_gone(name).await;
    held(bed, &made.metadata.uid.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_pod_that_is_gone_nothing_runs_however_soon_it_was_deleted() {
    let Some(bed) = Bed::new("fast-delete").await else { return };
    let kubelet = bed.ready().await;
    bed.create_secret("s").await;
    let lives = (0..WORKERS).map(|worker| {
        let bed = &bed;
        async move {
            let mut left = Vec::new();
            for round in 0..ROUNDS {
                let name = format!("p-{worker}-{round}");
                let delay = Duration::from_millis((worker * ROUNDS + round) * 149 % 400);
                let held = life(bed, &name, worker + round, delay).await;
                left.extend(held.into_iter().map(|it| format!("{name} after {delay:?}: {it}")));
            }
            left
        }
    });
    let left: Vec<_> = futures::future::join_all(lives).await.into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:#?}");
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
