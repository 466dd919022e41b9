//! Stages a volume on this node and publishes it for a pod.
//!
//! Upstream: `MountDevice` in `csi_attacher.go`, `SetUpAt` in `csi_mounter.go`, `csi_block.go`.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use api_csi::v1;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Pod, SecretReference},
    storage::v1::CSIDriver,
};
use serde_json::json;

use super::{
    Csi, CsiVolume, Driver,
    attach::{self, AttachError, Waiting},
    client::{Capabilities, RpcError},
    data::Data,
    fs_group,
    layout::{Staging, Target, remove_left},
};
use crate::{
    objects::Objects,
    paths::make_private,
    pod::PodExt,
    volumes::{MountVolumeError, ownership::Group, progress, tokens::Tokens},
};

/// A volume that could not be had.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// Upstream's name of the step, and why.
    Step { step: &'static str, source: MountVolumeError },
    /// Nobody has attached it.
    Unattached(String),
    /// Nobody can attach it: this node takes no more.
    LimitExceeded,
}

/// Where the volume is, and when it has to be published again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub path: PathBuf,
    pub again: Again,
    pub token_ends: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Never,
    /// The driver wants to be asked from time to time.
    Regularly,
}

/// What is needed of the rest of the kubelet.
pub(crate) struct Needs<'a> {
    pub pod: &'a Pod,
    pub objects: &'a Objects,
    pub tokens: &'a Tokens,
    pub now: Timestamp,
}

/// One volume on its way, with all that was found out about it.
struct Job<'a> {
    volume: &'a CsiVolume,
    needs: &'a Needs<'a>,
    driver: Driver,
    object: Option<CSIDriver>,
    capabilities: Capabilities,
    attachment: BTreeMap<String, String>,
    group: Option<Group>,
}

const NEW: &str = "MountVolume.NewMounter initialization";
const ATTACH: &str = "MountVolume.WaitForAttach";
const STAGE: &str = "MountVolume.MountDevice";
const SET_UP: &str = "MountVolume.SetUp";
const STAGE_BLOCK: &str = "MapVolume.SetUpDevice";
const MAP_BLOCK: &str = "MapVolume.MapPodDevice";
const ONE_POD: &str =
    "volume uses the ReadWriteOncePod access mode and is already in use by another pod";

fn failed(step: &'static str, message: impl ToString) -> PublishError {
    PublishError::Step { step, source: MountVolumeError::Text(message.to_string()) }
}

fn rpc(step: &'static str) -> impl Fn(RpcError) -> PublishError {
    move |error| failed(step, error)
}

fn of_file(step: &'static str, path: &Path) -> impl Fn(io::Error) -> PublishError {
    move |error| failed(step, format!("kubernetes.io/csi: `{}`: {error}", path.display()))
}

impl Csi {
    /// Makes a volume be there for a pod. What this process has done before is not done again.
    pub(crate) async fn publish(
        &self,
        volume: &CsiVolume,
        needs: &Needs<'_>,
    ) -> Result<Published, PublishError> {
        let object = self.driver_object(&volume.driver).await.map_err(|it| failed(NEW, it))?;
        check_lifecycle(volume, object.as_ref()).map_err(|it| failed(NEW, it))?;
        let target = self.layout.target(&needs.pod.uid(), volume);
        let again = match object.as_ref().and_then(|it| it.spec.requires_republish) {
            Some(true) => Again::Regularly,
            _ => Again::Never,
        };
        let is_done = self.published.lock().contains(&target.path);
        if is_done && again == Again::Never {
            return Ok(Published { path: target.path, again, token_ends: None });
        }
        let step = if volume.is_ephemeral { SET_UP } else { STAGE };
        let driver = self.driver(&volume.driver).map_err(|error| {
            let what = if volume.is_ephemeral {
                "mounter.SetUpAt failed to get CSI client"
            } else {
                "attacher.MountDevice failed to create newCsiDriverClient"
            };
            failed(step, format!("kubernetes.io/csi: {what}: {error}"))
        })?;
        let (_waiting, attachment) = self.attachment(volume, object.as_ref()).await?;
        let _lock = self.lock(&volume.key()).await;
        // The scheduler sees to it too, but not of pods that name their node.
        if volume.is_for_one_pod() && self.layout.is_used_beside(&needs.pod.uid(), volume) {
            let step = if volume.is_block { STAGE_BLOCK } else { SET_UP };
            return Err(failed(step, ONE_POD));
        }
        let capabilities = driver.capabilities().await.map_err(rpc(step))?;
        let group = Group::of(needs.pod);
        let job = Job { volume, needs, driver, object, capabilities, attachment, group };
        let token_ends = self.run(&job, &target).await?;
        self.published.lock().insert(target.path.clone());
        Ok(Published { path: target.path, again, token_ends })
    }

