//! The pods that a pod without constraints of its own keeps away from: those of the Services that select
//! it and of its ReplicaSet, StatefulSet or ReplicationController, all selectors together.
//!
//! Upstream: `DefaultSelector` in `pkg/scheduler/framework/plugins/helper/spread.go`.

use std::collections::BTreeMap;

use controller::{Key, object};
use k8s_openapi::api::core::v1::Pod;
use kube::core::Selector;

use crate::stores::Stores;

/// `None`: nothing selects it.
pub(crate) fn selector(stores: &Stores, pod: &Pod) -> Option<Selector> {
    let labels = services(stores, pod).into_iter();
    let mut selector: Selector = labels.collect();
    if let Some(own) = of_owner(stores, pod) {
        selector.extend(own);
    }
    (!selector.selects_all()).then_some(selector)
}

/// The labels by which Services select the pod.
fn services(stores: &Stores, pod: &Pod) -> BTreeMap<String, String> {
    let mut merged = BTreeMap::new();
    let Some(labels) = &pod.metadata.labels else { return merged };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for service in stores.services.in_namespace(namespace) {
        let selector = service.spec.as_ref().and_then(|it| it.selector.as_ref());
        let Some(selector) = selector.filter(|it| !it.is_empty()) else { continue };
        if selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            merged.extend(selector.clone());
        }
    }
    merged
}

fn of_owner(stores: &Stores, pod: &Pod) -> Option<Selector> {
    let owner = object::controller_of(pod)?;
    let key = Key::new(pod.metadata.namespace.clone()?, owner.name.clone());
    match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("v1", "ReplicationController") => {
            let found = stores.replication_controllers.get(&key)?;
            let labels = found.spec.as_ref()?.selector.clone()?;
            Some(labels.into_iter().collect())
        }
        ("apps/v1", "ReplicaSet") => {
            let found = stores.replica_sets.get(&key)?;
            controller::selector(Some(&found.spec.as_ref()?.selector))
        }
        ("apps/v1", "StatefulSet") => {
            let found = stores.stateful_sets.get(&key)?;
            controller::selector(Some(&found.spec.as_ref()?.selector))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use controller::{Store, StoreSpec};
    use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Service};
    use kube::core::SelectorExt;
    use serde_json::{Value, json};

    use super::*;

    fn stores() -> Stores {
        let service: Service = serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "web" },
            "spec": { "selector": { "app": "web" } } }))
        .unwrap();
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "web-1" },
            "spec": { "selector": { "matchExpressions": [
                { "key": "tier", "operator": "In", "values": ["front", "back"] }] } } }))
        .unwrap();
        Stores {
            services: Store::fixed(StoreSpec::default(), [service]),
            replica_sets: Store::fixed(StoreSpec::default(), [set]),
            ..Stores::empty()
        }
    }

    fn pod(labels: Value, owner: Option<&str>) -> Pod {
        let owners = owner.map(|name| {
            json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u",
                "controller": true }])
        });
        serde_json::from_value(json!({ "metadata": { "namespace": "n", "name": "p",
            "labels": labels, "ownerReferences": owners } }))
        .unwrap()
    }

    #[test]
    fn siblings_are_who_the_services_and_the_owner_select_together() {
        let matches = |pod: &Pod, labels: &[(&str, &str)]| {
            let labels = labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            selector(&stores(), pod).map(|it| it.matches(&labels))
        };
        let owned = pod(json!({ "app": "web", "tier": "front", "hash": "1" }), Some("web-1"));
        assert_eq!(matches(&owned, &[("app", "web"), ("tier", "back")]), Some(true));
        assert_eq!(matches(&owned, &[("app", "web")]), Some(false), "the owner does not select it");
        let served = pod(json!({ "app": "web" }), None);
        assert_eq!(matches(&served, &[("app", "web")]), Some(true));
        assert_eq!(matches(&pod(json!({ "app": "db" }), None), &[]), None);
        assert_eq!(matches(&pod(json!({ "app": "db" }), Some("gone")), &[]), None);
    }
}
