//! Keeps claims that pods use, volumes that claims have, and classes of volume attributes that claims
//! and volumes name, from going before those do.
//!
//! They carry a finalizer from the API server, those of an older one from the moment at which they are
//! seen; it is taken away when they are
//! deleted and nobody needs them. Whether a pod uses a claim is asked of the API server before that,
//! since the answer is final.
//!
//! Upstream: `pkg/controller/volume/{pvcprotection,pvprotection,vacprotection}`.

use std::sync::Arc;

use controller::{Action, ApplyError, Key, Queue, apply, object};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::VolumeAttributesClass,
};
use kube::{
    Api, Resource,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{Context, pods};

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLASSES: &str = "kubernetes.io/vac-protection";

pub(crate) async fn run(context: Context) {
    let (claims, volumes) = (Queue::new(), Queue::new());
    let on = claims.clone();
    context.caches.claims.subscribe(move |change| on.add(change.key.clone()));
    let on = volumes.clone();
    context.caches.volumes.subscribe(move |change| on.add(change.key.clone()));
    let on = claims.clone();
    context.caches.pods.subscribe(move |change| {
        // Only a pod that goes, or ends up elsewhere, can set a claim free.
        if change.new.as_ref().is_none_or(|it| object::is_terminating(&**it)) {
            for name in change.old.iter().flat_map(|it| pods::claims_of(it)) {
                on.add(Key::new(&change.key.namespace, name));
            }
        }
    });
    let classes = class_queue(&context);
    let volume_context = context.of("persistentvolume-protection-controller");
    let class_context = context.of("volumeattributesclass-protection-controller");
    let of_classes = controller::run("vac-protection", classes, 1, |it| class(&class_context, it));
    let of_claims = controller::run("pvc-protection", claims, 5, |it| claim(&context, it));
    let of_volumes = controller::run("pv-protection", volumes, 5, |it| volume(&volume_context, it));
    tokio::join!(
        context.when_on("persistentvolumeclaim-protection-controller", of_claims),
        context.when_on("persistentvolume-protection-controller", of_volumes),
        context.when_on("volumeattributesclass-protection-controller", of_classes),
    );
}

/// The classes that changed, and those that a claim or a volume names no more.
fn class_queue(context: &Context) -> Queue<String> {
    let classes = Queue::new();
    let on = classes.clone();
    let caches = &context.caches;
    caches.attributes_classes.subscribe(move |change| on.add(change.key.name.clone()));
    let on = classes.clone();
    caches.claims.subscribe(move |change| {
        let named = change.old.iter().flat_map(|it| classes_of_claim(it));
        named.for_each(|it| on.add(it.to_owned()));
    });
    let on = classes.clone();
    caches.volumes.subscribe(move |change| {
        let named = change.old.iter().filter_map(|it| class_of_volume(it));
        named.for_each(|it| on.add(it.to_owned()));
    });
    classes
}

fn class_of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref().filter(|it| !it.is_empty())
}

/// What a claim has, what it asks for, and what its volume is on the way to.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let status = claim.status.as_ref();
    let named = [
        claim.spec.as_ref().and_then(|it| it.volume_attributes_class_name.as_deref()),
        status.and_then(|it| it.current_volume_attributes_class_name.as_deref()),
        status
            .and_then(|it| it.modify_volume_status.as_ref())
            .and_then(|it| it.target_volume_attributes_class_name.as_deref()),
    ];
    named.into_iter().flatten().filter(|it| !it.is_empty())
}

async fn class(context: &Context, name: String) -> Result<Action, ApplyError> {
    let caches = &context.caches;
    let Some(class) = caches.attributes_classes.get(&Key::cluster(&name)) else {
        return Ok(Action::Done);
    };
    let Some(patch) = plan(&*class, OF_CLASSES) else { return Ok(Action::Done) };
    let is_named = || {
        caches.volumes.all().iter().any(|it| class_of_volume(it) == Some(name.as_str()))
            || caches.claims.all().iter().any(|it| classes_of_claim(it).any(|it| it == name))
    };
    if object::is_terminating(&*class) && is_named() {
        return Ok(Action::Done);
    }
    let api = Api::<VolumeAttributesClass>::all(context.client.clone());
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::Done),
        Err(source) => Err(ApplyError::new::<VolumeAttributesClass>("patch", &name, source)),
        Ok(_) => Ok(Action::Done),
    }
}

/// Before it has a node no kubelet has heard of a pod, and none will start it on a claim that goes.
fn uses(pod: &Pod, claim: &str) -> bool {
    pods::node_of(pod).is_some() && pods::claims_of(pod).any(|it| it == claim)
}