    /// What the controller says of the attachment, of volumes that are attached.
    async fn attachment(
        &self,
        volume: &CsiVolume,
        object: Option<&CSIDriver>,
    ) -> Result<(Option<Waiting<'_>>, BTreeMap<String, String>), PublishError> {
        if volume.is_ephemeral || !attach::is_attachable(object) {
            return Ok((None, BTreeMap::new()));
        }
        let attached = self.until_attached(volume, object).await;
        let told = |error: AttachError| match error {
            AttachError::LimitExceeded => PublishError::LimitExceeded,
            it if it.is_unattached() => PublishError::Unattached(it.to_string()),
            it => failed(ATTACH, it),
        };
        attached.map(|(waiting, data)| (Some(waiting), data)).map_err(told)
    }

    async fn run(&self, job: &Job<'_>, target: &Target) -> Result<Option<Timestamp>, PublishError> {
        let step = if job.volume.is_block { MAP_BLOCK } else { SET_UP };
        let was_recorded = fs::symlink_metadata(&target.record).is_ok();
        // The pod's record comes first: whatever happens from here on is undone by it.
        self.record(job.volume, target).map_err(of_file(step, &target.record))?;
        let staged = if job.volume.is_ephemeral {
            Ok(String::new())
        } else {
            self.stage(job, &self.layout.staging(job.volume)).await
        };
        let staged = match staged {
            Ok(staged) => staged,
            Err((error, is_final)) => {
                if is_final && !was_recorded {
                    self.unrecord(target);
                }
                return Err(error);
            }
        };
        let (request, token_ends) = job.publish_request(staged, target).await?;
        if let Err(error) = job.driver.publish(request).await {
            if error.is_final() && !self.published.lock().contains(&target.path) {
                // Nothing is there; an empty folder that the driver made is taken away.
                drop(remove_left(&target.path));
            }
            return Err(failed(step, error));
        }
        let policy = job.object.as_ref().and_then(|it| it.spec.fs_group_policy.as_deref());
        let policy = policy.unwrap_or(fs_group::DEFAULT_POLICY);
        if let Some(group) = job.group
            && fs_group::applies(job.volume, policy, job.capabilities.sets_group)
        {
            let owner = (job.needs.pod, &self.recorder);
            let given = progress::apply(group, &target.path, &target.path, owner, ()).await;
            given.map_err(|error| {
                failed(step, format!("applyFSGroup failed for vol {}: {error}", job.volume.handle))
            })?;
        }
        Ok(token_ends)
    }

