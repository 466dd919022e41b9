//! What the kubelet writes on CRI objects, so that a later run of it recognises them.
//!
//! Names are upstream's (`pkg/kubelet/types/labels.go`, `pkg/kubelet/kuberuntime/labels.go`):
//! `crictl`, log collectors and a kubelet of either kind that takes over read them.
//!
//! **Invariant:** everything that a restarted kubelet must know about a container is here.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::json;

use crate::pod::PodExt;

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";

pub(crate) const HASH: &str = "io.kubernetes.container.hash";
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";
const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Ours: where the termination message is on this host.
pub(crate) const MESSAGE_HOST_PATH: &str = "nodestead.io/termination-message";
/// Ours: the signal that this kubelet sends, as the runtime cannot.
pub(crate) const STOP_SIGNAL: &str = "nodestead.io/stop-signal";

pub(crate) fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> =
        pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(identity(pod));
    labels
}

pub(crate) fn sandbox_annotations(pod: &Pod) -> HashMap<String, String> {
    pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect()
}

pub(crate) fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels = identity(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

fn identity(pod: &Pod) -> HashMap<String, String> {
    [(POD_NAME, pod.name().to_owned()), (POD_NAMESPACE, pod.namespace().to_owned())]
        .into_iter()
        .chain([(POD_UID, pod.uid().0)])
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

pub(crate) fn container_annotations(
    pod: &Pod,
    container: &Container,
    restart_count: u32,
    message_host_path: &str,
) -> HashMap<String, String> {
    let mut annotations: HashMap<String, String> = [
        (HASH, container_hash(container)),
        (RESTART_COUNT, restart_count.to_string()),
        (MESSAGE_PATH, message_path(container).to_owned()),
        (MESSAGE_POLICY, message_policy(container).to_owned()),
        (MESSAGE_HOST_PATH, message_host_path.to_owned()),
        (POD_GRACE, PodExt::spec(pod).termination_grace_period_seconds.unwrap_or(30).to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(hook) = container.lifecycle.as_ref().and_then(|it| it.pre_stop.as_ref()) {
        annotations.insert(PRE_STOP.to_owned(), json!(hook).to_string());
    }
    if let Some(ports) = container.ports.as_ref().filter(|it| !it.is_empty()) {
        annotations.insert(PORTS.to_owned(), json!(ports).to_string());
    }
    annotations
}

pub(crate) fn message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().unwrap_or("/dev/termination-log")
}

pub(crate) fn message_policy(container: &Container) -> &str {
    container.termination_message_policy.as_deref().unwrap_or("File")
}

/// Changes when a running container has to be replaced: when its image does. Every other field of a
/// running pod is immutable, or is changed in place.
///
/// The value is upstream's (`HashContainer` in `pkg/kubelet/container/helpers.go`), so that neither
/// kubelet restarts what the other one has started: FNV-1a over Go's way to write the bytes of the JSON.
pub(crate) fn container_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let text = json!({ "image": image, "name": container.name }).to_string();
    let bytes: Vec<_> = text.bytes().map(|it| it.to_string()).collect();
    let written = format!("([]uint8)[{}]", bytes.join(" "));
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    format!("{:x}", written.bytes().fold(0x811c_9dc5, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number is one that upstream's own tests expect.
    #[test]
    fn a_container_has_the_hash_that_upstreams_kubelet_gives_it() {
        let container = Container {
            name: "test_container".to_owned(),
            image: Some("foo/image:v1".to_owned()),
            ..Container::default()
        };
        assert_eq!(container_hash(&container), "8e45cbd0");
    }
}
