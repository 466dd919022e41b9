//! From a volume of a pod to the storage behind it: the claim, and the volume that it is bound to.
//!
//! **Invariant:** a claim is followed only to a volume that names this claim by its UID; an ephemeral
//! claim only if this pod owns it.
//!
//! Upstream: `pkg/kubelet/volumemanager/populator/desired_state_of_world_populator.go`,
//! `k8s.io/component-helpers/storage/ephemeral`.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::{Api, Client};

use crate::{api_limit::within, pod::PodExt};

/// A claim and its volume.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub claim: PersistentVolumeClaim,
    pub volume: PersistentVolume,
    /// The pod wants it read-only.
    pub read_only: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    #[error("error processing PVC {namespace}/{name}: {problem}")]
    Processing { namespace: String, name: String, problem: Problem },
    #[error("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)")]
    NotOwner { namespace: String, name: String, pod: String },
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("failed to fetch PVC from API server: {0}")]
    FetchClaim(String),
    #[error("PVC is being deleted")]
    Deleted,
    #[error("PVC is not bound")]
    NotBound,
    #[error("PVC has empty pvc.Spec.VolumeName")]
    NoVolumeName,
    #[error("failed to fetch PV {name} from API server: {message}")]
    FetchVolume { name: String, message: String },
    #[error(
        "found PV object {0} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
    )]
    NoClaimRef(String),
    #[error(
        "found PV object {name} but its pv.Spec.ClaimRef.UID {found} does not point to claim.UID {wanted}"
    )]
    OtherClaim { name: String, found: String, wanted: String },
}

/// The claim that a volume uses: its name, whether it is read-only, whether it is the pod's own.
fn reference(pod: &Pod, volume: &Volume) -> Option<(String, bool, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), source.read_only.unwrap_or(false), false));
    }
    volume.ephemeral.as_ref()?;
    Some((format!("{}-{}", pod.name(), volume.name), false, true))
}

/// What a volume's claim is bound to; `None` if the volume uses no claim.
pub(super) async fn resolve(
    client: &Client,
    pod: &Pod,
    volume: &Volume,
) -> Result<Option<Bound>, ClaimError> {
    let Some((name, read_only, is_ephemeral)) = reference(pod, volume) else { return Ok(None) };
    let namespace = pod.namespace().to_owned();
    let failed = |problem| ClaimError::Processing {
        namespace: namespace.clone(),
        name: name.clone(),
        problem,
    };
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace);
    let claim = within(claims.get(&name)).await.map_err(|it| failed(Problem::FetchClaim(it)))?;
    if is_ephemeral && !is_owned(&claim, pod) {
        let pod = pod.name().to_owned();
        return Err(ClaimError::NotOwner { namespace, name, pod });
    }
    let volume_name = volume_name(&claim).map_err(failed)?;
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let volume = within(volumes.get(volume_name)).await.map_err(|message| {
        failed(Problem::FetchVolume { name: volume_name.to_owned(), message })
    })?;
    check_bound(&claim, &volume).map_err(failed)?;
    Ok(Some(Bound { claim, volume, read_only }))
}

/// The pod is the controller of the claim.
fn is_owned(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|it| it.controller == Some(true));
    controllers.any(|it| Some(it.uid.as_str()) == pod.metadata.uid.as_deref())
}

fn volume_name(claim: &PersistentVolumeClaim) -> Result<&str, Problem> {
    // Pods that use a claim that is being deleted must not be started.
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(Problem::Deleted);
    }
    let phase = claim.status.as_ref().and_then(|it| it.phase.as_deref());
    if phase != Some("Bound") {
        return Err(Problem::NotBound);
    }
    let name = claim.spec.as_ref().and_then(|it| it.volume_name.as_deref()).unwrap_or_default();
    if name.is_empty() { Err(Problem::NoVolumeName) } else { Ok(name) }
}

fn check_bound(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Problem> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let Some(of) = volume.spec.as_ref().and_then(|it| it.claim_ref.as_ref()) else {
        return Err(Problem::NoClaimRef(name));
    };
    let found = of.uid.clone().unwrap_or_default();
    let wanted = claim.metadata.uid.clone().unwrap_or_default();
    if found == wanted { Ok(()) } else { Err(Problem::OtherClaim { name, found, wanted }) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(changes: &[(&str, Value)]) -> PersistentVolumeClaim {
        let mut it = json!({
            "metadata": { "name": "c", "uid": "u1" },
            "spec": { "volumeName": "v" },
            "status": { "phase": "Bound" },
        });
        for (path, value) in changes {
            *it.pointer_mut(path).unwrap() = value.clone();
        }
        serde_json::from_value(it).unwrap()
    }

    #[test]
    fn only_a_bound_claim_that_stays_has_a_volume() {
        assert_eq!(volume_name(&claim(&[])), Ok("v"));
        let pending = claim(&[("/status/phase", json!("Pending"))]);
        assert_eq!(volume_name(&pending), Err(Problem::NotBound));
        let mut deleted = claim(&[]);
        deleted.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(volume_name(&deleted), Err(Problem::Deleted));
        let nameless = claim(&[("/spec/volumeName", json!(""))]);
        assert_eq!(volume_name(&nameless), Err(Problem::NoVolumeName));
    }

    #[test]
    fn a_volume_that_belongs_to_another_claim_is_refused() {
        let volume = |reference: Value| -> PersistentVolume {
            let it = json!({ "metadata": { "name": "v" }, "spec": { "claimRef": reference } });
            serde_json::from_value(it).unwrap()
        };
        assert_eq!(check_bound(&claim(&[]), &volume(json!({ "uid": "u1" }))), Ok(()));
        let other = check_bound(&claim(&[]), &volume(json!({ "uid": "u2" }))).unwrap_err();
        assert_eq!(
            other.to_string(),
            "found PV object v but its pv.Spec.ClaimRef.UID u2 does not point to claim.UID u1"
        );
        let free = check_bound(&claim(&[]), &volume(Value::Null)).unwrap_err();
        assert_eq!(free, Problem::NoClaimRef("v".to_owned()));
    }

    #[test]
    fn an_ephemeral_claim_of_somebody_else_is_not_used() {
        let pod: Pod =
            serde_json::from_value(json!({ "metadata": { "name": "p", "uid": "pod" } })).unwrap();
        let mut own = claim(&[]);
        assert!(!is_owned(&own, &pod));
        let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod", "controller": true }]);
        own.metadata.owner_references = serde_json::from_value(owner).unwrap();
        assert!(is_owned(&own, &pod));
        own.metadata.owner_references.as_mut().unwrap()[0].uid = "other".to_owned();
        assert!(!is_owned(&own, &pod));
    }
}
