//! Extended resources that a pod's containers ask for and that a DeviceClass stands for: where no
//! device plug-in offers them, devices are claimed for the pod as if it had asked for a claim.
//!
//! Upstream: KEP-5004, `dynamicresources/extendeddynamicresources.go`. Deviation: each container has
//! devices of its own, also an init container that ends before the others begin.

use std::{collections::BTreeSet, sync::Arc};

use controller::{Key, apply, object};
use k8s_openapi::{
    api::{
        core::v1::Pod,
        resource::v1::{
            DeviceClaim, DeviceClass, DeviceRequest, ExactDeviceRequest, ResourceClaim,
            ResourceClaimSpec,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use resources::Quantity;
use scheduling::{NodeInfo, resourceclaim::is_extended};
use serde_json::{Value, json};

use crate::{Context, devices::ClaimWrite, stores::Stores};

const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// Before a class's name: every class stands for such a resource.
const OF_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// What one container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    request: String,
    container: String,
    resource: String,
    class: String,
    count: i64,
}

/// The claim that is made for a pod once its node is known.
#[derive(Clone, Debug)]
pub(crate) struct NewClaim {
    claim: ResourceClaim,
    allocation: Value,
    mappings: Vec<Value>,
}

/// What of a pod's resources device classes stand for.
pub(crate) fn wishes(stores: &Stores, pod: &Pod) -> Vec<Wish> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut wishes = Vec::new();
    for (index, container) in containers.enumerate() {
        let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
        let mut number = 0;
        for (resource, amount) in requests.into_iter().flatten().filter(|it| it.0.contains('/')) {
            let count = Quantity::try_from(amount).map_or(0, |it| it.value());
            let Some(class) = class_of(stores, resource).filter(|_| count > 0) else { continue };
            wishes.push(Wish {
                request: format!("container-{index}-request-{number}"),
                container: container.name.clone(),
                resource: resource.clone(),
                class,
                count,
            });
            number += 1;
        }
    }
    wishes
}

/// Of several classes the newest counts.
fn class_of(stores: &Stores, resource: &str) -> Option<String> {
    if let Some(name) = resource.strip_prefix(OF_CLASS) {
        let class = stores.device_classes.get(&Key::cluster(name));
        return class.map(|_| name.to_owned());
    }
    let named = |it: &Arc<DeviceClass>| it.spec.extended_resource_name.as_deref() == Some(resource);
    let classes = stores.device_classes.all().into_iter().filter(named);
    let newest = classes.min_by_key(|it| {
        let name = it.metadata.name.clone().unwrap_or_default();
        (std::cmp::Reverse(object::created_at(&**it)), name)
    });
    newest?.metadata.name.clone()
}

pub(crate) fn resources(wishes: &[Wish]) -> BTreeSet<String> {
    wishes.iter().map(|it| it.resource.clone()).collect()
}

/// Those that the node's device plug-ins do not serve.
pub(crate) fn on_node(wishes: &[Wish], node: &NodeInfo) -> Vec<Wish> {
    let open = wishes.iter().filter(|it| node.allocatable.amount(&it.resource) == 0);
    open.cloned().collect()
}

/// The claim of these wishes, without a name yet.
pub(crate) fn claim(pod: &Pod, wishes: &[Wish]) -> ResourceClaim {
    let request = |it: &Wish| DeviceRequest {
        name: it.request.clone(),
        exactly: Some(ExactDeviceRequest {
            device_class_name: it.class.clone(),
            allocation_mode: Some("ExactCount".to_owned()),
            count: Some(it.count),
            ..ExactDeviceRequest::default()
        }),
        first_available: None,
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    ResourceClaim {
        metadata: ObjectMeta {
            namespace: pod.metadata.namespace.clone(),
            generate_name: Some(format!("{name}-extended-resources-")),
            annotations: Some([(ANNOTATION.to_owned(), "true".to_owned())].into()),
            owner_references: Some(vec![object::controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: ResourceClaimSpec {
            devices: Some(DeviceClaim {
                requests: Some(wishes.iter().map(request).collect()),
                ..DeviceClaim::default()
            }),
        },
        status: None,
    }
}

impl NewClaim {
    pub(crate) fn new(claim: ResourceClaim, wishes: &[Wish], allocation: Value) -> Self {
        let mapping = |it: &Wish| {
            json!({ "containerName": it.container, "resourceName": it.resource,
                "requestName": it.request })
        };
        Self { claim, allocation, mappings: wishes.iter().map(mapping).collect() }
    }

    /// Makes it, and tells the pod. What is given is written as other claims' is.
    pub(crate) async fn make(
        self,
        context: &Context,
        pod: &Pod,
    ) -> Result<ClaimWrite, controller::ApplyError> {
        let made = apply::create(&context.client, &self.claim).await?;
        let name = made.metadata.name.clone().unwrap_or_default();
        let status = json!({ "extendedResourceClaimStatus": {
            "resourceClaimName": name, "requestMappings": self.mappings } });
        let key = Key::of(pod);
        let client = &context.client;
        controller::patch_status::<Pod, _>(client, &key.namespace, &key.name, &status).await?;
        let uid = object::uid(&made);
        Ok(ClaimWrite { key: Key::of(&made), uid, allocation: Some(self.allocation) })
    }
}

/// The claim that was made for the pod before: what its status tells, or was not told in time.
pub(crate) fn made(stores: &Stores, pod: &Pod) -> Option<Arc<ResourceClaim>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let uid = object::uid(pod);
    let is_its = |it: &ResourceClaim| {
        is_extended(it) && object::controller_of(it).is_some_and(|owner| owner.uid == uid)
    };
    let mut found = stores.resource_claims.in_namespace(namespace).into_iter();
    found.find(|it| is_its(it))
}

#[cfg(test)]
mod tests {
    use controller::{Store, StoreSpec};

    use super::*;

    fn class(name: &str, resource: &str, created: &str) -> DeviceClass {
        serde_json::from_value(json!({
            "metadata": { "name": name, "creationTimestamp": created },
            "spec": { "extendedResourceName": resource } }))
        .unwrap()
    }

    fn pod(init: Value, main: Value) -> Pod {
        let container = |name: &str, requests: Value| json!({ "name": name, "resources": { "requests": requests } });
        serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "p", "uid": "u" },
            "spec": { "initContainers": [container("init", init)],
                "containers": [container("main", main)] } }))
        .unwrap()
    }

    #[test]
    fn what_a_class_stands_for_is_claimed_where_no_plug_in_serves_it() {
        let classes = [
            class("old", "example.com/gpu", "2026-01-01T00:00:00Z"),
            class("new", "example.com/gpu", "2026-02-01T00:00:00Z"),
            class("nic", "", "2026-02-01T00:00:00Z"),
        ];
        let stores = Stores {
            device_classes: Store::fixed(StoreSpec::default(), classes),
            ..Stores::empty()
        };
        let main = json!({ "cpu": "1", "example.com/gpu": "2", "example.com/other": "1",
            "deviceclass.resource.kubernetes.io/nic": "1" });
        let pod = pod(json!({ "example.com/gpu": "1" }), main);
        let wishes = wishes(&stores, &pod);
        let told: Vec<_> =
            wishes.iter().map(|it| (it.request.as_str(), it.class.as_str(), it.count)).collect();
        assert_eq!(
            told,
            [
                ("container-0-request-0", "new", 1),
                ("container-1-request-0", "nic", 1),
                ("container-1-request-1", "new", 2),
            ]
        );
        let served: k8s_openapi::api::core::v1::Node = serde_json::from_value(json!({
            "metadata": { "name": "a" },
            "status": { "allocatable": { "example.com/gpu": "4" } } }))
        .unwrap();
        let left = on_node(&wishes, &NodeInfo::new(&served));
        assert_eq!((left.len(), left[0].class.as_str()), (1, "nic"));
        assert_eq!(on_node(&wishes, &NodeInfo::default()), wishes);
        let claim = claim(&pod, &left);
        assert!(is_extended(&claim));
        assert_eq!(claim.metadata.generate_name.as_deref(), Some("p-extended-resources-"));
    }
}
