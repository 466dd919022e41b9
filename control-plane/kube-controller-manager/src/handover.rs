//! Whose turn it is when a pod changes hands.
//!
//! A controller hears of its own pods by their owner reference. The one that has just lost a pod, and
//! those that may adopt one that nobody has, are named here.

use controller::{Change, Key, Store, object};
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, core::Selector};

/// The owners of this kind that have to look, besides the one that the pod has now.
pub(crate) fn others<K>(
    change: &Change<Pod>,
    kind: &str,
    owners: &Store<K>,
    selector: impl Fn(&K) -> Option<Selector>,
) -> Vec<Key>
where
    K: Resource<DynamicType = ()>,
{
    let namespace = &change.key.namespace;
    let before = change.old.as_deref().and_then(object::controller_of);
    let now = change.new.as_deref().and_then(object::controller_of);
    let mut keys = Vec::new();
    if let Some(lost) = before.filter(|it| now.is_none_or(|now| now.uid != it.uid))
        && lost.kind == kind
    {
        keys.push(Key::new(namespace, &lost.name));
    }
    if let Some(pod) = change.new.as_deref().filter(|_| now.is_none()) {
        let fits = |owner: &K| {
            let selector = selector(owner);
            selector.is_some_and(|it| controller::matches(&it, pod.metadata.labels.as_ref()))
        };
        let all = owners.in_namespace(namespace);
        keys.extend(all.iter().filter(|it| fits(it)).map(|it| Key::of(&**it)));
    }
    keys
}
