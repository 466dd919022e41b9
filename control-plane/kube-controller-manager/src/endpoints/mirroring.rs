//! EndpointSlices of hand-made Endpoints: whoever serves a Service reads slices alone.
//!
//! A Service without a selector has whatever endpoints somebody writes into the Endpoints object of
//! its name. Who writes slices himself says so by a label, and leader election's objects are none.
//!
//! Upstream: `pkg/controller/endpointslicemirroring`.

mod plan;

use controller::{Action, ApplyError, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::{replaced, slices::Step};
use crate::{Context, caches::BY_SERVICE, pods};

const PARALLEL: usize = 5;

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("endpoint-slice-mirroring-controller"),
        queue: Queue::new(),
        context,
    };
    it.subscribe();
    let queue = it.queue.clone();
    controller::run("endpointslicemirroring", queue, PARALLEL, |key| it.reconcile(key)).await;
}

impl Controller {
    fn subscribe(&self) {
        let caches = &self.context.caches;
        let queue = self.queue.clone();
        caches.endpoints.subscribe(move |change| queue.add(change.key.clone()));
        let queue = self.queue.clone();
        caches.services.subscribe(move |change| queue.add(change.key.clone()));
        let queue = self.queue.clone();
        caches.endpoint_slices.subscribe(move |change| {
            let slice = change.latest().filter(|it| plan::is_managed(it));
            if let Some(name) =
                slice.and_then(|it| object::label(&**it, super::slices::SERVICE_NAME))
            {
                queue.add(Key::new(&change.key.namespace, name));
            }
        });
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let caches = &self.context.caches;
        let existing = caches.endpoint_slices.indexed(BY_SERVICE, &key.to_string());
        let existing: Vec<_> = existing.into_iter().filter(|it| plan::is_managed(it)).collect();
        let service = caches.services.get(&key);
        let endpoints = caches.endpoints.get(&key).filter(|it| {
            plan::is_mirrored(it) && service.as_deref().is_some_and(plan::is_without_selector)
        });
        let Some(endpoints) = endpoints else {
            for slice in existing {
                apply::delete(&self.context.client, &*slice).await?;
            }
            return Ok(Action::Done);
        };
        let plan = plan::plan(&endpoints, &existing);
        for step in plan.steps {
            match self.apply(&key, step).await {
                Err(error) if pods::is_namespace_terminating(&error) => return Ok(Action::Done),
                done => done?,
            }
        }
        for (reason, message) in plan.warnings {
            self.recorder.warn(&*endpoints, reason, message);
        }
        Ok(Action::Done)
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
                        "labels": replaced(old.metadata.labels.as_ref(), new.metadata.labels.as_ref()),
                        "annotations": replaced(
                            old.metadata.annotations.as_ref(),
                            new.metadata.annotations.as_ref(),
                        ),
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
}
