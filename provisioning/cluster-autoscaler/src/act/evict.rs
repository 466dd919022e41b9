//! Evicts the pods of a node and waits until they are gone.
//!
//! Upstream: `core/scaledown/actuation/drain.go`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams},
};

use super::Actor;
use crate::world::is_over;

/// How soon an eviction that was refused is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How long pods may take beyond their grace period.
const HEADROOM: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_secs(5);

/// Why a node was not drained.
#[derive(Debug, thiserror::Error)]
pub(super) enum DrainError {
    #[error("failed to list the pods of the node")]
    List(#[source] kube::Error),
    #[error("failed to evict pod {pod} within allowed timeout (last error: {why})")]
    Evict { pod: String, why: String },
    #[error("pods remaining after timeout: {0}")]
    Remain(String),
    #[error("failed to delete empty node, new pods scheduled: {0}")]
    NotEmpty(String),
}

/// The pods that are on a node now.
pub(super) async fn pods_on(client: &Client, node: &str) -> Result<Vec<Pod>, DrainError> {
    let parameters = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let found = Api::<Pod>::all(client.clone()).list(&parameters).await;
    let found = found.map_err(DrainError::List)?.items;
    Ok(found.into_iter().filter(|it| !is_over(it)).collect())
}

impl Actor {
    /// Evicts these and waits for their end; they get no more time than that.
    pub(super) async fn evict_all(&self, pods: &[Pod], most: Duration) -> Result<(), DrainError> {
        let until = self.clock.now() + self.options.drain.max_eviction_time;
        for pod in pods {
            self.recorder.normal(pod, "ScaleDown", "deleting pod for node scale down");
            let evicted = self.evict(pod, until, most).await;
            let result = if evicted.is_ok() { "succeeded" } else { "failed" };
            self.metrics.add("evicted_pods_total", result, 1.0);
            if let Err(DrainError::Evict { .. }) = &evicted {
                let message = "failed to delete pod for ScaleDown";
                self.recorder.warn(pod, "ScaleDownFailed", message);
            }
            evicted?;
        }
        self.gone(pods, most).await
    }

    /// Without waiting, and whatever comes of it.
    pub(super) async fn evict_some(&self, pods: &[Pod], most: Duration) {
        let now = self.clock.now();
        for pod in pods {
            if let Err(error) = self.evict(pod, now, most).await {
                tracing::debug!(pod = pod.name_any(), %error, "not evicted");
            }
        }
    }

    async fn evict(&self, pod: &Pod, until: Timestamp, most: Duration) -> Result<(), DrainError> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let api = Api::<Pod>::namespaced(self.client.clone(), &namespace);
        let grace = grace(pod).min(most);
        let delete = DeleteParams {
            grace_period_seconds: Some(u32::try_from(grace.as_secs()).unwrap_or(u32::MAX)),
            ..DeleteParams::default()
        };
        let parameters = EvictParams { delete_options: Some(delete), ..EvictParams::default() };
        loop {
            let why = match api.evict(&name, &parameters).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
                Err(kube::Error::Api(status)) => status.message.clone(),
                Err(error) => telemetry::chain(&error).to_string(),
            };
            if self.clock.now() + RETRY > until {
                return Err(DrainError::Evict { pod: format!("{namespace}/{name}"), why });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn gone(&self, pods: &[Pod], most: Duration) -> Result<(), DrainError> {
        let longest = pods.iter().map(grace).max().unwrap_or_default();
        let longest = longest.min(most);
        let until = self.clock.now() + longest + HEADROOM;
        loop {
            let mut left = Vec::new();
            for pod in pods {
                let namespace = pod.namespace().unwrap_or_default();
                let api = Api::<Pod>::namespaced(self.client.clone(), &namespace);
                let found = api.get_opt(&pod.name_any()).await.map_err(DrainError::List)?;
                // One of the same name elsewhere is another pod.
                if found.is_some_and(|it| it.metadata.uid == pod.metadata.uid) {
                    left.push(format!("{namespace}/{}", pod.name_any()));
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            if self.clock.now() >= until {
                return Err(DrainError::Remain(left.join(", ")));
            }
            tokio::time::sleep(POLL.min(self.clock.until(until)).max(Duration::from_millis(100)))
                .await;
        }
    }
}

fn grace(pod: &Pod) -> Duration {
    let seconds =
        pod.spec.as_ref().and_then(|it| it.termination_grace_period_seconds).unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