    fn record(&self, volume: &CsiVolume, target: &Target) -> io::Result<()> {
        let make_parent = |path: &Path| path.parent().map_or(Ok(()), make_private);
        if !target.is_block {
            return Data::published(volume, &self.node_name).save(&target.record);
        }
        make_parent(&target.path)?;
        make_parent(&target.record)?;
        // A device is found by its staging file, so that one has to be there before the link.
        Data::staged(volume).save(&self.layout.staging(volume).data)?;
        match symlink(&target.path, &target.record) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Where the volume is staged; empty of a driver that does not stage. An error says whether the
    /// driver has finished with it.
    async fn stage(&self, job: &Job<'_>, place: &Staging) -> Result<String, (PublishError, bool)> {
        let volume = job.volume;
        let step = if volume.is_block { STAGE_BLOCK } else { STAGE };
        let request = job.stage_request(step, place).await.map_err(|it| (it, true))?;
        let make = || {
            make_private(&place.path)?;
            Data::staged(volume).save(&place.data)
        };
        make().map_err(|error| (of_file(step, &place.path)(error), true))?;
        if attach::is_attachable(job.object.as_ref()) {
            self.in_use.set_staged(&volume.key().unique_name(), true);
        }
        if !job.capabilities.stages {
            return Ok(String::new());
        }
        match job.driver.stage(request).await {
            Ok(()) => Ok(place.path.display().to_string()),
            // What a failed call left is taken away behind the pods, if no other pod uses it.
            Err(error) => {
                self.unused.notify_one();
                let is_final = error.is_final();
                Err((failed(step, error), is_final))
            }
        }
    }
}

impl Job<'_> {
    async fn stage_request(
        &self,
        step: &'static str,
        place: &Staging,
    ) -> Result<v1::NodeStageVolumeRequest, PublishError> {
        let group = self.group.map(|it| it.id);
        let secret = self.volume.stage_secret.as_ref();
        Ok(v1::NodeStageVolumeRequest {
            volume_id: self.volume.handle.clone(),
            publish_context: self.attachment.clone().into_iter().collect(),
            staging_target_path: place.path.display().to_string(),
            volume_capability: Some(self.volume.capability(&self.capabilities, group)),
            secrets: self.secret(step, "NodeStageSecretRef", secret).await?,
            volume_context: self.volume.attributes.clone().into_iter().collect(),
        })
    }

    async fn publish_request(
        &self,
        staging_target_path: String,
        target: &Target,
    ) -> Result<(v1::NodePublishVolumeRequest, Option<Timestamp>), PublishError> {
        let volume = self.volume;
        let step = if volume.is_block { MAP_BLOCK } else { SET_UP };
        let group = self.group.map(|it| it.id);
        let secret = volume.publish_secret.as_ref();
        let mut secrets = self.secret(step, "NodePublishSecretRef", secret).await?;
        let mut context = volume.attributes.clone();
        if self.object.as_ref().is_some_and(|it| it.spec.pod_info_on_mount == Some(true)) {
            context.extend(pod_info(self.needs.pod, volume.is_ephemeral));
        }
        let (tokens, ends) = self.tokens().await.map_err(|error| {
            let what = "mounter.SetUpAt failed to get service account token attributes";
            failed(step, format!("kubernetes.io/csi: {what}: {error}"))
        })?;
        if let Some(tokens) = tokens {
            let spec = self.object.as_ref().map(|it| &it.spec);
            let in_secrets = spec.and_then(|it| it.service_account_token_in_secrets);
            let key = "csi.storage.k8s.io/serviceAccount.tokens".to_owned();
            if in_secrets == Some(true) {
                secrets.insert(key, tokens);
            } else {
                context.insert(key, tokens);
            }
        }
        let request = v1::NodePublishVolumeRequest {
            volume_id: volume.handle.clone(),
            publish_context: self.attachment.clone().into_iter().collect(),
            staging_target_path,
            target_path: target.path.display().to_string(),
            volume_capability: Some(volume.capability(&self.capabilities, group)),
            readonly: volume.read_only,
            secrets,
            volume_context: context.into_iter().collect(),
        };
        Ok((request, ends))
    }

