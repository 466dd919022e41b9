//! `/pods`, `/runningpods/` and `/run`.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use transport::Body;

use super::{Server, json_answer, query_values, text};
use crate::pod::PodExt;

/// How long a command of `/run` may take.
const RUN_LIMIT: Duration = Duration::from_secs(60);

impl Server {
    /// The pods that this node should run, with their newest statuses.
    pub(super) fn pods(&self) -> Response<Body> {
        json_answer(&list(self.workers.pods().iter().map(|it| json!(it)).collect()))
    }

    /// The pods that the runtime holds, as far as it knows them.
    pub(super) fn running_pods(&self) -> Response<Body> {
        let mut items = Vec::new();
        for pod in self.workers.pods() {
            let observed = self.workers.observed(&pod.uid()).unwrap_or_default();
            let running = observed.containers.iter().filter(|it| it.is_running());
            let containers: Vec<Value> = running
                .map(|it| json!({ "name": it.name, "image": it.image, "resources": {} }))
                .collect();
            if containers.is_empty() {
                continue;
            }
            items.push(json!({
                "metadata": {
                    "name": pod.name(),
                    "namespace": pod.namespace(),
                    "uid": pod.uid(),
                    "creationTimestamp": null,
                },
                "spec": { "containers": containers },
                "status": {},
            }));
        }
        json_answer(&list(items))
    }

    /// Runs a command in a container and answers with what it wrote.
    pub(super) async fn run(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: Option<&str>,
    ) -> Response<Body> {
        let Some(pod) = self.workers.find(namespace, name) else {
            return text(StatusCode::NOT_FOUND, "pod does not exist\n");
        };
        let observed = self.workers.observed(&pod.uid()).unwrap_or_default();
        let running = observed.containers.iter().find(|it| it.name == container && it.is_running());
        let Some(running) = running else {
            let message = format!("container not found (\"{container}\")\n");
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        };
        // Upstream splits at blanks, and knows no quotes.
        let command: Vec<String> = query_values(query, "cmd")
            .iter()
            .flat_map(|it| it.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        match self.context.runtime.exec_sync(&running.id, &command, RUN_LIMIT).await {
            Ok(reply) => {
                let output = [reply.stdout, reply.stderr].concat();
                let output = String::from_utf8_lossy(&output).into_owned();
                match reply.exit_code {
                    0 => text(StatusCode::OK, output),
                    code => {
                        let message =
                            format!("command '{}' exited with {code}: {output}", command.join(" "));
                        text(StatusCode::INTERNAL_SERVER_ERROR, message)
                    }
                }
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// The type of its items is not told again.
fn list(mut items: Vec<Value>) -> Value {
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.retain(|name, _| !matches!(name.as_str(), "kind" | "apiVersion"));
    }
    json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items })
}
