//! Which ResourceClaims a pod uses, and whether it may: the scheduler, the controllers and the kubelet
//! ask here, so that they never differ.
//!
//! A claim is named by the pod, or is made for it from a template: then the pod's status names it, or
//! says that none is needed.
//!
//! Upstream: `k8s.io/dynamic-resource-allocation/resourceclaim`.

use k8s_openapi::api::{
    core::v1::{Pod, PodResourceClaim},
    resource::v1::ResourceClaim,
};

/// `ResourceClaimReservedForMaxSize`: how many pods may share a claim.
pub const MOST_CONSUMERS: usize = 256;

/// Why a pod has no such claim. The messages are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceClaimError {
    #[error("pod \"{namespace}/{pod}\": ResourceClaim not created yet")]
    NotCreated { namespace: String, pod: String },
    #[error(
        "pod \"{namespace}/{pod}\", spec.resourceClaim \"{entry}\": none of the supported fields are set"
    )]
    Unsupported { namespace: String, pod: String, entry: String },
    #[error(
        "ResourceClaim {namespace}/{claim} was not created for pod {namespace}/{pod} (pod is not owner)"
    )]
    NotOwner { namespace: String, pod: String, claim: String },
}

/// A claim that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedClaim {
    pub name: String,
    /// It was made for this pod.
    pub is_owned: bool,
}

/// `spec.resourceClaims`
pub fn entries(pod: &Pod) -> impl Iterator<Item = &PodResourceClaim> {
    pod.spec.iter().flat_map(|it| it.resource_claims.iter().flatten())
}

/// What the pod's status tells of an entry: a claim, that there is none, or nothing yet.
pub fn told<'a>(pod: &'a Pod, entry: &str) -> Option<Option<&'a str>> {
    let mut told = pod.status.iter().flat_map(|it| it.resource_claim_statuses.iter().flatten());
    told.find(|it| it.name == entry).map(|it| it.resource_claim_name.as_deref())
}

/// The claim that an entry stands for. `None` where none is needed.
pub fn resolve(
    pod: &Pod,
    entry: &PodResourceClaim,
) -> Result<Option<UsedClaim>, ResourceClaimError> {
    if let Some(name) = &entry.resource_claim_name {
        return Ok(Some(UsedClaim { name: name.clone(), is_owned: false }));
    }
    let (namespace, name) = names(pod);
    if entry.resource_claim_template_name.is_none() {
        let entry = entry.name.clone();
        return Err(ResourceClaimError::Unsupported { namespace, pod: name, entry });
    }
    match told(pod, &entry.name) {
        Some(claim) => Ok(claim.map(|it| UsedClaim { name: it.to_owned(), is_owned: true })),
        None => Err(ResourceClaimError::NotCreated { namespace, pod: name }),
    }
}

/// The claims of all entries, as far as they are known.
pub fn known(pod: &Pod) -> impl Iterator<Item = UsedClaim> {
    entries(pod).filter_map(|it| resolve(pod, it).ok().flatten())
}

/// Whether a claim was made for a pod's extended resources.
pub fn is_extended(claim: &ResourceClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    let told = annotations.and_then(|it| it.get("resource.kubernetes.io/extended-resource-claim"));
    told.is_some_and(|it| it == "true")
}

/// The claim that was made for the pod's extended resources.
pub fn of_extended(pod: &Pod) -> Option<&str> {
    let told = pod.status.as_ref()?.extended_resource_claim_status.as_ref()?;
    Some(told.resource_claim_name.as_str()).filter(|it| !it.is_empty())
}

/// A claim that was made from a template is its pod's alone.
pub fn check_owner(pod: &Pod, claim: &ResourceClaim) -> Result<(), ResourceClaimError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut owners = claim.metadata.owner_references.iter().flatten();
    if owners.any(|it| it.controller == Some(true) && it.uid == uid) {
        return Ok(());
    }
    let (namespace, pod) = names(pod);
    let claim = claim.metadata.name.clone().unwrap_or_default();
    Err(ResourceClaimError::NotOwner { namespace, pod, claim })
}