async fn claim(context: &Context, key: Key) -> Result<Action, ApplyError> {
    let Some(claim) = context.caches.claims.get(&key) else { return Ok(Action::Done) };
    let Some(patch) = plan(&*claim, OF_CLAIMS) else { return Ok(Action::Done) };
    if object::is_terminating(&*claim) {
        let known = context.caches.pods.in_namespace(&key.namespace);
        if known.iter().any(|it| uses(it, &key.name)) || is_used(context, &key).await? {
            return Ok(Action::Done);
        }
    }
    let patched =
        apply::patch::<PersistentVolumeClaim>(&context.client, &key.namespace, &key.name, &patch);
    match patched.await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(Action::Done),
    }
}

async fn is_used(context: &Context, key: &Key) -> Result<bool, ApplyError> {
    let api = Api::<Pod>::namespaced(context.client.clone(), &key.namespace);
    let listed = api.list(&ListParams::default()).await;
    let listed = listed.map_err(|it| ApplyError::new::<Pod>("list", &key.namespace, it))?;
    Ok(listed.items.iter().any(|it| uses(it, &key.name)))
}

async fn volume(context: &Context, key: Key) -> Result<Action, ApplyError> {
    let Some(volume) = context.caches.volumes.get(&key) else { return Ok(Action::Done) };
    let Some(patch) = plan(&*volume, OF_VOLUMES) else { return Ok(Action::Done) };
    if object::is_terminating(&*volume) && is_bound(&volume) {
        return Ok(Action::Done);
    }
    let api = Api::<PersistentVolume>::all(context.client.clone());
    match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::Done),
        Err(source) => Err(ApplyError::new::<PersistentVolume>("patch", &key.name, source)),
        Ok(_) => Ok(Action::Done),
    }
}

fn is_bound(volume: &Arc<PersistentVolume>) -> bool {
    volume.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Bound")
}

/// Puts the finalizer on, or takes it off what is being deleted.
fn plan<K: Resource>(object: &K, finalizer: &str) -> Option<Value> {
    let meta = object.meta();
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    let has = finalizers.iter().any(|it| it == finalizer);
    match (object::is_terminating(object), has) {
        (true, true) => finalizers.retain(|it| it != finalizer),
        (false, false) => finalizers.push(finalizer.to_owned()),
        _ => return None,
    }
    Some(json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version,
        "finalizers": finalizers } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finalizer_comes_with_the_object_and_goes_with_its_deletion() {
        let claim = |finalizers: &[&str], deleted: bool| -> PersistentVolumeClaim {
            let date = deleted.then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({ "metadata": { "finalizers": finalizers,
                "deletionTimestamp": date } }))
            .unwrap()
        };
        let finalizers = |claim: &PersistentVolumeClaim| {
            plan(claim, OF_CLAIMS).map(|it| it["metadata"]["finalizers"].clone())
        };
        assert_eq!(finalizers(&claim(&["a"], false)), Some(json!(["a", OF_CLAIMS])));
        assert_eq!(finalizers(&claim(&[OF_CLAIMS], false)), None);
        assert_eq!(finalizers(&claim(&["a", OF_CLAIMS], true)), Some(json!(["a"])));
        assert_eq!(finalizers(&claim(&["a"], true)), None, "never put on what goes");
    }

    #[test]
    fn a_pod_uses_its_claims_once_it_has_a_node() {
        let pod = |node: &str| -> Pod {
            serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": {
                "nodeName": node, "containers": [], "volumes": [
                    { "name": "a", "persistentVolumeClaim": { "claimName": "data" } },
                    { "name": "b", "ephemeral": {} }] } }))
            .unwrap()
        };
        for (node, claim, expected) in
            [("n", "data", true), ("n", "p-b", true), ("n", "other", false), ("", "data", false)]
        {
            assert_eq!(uses(&pod(node), claim), expected, "{node} {claim}");
        }
    }

    #[test]
    fn a_claim_names_the_classes_that_it_has_asks_for_and_is_on_the_way_to() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "spec": { "volumeAttributesClassName": "gold" },
            "status": { "currentVolumeAttributesClassName": "silver",
                "modifyVolumeStatus": { "status": "InProgress",
                    "targetVolumeAttributesClassName": "iron" } } }))
        .unwrap();
        assert_eq!(classes_of_claim(&claim).collect::<Vec<_>>(), ["gold", "silver", "iron"]);
        let none: PersistentVolumeClaim = serde_json::from_value(json!({
            "spec": { "volumeAttributesClassName": "" } }))
        .unwrap();
        assert_eq!(classes_of_claim(&none).count(), 0);
    }
}
