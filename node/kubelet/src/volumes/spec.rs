//! What a volume of a pod is: its kind, whoever named it, whether directly or through a claim.
//!
//! [`of`] is pure: it is given the claim and the volume that were found.
//!
//! Upstream: `pkg/kubelet/volumemanager/populator`, `pkg/volume/plugins.go`.
//!
//! Deviation: no volume of the kinds iscsi, fc, flexVolume and portworxVolume is mounted, and volumes
//! of the cloud providers' old kinds are not handed to their CSI drivers: they are refused by the error
//! of a kubelet without these plugins (iscsi without `iscsiadm`, and fc without the disk, by upstream's). The annotation `pv.beta.kubernetes.io/gid` is not used.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, ImageVolumeSource, LocalVolumeSource,
    NFSVolumeSource, PersistentVolume, Pod, Volume,
};

use super::{claims::Bound, csi::CsiVolume};
use crate::pod::PodExt;

/// The names of the volumes that containers of a pod use. Others are not made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub mounts: BTreeSet<String>,
    pub devices: BTreeSet<String>,
}

impl Used {
    pub(super) fn by(pod: &Pod) -> Self {
        let mut used = Self::default();
        for (_, container) in pod.all_containers() {
            used.mounts.extend(container.volume_mounts.into_iter().flatten().map(|it| it.name));
            used.devices.extend(container.volume_devices.into_iter().flatten().map(|it| it.name));
        }
        used
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.mounts.contains(name) || self.devices.contains(name)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// The persistent volume's name, or the pod's own name for it: what events call it.
    pub name: String,
    pub source: Source,
    pub read_only: bool,
    pub is_block: bool,
    pub mount_options: Vec<String>,
    /// Boxed: it is large, and few volumes have one.
    pub bound: Option<Box<Bound>>,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    HostPath(HostPathVolumeSource),
    EmptyDir(EmptyDirVolumeSource),
    /// Files that are made from API objects.
    Payload,
    Local(LocalVolumeSource),
    Nfs(NFSVolumeSource),
    Csi(Box<CsiVolume>),
    Image(ImageVolumeSource),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpecError {
    #[error(
        "failed to get Plugin from volumeSpec for volume \"{name}\" err=no volume plugin matched"
    )]
    NoPlugin { name: String },
    #[error(
        "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the feature-gate `GitRepoVolumeDriver`"
    )]
    GitRepo,
    #[error("volume {name} has volumeMode {mode}, but is specified in {field}")]
    Mode { name: String, mode: &'static str, field: &'static str },
}

/// What `volume` is; `bound` is what its claim led to.
pub(super) fn of(
    pod: &Pod,
    volume: &Volume,
    bound: Option<Bound>,
    used: &Used,
) -> Result<Spec, SpecError> {
    let spec = match bound {
        Some(bound) => persistent(bound)?,
        None => inline(pod, volume)?,
    };
    let name = volume.name.clone();
    if used.mounts.contains(&volume.name) && spec.is_block {
        return Err(SpecError::Mode { name, mode: "Block", field: "volumeMounts" });
    }
    if used.devices.contains(&volume.name) && !spec.is_block {
        return Err(SpecError::Mode { name, mode: "Filesystem", field: "volumeDevices" });
    }
    Ok(spec)
}

fn inline(pod: &Pod, volume: &Volume) -> Result<Spec, SpecError> {
    let mut read_only = false;
    let source = if let Some(it) = &volume.host_path {
        Source::HostPath(it.clone())
    } else if let Some(it) = &volume.empty_dir {
        Source::EmptyDir(it.clone())
    } else if let Some(it) = &volume.nfs {
        read_only = it.read_only.unwrap_or(false);
        Source::Nfs(it.clone())
    } else if let Some(it) = &volume.csi {
        read_only = it.read_only.unwrap_or(false);
        Source::Csi(Box::new(CsiVolume::inline(pod, &volume.name, it)))
    } else if let Some(it) = &volume.image {
        // An image is shared by all that use it.
        read_only = true;
        Source::Image(it.clone())
    } else if volume.git_repo.is_some() {
        return Err(SpecError::GitRepo);
    } else if super::payload::plugin(volume).is_some() {
        read_only = true;
        Source::Payload
    } else {
        return Err(SpecError::NoPlugin { name: volume.name.clone() });
    };
    let (name, is_block) = (volume.name.clone(), false);
    Ok(Spec { name, source, read_only, is_block, mount_options: Vec::new(), bound: None })
}

