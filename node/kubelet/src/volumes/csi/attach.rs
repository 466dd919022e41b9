//! Waiting for a volume that a controller attaches to this node.
//!
//! The node's status names the volumes in use first (`volumesInUse`); then the node is read until its
//! status names the volume as attached (`volumesAttached`), then the attachment. In this order, because
//! a controller that detaches takes the name out first and looks at what is in use then: one of both
//! sees the other.
//!
//! Upstream: `GenerateVerifyControllerAttachedVolumeFunc` in `pkg/volume/util/operationexecutor`,
//! `pkg/volume/csi/csi_attacher.go`, `VerifyExhaustedResource` in `csi_plugin.go`.
//!
//! Deviation: with `enableControllerAttachDetach: false` the kubelet attaches nothing itself (the API
//! server lets no node make a VolumeAttachment): it waits for the attachment alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::Node,
    storage::v1::{CSIDriver, VolumeAttachment},
};
use kube::Api;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use super::{Csi, CsiVolume, Key, volume::attachment_name};
use crate::api_limit::within;

/// How long one round of a pod's worker waits; the next one goes on. Upstream's
/// `podAttachAndMountTimeout`.
const LIMIT: Duration = Duration::from_secs(123);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which attachable volumes are in use, and which of them the node's status has told.
pub(crate) struct InUse {
    state: Mutex<State>,
    wanted: watch::Sender<BTreeSet<String>>,
    told: watch::Sender<BTreeSet<String>>,
}

#[derive(Default)]
struct State {
    staged: BTreeSet<String>,
    /// By how many pods each is waited for.
    waited_for: BTreeMap<String, usize>,
}

/// A pod waits for a volume, for as long as this lives.
pub(super) struct Waiting<'a> {
    in_use: &'a InUse,
    name: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.in_use.change(|state| {
            if let Some(count) = state.waited_for.get_mut(&self.name) {
                *count -= 1;
            }
            state.waited_for.retain(|_, count| *count > 0);
        });
    }
}

impl InUse {
    /// Begins with what an earlier kubelet staged.
    pub(super) fn new(staged: impl Iterator<Item = String>) -> Self {
        let state = State { staged: staged.collect(), ..State::default() };
        let wanted = watch::channel(state.staged.clone()).0;
        Self { state: Mutex::new(state), wanted, told: watch::channel(BTreeSet::new()).0 }
    }

    /// For the node's status, which sends what it sees here.
    pub(crate) fn wanted(&self) -> watch::Receiver<BTreeSet<String>> {
        self.wanted.subscribe()
    }

    /// The API server has taken a status with these.
    pub(crate) fn set_told(&self, names: BTreeSet<String>) {
        self.told.send_replace(names);
    }

    /// The volume stays in use until it is unstaged.
    pub(super) fn set_staged(&self, name: &str, is_staged: bool) {
        self.change(|state| {
            if is_staged {
                state.staged.insert(name.to_owned());
            } else {
                state.staged.remove(name);
            }
        });
    }

    fn wait(&self, name: &str) -> Waiting<'_> {
        self.change(|state| *state.waited_for.entry(name.to_owned()).or_default() += 1);
        Waiting { in_use: self, name: name.to_owned() }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let names: BTreeSet<_> =
            state.staged.iter().chain(state.waited_for.keys()).cloned().collect();
        // Under the lock, so that the newest set is the last one sent.
        self.wanted.send_if_modified(|known| {
            let is_new = *known != names;
            *known = names;
            is_new
        });
    }

    async fn until_told(&self, name: &str, deadline: Instant) -> bool {
        let mut told = self.told.subscribe();
        let told = told.wait_for(|it| it.contains(name));
        tokio::time::timeout_at(deadline, told).await.is_ok_and(|it| it.is_ok())
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttachError {
    #[error(
        "Volume has not been added to the list of VolumesInUse in the node's volume status for volume \"{0}\""
    )]
    NotTold(String),
    #[error("Volume not attached according to node status for volume \"{0}\"")]
    NotReported(String),
    #[error(
        "VerifyControllerAttachedVolume failed fetching node from API server for volume \"{volume}\" : {message}"
    )]
    NoNode { volume: String, message: String },
    /// The driver said that this node takes no more volumes.
    #[error("the node takes no more volumes of the driver")]
    LimitExceeded,
    #[error("{0}")]
    Failed(String),
    #[error("volume attachment is being deleted")]
    Detaching,
    #[error(
        "timed out waiting for external-attacher of {driver} CSI driver to attach volume {handle}"
    )]
    TimedOut { driver: String, handle: String },
}

impl AttachError {
    /// Nobody has attached the volume yet, as far as the node's status says.
    pub(super) fn is_unattached(&self) -> bool {
        matches!(self, Self::NotTold(_) | Self::NotReported(_) | Self::NoNode { .. })
    }
}

/// What the controller said of an attachment: its data, or that it is not done yet.
fn state_of(
    attachment: Option<VolumeAttachment>,
) -> Result<Option<BTreeMap<String, String>>, AttachError> {
    let Some(attachment) = attachment else { return Ok(None) };
    if attachment.metadata.deletion_timestamp.is_some() {
        return Err(AttachError::Detaching);
    }
    let status = attachment.status.unwrap_or_default();
    if status.attached {
        return Ok(Some(status.attachment_metadata.unwrap_or_default()));
    }
    match status.attach_error {
        Some(error) => Err(AttachError::Failed(error.message.unwrap_or_default())),
        None => Ok(None),
    }
}

