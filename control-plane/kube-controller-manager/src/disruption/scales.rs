//! How many pods the controllers of some pods want.
//!
//! Upstream: `getExpectedScale` and the finders of `disruption.go`.

use std::sync::Arc;

use controller::{Key, object};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};

use super::plan::Scales;
use crate::{Context, discovery::told, scale::Scaled};

/// What the controllers of these pods want, each under the UID that its pods know.
pub(super) async fn of(
    context: &Context,
    namespace: &str,
    covered: &[Arc<Pod>],
) -> Result<Scales, String> {
    let mut scales = Scales::new();
    for pod in covered {
        let Some(owner) = object::controller_of(&**pod) else { continue };
        if scales.contains_key(&owner.uid) {
            continue;
        }
        let found = match known(context, namespace, owner) {
            Some(found) => Some(found),
            None => asked(context, namespace, owner).await?,
        };
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let found = found.ok_or_else(|| format!("found no controllers for pod \"{name}\""))?;
        scales.insert(owner.uid.clone(), found);
    }
    Ok(scales)
}

/// Of the kinds that are watched anyway: whose scale it is, and its number.
fn known(context: &Context, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    let caches = &context.caches;
    let key = Key::new(namespace, &owner.name);
    let (uid, replicas) = match owner.kind.as_str() {
        "ReplicaSet" => {
            let set = caches.replica_sets.get(&key)?;
            let above = object::controller_of(&*set).filter(|it| it.kind == "Deployment");
            let deployment = above.and_then(|above| {
                let found = caches.deployments.get(&Key::new(namespace, &above.name))?;
                (object::uid(&*found) == above.uid).then_some(found)
            });
            if object::uid(&*set) != owner.uid {
                return None;
            }
            match deployment {
                Some(it) => return Some((object::uid(&*it), it.spec.as_ref()?.replicas?)),
                None => (object::uid(&*set), set.spec.as_ref()?.replicas),
            }
        }
        "ReplicationController" => {
            let set = caches.replication_controllers.get(&key)?;
            (object::uid(&*set), set.spec.as_ref()?.replicas)
        }
        "StatefulSet" => {
            let set = caches.stateful_sets.get(&key)?;
            (object::uid(&*set), set.spec.as_ref()?.replicas)
        }
        _ => return None,
    };
    (uid == owner.uid).then(|| (uid, replicas.unwrap_or(1)))
}

/// Of any other kind. Nothing where the owner is gone.
async fn asked(
    context: &Context,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<Option<(String, i32)>, String> {
    let client = &context.client;
    let of = (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str());
    let scaled = Scaled::find(client, namespace, of).await?;
    match scaled.read(client).await {
        Ok(it) if it.metadata.uid.as_deref() == Some(owner.uid.as_str()) => {
            Ok(Some((owner.uid.clone(), it.spec.replicas.unwrap_or(0))))
        }
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            match scaled.has_scale(client).await? {
                true => Ok(None),
                false => {
                    Err(format!("{} does not implement the scale subresource", scaled.resource()))
                }
            }
        }
        Err(error) => Err(told(&error)),
    }
}
