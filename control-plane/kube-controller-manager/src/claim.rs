//! Which objects belong to a controller: adoption of matching orphans, release of those that match
//! no more.
//!
//! Upstream: `pkg/controller/controller_ref_manager.go`. A controller that is going away adopts
//! nothing; what another controller owns is never touched.

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
    Claims { owned, adopt: Vec::new(), release }
}

impl<K> Claims<K> {
    /// Adopts only what also satisfies `test`.
    pub(crate) fn adopt_only(&mut self, test: impl Fn(&K) -> bool) {
        self.adopt.retain(|it| test(it));
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
        O: Resource<DynamicType = ()>,
    {
        let namespace = owner.meta().namespace.clone().unwrap_or_default();
        for orphan in std::mem::take(&mut self.adopt) {
            let mut owners = orphan.meta().owner_references.clone().unwrap_or_default();
            owners.push(object::controller_reference(owner));
            let adopted = write_owners(client, &namespace, &*orphan, &json!(owners)).await;
            match adopted {
                Ok(adopted) => self.owned.push(Arc::new(adopted)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let uid = owner.meta().uid.as_deref().unwrap_or_default();
        for stray in std::mem::take(&mut self.release) {
            let mut owners = stray.meta().owner_references.clone().unwrap_or_default();
            owners.retain(|it| it.uid != uid);
            match write_owners(client, &namespace, &*stray, &json!(owners)).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(self.owned)
    }
}

async fn write_owners<K>(
    client: &Client,
    namespace: &str,
    object: &K,
    owners: &serde_json::Value,
) -> Result<K, ApplyError>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    // The UID and version make this a patch of exactly what was looked at.
    let patch = json!({ "metadata": {
        "ownerReferences": owners,
        "uid": object.uid(),
        "resourceVersion": object.resource_version(),
    } });
    apply::patch::<K>(client, namespace, &object.name_any(), &patch).await
}