/// Without an object a driver's volumes are attached, as upstream has it.
pub(super) fn is_attachable(driver: Option<&CSIDriver>) -> bool {
    driver.is_none_or(|it| it.spec.attach_required != Some(false))
}

/// Whether the node's status names the volume as attached.
fn is_reported(node: &Node, name: &str) -> bool {
    let attached = node.status.as_ref().and_then(|it| it.volumes_attached.as_ref());
    attached.into_iter().flatten().any(|it| it.name == name)
}

/// Whether the driver's controller has refused it because the node has no room.
fn is_exhausted(attachment: &VolumeAttachment) -> bool {
    let error = attachment.status.as_ref().and_then(|it| it.attach_error.as_ref());
    error.and_then(|it| it.error_code) == Some(tonic::Code::ResourceExhausted as i32)
}

/// The driver wants to be asked from time to time how many volumes the node takes.
fn has_period(driver: Option<&CSIDriver>) -> bool {
    let seconds = driver.and_then(|it| it.spec.node_allocatable_update_period_seconds);
    seconds.is_some_and(|it| it > 0)
}

impl Csi {
    /// Ends when the volume is attached to this node; returns what the controller says of it. The
    /// volume is in use for as long as the first part of the answer lives.
    pub(super) async fn until_attached(
        &self,
        volume: &CsiVolume,
        object: Option<&CSIDriver>,
    ) -> Result<(Waiting<'_>, BTreeMap<String, String>), AttachError> {
        let (key, deadline) = (volume.key(), Instant::now() + LIMIT);
        let name = key.unique_name();
        let waiting = self.in_use.wait(&name);
        if !self.in_use.until_told(&name, deadline).await {
            return Err(AttachError::NotTold(volume.spec_name.clone()));
        }
        let reported = self.until_reported(volume, object.is_some(), deadline).await;
        if reported.is_err() && has_period(object) && self.is_node_full(&key).await {
            return Err(AttachError::LimitExceeded);
        }
        if !reported? {
            return Ok((waiting, BTreeMap::new()));
        }
        let data = self.until_fulfilled(&key, object.is_some(), deadline).await?;
        Ok((waiting, data))
    }

    /// Waits for the node's status to name the volume as attached. Says whether there is an attachment
    /// to look at.
    async fn until_reported(
        &self,
        volume: &CsiVolume,
        has_object: bool,
        deadline: Instant,
    ) -> Result<bool, AttachError> {
        if !self.is_reported {
            return Ok(true);
        }
        let api = Api::<Node>::all(self.client.clone());
        let (name, mut changes) = (volume.key().unique_name(), self.node_object.changes());
        loop {
            changes.mark_unchanged();
            // Asked anew each time: what the watch has brought may be older than our own status.
            let error = match within(api.get(&self.node_name)).await {
                Ok(node) if is_reported(&node, &name) => return Ok(true),
                Ok(_) => AttachError::NotReported(volume.spec_name.clone()),
                Err(message) => AttachError::NoNode { volume: volume.spec_name.clone(), message },
            };
            if !has_object && self.needs_no_attachment(&volume.driver).await {
                return Ok(false);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(error);
            }
            let until = deadline.min(now + LONGEST_PAUSE);
            drop(tokio::time::timeout_at(until, changes.changed()).await);
        }
    }

    /// Waits for the attachment to say that it is done.
    async fn until_fulfilled(
        &self,
        key: &Key,
        has_object: bool,
        deadline: Instant,
    ) -> Result<BTreeMap<String, String>, AttachError> {
        let api = Api::<VolumeAttachment>::all(self.client.clone());
        let attachment = attachment_name(key, &self.node_name);
        let mut pause = FIRST_PAUSE;
        loop {
            // Before there is an attachment the node may not even ask for it: that is no end of the
            // wait, during which the volume has to stay in use.
            let refused = match within(api.get_opt(&attachment)).await {
                Ok(found) => match state_of(found)? {
                    Some(data) => return Ok(data),
                    None => None,
                },
                Err(message) => Some(message),
            };
            if !has_object && self.needs_no_attachment(&key.driver).await {
                return Ok(BTreeMap::new());
            }
            if Instant::now() >= deadline {
                let Key { driver, handle } = key.clone();
                let timed_out = AttachError::TimedOut { driver, handle };
                return Err(refused.map_or(timed_out, AttachError::Failed));
            }
            // Nodes may not watch attachments.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// An object that comes late may say that there is nothing to wait for.
    async fn needs_no_attachment(&self, driver: &str) -> bool {
        let object = self.driver_object(driver).await;
        matches!(object, Ok(Some(it)) if !is_attachable(Some(&it)))
    }

    /// Whether the attachment failed for want of room. The scheduler is told how much there is now.
    async fn is_node_full(&self, key: &Key) -> bool {
        let api = Api::<VolumeAttachment>::all(self.client.clone());
        let found = within(api.get_opt(&attachment_name(key, &self.node_name))).await;
        if !matches!(&found, Ok(Some(it)) if is_exhausted(it)) {
            return false;
        }
        if let Err(error) = self.update_allocatable(&key.driver).await {
            warn!(driver = key.driver, error, "how many volumes the node takes was not told");
        }
        true
    }
}

#[cfg(test)]
mod tests;
