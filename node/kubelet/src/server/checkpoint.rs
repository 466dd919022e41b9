//! `/checkpoint/{namespace}/{pod}/{container}`: whatever the runtime makes of it.
//!
//! Upstream: `checkpoint` in `pkg/kubelet/server/server.go`. Runtimes that cannot do it, containerd 1.6
//! among them, are passed on as upstream does: as a failure with their own error.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::json;
use transport::Body;

use super::{Server, json_answer, query_values, text};

const DEFAULT_LIMIT: Duration = Duration::from_secs(120);

impl Server {
    pub(super) async fn checkpoint(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: Option<&str>,
    ) -> Response<Body> {
        use crate::pod::PodExt;
        if !self.context.settings.config.gate("ContainerCheckpoint", true) {
            return super::not_found();
        }
        let Some(pod) = self.workers.find(namespace, name) else {
            return text(StatusCode::NOT_FOUND, "pod does not exist");
        };
        let observed = self.workers.observed(&pod.uid()).unwrap_or_default();
        let running = observed.containers.iter().find(|it| it.name == container && it.is_running());
        let Some(running) = running else {
            return text(StatusCode::NOT_FOUND, format!("container {container} does not exist"));
        };
        let seconds = query_values(query, "timeout").first().map(|it| it.parse());
        let limit = match seconds {
            None => DEFAULT_LIMIT,
            Some(Ok(seconds)) => Duration::from_secs(seconds),
            Some(Err(_)) => return text(StatusCode::BAD_REQUEST, "cannot parse value of timeout"),
        };
        let folder = self.context.paths.root().join("checkpoints");
        if let Err(error) = std::fs::create_dir_all(&folder) {
            return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        }
        let now = self.context.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let file = format!("checkpoint-{name}_{namespace}-{container}-{now}.tar");
        let location = folder.join(file).display().to_string();
        match self.context.runtime.checkpoint(&running.id, &location, limit).await {
            Ok(()) => json_answer(&json!({ "items": [location] })),
            Err(error) => {
                let message =
                    format!("checkpointing of {namespace}/{name}/{container} failed ({error})");
                text(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }
}
