//! Wakes the pods that wait for their volumes, when what those lack may have come.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{csi, trust_bundles};
use crate::{
    objects::{self, Reference},
    pod::PodExt,
    pod_workers::PodWorkers,
};

/// Until the kubelet ends.
pub(crate) async fn run(workers: Arc<PodWorkers>) {
    let context = workers.context().clone();
    let bundles = trust_bundles::tell(context.volumes.trust_bundles.clone(), workers.clone());
    let of_driver = || workers.retry_volumes(uses_driver);
    let drivers = csi::tell(&context.volumes.csi, of_driver);
    let of_object = |it: &Reference| workers.retry_volumes(|pod| refers(pod, it));
    let objects = context.objects.follow(of_object);
    tokio::join!(bundles, drivers, objects);
}

fn refers(pod: &Pod, reference: &Reference) -> bool {
    objects::references(pod).contains(reference)
}

/// What a claim leads to is known to the API server alone.
fn uses_driver(pod: &Pod) -> bool {
    let mut volumes = PodExt::spec(pod).volumes.iter().flatten();
    volumes.any(|it| {
        it.csi.is_some() || it.persistent_volume_claim.is_some() || it.ephemeral.is_some()
    })
}
