//! The API's events, reduced where they arrive: nothing keeps whole objects.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use lifecycle::Scope;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    endpoint_slices::{Slice, reduce},
    service_map::{ServiceName, ServicePort, ports_of},
};

/// More than a burst of a thousand Services; a full channel makes the watches wait.
const PENDING: usize = 4096;
/// Upstream leaves out what another proxy serves and what has no cluster address.
const SELECTOR: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    Service(ServiceName, Vec<ServicePort>),
    Slice {
        service: ServiceName,
        name: String,
        slice: Option<Slice>,
    },
    /// A list is complete: what is not in it is gone.
    Services(BTreeSet<ServiceName>),
    Slices(BTreeSet<(ServiceName, String)>),
    Node {
        zone: Option<String>,
        is_deleted: bool,
    },
}

/// Starts the watches.
pub fn start(client: Client, node: String, scope: &Scope) -> mpsc::Receiver<Update> {
    let (sender, receiver) = mpsc::channel(PENDING);
    let services = Api::<Service>::all(client.clone());
    let slices = Api::<EndpointSlice>::all(client.clone());
    drop(scope.spawn("watch-services", watch_services(services, sender.clone())));
    drop(scope.spawn("watch-slices", watch_slices(slices, sender.clone())));
    drop(scope.spawn("watch-node", watch_node(Api::all(client), node, sender)));
    receiver
}

async fn watch_services(api: Api<Service>, sender: mpsc::Sender<Update>) {
    let name_of = |service: &Service| ServiceName {
        namespace: service.namespace().unwrap_or_default(),
        name: service.name_any(),
    };
    let mut present = BTreeSet::new();
    let reduce = move |event| match event {
        watcher::Event::Init => {
            present.clear();
            None
        }
        watcher::Event::InitApply(service) => {
            present.insert(name_of(&service));
            Some(Update::Service(name_of(&service), ports_of(&service)))
        }
        watcher::Event::Apply(service) => {
            Some(Update::Service(name_of(&service), ports_of(&service)))
        }
        watcher::Event::Delete(service) => Some(Update::Service(name_of(&service), Vec::new())),
        watcher::Event::InitDone => Some(Update::Services(std::mem::take(&mut present))),
    };
    follow(api, reduce, sender).await;
}

async fn watch_slices(api: Api<EndpointSlice>, sender: mpsc::Sender<Update>) {
    let apply = |slice: &EndpointSlice| {
        let (service, reduced) = reduce(slice)?;
        Some(Update::Slice { service, name: slice.name_any(), slice: Some(reduced) })
    };
    let mut present = BTreeSet::new();
    let reduce = move |event| match event {
        watcher::Event::Init => {
            present.clear();
            None
        }
        watcher::Event::InitApply(slice) => {
            let update = apply(&slice);
            if let Some(Update::Slice { service, name, .. }) = &update {
                present.insert((service.clone(), name.clone()));
            }
            update
        }
        watcher::Event::Apply(slice) => apply(&slice),
        watcher::Event::Delete(slice) => reduce(&slice).map(|(service, _)| Update::Slice {
            service,
            name: slice.name_any(),
            slice: None,
        }),
        watcher::Event::InitDone => Some(Update::Slices(std::mem::take(&mut present))),
    };
    follow(api, reduce, sender).await;
}

/// Sends what `reduce` makes of each event, until nobody listens.
async fn follow<K>(
    api: Api<K>,
    mut reduce: impl FnMut(watcher::Event<K>) -> Option<Update>,
    sender: mpsc::Sender<Update>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let config = watcher::Config::default().labels(SELECTOR);
    let stream = watcher(api, config).default_backoff();
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        let update = match event {
            Ok(event) => reduce(event),
            Err(error) => {
                warn!(error = %telemetry::chain(&error), "watching failed");
                None
            }
        };
        if let Some(update) = update
            && sender.send(update).await.is_err()
        {
            return;
        }
    }
}

async fn watch_node(api: Api<Node>, node: String, sender: mpsc::Sender<Update>) {
    let mut stream = std::pin::pin!(watcher::watch_object(api, &node));
    while let Some(state) = stream.next().await {
        let update = match state {
            Ok(Some(node)) => Update::Node {
                zone: node.labels().get("topology.kubernetes.io/zone").cloned(),
                is_deleted: node.metadata.deletion_timestamp.is_some(),
            },
            Ok(None) => continue,
            Err(error) => {
                warn!(error = %telemetry::chain(&error), "watching the node failed");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if sender.send(update).await.is_err() {
            return;
        }
    }
}
