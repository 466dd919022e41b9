//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api_cri::v1;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use k8s_openapi::api::core::v1::{ContainerState, Pod, PodStatus};
use tokio::sync::mpsc;
use tracing::debug;
use transport::Body;

use super::{Server, log_options, query_flag, text};
use crate::{
    logs::{self, LogOptions},
    observed::{RuntimeContainer, State},
    pod::{PodExt, PodUid},
};

const QUEUE: usize = 16;
/// The runtime knows of an exit some tens of milliseconds after it told of it, later where much was
/// printed.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_millis(500);
/// Whoever wants a log gets what there is after this: a process that outlives its container may hold
/// what is printed open, and the runtime waits for its end.
const WRITTEN_LIMIT: Duration = Duration::from_secs(10);

impl Server {
    pub(super) async fn container_logs(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: Option<&str>,
    ) -> Response<Body> {
        let options = match log_options::of(query, self.context.clock.now()) {
            Ok(options) => options,
            Err((status, message)) => return text(status, message),
        };
        let Some(pod) = self.workers.find(namespace, name) else {
            return text(StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist\n"));
        };
        if pod.find_container(container).is_none() {
            let message = format!("container \"{container}\" not found in pod \"{name}\"\n");
            return text(StatusCode::NOT_FOUND, message);
        }
        match self.find(&pod, container, query_flag(query, "previous")) {
            Ok(found) => self.send_log(&pod, found, options).await,
            Err(message) => text(StatusCode::BAD_REQUEST, message),
        }
    }

    /// The run whose log is wanted, as the pod's status tells it.
    fn find(
        &self,
        pod: &Arc<Pod>,
        container: &str,
        is_previous: bool,
    ) -> Result<RuntimeContainer, String> {
        let status = self.context.statuses.get(&pod.uid()).unwrap_or_default();
        let id = logged_run(&status, pod.name(), container, is_previous)?;
        let observed = self.workers.observed(&pod.uid()).unwrap_or_default();
        let found = observed.containers.into_iter().find(|it| id.ends_with(&format!("/{}", it.id)));
        found.ok_or_else(|| format!("unable to retrieve container logs for {id}"))
    }

    /// A container that ended a moment ago: the runtime has written what it said last when it knows of
    /// its end itself. The pod's worker may be busy with another container, so the runtime is asked.
    async fn until_written(&self, uid: &PodUid, id: &str) {
        let noticed = self.workers.until(|| !self.workers.has_early_exit(uid, id));
        let known = async {
            let mut pause = FIRST_LOOK;
            while self.is_running(id).await {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_LOOK);
            }
        };
        let written = async {
            tokio::select! {
                // First: nothing is asked of a container that runs.
                biased;
                () = noticed => {}
                () = known => {}
            }
        };
        drop(tokio::time::timeout(WRITTEN_LIMIT, written).await);
    }

    async fn is_running(&self, id: &str) -> bool {
        let running = v1::ContainerState::ContainerRunning as i32;
        self.context.runtime.container_status(id).await.is_ok_and(|it| it.state == running)
    }

    /// Ends when no more will be written.
    async fn until_over(&self, uid: &PodUid, id: &str) {
        let has_ended = || {
            let observed = self.workers.observed(uid).unwrap_or_default();
            let now = observed.containers.iter().find(|it| it.id == *id);
            now.is_none_or(|it| matches!(it.state, State::Exited { .. }))
                || self.workers.has_early_exit(uid, id)
        };
        self.workers.until(has_ended).await;
        self.until_written(uid, id).await;
    }

