//! What is known of a pod's persistent volume claims.

use controller::Key;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use scheduling::VolumeFact;

use crate::stores::Stores;

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub(crate) fn facts(stores: &Stores, pod: &Pod) -> Vec<VolumeFact> {
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let claims = volumes.filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref().map(|it| it.claim_name.clone());
        let ephemeral = || {
            // The claim of a generic ephemeral volume is named after both.
            let pod = pod.metadata.name.clone().unwrap_or_default();
            volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name))
        };
        claim.or_else(ephemeral)
    });
    claims.map(|claim| fact(stores, &namespace, claim)).collect()
}

fn fact(stores: &Stores, namespace: &str, claim: String) -> VolumeFact {
    let Some(found) = stores.claims.get(&Key::new(namespace, &claim)) else {
        return VolumeFact::Missing { claim };
    };
    if found.metadata.deletion_timestamp.is_some() {
        return VolumeFact::Terminating { claim };
    }
    let volume = found.spec.as_ref().and_then(|it| it.volume_name.clone());
    let Some(volume) = volume.filter(|it| !it.is_empty()) else {
        return unbound(stores, &found, claim);
    };
    let Some(volume) = stores.volumes.get(&Key::cluster(volume)) else {
        return VolumeFact::Lost { claim };
    };
    let affinity = volume.spec.as_ref().and_then(|it| it.node_affinity.clone());
    let terms = affinity.and_then(|it| it.required).map(|it| it.node_selector_terms);
    VolumeFact::Bound { terms, labels: volume.metadata.labels.clone().unwrap_or_default() }
}

fn unbound(stores: &Stores, found: &PersistentVolumeClaim, claim: String) -> VolumeFact {
    let class = found.spec.as_ref().and_then(|it| it.storage_class_name.clone());
    let class = class.and_then(|it| stores.classes.get(&Key::cluster(it)));
    match class {
        Some(class) if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") => {
            if class.provisioner == NO_PROVISIONER {
                VolumeFact::Unbindable
            } else {
                VolumeFact::Provisionable { claim }
            }
        }
        _ => VolumeFact::UnboundImmediate,
    }
}
