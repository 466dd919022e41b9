//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tracing::debug;
use transport::Body;

use super::{Server, query_flag, query_values, text};
use crate::{
    logs::{self, LogOptions},
    observed::{RuntimeContainer, State},
    pod::PodExt,
};

const QUEUE: usize = 16;

impl Server {
    pub(super) async fn container_logs(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: Option<&str>,
    ) -> Response<Body> {
        let Some(pod) = self.workers.find(namespace, name) else {
            return text(StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist\n"));
        };
        if pod.find_container(container).is_none() {
            let message = format!("container \"{container}\" not found in pod \"{name}\"\n");
            return text(StatusCode::NOT_FOUND, message);
        }
        let options = match self.options(query) {
            Ok(options) => options,
            Err(message) => return text(StatusCode::BAD_REQUEST, message),
        };
        match self.find(&pod, container, query_flag(query, "previous")) {
            Ok(found) => self.send_log(&pod, found, options).await,
            Err(message) => text(StatusCode::BAD_REQUEST, message),
        }
    }

    fn options(&self, query: Option<&str>) -> Result<LogOptions, String> {
        let number = |name: &str| -> Result<Option<u64>, String> {
            match query_values(query, name).first().filter(|it| !it.is_empty()) {
                None => Ok(None),
                Some(given) => given
                    .parse()
                    .map(Some)
                    .map_err(|_| format!("`{given}` is no number for {name}\n")),
            }
        };
        let seconds = number("sinceSeconds")?.map(Duration::from_secs);
        let since = match query_values(query, "sinceTime").first().filter(|it| !it.is_empty()) {
            Some(given) => {
                let time = given.parse();
                Some(time.map_err(|_| format!("`{given}` is no time for sinceTime\n"))?)
            }
            None => seconds.map(|it| self.context.clock.now() - it),
        };
        let size = |it: Option<u64>| it.and_then(|it| usize::try_from(it).ok());
        Ok(LogOptions {
            follow: query_flag(query, "follow"),
            tail_lines: size(number("tailLines")?),
            since,
            timestamps: query_flag(query, "timestamps"),
            limit_bytes: size(number("limitBytes")?),
            stream: match query_values(query, "stream").first().map(String::as_str) {
                Some("Stdout") => Some("stdout"),
                Some("Stderr") => Some("stderr"),
                _ => None,
            },
        })
    }

    fn find(
        &self,
        pod: &Arc<Pod>,
        container: &str,
        is_previous: bool,
    ) -> Result<RuntimeContainer, String> {
        let observed = self.workers.observed(&pod.uid()).unwrap_or_default();
        let name = pod.name();
        if is_previous {
            return observed.previous(container).cloned().ok_or_else(|| {
                format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
            });
        }
        if let Some(latest) = observed.latest(container) {
            return Ok(latest.clone());
        }
        let status = self.context.statuses.get(&pod.uid()).unwrap_or_default();
        let lists = [
            status.container_statuses,
            status.init_container_statuses,
            status.ephemeral_container_statuses,
        ];
        let waiting = lists.into_iter().flatten().flatten().find(|it| it.name == container);
        let reason = waiting
            .and_then(|it| it.state?.waiting?.reason)
            .unwrap_or_else(|| "ContainerCreating".to_owned());
        let verb = match reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" => {
                format!("trying and failing to pull image: {reason}")
            }
            reason => format!("waiting to start: {reason}"),
        };
        Err(format!("container \"{container}\" in pod \"{name}\" is {verb}"))
    }

    async fn send_log(
        &self,
        pod: &Arc<Pod>,
        container: RuntimeContainer,
        options: LogOptions,
    ) -> Response<Body> {
        let path = PathBuf::from(&container.log_path);
        if let Err(error) = tokio::fs::metadata(&path).await {
            let message = format!("failed to open log file \"{}\": {error}\n", path.display());
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
        let (out, chunks) = mpsc::channel(QUEUE);
        let (workers, uid) = (self.workers.clone(), pod.uid());
        let is_over = move || {
            let observed = workers.observed(&uid).unwrap_or_default();
            let now = observed.containers.iter().find(|it| it.id == container.id);
            now.is_none_or(|it| matches!(it.state, State::Exited { .. }))
        };
        let reading = async move {
            if let Err(error) = logs::stream(path, options, out, is_over).await {
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
