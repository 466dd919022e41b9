//! Which objects belong to a controller: adoption of matching orphans, release of those that match
//! no more.
//!
//! Upstream: `pkg/controller/controller_ref_manager.go`. A controller that is going away adopts
//! nothing, and the server is asked about that before the first adoption: a cache may not show it yet, and
//! what its owner was to leave behind would go with it. What another controller owns is never touched.

use std::sync::Arc;

use controller::{ApplyError, Store, apply, apply::Object, object};
use kube::{
    Client, Resource, ResourceExt,
    core::{NamespaceResourceScope, Selector},
};
use serde_json::json;

use crate::caches::{BY_OWNER, orphans_of};

/// What one pass finds.
#[derive(Debug)]
pub(crate) struct Claims<K> {
    pub(crate) owned: Vec<Arc<K>>,
    adopt: Vec<Arc<K>>,
    release: Vec<Arc<K>>,
    /// What is adopted is held by it, and what is released is not any more.
    finalizer: Option<&'static str>,
}

/// Sorts the cached objects of kind `K` into what `owner` has, should have, and has no more.
pub(crate) fn find<O, K>(owner: &O, selector: &Selector, store: &Store<K>) -> Claims<K>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    let meta = owner.meta();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let (mut claims, namespace) =
        (plan(store.indexed(BY_OWNER, uid), selector), meta.namespace.as_deref());
    if meta.deletion_timestamp.is_none() {
        let orphans = store.indexed(BY_OWNER, &orphans_of(namespace.unwrap_or_default()));
        claims.adopt = orphans
            .into_iter()
            .filter(|it| controller::matches(selector, it.meta().labels.as_ref()))
            .filter(|it| !object::is_terminating(&**it))
            .collect();
    }
    claims
}

fn plan<K: Resource>(owned: Vec<Arc<K>>, selector: &Selector) -> Claims<K> {
    let (owned, strays): (Vec<_>, Vec<_>) =
        owned.into_iter().partition(|it| controller::matches(selector, it.meta().labels.as_ref()));
    // What goes anyway need not be released.
    let release = strays.into_iter().filter(|it| !object::is_terminating(&**it)).collect();
    Claims { owned, adopt: Vec::new(), release, finalizer: None }
}

impl<K> Claims<K> {
    /// Adopts only what also satisfies `test`.
    pub(crate) fn adopt_only(&mut self, test: impl Fn(&K) -> bool) {
        self.adopt.retain(|it| test(it));
    }

    /// Holds what is adopted by a finalizer, until it is released.
    pub(crate) fn held_by(mut self, finalizer: &'static str) -> Self {
        self.finalizer = Some(finalizer);
        self
    }
}