fn persistent(bound: Bound) -> Result<Spec, SpecError> {
    let name = bound.volume.metadata.name.clone().unwrap_or_default();
    let spec = bound.volume.spec.clone().unwrap_or_default();
    let is_block = spec.volume_mode.as_deref() == Some("Block");
    let mut read_only = bound.read_only;
    let source = if let Some(it) = spec.csi {
        read_only |= it.read_only.unwrap_or(false);
        Source::Csi(Box::new(CsiVolume::persistent(&bound.volume, &it, read_only)))
    } else if let Some(it) = spec.local {
        Source::Local(it)
    } else if let Some(it) = spec.host_path {
        Source::HostPath(it)
    } else if let Some(it) = spec.nfs {
        read_only |= it.read_only.unwrap_or(false);
        Source::Nfs(it)
    } else {
        return Err(SpecError::NoPlugin { name });
    };
    let is_mappable = matches!(source, Source::Csi(_) | Source::Local(_));
    if is_block && !is_mappable {
        return Err(SpecError::NoPlugin { name });
    }
    let mount_options = mount_options(&bound.volume);
    Ok(Spec { name, source, read_only, is_block, mount_options, bound: Some(Box::new(bound)) })
}

/// The annotation that was there before the field, or the field.
fn mount_options(volume: &PersistentVolume) -> Vec<String> {
    const ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";
    let annotation = volume.metadata.annotations.as_ref().and_then(|it| it.get(ANNOTATION));
    match annotation {
        Some(text) => text.split(',').map(str::to_owned).collect(),
        None => volume.spec.as_ref().and_then(|it| it.mount_options.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(container: Value) -> Pod {
        let spec = json!({ "containers": [container] });
        serde_json::from_value(json!({ "metadata": { "name": "p", "uid": "u" }, "spec": spec }))
            .unwrap()
    }

    fn bound(spec: Value) -> Bound {
        let volume = json!({ "metadata": { "name": "pv" }, "spec": spec });
        Bound {
            claim: Default::default(),
            volume: serde_json::from_value(volume).unwrap(),
            read_only: false,
        }
    }

    fn volume(it: Value) -> Volume {
        serde_json::from_value(it).unwrap()
    }

    #[test]
    fn a_volumes_mode_has_to_fit_its_use() {
        let device =
            pod(json!({ "name": "c", "volumeDevices": [{ "name": "v", "devicePath": "/d" }] }));
        let mount =
            pod(json!({ "name": "c", "volumeMounts": [{ "name": "v", "mountPath": "/d" }] }));
        let v = volume(json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }));
        let block = json!({ "local": { "path": "/dev/x" }, "volumeMode": "Block" });
        let files = json!({ "local": { "path": "/x" } });
        let ask = |pod: &Pod, spec: &Value| {
            of(pod, &v, Some(bound(spec.clone())), &Used::by(pod)).map(|it| it.is_block)
        };
        assert_eq!(ask(&device, &block), Ok(true));
        assert_eq!(ask(&mount, &files), Ok(false));
        assert_eq!(
            ask(&mount, &block).unwrap_err().to_string(),
            "volume v has volumeMode Block, but is specified in volumeMounts"
        );
        assert_eq!(
            ask(&device, &files).unwrap_err().to_string(),
            "volume v has volumeMode Filesystem, but is specified in volumeDevices"
        );
    }

    #[test]
    fn a_kind_without_a_plugin_is_refused_by_name() {
        let pod = pod(json!({ "name": "c" }));
        let v =
            volume(json!({ "name": "v", "iscsi": { "iqn": "i", "lun": 0, "targetPortal": "t" } }));
        let error = of(&pod, &v, None, &Used::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to get Plugin from volumeSpec for volume \"v\" err=no volume plugin matched"
        );
    }
}
