//! Writes what pods are given of their claims, before they are bound.
//!
//! A claim that is allocated is kept from going by a finalizer until its last pod is over.
//!
//! Upstream: `bindClaim` in the plugin `dynamicresources`.

use std::time::Duration;

use controller::{Key, apply};
use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    Context,
    devices::{self, ClaimWrite},
};

const LIMIT: Duration = Duration::from_secs(30);
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteClaimError {
    #[error("claim {name}: {source}")]
    Api {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("claim {name} got allocated elsewhere in the meantime")]
    Allocated { name: String },
    #[error("claim {name} was replaced in the meantime")]
    Replaced { name: String },
    #[error("claim {name}: the API server did not answer in time")]
    Late { name: String },
}

impl WriteClaimError {
    /// The API server may have written it all the same.
    fn is_uncertain(&self) -> bool {
        match self {
            Self::Late { .. } => true,
            Self::Api { source, .. } => !matches!(**source, kube::Error::Api(_)),
            _ => false,
        }
    }
}

/// All or, after a failure, some: what was written is not wrong, and the next attempt goes on from it.
/// The error comes with how many were written before it.
pub(crate) async fn write(
    context: &Context,
    pod: &Pod,
    claims: &[ClaimWrite],
) -> Result<(), (usize, WriteClaimError)> {
    for (index, it) in claims.iter().enumerate() {
        let late = |_| Err(WriteClaimError::Late { name: it.key.name.clone() });
        let written = timeout(LIMIT, write_one(context, pod, it)).await.unwrap_or_else(late);
        match written {
            Err(error) if error.is_uncertain() && is_written(context, pod, it).await => {}
            written => written.map_err(|error| (index, error))?,
        }
    }
    Ok(())
}

/// Whether the claim is the pod's, as it stands now.
async fn is_written(context: &Context, pod: &Pod, it: &ClaimWrite) -> bool {
    let api: Api<ResourceClaim> = apply::api(&context.client, &it.key.namespace);
    let Ok(Ok(claim)) = timeout(LIMIT, api.get(&it.key.name)).await else { return false };
    let (claim_uid, pod_uid) = (claim.uid(), pod.uid().unwrap_or_default());
    let status = claim.status.unwrap_or_default();
    let is_the_pods = status.reserved_for.iter().flatten().any(|it| it.uid == pod_uid);
    claim_uid.as_deref() == Some(it.uid.as_str()) && status.allocation.is_some() && is_the_pods
}

async fn write_one(context: &Context, pod: &Pod, it: &ClaimWrite) -> Result<(), WriteClaimError> {
    let name = it.key.name.clone();
    let api: Api<ResourceClaim> = apply::api(&context.client, &it.key.namespace);
    let failed =
        |source: kube::Error| WriteClaimError::Api { name: name.clone(), source: Box::new(source) };
    let mut claim = api.get(&name).await.map_err(failed)?;
    if claim.uid().as_deref() != Some(it.uid.as_str()) {
        return Err(WriteClaimError::Replaced { name });
    }
    let is_allocated = claim.status.as_ref().is_some_and(|it| it.allocation.is_some());
    if is_allocated == it.allocation.is_some() {
        return Err(WriteClaimError::Allocated { name });
    }
    let parameters = PatchParams::default();
    if it.allocation.is_some() && !claim.finalizers().iter().any(|it| it == FINALIZER) {
        let mut finalizers = claim.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        let patch = json!({ "metadata": {
            "resourceVersion": claim.resource_version(), "finalizers": finalizers,
        } });
        claim = api.patch(&name, &parameters, &Patch::Merge(&patch)).await.map_err(failed)?;
    }
    let mut reserved =
        claim.status.as_ref().and_then(|it| it.reserved_for.clone()).unwrap_or_default();
    let uid = pod.uid().unwrap_or_default();
    let is_reserved = reserved.iter().any(|it| it.uid == uid);
    if is_reserved && it.allocation.is_none() {
        return Ok(());
    }
    let consumer = json!({ "resource": "pods", "name": pod.name_any(), "uid": uid });
    let mut consumers: Vec<_> = reserved.drain(..).map(|it| json!(it)).collect();
    if !is_reserved {
        consumers.push(consumer);
    }
    let mut status = json!({ "reservedFor": consumers });
    if let Some(allocation) = &it.allocation {
        status["allocation"] = allocation.clone();
    }
    let patch = json!({
        "metadata": { "resourceVersion": claim.resource_version() }, "status": status,
    });
    api.patch_status(&name, &parameters, &Patch::Merge(&patch)).await.map(drop).map_err(failed)
}

/// Takes a claim's devices back for the sake of `pod`, unless another pod has got it by now.
pub(crate) async fn free(context: &Context, pod: &Pod, key: &Key) -> Result<(), WriteClaimError> {
    let failed = |source| WriteClaimError::Api { name: key.name.clone(), source: Box::new(source) };
    let api: Api<ResourceClaim> = apply::api(&context.client, &key.namespace);
    let Some(claim) = api.get_opt(&key.name).await.map_err(failed)? else { return Ok(()) };
    if !devices::is_at_most_for(&claim, pod) {
        return Ok(());
    }
    let patch = json!({
        "metadata": { "resourceVersion": claim.resource_version() },
        "status": { "allocation": null, "devices": null, "reservedFor": null },
    });
    let parameters = PatchParams::default();
    api.patch_status(&key.name, &parameters, &Patch::Merge(&patch)).await.map(drop).map_err(failed)
}