impl<K> Claims<K>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    /// Writes adoptions and releases. What was adopted counts as owned from now on.
    pub(crate) async fn apply<O>(
        mut self,
        client: &Client,
        owner: &O,
    ) -> Result<Vec<Arc<K>>, ApplyError>
    where
        O: Object + Resource<Scope = NamespaceResourceScope>,
    {
        let namespace = owner.meta().namespace.clone().unwrap_or_default();
        let mut orphans = std::mem::take(&mut self.adopt);
        if !orphans.is_empty() && !stays(client, &namespace, owner).await? {
            orphans.clear();
        }
        for orphan in orphans {
            let mut owners = orphan.meta().owner_references.clone().unwrap_or_default();
            owners.push(object::controller_reference(owner));
            let mut finalizers = orphan.meta().finalizers.clone().unwrap_or_default();
            finalizers.retain(|it| Some(it.as_str()) != self.finalizer);
            finalizers.extend(self.finalizer.map(str::to_owned));
            let change =
                json!({ "ownerReferences": or_none(owners), "finalizers": or_none(finalizers) });
            match write(client, &namespace, &*orphan, change).await {
                Ok(adopted) => self.owned.push(Arc::new(adopted)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let uid = owner.meta().uid.as_deref().unwrap_or_default();
        for stray in std::mem::take(&mut self.release) {
            let mut owners = stray.meta().owner_references.clone().unwrap_or_default();
            owners.retain(|it| it.uid != uid);
            let mut finalizers = stray.meta().finalizers.clone().unwrap_or_default();
            finalizers.retain(|it| Some(it.as_str()) != self.finalizer);
            let change =
                json!({ "ownerReferences": or_none(owners), "finalizers": or_none(finalizers) });
            match write(client, &namespace, &*stray, change).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(self.owned)
    }
}

/// Whether the server has this very owner, and it is not on its way out.
async fn stays<O>(client: &Client, namespace: &str, owner: &O) -> Result<bool, ApplyError>
where
    O: Object + Resource<Scope = NamespaceResourceScope>,
{
    let name = owner.name_any();
    let found = apply::api::<O>(client, namespace).get_opt(&name).await;
    let found = found.map_err(|source| ApplyError::new::<O>("get", &name, source))?;
    Ok(found.is_some_and(|it| it.uid() == owner.uid() && !object::is_terminating(&it)))
}

/// An empty list is written by taking it away.
pub(crate) fn or_none<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|it| !it.is_empty())
}

async fn write<K>(
    client: &Client,
    namespace: &str,
    object: &K,
    mut change: serde_json::Value,
) -> Result<K, ApplyError>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    // The UID and version make this a patch of exactly what was looked at.
    change["uid"] = json!(object.uid());
    change["resourceVersion"] = json!(object.resource_version());
    let patch = json!({ "metadata": change });
    apply::patch::<K>(client, namespace, &object.name_any(), &patch).await
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Method, Request, Response};
    use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    const HELD: &str = "example.com/held";

    /// A server that has this owner, and writes whatever it is told to.
    fn server(owner: Option<Value>) -> Client {
        let answer = move |request: Request<Body>| {
            let owner = owner.clone();
            async move {
                let (code, body) = match (request.method(), owner) {
                    (&Method::GET, Some(owner)) => (200, owner),
                    (&Method::GET, None) => {
                        let gone = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {},
                            "status": "Failure", "reason": "NotFound", "message": "", "code": 404 });
                        (404, gone)
                    }
                    _ => {
                        let sent = request.into_body().collect_bytes().await.unwrap();
                        (200, serde_json::from_slice(&sent).unwrap())
                    }
                };
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    fn owner(uid: &str, deleted: Value) -> Value {
        json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "web",
            "namespace": "d", "uid": uid, "deletionTimestamp": deleted } })
    }

    fn orphan() -> Claims<Pod> {
        let pod = json!({ "metadata": { "name": "p", "namespace": "d", "uid": "p" } });
        let adopt = vec![Arc::new(serde_json::from_value(pod).unwrap())];
        Claims { owned: Vec::new(), adopt, release: Vec::new(), finalizer: Some(HELD) }
    }

    #[tokio::test]
    async fn only_who_still_is_there_and_stays_adopts() {
        // As the cache has it.
        let known: ReplicaSet = serde_json::from_value(owner("u", Value::Null)).unwrap();
        for (what, there, adopts) in [
            ("it stays", Some(owner("u", Value::Null)), true),
            ("it is being deleted", Some(owner("u", json!("2026-01-01T00:00:00Z"))), false),
            ("another one has its name", Some(owner("v", Value::Null)), false),
            ("it is gone", None, false),
        ] {
            let owned = orphan().apply(&server(there), &known).await.unwrap();
            assert_eq!(owned.len(), usize::from(adopts), "{what}");
            if let [pod] = &owned[..] {
                assert_eq!(pod.metadata.finalizers.as_deref(), Some(&[HELD.to_owned()][..]));
                assert_eq!(object::controller_of(&**pod).unwrap().uid, "u");
            }
        }
    }
}
