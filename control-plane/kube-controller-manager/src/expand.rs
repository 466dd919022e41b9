//! Tells about claims that have grown that somebody else has to make their volumes larger.
//!
//! Every driver that can do it brings its own resizer; none of the volumes that Kubernetes knows by
//! itself can grow.
//!
//! Upstream: `pkg/controller/volume/expand` (`persistentvolume-expander-controller`).

use controller::{Action, ApplyError, EventType, Key, Queue};
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use resources::Quantity;

use crate::Context;

const STORAGE: &str = "storage";

pub(crate) async fn run(context: Context) {
    let recorder = context.recorder("volume_expand");
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.claims.subscribe(move |change| {
        if change.new.as_deref().is_some_and(wants_more)
            && change.old.as_deref().map(requested) != change.new.as_deref().map(requested)
        {
            on.add(change.key.clone());
        }
    });
    let reconcile = |key: Key| {
        let claim = context.caches.claims.get(&key);
        let name = claim.as_ref().and_then(|it| it.spec.as_ref()?.volume_name.clone());
        let volume = name.and_then(|it| context.caches.volumes.get(&Key::cluster(&it)));
        if let (Some(claim), Some(volume)) = (claim, volume)
            && wants_more(&claim)
            && is_of(&volume, &claim)
        {
            let why = "waiting for an external controller to expand this PVC";
            recorder.record(&*claim, kind(&volume), "ExternalExpanding", why);
        }
        async { Ok::<_, ApplyError>(Action::Done) }
    };
    controller::run("persistentvolume-expander", queue, 1, reconcile).await;
}

fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let requests = claim.spec.as_ref().and_then(|it| it.resources.as_ref()?.requests.as_ref());
    amount(requests.and_then(|it| it.get(STORAGE)))
}

fn amount(text: Option<&Text>) -> Quantity {
    text.and_then(|it| it.0.parse().ok()).unwrap_or(Quantity::ZERO)
}

/// A bound claim that asks for more than it has.
fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let Some(status) = &claim.status else { return false };
    status.phase.as_deref() == Some("Bound")
        && requested(claim) > amount(status.capacity.as_ref().and_then(|it| it.get(STORAGE)))
}

fn is_of(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let owner = volume.spec.as_ref().and_then(|it| it.claim_ref.as_ref());
    owner.is_some_and(|it| it.uid.is_some() && it.uid == claim.metadata.uid)
}

/// A driver may come yet; of other volumes it is not to be expected.
fn kind(volume: &PersistentVolume) -> EventType {
    let is_of_a_driver = volume.spec.as_ref().is_some_and(|it| it.csi.is_some());
    if is_of_a_driver { EventType::Normal } else { EventType::Warning }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bound_claim_that_asks_for_more_than_it_has_wants_more() {
        for (phase, asked, has, expected) in [
            ("Bound", "2Gi", "1Gi", true),
            ("Bound", "1Gi", "1Gi", false),
            ("Bound", "500Mi", "1Gi", false),
            ("Pending", "2Gi", "1Gi", false),
        ] {
            let claim: PersistentVolumeClaim = serde_json::from_value(json!({
                "spec": { "resources": { "requests": { "storage": asked } } },
                "status": { "phase": phase, "capacity": { "storage": has } } }))
            .unwrap();
            assert_eq!(wants_more(&claim), expected, "{phase} {asked} of {has}");
        }
    }
}
