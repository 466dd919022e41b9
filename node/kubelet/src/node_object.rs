//! The Node object of this node, as the API holds it.
//!
//! Labels and taints are changed by others, and extended resources are announced in the status; pods
//! are admitted by what the object says now. Until it has been read, what this kubelet registers with
//! stands for it.
//!
//! Upstream: `getNodeAnyWay` in `pkg/kubelet/kubelet_getters.go`.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tracing::debug;

use crate::quantity;

/// What admission needs of the object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Resources with a domain: those of device plugins and of administrators.
    pub extended: BTreeMap<String, i64>,
}

#[derive(Default)]
pub(crate) struct NodeObject(ArcSwapOption<Known>);

impl NodeObject {
    pub(crate) fn known(&self) -> Option<Arc<Known>> {
        self.0.load_full()
    }

    pub(crate) async fn run(&self, client: Client, name: &str) {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let stream = watcher(Api::<Node>::all(client), config).default_backoff();
        let mut objects = pin!(stream.applied_objects());
        while let Some(event) = objects.next().await {
            match event {
                Ok(node) => self.0.store(Some(Arc::new(known(node)))),
                Err(error) => debug!(error = %telemetry::chain(&error), "watch of the node failed"),
            }
        }
    }
}

fn known(node: Node) -> Known {
    let allocatable = node.status.and_then(|it| it.allocatable).unwrap_or_default();
    let extended = allocatable.iter().filter(|(name, _)| is_extended(name));
    Known {
        labels: node.metadata.labels.unwrap_or_default(),
        taints: node.spec.and_then(|it| it.taints).unwrap_or_default(),
        extended: extended.filter_map(|(k, v)| Some((k.clone(), quantity::value(v)?))).collect(),
    }
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}
