//! Keeps the zone equal to what the API says.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use lifecycle::Scope;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::{
    server::Server,
    zone::{Id, Zone, reduce_service, reduce_slice},
};

/// Lists that have to be complete before the zone is.
const LISTS: usize = 3;

/// Starts the watches; the server is ready when each has its first list.
pub fn start(client: Client, server: &Arc<Server>, scope: &Scope) {
    let first_lists = Arc::new(AtomicUsize::new(0));
    let follow_services = follow(
        Api::<Service>::all(client.clone()),
        server.clone(),
        first_lists.clone(),
        services(),
    );
    let follow_slices = follow(
        Api::<EndpointSlice>::all(client.clone()),
        server.clone(),
        first_lists.clone(),
        slices(),
    );
    let follow_namespaces =
        follow(Api::<Namespace>::all(client), server.clone(), first_lists, namespaces());
    drop(scope.spawn("watch-services", follow_services));
    drop(scope.spawn("watch-slices", follow_slices));
    drop(scope.spawn("watch-namespaces", follow_namespaces));
}

async fn follow<K>(
    api: Api<K>,
    server: Arc<Server>,
    first_lists: Arc<AtomicUsize>,
    mut apply: impl FnMut(&mut Zone, Event<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let stream = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut is_first = true;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                let is_complete = matches!(event, Event::InitDone);
                apply(&mut server.zone.write(), event);
                if is_complete && std::mem::take(&mut is_first) {
                    let complete = first_lists.fetch_add(1, Ordering::AcqRel) + 1;
                    if complete == LISTS {
                        info!("the zone is complete");
                        server.set_ready();
                    }
                }
            }
            Err(error) => warn!(error = %telemetry::chain(&error), "watching failed"),
        }
    }
}

fn id_of<K: ResourceExt>(object: &K) -> Id {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn services() -> impl FnMut(&mut Zone, Event<Service>) {
    let mut present = BTreeSet::new();
    move |zone, event| match event {
        Event::Init => present.clear(),
        Event::InitApply(service) => {
            present.insert(id_of(&service));
            zone.set_service(id_of(&service), Some(reduce_service(&service)));
        }
        Event::Apply(service) => {
            zone.set_service(id_of(&service), Some(reduce_service(&service)));
        }
        Event::Delete(service) => zone.set_service(id_of(&service), None),
        Event::InitDone => zone.retain_services(&std::mem::take(&mut present)),
    }
}

fn slices() -> impl FnMut(&mut Zone, Event<EndpointSlice>) {
    let apply = |zone: &mut Zone, slice: &EndpointSlice| {
        let (id, endpoints) = reduce_slice(slice)?;
        zone.set_slice(id.clone(), &slice.name_any(), Some(endpoints));
        Some((id, slice.name_any()))
    };
    let mut present = BTreeSet::new();
    move |zone, event| match event {
        Event::Init => present.clear(),
        Event::InitApply(slice) => present.extend(apply(zone, &slice)),
        Event::Apply(slice) => drop(apply(zone, &slice)),
        Event::Delete(slice) => {
            if let Some((id, _)) = reduce_slice(&slice) {
                zone.set_slice(id, &slice.name_any(), None);
            }
        }
        Event::InitDone => zone.retain_slices(&std::mem::take(&mut present)),
    }
}

fn namespaces() -> impl FnMut(&mut Zone, Event<Namespace>) {
    let mut present = BTreeSet::new();
    move |zone, event| match event {
        Event::Init => present.clear(),
        Event::InitApply(namespace) => {
            present.insert(namespace.name_any());
        }
        Event::Apply(namespace) => zone.set_namespace(&namespace.name_any(), true),
        Event::Delete(namespace) => zone.set_namespace(&namespace.name_any(), false),
        Event::InitDone => zone.retain_namespaces(std::mem::take(&mut present)),
    }
}
