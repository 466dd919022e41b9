//! Which claims a pod and its containers use: those of the scheduler's and the controllers' reading, and
//! the one that the scheduler makes for extended resources that a driver serves.
//!
//! Upstream: `k8s.io/dynamic-resource-allocation/resourceclaim`, `pkg/kubelet/cm/dra/manager.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use scheduling::resourceclaim::{self, ResourceClaimError, UsedClaim};

/// All that a pod uses.
pub(super) fn of_pod(pod: &Pod) -> Result<Vec<UsedClaim>, ResourceClaimError> {
    let mut all = Vec::new();
    for entry in resourceclaim::entries(pod) {
        all.extend(resourceclaim::resolve(pod, entry)?);
    }
    let extended = pod.status.as_ref().and_then(|it| it.extended_resource_claim_status.as_ref());
    let extended = extended.map(|it| it.resource_claim_name.clone());
    all.extend(extended.map(|name| UsedClaim { name, is_owned: false }));
    Ok(all)
}

/// The claims of one container, each with what it asks of it; the empty request is the whole claim.
pub(super) fn of_container(
    pod: &Pod,
    container: &Container,
) -> Result<BTreeMap<String, Vec<String>>, ResourceClaimError> {
    let mut all = BTreeMap::<String, Vec<String>>::new();
    let resources = container.resources.as_ref();
    let named: Vec<_> = resources.iter().flat_map(|it| it.claims.iter().flatten()).collect();
    for entry in resourceclaim::entries(pod) {
        let mut own = named.iter().filter(|it| it.name == entry.name).peekable();
        if own.peek().is_none() {
            continue;
        }
        let Some(used) = resourceclaim::resolve(pod, entry)? else { continue };
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
    let entry = resourceclaim::entries(pod).find(|it| it.name == entry)?;
    resourceclaim::resolve(pod, entry).ok().flatten().map(|it| it.name)
}
