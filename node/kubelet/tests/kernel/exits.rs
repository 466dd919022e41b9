//! What is told of a container's end, from the moment at which containerd has heard of it.

use api_cri::v1;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use crate::support::{self, Bed};

/// As many as are read in time on a busy machine: two seconds after an exit the shim of containerd 1.6
/// lets go of what was not.
const LINES: usize = 2000;

/// The end of a pod's only container.
struct End {
    /// As the status told it, each time that it changed.
    told: Vec<ContainerStateTerminated>,
    /// The runtime's own state when the first of these was there.
    known: v1::ContainerStatus,
    /// The same when all was over.
    finally: v1::ContainerStatus,
    /// The log, read when the first of these was there.
    log: String,
}

impl End {
    fn is_early(&self) -> bool {
        self.known.state == v1::ContainerState::ContainerRunning as i32
    }

    /// Code and reason, which are the same from the beginning on, and the runtime's.
    fn settled(&self) -> (i32, &str) {
        let first = &self.told[0];
        assert!(self.told.iter().all(|it| it == first), "{:?}", self.told);
        assert_eq!(first.exit_code, self.finally.exit_code);
        assert_eq!(first.reason.as_deref(), Some(self.finally.reason.as_str()));
        let finished = first.finished_at.as_ref().unwrap().0.as_second();
        assert_eq!(finished, self.finally.finished_at.div_euclid(1_000_000_000));
        (first.exit_code, first.reason.as_deref().unwrap())
    }
}

fn terminated(pod: &Pod) -> Option<ContainerStateTerminated> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.terminated.clone()
}

/// The last that is said of a pod that ended by itself.
fn is_cleared(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    let mut own = conditions.filter(|it| it.type_ == "PodReadyToStartContainers");
    terminated(pod).is_some() && own.any(|it| it.status == "False")
}

impl Bed {
    async fn known(&self, id: &str) -> v1::ContainerStatus {
        let id = id.rsplit('/').next().unwrap().to_owned();
        let request = v1::ContainerStatusRequest { container_id: id, verbose: false };
        let reply = self.runtime().container_status(request).await.unwrap();
        reply.into_inner().status.unwrap()
    }

    async fn end_of(&self, name: &str, script: &str, changes: Value) -> End {
        let pods = Api::<Pod>::namespaced(self.client(), self.namespace());
        // It is seen to run before it ends.
        let mut container = self.container("main", &format!("busybox sleep 1; {script}"));
        container.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let spec = json!({
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [container],
        });
        self.create_pod(json!({ "metadata": { "name": name }, "spec": spec })).await;
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = pods.watch(&params, "0").await.unwrap().boxed();
        let (mut told, mut first) = (Vec::new(), None);
        loop {
            let event = tokio::time::timeout(support::LIMIT, events.next()).await.expect(name);
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event.unwrap().unwrap()
            else {
                continue;
            };
            let Some(state) = terminated(&pod) else { continue };
            let id = state.container_id.clone().unwrap();
            told.push(state);
            if first.is_none() {
                let known = self.known(&id).await;
                first = Some((known, self.log(name, "main").await));
            }
            if is_cleared(&pod) {
                let (known, log) = first.unwrap();
                return End { told, known, finally: self.known(&id).await, log };
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_is_told_before_containerd_says_so_and_as_it_says_so_then() {
    let Some(bed) = Bed::new("exits").await else { return };
    let kubelet = bed.ready().await;
    let mut early = 0;
    let seq = format!("busybox seq 1 {LINES}; exit");
    for (name, script, wanted) in [
        ("good", format!("{seq} 0"), (0, "Completed")),
        ("bad", format!("{seq} 7"), (7, "Error")),
        ("killed", format!("{seq} 137"), (137, "Error")),
    ] {
        let end = bed.end_of(name, &script, json!({})).await;
        assert_eq!(end.settled(), wanted, "{name}");
        early += usize::from(end.is_early());
        let last = end.log.lines().last();
        assert_eq!(last, Some(LINES.to_string().as_str()), "{name}: the log is whole");
    }
    assert!(early > 0, "the status waits for the runtime's own state");
    let memory = json!({ "resources": { "limits": { "memory": "16Mi" } } });
    let end = bed.end_of("memory", "exec busybox tail /dev/zero", memory).await;
    assert_eq!(end.settled(), (137, "OOMKilled"), "and at no time anything else");
    for name in ["good", "bad", "killed", "memory"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

/// A worker that starts a container does not look at the others meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_read_and_ends_whatever_else_its_pod_is_busy_with() {
    let Some(bed) = Bed::new("busy").await else { return };
    let kubelet = bed.ready().await;
    let short = bed.container("short", "busybox sleep 2; echo last; exit 3");
    let mut slow = bed.container("slow", "exec sleep 1000");
    let hook = json!({ "exec": { "command": ["/bin/busybox", "sleep", "20"] } });
    slow["lifecycle"] = json!({ "postStart": hook });
    let spec = json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "containers": [short, slow],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    bed.eventually(async || bed.log("p", "short").await.contains("last").then_some(())).await;
    let begun = std::time::Instant::now();
    let path = format!("/containerLogs/{}/p/short", bed.namespace());
    for follow in ["", "?follow=true"] {
        let (status, text) = bed.ask("GET", &format!("{path}{follow}")).await;
        assert_eq!((status, text.as_str()), (200, "last\n"), "{follow}");
    }
    let pod = bed.pod("p").await;
    let conditions = pod.status.unwrap().conditions.unwrap_or_default();
    let ready = conditions.iter().find(|it| it.type_ == "ContainersReady").unwrap();
    assert_eq!(ready.status, "False", "the hook still runs");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    bed.delete_pod("p", 0).await;
    bed.until_gone("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
