//! A CSI volume as a persistent volume or a pod describes it, and as the protocol wants it.

use std::collections::BTreeMap;

use api_csi::v1::{VolumeCapability, volume_capability as capability};
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolume, Pod, SecretReference,
};
use sha2::{Digest, Sha256};

use super::{Key, client::Capabilities};
use crate::pod::PodExt;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CsiVolume {
    pub driver: String,
    pub handle: String,
    /// The persistent volume's name, or the pod's own name for it.
    pub spec_name: String,
    pub read_only: bool,
    pub fs_type: String,
    pub attributes: BTreeMap<String, String>,
    pub access_modes: Vec<String>,
    pub mount_options: Vec<String>,
    /// Named by a pod, not by a persistent volume: it comes and goes with the pod.
    pub is_ephemeral: bool,
    pub is_block: bool,
    pub stage_secret: Option<SecretReference>,
    pub publish_secret: Option<SecretReference>,
    pub expand_secret: Option<SecretReference>,
}

impl CsiVolume {
    pub(crate) fn persistent(
        volume: &PersistentVolume,
        source: &CSIPersistentVolumeSource,
        read_only: bool,
    ) -> Self {
        let spec = volume.spec.clone().unwrap_or_default();
        Self {
            driver: source.driver.clone(),
            handle: source.volume_handle.clone(),
            spec_name: volume.metadata.name.clone().unwrap_or_default(),
            read_only,
            fs_type: source.fs_type.clone().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            access_modes: spec.access_modes.unwrap_or_default(),
            mount_options: spec.mount_options.unwrap_or_default(),
            is_ephemeral: false,
            is_block: spec.volume_mode.as_deref() == Some("Block"),
            stage_secret: source.node_stage_secret_ref.clone(),
            publish_secret: source.node_publish_secret_ref.clone(),
            expand_secret: source.node_expand_secret_ref.clone(),
        }
    }

    pub(crate) fn inline(pod: &Pod, name: &str, source: &CSIVolumeSource) -> Self {
        let secret = source.node_publish_secret_ref.as_ref().map(|it| SecretReference {
            name: Some(it.name.clone()),
            namespace: Some(pod.namespace().to_owned()),
        });
        Self {
            driver: source.driver.clone(),
            handle: digest(&[&pod.uid().0, name]),
            spec_name: name.to_owned(),
            read_only: source.read_only.unwrap_or(false),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            is_ephemeral: true,
            publish_secret: secret,
            ..Self::default()
        }
    }

    pub(super) fn key(&self) -> Key {
        Key { driver: self.driver.clone(), handle: self.handle.clone() }
    }

    /// One pod at a time may use it; with other modes beside it is not known which one is meant.
    pub(super) fn is_for_one_pod(&self) -> bool {
        self.access_modes == ["ReadWriteOncePod"]
    }

    pub(super) fn lifecycle_mode(&self) -> &'static str {
        if self.is_ephemeral { "Ephemeral" } else { "Persistent" }
    }

    /// How the volume is to be used; `group` is for drivers that set it themselves.
    pub(super) fn capability(
        &self,
        capabilities: &Capabilities,
        group: Option<u32>,
    ) -> VolumeCapability {
        let mode = self.access_modes.first().map_or("ReadWriteOnce", String::as_str);
        let mode = access_mode(mode, capabilities.knows_single_writers);
        let access = if self.is_block {
            capability::AccessType::Block(capability::BlockVolume {})
        } else {
            capability::AccessType::Mount(capability::MountVolume {
                fs_type: self.fs_type.clone(),
                mount_flags: self.mount_options.clone(),
                volume_mount_group: group
                    .filter(|_| capabilities.sets_group)
                    .map(|it| it.to_string())
                    .unwrap_or_default(),
            })
        };
        VolumeCapability {
            access_type: Some(access),
            access_mode: Some(capability::AccessMode { mode: mode as i32 }),
        }
    }
}

fn access_mode(mode: &str, knows_single_writers: bool) -> capability::access_mode::Mode {
    use capability::access_mode::Mode;
    match (mode, knows_single_writers) {
        ("ReadWriteOnce", true) => Mode::SingleNodeMultiWriter,
        ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
        ("ReadWriteOnce" | "ReadWriteOncePod", false) => Mode::SingleNodeWriter,
        ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
        ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
        _ => Mode::Unknown,
    }
}

/// The name of the object that says where a volume is attached.
pub(super) fn attachment_name(key: &Key, node: &str) -> String {
    digest(&[&key.handle, &key.driver, node])
}

fn digest(parts: &[&str]) -> String {
    format!("csi-{}", hex(&parts.concat()))
}

/// The SHA-256 of a text, in hexadecimal.
pub(super) fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_mode_is_as_fine_as_the_driver_knows_it() {
        use capability::access_mode::Mode;
        let cases = [
            ("ReadWriteOnce", false, Mode::SingleNodeWriter),
            ("ReadWriteOnce", true, Mode::SingleNodeMultiWriter),
            ("ReadWriteOncePod", false, Mode::SingleNodeWriter),
            ("ReadWriteOncePod", true, Mode::SingleNodeSingleWriter),
            ("ReadOnlyMany", true, Mode::MultiNodeReaderOnly),
            ("ReadWriteMany", false, Mode::MultiNodeMultiWriter),
        ];
        for (mode, knows, wanted) in cases {
            assert_eq!(access_mode(mode, knows), wanted, "{mode} {knows}");
        }
    }

    #[test]
    fn names_are_those_that_controllers_compute() {
        let key = Key { driver: "d".to_owned(), handle: "h".to_owned() };
        assert_eq!(attachment_name(&key, "n"), format!("csi-{}", hex("hdn")));
        assert_eq!(key.unique_name(), "kubernetes.io/csi/d^h");
        assert_eq!(hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
