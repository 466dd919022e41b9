//! What a watcher sees of pods that are deleted at any moment of their lives: nothing that is taken back.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::{
    Api,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use crate::support::{Bed, LIMIT};

/// What was seen of one pod so far.
#[derive(Default)]
struct Seen {
    has_ended: bool,
    is_over: bool,
    last: PodStatus,
}

impl Seen {
    /// Why `status` cannot come after what was seen.
    fn take(&mut self, status: PodStatus) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("{why}: {}", json!(status)));
        let find = |name: &str| of(&status, name);
        if let Some(blocked) = find("blocked") {
            let state = blocked.state.clone().unwrap_or_default();
            let last = blocked.last_state.as_ref().and_then(|it| it.terminated.as_ref());
            let has_begun = blocked.started == Some(true) || last.is_some();
            if has_begun || state.waiting.is_none() {
                return wrong("a container began behind an init container that failed");
            }
        }
        let failing = find("fail").and_then(|it| it.state.clone()).unwrap_or_default();
        if self.has_ended && failing.terminated.is_none() {
            return wrong("an end was taken back");
        }
        if let Some(ended) = failing.terminated {
            let reason = ended.reason.as_deref().unwrap_or_default();
            match (ended.exit_code, reason) {
                (1, _) | (137, "ContainerStatusUnknown" | "Error") => {}
                _ => return wrong("an end that there was not"),
            }
            if ended.finished_at.is_some() && ended.started_at.is_none() {
                return wrong("an end without a beginning");
            }
            self.has_ended = true;
        }
        let is_over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        if self.is_over && !is_over {
            return wrong("a phase was taken back");
        }
        if status.phase.as_deref() == Some("Succeeded") {
            return wrong("nothing of it succeeds");
        }
        self.is_over = is_over;
        self.last = status;
        Ok(())
    }

    /// Why the last status is none that a pod goes with.
    fn check_last(&self) -> Result<(), String> {
        let runs = |it: &ContainerStatus| it.state.as_ref().is_some_and(|it| it.running.is_some());
        let all = self.last.container_statuses.iter().chain(&self.last.init_container_statuses);
        let is_running = all.flatten().any(runs);
        let is_pending = self.last.phase.as_deref() == Some("Pending");
        if is_running || !self.is_over && !is_pending {
            return Err(format!("it went like this: {}", json!(self.last)));
        }
        Ok(())
    }
}

fn of<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses);
    all.flatten().find(|it| it.name == name)
}

fn pod(bed: &Bed, name: &str, with_init: bool) -> Value {
    let fails = bed.container("fail", "exit 1");
    let mut spec = json!({ "restartPolicy": "Never", "terminationGracePeriodSeconds": 1 });
    if with_init {
        spec["initContainers"] = json!([fails]);
        spec["containers"] = json!([bed.container("blocked", "exit 0")]);
    } else {
        spec["containers"] = json!([fails]);
    }
    spec["nodeName"] = json!(bed.node_name());
    spec["automountServiceAccountToken"] = json!(false);
    json!({ "metadata": { "name": name }, "spec": spec })
}

/// One pod from its making to its end, deleted after `delay`.
async fn life(bed: &Bed, name: &str, with_init: bool, delay: Duration) -> Result<(), String> {
    let pods = Api::<Pod>::namespaced(bed.client(), bed.namespace());
    let wanted = serde_json::from_value(pod(bed, name, with_init)).unwrap();
    let made = pods.create(&PostParams::default(), &wanted).await.unwrap();
    let version = made.metadata.resource_version.unwrap();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = pods.watch(&params, &version).await.unwrap().boxed();
    let deleting = async {
        tokio::time::sleep(delay).await;
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    };
    let watching = async {
        let mut seen = Seen::default();
        while let Some(event) = events.try_next().await.unwrap() {
            match event {
                WatchEvent::Added(it) | WatchEvent::Modified(it) => {
                    seen.take(it.status.unwrap_or_default())?;
                }
                WatchEvent::Deleted(it) => {
                    seen.take(it.status.unwrap_or_default())?;
                    return seen.check_last();
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(error) => return Err(error.to_string()),
            }
        }
        Err("the watch ended before the pod".to_owned())
    };
    let watching = tokio::time::timeout(LIMIT, watching);
    let ((), seen) = tokio::join!(deleting, watching);
    seen.map_err(|_| format!("{name} stays"))?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_deleted_at_any_moment_says_nothing_that_it_takes_back() {
    let Some(bed) = Bed::new("watched").await else { return };
    let kubelet = bed.ready().await;
    let lives = (0..6).map(|worker| {
        let bed = &bed;
        async move {
            for round in 0..8 {
                let name = format!("p-{worker}-{round}");
                let delay = Duration::from_millis((worker * 8 + round) * 619 % 1500);
                let lived = life(bed, &name, worker % 2 == 1, delay).await;
                assert_eq!(lived, Ok(()), "{name}, deleted after {delay:?}");
            }
        }
    });
    drop(futures::future::join_all(lives).await);
    kubelet.kill().await;
}
