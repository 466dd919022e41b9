//! Kubernetes events: the node's role lacks a permission, a pod got no address.
//!
//! Upstream has the first alone.

use api_cni::backend::Sandbox;
use controller::Recorder;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};
use tracing::{debug, warn};

use crate::cloud::CloudError;

/// Tells about the `aws-node` pod that this process runs in.
#[derive(Clone)]
pub struct Events {
    client: Client,
    recorder: Recorder,
    pod_name: String,
}

impl Events {
    pub fn new(client: Client, recorder: Recorder, pod_name: impl Into<String>) -> Self {
        Self { client, recorder, pod_name: pod_name.into() }
    }

    /// Tells about a pod that got no address.
    pub fn shortage(&self, sandbox: &Sandbox, reason: &'static str, message: String) {
        let pod = Pod {
            metadata: ObjectMeta {
                namespace: Some(sandbox.pod_namespace.clone()),
                name: Some(sandbox.pod_name.clone()),
                uid: Some(sandbox.pod_uid.clone()).filter(|it| !it.is_empty()),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        };
        self.recorder.warn(&pod, reason, message);
    }

    /// Emits `MissingIAMPermissions` on the pod.
    pub async fn missing_permission(&self, error: &CloudError) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), "kube-system");
        match pods.get(&self.pod_name).await {
            Ok(pod) => {
                let text = telemetry::chain(error).to_string();
                let note = format!("Failed to call EC2 with the node role's credentials: {text}");
                self.recorder.warn(&pod, "MissingIAMPermissions", note);
            }
            Err(error) if error.to_string().is_empty() => debug!("no pod to attach an event to"),
            Err(error) => warn!(pod = self.pod_name, %error, "cannot attach an event to the pod"),
        }
    }
}
