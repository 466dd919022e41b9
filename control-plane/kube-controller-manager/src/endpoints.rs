//! Who serves a Service: EndpointSlices, and Endpoints for those who still read them.
//!
//! A pass computes from the Service and the pods that it selects what should be there, compares
//! with what is there, and writes the difference.
//!
//! Upstream: `pkg/controller/endpointslice`, `pkg/controller/endpoint`.
//! Deviation: slices are named by a hash of what they hold instead of at random, so that a stale
//! cache cannot make them twice.

mod members;
pub(crate) mod mirroring;
mod slices;
mod subsets;
mod topology;

use std::{collections::BTreeMap, sync::Arc};

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{
    core::v1::{Endpoints, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::Client;
use serde_json::{Map, Value, json};

use self::{members::Member, slices::Step};
use crate::{Context, caches::BY_SERVICE, pods};

const PARALLEL: usize = 5;
const ZONE: &str = "topology.kubernetes.io/zone";
/// On the objects of old leader elections.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

#[derive(Clone)]
struct Controller {
    context: Context,
    /// Who writes Endpoints.
    elder: Client,
    recorder: Recorder,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("endpoint-slice-controller"),
        queue: Queue::new(),
        elder: context.of("endpoints-controller").client,
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
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            let has_moved = zone(old) != zone(new);
            if has_moved || old.map(topology::facts) != new.map(topology::facts) {
                let services = this.context.caches.services.all();
                let concerned = services.iter().filter(|it| has_moved || topology::is_wanted(it));
                concerned.for_each(|it| this.queue.add(Key::of(&**it)));
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
        // The slices of a Service that is gone are the garbage collector's.
        let has_endpoints = self.context.is_on("endpoints-controller");
        let Some(service) = self.context.caches.services.get(&key) else {
            return match has_endpoints {
                true => self.delete_endpoints(&key).await,
                false => Ok(Action::Done),
            };
        };
        if !members::is_ours(&service) {
            return Ok(Action::Done);
        }
        let members = self.members(&service);
        if self.context.is_on("endpointslice-controller") {
            self.write_slices(&key, &service, &members).await?;
        }
        if has_endpoints {
            self.write_endpoints(&key, &service, &members).await?;
        }
        Ok(Action::Done)
    }

    /// Endpoints have no owner, and go with the Service of their name, whoever made them.
    async fn delete_endpoints(&self, key: &Key) -> Result<Action, ApplyError> {
        if let Some(endpoints) = self.context.caches.endpoints.get(key)
            && object::annotation(&*endpoints, LEADER).is_none()
        {
            apply::delete(&self.elder, &*endpoints).await?;
        }
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
        let cpu = topology::is_wanted(service)
            .then(|| topology::cpu_by_zone(&self.context.caches.nodes.all()));
        let (steps, notes) = slices::plan(service, members, &existing, cpu.as_ref());
        for note in notes {
            if note.is_warning {
                self.recorder.warn(service, topology::DISABLED, note.message);
            } else {
                self.recorder.normal(service, topology::ENABLED, note.message);
            }
        }
        for step in steps {
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
            // One of that name holds the same: the cache has not heard of it yet.
            Step::Create(slice) => match apply::create(client, &*slice).await {
                Err(error) if error.is_already_exists() => Ok(()),
                done => done.map(drop),
            },
            Step::Delete(slice) => apply::delete(client, &*slice).await,
            Step::Update { old, new } => {
                let patch = json!({
                    "metadata": {
                        "resourceVersion": old.metadata.resource_version,
                        "labels": replaced(old.metadata.labels.as_ref(), new.metadata.labels.as_ref()),
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
        let wanted = subsets::endpoints(service, members);
        let known = self.context.caches.endpoints.get(key);
        match settle(&self.elder, key, known, &wanted).await {
            Err(error) if pods::is_namespace_terminating(&error) => Ok(()),
            other => other,
        }
    }
}

/// Makes the Endpoints what they should be. The cache may not have heard yet of those that an earlier
/// pass has made: then they are asked for.
async fn settle(
    client: &Client,
    key: &Key,
    mut known: Option<Arc<Endpoints>>,
    wanted: &Endpoints,
) -> Result<(), ApplyError> {
    if known.is_none() {
        match apply::create(client, wanted).await {
            Err(error) if error.is_already_exists() => {
                let found = apply::api::<Endpoints>(client, &key.namespace).get(&key.name).await;
                let found = found.map_err(|it| ApplyError::new::<Endpoints>("get", &key.name, it));
                known = Some(Arc::new(found?));
            }
            done => return done.map(drop),
        }
    }
    let Some(known) = known.filter(|it| !subsets::is_same(it, wanted)) else { return Ok(()) };
    let labels = replaced(known.metadata.labels.as_ref(), wanted.metadata.labels.as_ref());
    let patch = json!({
        "metadata": {
            "resourceVersion": known.metadata.resource_version,
            "labels": labels,
        },
        "subsets": wanted.subsets,
    });
    apply::patch::<Endpoints>(client, &key.namespace, &key.name, &patch).await.map(drop)
}

type Texts = BTreeMap<String, String>;

/// A merge patch after which the new entries are all that there are.
fn replaced(old: Option<&Texts>, new: Option<&Texts>) -> Value {
    let gone = old.into_iter().flatten().map(|(key, _)| (key.clone(), Value::Null));
    let kept = new.into_iter().flatten().map(|(key, it)| (key.clone(), it.clone().into()));
    gone.chain(kept).collect::<Map<_, _>>().into()
}

fn zone(node: Option<&Node>) -> Option<&str> {
    object::label(node?, ZONE)
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;

    use super::*;

    fn endpoints(address: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": { "name": "web", "namespace": "d", "resourceVersion": "7" },
            "subsets": [{ "addresses": [{ "ip": address }], "ports": [{ "port": 80 }] }],
        })
    }

    type Asked = Arc<Mutex<Vec<(Method, Value)>>>;

    /// An API server that has Endpoints `web` with this address; and what is asked of it.
    fn server(has: &'static str) -> (Client, Asked) {
        let asked = Asked::default();
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let log = log.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.map_err(|it| it.to_string())?;
                let sent = serde_json::from_slice(&body).unwrap_or_default();
                log.lock().push((head.method.clone(), sent));
                let (code, answer) = match head.method {
                    Method::POST => (
                        409,
                        json!({
                            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                            "reason": "AlreadyExists", "message": "endpoints \"web\" already exists",
                        }),
                    ),
                    _ => (200, endpoints(has)),
                };
                let response = Response::builder()
                    .status(code)
                    .body(Body::from(answer.to_string().into_bytes()));
                response.map_err(|it| it.to_string())
            }
        });
        (Client::new(service, "d"), asked)
    }

    #[tokio::test]
    async fn endpoints_that_the_cache_has_not_heard_of_are_no_failure_and_become_what_they_should()
    {
        let wanted: Endpoints = serde_json::from_value(endpoints("10.0.0.2")).unwrap();
        for (has, methods) in [
            ("10.0.0.2", &[Method::POST, Method::GET][..]),
            ("10.0.0.1", &[Method::POST, Method::GET, Method::PATCH]),
        ] {
            let (client, asked) = server(has);
            settle(&client, &Key::new("d", "web"), None, &wanted).await.unwrap();
            let asked = asked.lock();
            assert_eq!(asked.iter().map(|it| it.0.clone()).collect::<Vec<_>>(), methods);
            if let Some((_, patch)) = asked.get(2) {
                assert_eq!(patch["metadata"]["resourceVersion"], "7");
                assert_eq!(patch["subsets"][0]["addresses"][0]["ip"], "10.0.0.2");
            }
        }
    }
}