    async fn secret(
        &self,
        step: &'static str,
        what: &str,
        reference: Option<&SecretReference>,
    ) -> Result<std::collections::HashMap<String, String>, PublishError> {
        let found = super::read_secret(self.needs.objects, reference).await;
        found.map_err(|error| {
            let reference = reference.cloned().unwrap_or_default();
            let namespace = reference.namespace.unwrap_or_default();
            let name = reference.name.unwrap_or_default();
            failed(step, format!("fetching {what} {namespace}/{name} failed: {error}"))
        })
    }

    /// The tokens that the driver's object asks for, as it is given them, and when the first ends.
    async fn tokens(&self) -> Result<(Option<String>, Option<Timestamp>), MountVolumeError> {
        let spec = self.object.as_ref().map(|it| &it.spec);
        let asked = spec.and_then(|it| it.token_requests.as_deref()).unwrap_or_default();
        let (mut all, mut ends) = (serde_json::Map::new(), None);
        for it in asked {
            let Needs { pod, tokens, now, .. } = *self.needs;
            let token =
                tokens.get(self.client(), pod, &it.audience, it.expiration_seconds, now).await?;
            let value = json!({ "token": token.text, "expirationTimestamp": token.expires });
            all.insert(it.audience.clone(), value);
            let next = token.replace_at;
            ends = Some(ends.map_or(next, |it: Timestamp| it.min(next)));
        }
        let is_empty = all.is_empty();
        Ok(((!is_empty).then(|| serde_json::Value::Object(all).to_string()), ends))
    }

    fn client(&self) -> &kube::Client {
        self.needs.objects.client()
    }
}

fn pod_info(pod: &Pod, is_ephemeral: bool) -> BTreeMap<String, String> {
    let account = PodExt::spec(pod).service_account_name.clone().unwrap_or_default();
    [
        ("csi.storage.k8s.io/pod.name", pod.name().to_owned()),
        ("csi.storage.k8s.io/pod.namespace", pod.namespace().to_owned()),
        ("csi.storage.k8s.io/pod.uid", pod.uid().0),
        ("csi.storage.k8s.io/serviceAccount.name", account),
        ("csi.storage.k8s.io/ephemeral", is_ephemeral.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Whether the driver may be used in this way.
fn check_lifecycle(volume: &CsiVolume, object: Option<&CSIDriver>) -> Result<(), String> {
    let (mode, driver) = (volume.lifecycle_mode(), &volume.driver);
    let modes = object.map(|it| it.spec.volume_lifecycle_modes.clone());
    match modes {
        None if !volume.is_ephemeral => Ok(()),
        None => Err(format!(
            "volume mode \"{mode}\" not supported by driver {driver} (no CSIDriver object)"
        )),
        Some(modes) => {
            let modes = modes.unwrap_or_else(|| vec!["Persistent".to_owned()]);
            if modes.iter().any(|it| it == mode) {
                return Ok(());
            }
            let quoted: Vec<_> = modes.iter().map(|it| format!("{it:?}")).collect();
            Err(format!(
                "volume mode \"{mode}\" not supported by driver {driver} (only supports [{}])",
                quoted.join(" ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(modes: &[&str]) -> CSIDriver {
        let it = json!({ "metadata": {}, "spec": { "volumeLifecycleModes": modes } });
        serde_json::from_value(it).unwrap()
    }

    #[test]
    fn a_driver_is_used_only_as_it_says_it_may_be() {
        let of = |is_ephemeral| CsiVolume {
            driver: "d".to_owned(),
            is_ephemeral,
            ..CsiVolume::default()
        };
        assert!(check_lifecycle(&of(false), None).is_ok());
        assert!(check_lifecycle(&of(true), Some(&object(&["Ephemeral"]))).is_ok());
        assert_eq!(
            check_lifecycle(&of(true), None).unwrap_err(),
            "volume mode \"Ephemeral\" not supported by driver d (no CSIDriver object)"
        );
        assert_eq!(
            check_lifecycle(&of(true), Some(&object(&["Persistent"]))).unwrap_err(),
            "volume mode \"Ephemeral\" not supported by driver d (only supports [\"Persistent\"])"
        );
    }
}
