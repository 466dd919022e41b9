//! Grows a volume that is mounted to the size that its persistent volume has been given.
//!
//! Upstream: `nodeExpandVolume` in `pkg/volume/util/operationexecutor`, `pkg/volume/csi/expander.go`.

use std::path::Path;

use api_csi::v1;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Csi, CsiVolume};
use crate::{api_limit::within, objects::Objects, quantity, volumes::claims::Bound};

/// The size to grow to, if the claim has not got it yet.
fn wanted(bound: &Bound) -> Option<Quantity> {
    let capacity = bound.volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
    let has = bound.claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
    (quantity::value(capacity)? > quantity::value(has)?).then(|| capacity.clone())
}

/// The claim's status when its volume has grown.
fn finished(claim: &PersistentVolumeClaim, size: &Quantity) -> Value {
    let status = claim.status.clone().unwrap_or_default();
    let conditions: Vec<_> = status
        .conditions
        .into_iter()
        .flatten()
        .filter(|it| !matches!(it.type_.as_str(), "Resizing" | "FileSystemResizePending"))
        .collect();
    let mut capacity = status.capacity.unwrap_or_default();
    capacity.insert("storage".to_owned(), size.clone());
    json!({ "status": {
        "capacity": capacity,
        "conditions": conditions,
        "allocatedResourceStatuses": { "storage": null },
    }})
}

impl Csi {
    /// Does what is due. A failure is told in the pod's events and tried again.
    pub(in crate::volumes) async fn expand(
        &self,
        pod: &Pod,
        volume: &CsiVolume,
        bound: &Bound,
        path: &Path,
        objects: &Objects,
    ) {
        let Some(size) = wanted(bound) else { return };
        let name = &volume.spec_name;
        match self.expand_to(volume, bound, path, &size, objects).await {
            Ok(true) => {
                let node = &self.node_name;
                let message =
                    format!("MountVolume.NodeExpandVolume succeeded for volume \"{name}\" {node}");
                self.recorder.normal(pod, "FileSystemResizeSuccessful", message);
            }
            Ok(false) => {}
            Err(error) => {
                let message = format!(
                    "NodeExpandVolume.NodeExpandVolume failed for volume \"{name}\" : {error}"
                );
                self.recorder.warning(pod, "VolumeResizeFailed", message);
            }
        }
    }

    async fn expand_to(
        &self,
        volume: &CsiVolume,
        bound: &Bound,
        path: &Path,
        size: &Quantity,
        objects: &Objects,
    ) -> Result<bool, String> {
        if volume.read_only {
            return Err("requested read-only file system".to_owned());
        }
        let driver = self.driver(&volume.driver).map_err(|it| it.to_string())?;
        let _lock = self.lock(&volume.key()).await;
        let capabilities = driver.capabilities().await.map_err(|it| it.to_string())?;
        if capabilities.expands {
            let staging = self.layout.staging(volume).path.display().to_string();
            let request = v1::NodeExpandVolumeRequest {
                volume_id: volume.handle.clone(),
                volume_path: path.display().to_string(),
                capacity_range: Some(v1::CapacityRange {
                    required_bytes: quantity::value(size).unwrap_or(0),
                    limit_bytes: 0,
                }),
                staging_target_path: if capabilities.stages { staging } else { String::new() },
                volume_capability: Some(volume.capability(&capabilities, None)),
                secrets: super::read_secret(objects, volume.expand_secret.as_ref()).await?,
            };
            driver.expand(request).await.map_err(|it| it.to_string())?;
        }
        self.tell_size(&bound.claim, size).await?;
        Ok(capabilities.expands)
    }

    async fn tell_size(
        &self,
        claim: &PersistentVolumeClaim,
        size: &Quantity,
    ) -> Result<(), String> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or("default");
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Merge(finished(claim, size));
        within(api.patch_status(name, &PatchParams::default(), &patch)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(volume: &str, claim: &str) -> Bound {
        let volume = json!({ "metadata": {}, "spec": { "capacity": { "storage": volume } } });
        let claim = json!({ "metadata": {}, "status": {
            "capacity": { "storage": claim },
            "conditions": [
                { "type": "FileSystemResizePending", "status": "True" },
                { "type": "Other", "status": "True" },
            ],
        }});
        Bound {
            claim: serde_json::from_value(claim).unwrap(),
            volume: serde_json::from_value(volume).unwrap(),
            read_only: false,
        }
    }

    #[test]
    fn a_volume_grows_to_its_size_once_and_the_claim_is_told() {
        assert_eq!(wanted(&bound("1Gi", "1024Mi")), None);
        let grown = bound("2Gi", "1Gi");
        let size = wanted(&grown).unwrap();
        assert_eq!(size.0, "2Gi");
        let patch = finished(&grown.claim, &size);
        assert_eq!(patch["status"]["capacity"]["storage"], "2Gi");
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0]["type"], "Other");
    }
}
