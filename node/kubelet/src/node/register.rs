//! Registers the node, or takes over the object of an earlier run.
//!
//! Upstream: `tryRegisterWithAPIServer` in `pkg/kubelet/kubelet_node_status.go`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Node, NodeSpec, Taint},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tracing::{info, warn};

use crate::context::Context;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(7);
const LIMIT: Duration = Duration::from_secs(10);

const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";
const CONTROLLER_ATTACHES: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

pub(super) async fn until_registered(context: &Arc<Context>) {
    let mut retry = FIRST_RETRY;
    loop {
        match tokio::time::timeout(LIMIT, register(context)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                let node = &context.settings.node_name;
                warn!(node, error = %telemetry::chain(&error), "the node was not registered");
            }
            Err(_) => warn!("the API server did not answer the registration"),
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

async fn register(context: &Arc<Context>) -> Result<(), kube::Error> {
    let api = Api::<Node>::all(context.client.clone());
    let node = wanted(context).await;
    let name = &context.settings.node_name;
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {
            info!(node = name, "registered");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() || status.code == 409 => {
            adopt(&api, name, &node).await
        }
        Err(error) => Err(error),
    }
}

/// The labels that follow the node; others are only set when it registers for the first time.
const DEFAULT_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// Brings default labels, annotations and the provider id of an object that is already there up to
/// date.
async fn adopt(api: &Api<Node>, name: &str, node: &Node) -> Result<(), kube::Error> {
    let existing = api.get(name).await?;
    let spec = existing.spec.unwrap_or_default();
    let wanted = node.spec.clone().unwrap_or_default();
    let mut labels = node.metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| DEFAULT_LABELS.contains(&key.as_str()));
    let mut patch = json!({
        "metadata": {
            "labels": labels,
            "annotations": node.metadata.annotations,
        }
    });
    // The provider id can be set once.
    if spec.provider_id.as_deref().unwrap_or_default().is_empty() && wanted.provider_id.is_some() {
        patch["spec"] = json!({ "providerID": wanted.provider_id });
    }
    api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    info!(node = name, "the node was registered before");
    Ok(())
}

async fn wanted(context: &Arc<Context>) -> Node {
    let settings = &context.settings;
    let config = &settings.config;
    let mut taints: Vec<Taint> = settings.taints.clone();
    taints.extend(config.register_with_taints.clone());
    if settings.has_external_cloud {
        taints.push(Taint {
            key: UNINITIALIZED.to_owned(),
            value: Some("true".to_owned()),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        });
    }
    let provided = settings.node_ips.first().filter(|_| settings.has_external_cloud);
    let annotations = annotations(provided, config.enable_controller_attach_detach);
    let provider_id = Some(config.provider_id.clone()).filter(|it| !it.is_empty());
    Node {
        metadata: ObjectMeta {
            name: Some(settings.node_name.clone()),
            labels: Some(super::labels(settings, &context.machine)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id,
            taints: (!taints.is_empty()).then_some(taints),
            ..NodeSpec::default()
        }),
        status: Some(super::status::first(context).await),
    }
}

/// The address is for the cloud's controller; the rest is for the attach/detach controller.
fn annotations(provided: Option<&IpAddr>, controller_attaches: bool) -> BTreeMap<String, String> {
    let provided = provided.map(|ip| (PROVIDED_IP.to_owned(), ip.to_string()));
    let attached = controller_attaches.then(|| (CONTROLLER_ATTACHES.to_owned(), "true".to_owned()));
    provided.into_iter().chain(attached).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_whether_volumes_are_attached_for_it() {
        let says = |it: &BTreeMap<String, String>| {
            it.get("volumes.kubernetes.io/controller-managed-attach-detach").cloned()
        };
        assert_eq!(says(&annotations(None, true)).as_deref(), Some("true"));
        assert_eq!(annotations(None, false), BTreeMap::new());
        let ip = "192.168.0.12".parse().unwrap();
        assert_eq!(annotations(Some(&ip), true).len(), 2);
    }
}
