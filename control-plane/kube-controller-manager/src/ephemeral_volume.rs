//! Makes the claims of generic ephemeral volumes: each lives as long as its pod.
//!
//! Upstream: `pkg/controller/volume/ephemeral`.

use std::sync::Arc;

use controller::{Action, ApplyError, Key, Queue, Recorder, apply, object};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{Context, pods};

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.pods.subscribe(move |change| {
        let is_waiting = |it: &Arc<Pod>| !pods::is_over(it) && volumes(it).next().is_some();
        // A pod that is done needs no claim any more.
        if change.old.is_none() && change.new.as_ref().is_some_and(is_waiting) {
            on.add(change.key.clone());
        }
    });
    let (on, pods) = (queue.clone(), context.caches.pods.clone());
    context.caches.claims.subscribe(move |change| {
        let owner = change.old.as_deref().filter(|_| change.new.is_none());
        let Some(owner) = owner.and_then(object::controller_of) else { return };
        let key = Key::new(&change.key.namespace, &owner.name);
        if owner.kind == "Pod" && pods.get(&key).is_some() {
            on.add(key);
        }
    });
    let recorder = context.recorder("ephemeral_volume");
    controller::run("ephemeral-volume", queue, 10, |it| reconcile(&context, &recorder, it)).await;
}

async fn reconcile(context: &Context, recorder: &Recorder, key: Key) -> Result<Action, ApplyError> {
    let Some(pod) = context.caches.pods.get(&key) else { return Ok(Action::Done) };
    if object::is_terminating(&*pod) {
        return Ok(Action::Done);
    }
    for volume in volumes(&pod) {
        if let Err(error) = ensure(context, &pod, volume).await {
            let message =
                format!("ephemeral volume \"{}\": {}", volume.name, error.server_message());
            recorder.warn(&*pod, "FailedBinding", message);
            return Err(error);
        }
    }
    Ok(Action::Done)
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    volumes.filter(|it| it.ephemeral.is_some())
}

async fn ensure(context: &Context, pod: &Pod, volume: &Volume) -> Result<(), ApplyError> {
    let Some(wanted) = claim(pod, volume) else { return Ok(()) };
    let key = Key::of(&wanted);
    if let Some(known) = context.caches.claims.get(&key) {
        return check(&known, pod);
    }
    match apply::create(&context.client, &wanted).await {
        // Another's of this name: the watch shows it, or this one, in a moment.
        Err(error) if error.is_already_exists() => {
            let found = apply::api::<PersistentVolumeClaim>(&context.client, &key.namespace);
            let found = found.get(&key.name).await;
            let found = found
                .map_err(|it| ApplyError::new::<PersistentVolumeClaim>("get", &key.name, it))?;
            check(&found, pod)
        }
        Err(error) if pods::is_namespace_terminating(&error) => Ok(()),
        other => other.map(drop),
    }
}

/// A claim of this name that is not the pod's own is never used.
fn check(claim: &PersistentVolumeClaim, pod: &Pod) -> Result<(), ApplyError> {
    if object::is_controlled_by(claim, &object::uid(pod)) {
        return Ok(());
    }
    let (claim, pod) = (Key::of(claim), Key::of(pod));
    Err(ApplyError::other(format!("PVC {claim} was not created for pod {pod} (pod is not owner)")))
}

fn claim(pod: &Pod, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.clone()?;
    let meta = template.metadata.unwrap_or_default();
    let name = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![object::controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_claim_of_an_ephemeral_volume_is_the_pods_own() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "p", "uid": "1" },
            "spec": { "containers": [], "volumes": [{ "name": "plain" }, { "name": "scratch",
                "ephemeral": { "volumeClaimTemplate": { "metadata": { "labels": { "a": "b" } },
                    "spec": { "accessModes": ["ReadWriteOnce"] } } } }] },
        }))
        .unwrap();
        let all: Vec<_> = volumes(&pod).filter_map(|it| claim(&pod, it)).collect();
        let [claim] = &all[..] else { panic!("{all:?}") };
        assert_eq!(claim.metadata.name.as_deref(), Some("p-scratch"));
        assert_eq!(claim.metadata.labels.as_ref().unwrap()["a"], "b");
        assert!(check(claim, &pod).is_ok());
        let mut other = claim.clone();
        other.metadata.owner_references = None;
        assert_eq!(
            check(&other, &pod).unwrap_err().to_string(),
            "PVC n/p-scratch was not created for pod n/p (pod is not owner)"
        );
    }
}