pub fn is_reserved_for(pod: &Pod, claim: &ResourceClaim) -> bool {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut consumers = claim.status.iter().flat_map(|it| it.reserved_for.iter().flatten());
    consumers.any(|it| it.uid == uid)
}

/// Whether another pod may have the claim as well.
pub fn can_be_reserved(pod: &Pod, claim: &ResourceClaim) -> bool {
    let consumers = claim.status.as_ref().and_then(|it| it.reserved_for.as_ref());
    consumers.map_or(0, Vec::len) < MOST_CONSUMERS || is_reserved_for(pod, claim)
}

pub fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|it| it.allocation.is_some())
}

fn names(pod: &Pod) -> (String, String) {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    (text(&pod.metadata.namespace), text(&pod.metadata.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u" },
            "spec": {
                "containers": [],
                "resourceClaims": [
                    { "name": "a", "resourceClaimName": "shared" },
                    { "name": "b", "resourceClaimTemplateName": "t" },
                ],
            },
            "status": status,
        }))
        .unwrap()
    }

    fn claim(owner: &str, consumers: &[&str]) -> ResourceClaim {
        let consumers = consumers.iter();
        let consumers = consumers.map(|it| json!({ "resource": "pods", "name": it, "uid": it }));
        serde_json::from_value(json!({
            "metadata": {
                "name": "c", "namespace": "n", "uid": "cu",
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true,
                }],
            },
            "spec": {},
            "status": { "reservedFor": consumers.collect::<Vec<_>>() },
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_of_a_template_is_the_one_that_the_status_names() {
        let of = |pod: &Pod| -> Result<Vec<_>, _> {
            entries(pod).map(|it| resolve(pod, it)).collect::<Result<Vec<_>, _>>()
        };
        let waiting = pod(json!({}));
        assert_eq!(
            of(&waiting).unwrap_err().to_string(),
            "pod \"n/p\": ResourceClaim not created yet"
        );
        let used = |name: &str, is_owned| UsedClaim { name: name.to_owned(), is_owned };
        assert_eq!(known(&waiting).collect::<Vec<_>>(), [used("shared", false)]);
        let status =
            |name| json!({ "resourceClaimStatuses": [{ "name": "b", "resourceClaimName": name }] });
        let made = pod(status(Some("p-b-x")));
        assert_eq!(of(&made).unwrap(), [Some(used("shared", false)), Some(used("p-b-x", true))]);
        let none = pod(status(None));
        assert_eq!(of(&none).unwrap(), [Some(used("shared", false)), None]);
        let mut empty = pod(json!({}));
        empty.spec.as_mut().unwrap().resource_claims.as_mut().unwrap()[1]
            .resource_claim_template_name = None;
        assert_eq!(
            of(&empty).unwrap_err().to_string(),
            "pod \"n/p\", spec.resourceClaim \"b\": none of the supported fields are set"
        );
    }

    #[test]
    fn a_claim_that_was_made_for_another_pod_is_not_used() {
        let pod = pod(json!({}));
        assert_eq!(check_owner(&pod, &claim("u", &[])), Ok(()));
        assert_eq!(
            check_owner(&pod, &claim("other", &[])).unwrap_err().to_string(),
            "ResourceClaim n/c was not created for pod n/p (pod is not owner)"
        );
    }

    #[test]
    fn a_claim_has_room_for_so_many_pods_and_those_it_has_stay() {
        let pod = pod(json!({}));
        let mut names = vec!["x"; MOST_CONSUMERS];
        assert!(!can_be_reserved(&pod, &claim("u", &names)));
        names[7] = "u";
        assert!(can_be_reserved(&pod, &claim("u", &names)));
        assert!(is_reserved_for(&pod, &claim("u", &names)));
        assert!(can_be_reserved(&pod, &claim("u", &["x"])));
        assert!(!is_reserved_for(&pod, &claim("u", &["x"])));
    }
}
