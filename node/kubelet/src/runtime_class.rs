//! Which of the runtime's handlers a pod asks for with its `runtimeClassName`.
//!
//! The object is read when a sandbox is made, which is seldom; nothing is watched.
//!
//! Upstream: `pkg/kubelet/runtimeclass/runtimeclass_manager.go`. Whether the handler exists is the
//! runtime's affair: its error becomes the event.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Pod, node::v1::RuntimeClass};
use kube::{Api, Client};

use crate::pod::PodExt;

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupHandlerError {
    #[error("runtimeclass.node.k8s.io \"{name}\" not found")]
    NotFound { name: String },
    #[error("failed to lookup RuntimeClass {name}: {message}")]
    Failed { name: String, message: String },
}

/// The handler's name; empty for the runtime's default.
pub(crate) async fn handler(client: &Client, pod: &Pod) -> Result<String, LookupHandlerError> {
    let name = PodExt::spec(pod).runtime_class_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Ok(String::new());
    }
    let failed = |message: String| LookupHandlerError::Failed { name: name.to_owned(), message };
    let api = Api::<RuntimeClass>::all(client.clone());
    match tokio::time::timeout(LIMIT, api.get_opt(name)).await {
        Ok(Ok(Some(class))) => Ok(class.handler),
        Ok(Ok(None)) => Err(LookupHandlerError::NotFound { name: name.to_owned() }),
        Ok(Err(error)) => Err(failed(telemetry::chain(&error).to_string())),
        Err(_) => Err(failed("the API server did not answer".to_owned())),
    }
}
