//! Which claims a pod uses, and whether it may.
//!
//! A claim is named by the pod, or was made for it from a template: then the pod's status names it. The
//! scheduler makes one more for extended resources that a driver serves.
//!
//! Upstream: `k8s.io/dynamic-resource-allocation/resourceclaim`.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Container, Pod, PodResourceClaim},
    resource::v1::ResourceClaim,
};

use crate::pod::PodExt;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("pod \"{namespace}/{pod}\": ResourceClaim not created yet")]
    NotCreated { namespace: String, pod: String },
    #[error(
        "pod \"{namespace}/{pod}\", spec.resourceClaim \"{claim}\": none of the supported fields are set"
    )]
    Unsupported { namespace: String, pod: String, claim: String },
    #[error(
        "ResourceClaim {namespace}/{claim} was not created for pod {namespace}/{pod} (pod is not owner)"
    )]
    NotOwner { namespace: String, pod: String, claim: String },
}

/// A claim that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub name: String,
    /// It was made for this pod.
    pub is_owned: bool,
}

/// The claim that an entry of `spec.resourceClaims` stands for. `None` where none is needed.
fn resolve(pod: &Pod, entry: &PodResourceClaim) -> Result<Option<Used>, LookupError> {
    if let Some(name) = &entry.resource_claim_name {
        return Ok(Some(Used { name: name.clone(), is_owned: false }));
    }
    let (namespace, name) = (pod.namespace().to_owned(), pod.name().to_owned());
    if entry.resource_claim_template_name.is_none() {
        let claim = entry.name.clone();
        return Err(LookupError::Unsupported { namespace, pod: name, claim });
    }
    let statuses = pod.status.iter().flat_map(|it| it.resource_claim_statuses.iter().flatten());
    let mut statuses = statuses.filter(|it| it.name == entry.name);
    let status = statuses.next().ok_or(LookupError::NotCreated { namespace, pod: name })?;
    Ok(status.resource_claim_name.clone().map(|name| Used { name, is_owned: true }))
}

/// All that a pod uses.
pub(super) fn of_pod(pod: &Pod) -> Result<Vec<Used>, LookupError> {
    let mut all = Vec::new();
    for entry in PodExt::spec(pod).resource_claims.iter().flatten() {
        all.extend(resolve(pod, entry)?);
    }
    let extended = pod.status.as_ref().and_then(|it| it.extended_resource_claim_status.as_ref());
    let extended = extended.map(|it| it.resource_claim_name.clone());
    all.extend(extended.map(|name| Used { name, is_owned: false }));
    Ok(all)
}

/// The claims of one container, each with what it asks of it; the empty request is the whole claim.
pub(super) fn of_container(
    pod: &Pod,
    container: &Container,
) -> Result<BTreeMap<String, Vec<String>>, LookupError> {
    let mut all = BTreeMap::<String, Vec<String>>::new();
    let resources = container.resources.as_ref();
    let named: Vec<_> = resources.iter().flat_map(|it| it.claims.iter().flatten()).collect();
    for entry in PodExt::spec(pod).resource_claims.iter().flatten() {
        let mut own = named.iter().filter(|it| it.name == entry.name).peekable();
        if own.peek().is_none() {
            continue;
        }
        let Some(used) = resolve(pod, entry)? else { continue };
        let requests = own.map(|it| it.request.clone().unwrap_or_default());
        all.entry(used.name).or_default().extend(requests);
    }
    let extended = pod.status.as_ref().and_then(|it| it.extended_resource_claim_status.as_ref());
    for it in extended.iter().flat_map(|it| &it.request_mappings) {
        let requests = resources.and_then(|it| it.requests.as_ref());
        let wants = requests.is_some_and(|all| all.contains_key(&it.resource_name));
        if it.container_name == container.name && wants {
            let name = extended.map(|it| it.resource_claim_name.clone()).unwrap_or_default();
            all.entry(name).or_default().push(it.request_name.clone());
        }
    }
    Ok(all)
}

/// The claim that a container's `resources.claims` entry of this name stands for.
pub(super) fn named(pod: &Pod, entry: &str) -> Option<String> {
    let mut entries = PodExt::spec(pod).resource_claims.iter().flatten();
    let entry = entries.find(|it| it.name == entry)?;
    resolve(pod, entry).ok().flatten().map(|it| it.name)
}

/// A claim that was made from a template is its pod's alone.
pub(super) fn check_owner(pod: &Pod, claim: &ResourceClaim) -> Result<(), LookupError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut owners = claim.metadata.owner_references.iter().flatten();
    if owners.any(|it| it.controller == Some(true) && it.uid == uid) {
        return Ok(());
    }
    Err(LookupError::NotOwner {
        namespace: pod.namespace().to_owned(),
        pod: pod.name().to_owned(),
        claim: claim.metadata.name.clone().unwrap_or_default(),
    })
}

pub(super) fn is_reserved_for(pod: &Pod, claim: &ResourceClaim) -> bool {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut consumers = claim.status.iter().flat_map(|it| it.reserved_for.iter().flatten());
    consumers.any(|it| it.uid == uid)
}
