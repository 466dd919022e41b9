//! Creates and deletes the pods of a controller's object: what is expected of the watch, and the events.
//!
//! Upstream: `RealPodControl` and `slowStartBatch` in `pkg/controller`.

use std::sync::Arc;

use controller::{ApplyError, Key, Recorder, apply, object};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, Resource};

use crate::{expectations::Expectations, pods};

/// Deletions at once.
const PARALLEL: usize = 32;

pub(crate) struct PodControl<'a> {
    pub(crate) client: &'a Client,
    pub(crate) recorder: &'a Recorder,
    pub(crate) expectations: &'a Expectations,
}

impl PodControl<'_> {
    /// The first failure is told, but for that of a namespace that goes away.
    pub(crate) async fn create<O>(
        &self,
        key: &Key,
        owner: &O,
        wanted: Vec<Pod>,
    ) -> Result<(), ApplyError>
    where
        O: Resource<DynamicType = ()>,
    {
        if wanted.is_empty() {
            return Ok(());
        }
        self.expectations.expect_creations(key, wanted.len());
        let created = pods::create_in_batches(self.client, wanted).await;
        for pod in &created.pods {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            self.recorder.normal(owner, "SuccessfulCreate", format!("Created pod: {name}"));
        }
        self.expectations.created(key, created.skipped + created.errors.len());
        let mut errors =
            created.errors.into_iter().filter(|it| !pods::is_namespace_terminating(it));
        let Some(error) = errors.next() else { return Ok(()) };
        let message = format!("Error creating: {}", error.server_message());
        self.recorder.warn(owner, "FailedCreate", message);
        Err(error)
    }

    /// All are tried; one of the failures is told.
    pub(crate) async fn delete<O>(
        &self,
        key: &Key,
        owner: &O,
        victims: Vec<Arc<Pod>>,
    ) -> Result<(), ApplyError>
    where
        O: Resource<DynamicType = ()>,
    {
        for pod in &victims {
            self.expectations.expect_deletion(key, object::uid(&**pod));
        }
        let results = stream::iter(victims)
            .map(|pod| async move { (apply::delete(self.client, &*pod).await, pod) })
            .buffer_unordered(PARALLEL)
            .collect::<Vec<_>>()
            .await;
        let mut failure = None;
        for (result, pod) in results {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match result {
                Ok(()) => {
                    self.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}"));
                }
                Err(error) => {
                    self.expectations.deleted(key, &object::uid(&*pod));
                    let message = format!("Error deleting: {}", error.server_message());
                    self.recorder.warn(owner, "FailedDelete", message);
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use clock::Clock;
    use http::{Method, Request, Response};
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use kube::client::Body;
    use lifecycle::Scope;
    use serde_json::json;

    use super::*;

    /// A server that refuses to make pods and to delete `kept`.
    fn refusing() -> Client {
        let answer = async |request: Request<Body>| {
            let is_kept = request.uri().path().ends_with("/kept");
            let is_refused = request.method() == Method::POST || is_kept;
            let code = if is_refused { 403 } else { 200 };
            let body = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "message": "no", "code": code,
                "status": if is_refused { "Failure" } else { "Success" },
            });
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        };
        Client::new(tower::service_fn(answer), "default")
    }

    fn pod(name: &str) -> Pod {
        let metadata = json!({ "name": name, "namespace": "n", "uid": name });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    #[tokio::test]
    async fn nothing_is_expected_of_what_was_refused() {
        let (client, scope, expectations) = (refusing(), Scope::new(), Expectations::default());
        let recorder = Recorder::new(client.clone(), "test", Clock::system(), &scope);
        let control =
            PodControl { client: &client, recorder: &recorder, expectations: &expectations };
        let (key, owner) = (Key::new("n", "set"), ReplicaSet::default());
        assert!(control.create(&key, &owner, vec![pod("a"), pod("b")]).await.is_err());
        assert!(expectations.are_met(&key));
        let victims = vec![Arc::new(pod("kept")), Arc::new(pod("gone"))];
        assert!(control.delete(&key, &owner, victims).await.is_err());
        // The watch has yet to show the one that went.
        assert!(!expectations.are_met(&key));
        expectations.deleted(&key, "gone");
        assert!(expectations.are_met(&key));
    }
}
