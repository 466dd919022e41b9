//! Who serves a Service: EndpointSlices, and Endpoints for those who still read them.
//!
//! A pass computes from the Service and the pods that it selects what should be there, compares
//! with what is there, and writes the difference.
//!
//! Upstream: `pkg/controller/endpointslice`, `pkg/controller/endpoint`. Deviation: slices are named
//! by a hash of what they hold instead of at random, so that a stale cache cannot make them twice;
//! hints follow `trafficDistribution` alone, not the `topology-mode` annotation; no mirroring of
//! hand-made Endpoints.

mod members;
mod slices;
mod subsets;

use std::sync::Arc;

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{
    core::v1::{Endpoints, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::json;

use self::{members::Member, slices::Step};
use crate::{Context, caches::BY_SERVICE, pods};

const PARALLEL: usize = 5;
const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("endpoint-slice-controller"),
        queue: Queue::new(),
        context,
    };
    it.subscribe();
    let queue = it.queue.clone();
    controller::run("endpointslice", queue, PARALLEL, |key| it.reconcile(key)).await;
}

impl Controller {
    fn subscribe(&self) {
        let caches = &self.context.caches;
        let queue = self.queue.clone();
        caches.services.subscribe(move |change| queue.add(change.key.clone()));
        let queue = self.queue.clone();
        caches.endpoint_slices.subscribe(move |change| {
            let slice = change.latest().filter(|it| slices::is_managed(it));
            if let Some(name) = slice.and_then(|it| object::label(&**it, slices::SERVICE_NAME)) {
                queue.add(Key::new(&change.key.namespace, name));
            }
        });
        let this = self.clone();
        caches.pods.subscribe(move |change| this.pod_changed(change));
        let this = self.clone();
        caches.nodes.subscribe(move |change| {
            if zone(change.old.as_deref()) != zone(change.new.as_deref()) {
                this.context.caches.services.keys().into_iter().for_each(|it| this.queue.add(it));
            }
        });
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && members::is_same(old, new)
        {
            return;
        }
        for service in self.context.caches.services.in_namespace(&change.key.namespace) {
            let is_selected = |pod: &Option<Arc<Pod>>| {
                pod.as_ref().is_some_and(|it| members::selects(&service, it))
            };
            if is_selected(&change.old) || is_selected(&change.new) {
                self.queue.add(Key::of(&*service));
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        // What belongs to a Service that is gone is the garbage collector's.
        let Some(service) = self.context.caches.services.get(&key) else {
            return Ok(Action::Done);
        };
        if !members::is_ours(&service) {
            return Ok(Action::Done);
        }
        let members = self.members(&service);
        self.write_slices(&key, &service, &members).await?;
        self.write_endpoints(&key, &service, &members).await?;
        Ok(Action::Done)
    }

    fn members(&self, service: &Service) -> Vec<Member> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let pods = self.context.caches.pods.in_namespace(namespace);
        let selected = pods.iter().filter(|it| members::selects(service, it));
        let zone_of = |pod: &Pod| {
            let node = self.context.caches.nodes.get(&Key::cluster(pods::node_of(pod)?))?;
            zone(Some(&node)).map(str::to_owned)
        };
        selected.flat_map(|it| members::members(service, it, zone_of(it))).collect()
    }

    async fn write_slices(
        &self,
        key: &Key,
        service: &Service,
        members: &[Member],
    ) -> Result<(), ApplyError> {
        let existing = self.context.caches.endpoint_slices.indexed(BY_SERVICE, &key.to_string());
        let existing: Vec<_> = existing.into_iter().filter(|it| slices::is_managed(it)).collect();
        for step in slices::plan(service, members, &existing) {
            let result = self.apply(key, step).await;
            match result {
                Err(error) if error.is_conflict() || pods::is_namespace_terminating(&error) => {
                    return if error.is_conflict() { Err(error) } else { Ok(()) };
                }
                Err(error) => {
                    let message = format!(
                        "Error updating Endpoint Slices for Service {key}: {}",
                        error.server_message()
                    );
                    self.recorder.warn(service, "FailedToUpdateEndpointSlices", message);
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn apply(&self, key: &Key, step: Step) -> Result<(), ApplyError> {
        let client = &self.context.client;
        match step {
            Step::Create(slice) => apply::create(client, &*slice).await.map(drop),
            Step::Delete(slice) => apply::delete(client, &*slice).await,
            Step::Update { old, new } => {
                let patch = json!({
                    "metadata": {
                        "resourceVersion": old.metadata.resource_version,
                        "labels": new.metadata.labels,
                        "ownerReferences": new.metadata.owner_references,
                    },
                    "endpoints": new.endpoints,
                    "ports": new.ports,
                });
                let name = old.metadata.name.as_deref().unwrap_or_default();
                apply::patch::<EndpointSlice>(client, &key.namespace, name, &patch).await.map(drop)
            }
        }
    }

    async fn write_endpoints(
        &self,
        key: &Key,
        service: &Service,
        members: &[Member],
    ) -> Result<(), ApplyError> {
        let client = &self.context.client;
        let wanted = subsets::endpoints(service, members);
        let written = match self.context.caches.endpoints.get(key) {
            None => apply::create(client, &wanted).await.map(drop),
            Some(known) if subsets::is_same(&known, &wanted) => Ok(()),
            Some(known) => {
                let patch = json!({
                    "metadata": {
                        "resourceVersion": known.metadata.resource_version,
                        "labels": wanted.metadata.labels,
                    },
                    "subsets": wanted.subsets,
                });
                let patched =
                    apply::patch::<Endpoints>(client, &key.namespace, &key.name, &patch).await;
                patched.map(drop)
            }
        };
        match written {
            Err(error) if pods::is_namespace_terminating(&error) => Ok(()),
            other => other,
        }
    }
}

fn zone(node: Option<&Node>) -> Option<&str> {
    object::label(node?, ZONE)
}
