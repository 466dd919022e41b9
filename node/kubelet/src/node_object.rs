//! The Node object of this node, as the API holds it.
//!
//! Labels and taints are changed by others, and extended resources are announced in the status; pods
//! are admitted by what the object says now. Until it has been read, what this kubelet registers with
//! stands for it.
//!
//! Upstream: `getNodeAnyWay` in `pkg/kubelet/kubelet_getters.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;
use tracing::debug;

use crate::{api_limit::within, quantity};

/// What admission needs of the object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Somebody has cordoned it.
    pub is_unschedulable: bool,
    /// Resources with a domain: those of device plugins and of administrators.
    pub extended: BTreeMap<String, i64>,
    /// Those of the capacity: nobody else makes allocatable what an administrator writes there.
    pub foreign: BTreeMap<String, Quantity>,
    /// Those that are allocatable and of no capacity any more.
    pub stale: BTreeSet<String>,
}

#[derive(Default)]
pub(crate) struct NodeObject {
    known: ArcSwapOption<Known>,
    changes: watch::Sender<()>,
}

impl NodeObject {
    pub(crate) fn known(&self) -> Option<Arc<Known>> {
        self.known.load_full()
    }

    /// Says when the object has changed; what it is then has to be asked of the API server.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Reads the object now. Where that fails, what is known stays.
    pub(crate) async fn refresh(&self, client: &Client, name: &str) {
        match within(Api::<Node>::all(client.clone()).get(name)).await {
            Ok(node) => self.take(node),
            Err(error) => debug!(%error, "the node could not be read"),
        }
    }

    fn take(&self, node: Node) {
        self.known.store(Some(Arc::new(known(node))));
        self.changes.send_replace(());
    }

    pub(crate) async fn run(&self, client: Client, name: &str) {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let stream = watcher(Api::<Node>::all(client), config).default_backoff();
        let mut objects = pin!(stream.applied_objects());
        while let Some(event) = objects.next().await {
            match event {
                Ok(node) => self.take(node),
                Err(error) => debug!(error = %telemetry::chain(&error), "watch of the node failed"),
            }
        }
    }
}

fn known(node: Node) -> Known {
    let status = node.status.unwrap_or_default();
    let allocatable = status.allocatable.unwrap_or_default();
    let mut foreign = status.capacity.unwrap_or_default();
    foreign.retain(|name, _| is_extended(name));
    let extended = allocatable.iter().filter(|(name, _)| is_extended(name));
    let gone = extended.clone().map(|it| it.0).filter(|it| !foreign.contains_key(*it));
    let stale = gone.cloned().collect();
    let spec = node.spec.unwrap_or_default();
    Known {
        labels: node.metadata.labels.unwrap_or_default(),
        taints: spec.taints.unwrap_or_default(),
        is_unschedulable: spec.unschedulable.unwrap_or(false),
        extended: extended.filter_map(|(k, v)| Some((k.clone(), quantity::value(v)?))).collect(),
        foreign,
        stale,
    }
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}
