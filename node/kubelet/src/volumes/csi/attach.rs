//! Waiting for a volume that a controller attaches to this node.
//!
//! The node's status names the volumes in use first (`volumesInUse`), so that no controller takes one
//! away that is about to be mounted; then the attachment is waited for.
//!
//! Upstream: `pkg/kubelet/volumemanager/reconciler`, `pkg/volume/csi/csi_attacher.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::Api;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{Csi, Key, volume::attachment_name};
use crate::api_limit::within;

/// How long one round of a pod's worker waits; the next one goes on.
const LIMIT: Duration = Duration::from_secs(120);
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

    async fn until_told(&self, name: &str) -> bool {
        let mut told = self.told.subscribe();
        let told = told.wait_for(|it| it.contains(name));
        tokio::time::timeout(LIMIT, told).await.is_ok_and(|it| it.is_ok())
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("volume has not been added to the list of VolumesInUse in the node's volume status")]
    NotTold,
    #[error("{0}")]
    Failed(String),
    #[error("volume attachment is being deleted")]
    Detaching,
    #[error(
        "timed out waiting for external-attacher of {driver} CSI driver to attach volume {handle}"
    )]
    TimedOut { driver: String, handle: String },
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

impl Csi {
    /// Ends when the volume is attached to this node; returns what the controller says of it. The
    /// volume is in use for as long as the first part of the answer lives.
    pub(super) async fn until_attached(
        &self,
        key: &Key,
        has_object: bool,
    ) -> Result<(Waiting<'_>, BTreeMap<String, String>), AttachError> {
        let name = key.unique_name();
        let waiting = self.in_use.wait(&name);
        if !self.in_use.until_told(&name).await {
            return Err(AttachError::NotTold);
        }
        let api = Api::<VolumeAttachment>::all(self.client.clone());
        let attachment = attachment_name(key, &self.node_name);
        let (deadline, mut pause) = (Instant::now() + LIMIT, FIRST_PAUSE);
        loop {
            // Before there is an attachment the node may not even ask for it: that is no end of the
            // wait, during which the volume has to stay in use.
            let refused = match within(api.get_opt(&attachment)).await {
                Ok(found) => match state_of(found)? {
                    Some(data) => return Ok((waiting, data)),
                    None => None,
                },
                Err(message) => Some(message),
            };
            // An object that comes late may say that there is nothing to wait for.
            if !has_object
                && let Ok(Some(object)) = self.driver_object(&key.driver).await
                && !is_attachable(Some(&object))
            {
                return Ok((waiting, BTreeMap::new()));
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
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn attachment(status: Value) -> Option<VolumeAttachment> {
        let it = json!({
            "metadata": { "name": "a" },
            "spec": { "attacher": "d", "nodeName": "n", "source": {} },
            "status": status,
        });
        serde_json::from_value(it).unwrap()
    }

    #[test]
    fn an_attachment_counts_when_it_is_done_and_stays() {
        assert_eq!(state_of(None), Ok(None));
        assert_eq!(state_of(attachment(json!({ "attached": false }))), Ok(None));
        let done = json!({ "attached": true, "attachmentMetadata": { "dev": "x" } });
        assert_eq!(state_of(attachment(done.clone())).unwrap().unwrap()["dev"], "x");
        let mut going = attachment(done).unwrap();
        going.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(state_of(Some(going)), Err(AttachError::Detaching));
        let failed = attachment(json!({ "attached": false, "attachError": { "message": "full" } }));
        assert_eq!(state_of(failed), Err(AttachError::Failed("full".to_owned())));
    }

    #[test]
    fn a_volume_is_in_use_while_it_is_waited_for_or_staged() {
        let in_use = InUse::new(["old".to_owned()].into_iter());
        let names = |it: &InUse| it.wanted.borrow().iter().cloned().collect::<Vec<_>>();
        let (one, two) = (in_use.wait("new"), in_use.wait("new"));
        drop(one);
        assert_eq!(names(&in_use), ["new", "old"]);
        drop(two);
        assert_eq!(names(&in_use), ["old"]);
        in_use.set_staged("old", false);
        assert!(names(&in_use).is_empty());
    }
}