    async fn send_log(
        &self,
        pod: &Arc<Pod>,
        container: RuntimeContainer,
        options: LogOptions,
    ) -> Response<Body> {
        let uid = pod.uid();
        self.until_written(&uid, &container.id).await;
        let root = self.context.paths.all_pod_logs().to_owned();
        let path = PathBuf::from(&container.log_path);
        if let Err(error) = tokio::fs::metadata(&path).await {
            let message = format!("failed to open log file \"{}\": {error}\n", path.display());
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
        let (out, chunks) = mpsc::channel(QUEUE);
        let is_over = Arc::new(AtomicBool::new(false));
        let (server, over) = (self.clone(), is_over.clone());
        let reading = async move {
            let reading =
                logs::stream((root, path), options, out, || is_over.load(Ordering::Relaxed));
            tokio::pin!(reading);
            let result = tokio::select! {
                result = &mut reading => result,
                () = server.until_over(&uid, &container.id) => {
                    over.store(true, Ordering::Relaxed);
                    reading.await
                }
            };
            if let Err(error) = result {
                debug!(%error, "a log was not read to its end");
            }
        };
        drop(self.context.scope.spawn("log", reading));
        let mut response = Response::new(transport::stream(chunks));
        let plain = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }
}

/// The id of the run whose log is wanted. While a container waits for its restart that is the one that
/// ended last, asked for or not.
fn logged_run(
    status: &PodStatus,
    pod: &str,
    container: &str,
    is_previous: bool,
) -> Result<String, String> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let known = lists.into_iter().flatten().flatten().find(|it| it.name == container);
    let named = format!("container \"{container}\" in pod \"{pod}\"");
    let Some(known) = known else { return Err(format!("{named} is not available")) };
    let ended = |state: &Option<ContainerState>| {
        state.as_ref().and_then(|it| it.terminated.as_ref()).map(|it| it.container_id.clone())
    };
    let last = ended(&known.last_state);
    let last_id = || last.clone().flatten().filter(|it| !it.is_empty());
    if is_previous {
        return last_id().ok_or_else(|| format!("previous terminated {named} not found"));
    }
    if known.state.as_ref().is_some_and(|it| it.running.is_some()) {
        return Ok(known.container_id.clone().unwrap_or_default());
    }
    if let Some(id) = ended(&known.state) {
        let id = id.filter(|it| !it.is_empty()).or_else(last_id);
        return id.ok_or_else(|| format!("{named} is terminated"));
    }
    if last.is_some() {
        return last_id().ok_or_else(|| format!("{named} is terminated"));
    }
    let waiting = known.state.as_ref().and_then(|it| it.waiting.as_ref());
    let what = match waiting.and_then(|it| it.reason.as_deref()) {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => return Err(format!("{named} is waiting to start - no logs yet")),
    };
    Err(format!("{named} is waiting to start: {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_for_its_restart_shows_the_run_that_crashed_last() {
        let ask = |state: serde_json::Value, last: serde_json::Value, is_previous| {
            let status = serde_json::from_value(json!({ "containerStatuses": [{
                "name": "c", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                "containerID": "r://2", "state": state, "lastState": last,
            }] }));
            logged_run(&status.unwrap(), "p", "c", is_previous)
        };
        let ended = |id: &str| json!({ "terminated": { "exitCode": 1, "containerID": id } });
        let waits = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        let of = |id: &str| Ok(id.to_owned());
        assert_eq!(ask(waits.clone(), ended("r://2"), true), of("r://2"));
        assert_eq!(ask(waits.clone(), ended("r://2"), false), of("r://2"));
        assert_eq!(ask(json!({ "running": {} }), ended("r://1"), false), of("r://2"));
        assert_eq!(ask(json!({ "running": {} }), ended("r://1"), true), of("r://1"));
        assert_eq!(ask(ended("r://2"), json!({}), false), of("r://2"));
        // Lost, and told as terminated without a run.
        assert_eq!(ask(ended(""), ended("r://1"), false), of("r://1"));
        let none = ask(ended("r://2"), json!({}), true).unwrap_err();
        assert_eq!(none, "previous terminated container \"c\" in pod \"p\" not found");
        let pulls = json!({ "waiting": { "reason": "ImagePullBackOff" } });
        let text = ask(pulls, json!({}), false).unwrap_err();
        assert!(text.ends_with("is waiting to start: trying and failing to pull image"), "{text}");
    }
}
