//! Grows a volume that is mounted to the size that its persistent volume has been given.
//!
//! Upstream: `nodeExpandVolume` in `pkg/volume/util/operationexecutor`, `pkg/volume/csi/expander.go`.

use std::path::Path;

use api_csi::v1;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::Value;

use super::{Csi, CsiVolume, growth};
use crate::{api_limit::within, objects::Objects, quantity, volumes::claims::Bound};

/// A volume of a pod, and what is needed to let it grow.
pub(in crate::volumes) struct Growing<'a> {
    pub pod: &'a Pod,
    pub volume: &'a CsiVolume,
    pub bound: &'a Bound,
    pub path: &'a Path,
    pub objects: &'a Objects,
    pub now: Timestamp,
}

impl Csi {
    /// Does what is due. A failure is told in the pod's events and tried again.
    pub(in crate::volumes) async fn expand(&self, growing: &Growing<'_>) {
        let Some(size) = growth::wanted(growing.bound) else { return };
        let (name, pod) = (&growing.volume.spec_name, growing.pod);
        match self.expand_to(growing, &size).await {
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

    async fn expand_to(&self, growing: &Growing<'_>, size: &Quantity) -> Result<bool, String> {
        let Growing { volume, bound, path, objects, now, .. } = *growing;
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
            if let Some(begun) = growth::begun(&bound.claim) {
                self.tell(&bound.claim, begun).await?;
            }
            if let Err(error) = driver.expand(request).await {
                if let Some(failed) = growth::failed(bound, size, &error, now) {
                    self.tell(&bound.claim, failed).await?;
                }
                return Err(format!("Expander.NodeExpand failed to expand the volume: {error}"));
            }
        }
        self.tell(&bound.claim, growth::finished(&bound.claim, size)).await?;
        Ok(capabilities.expands)
    }

    async fn tell(&self, claim: &PersistentVolumeClaim, status: Value) -> Result<(), String> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or("default");
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Merge(status);
        within(api.patch_status(name, &PatchParams::default(), &patch)).await.map(drop)
    }
}
