//! Volumes of CSI drivers: what this node asks of a driver that has registered itself.
//!
//! What is staged and published is told by files beside it (`vol_data.json`, in upstream's folders),
//! never remembered: a file is written before the call that it tells of, and removed after the call
//! that undoes it. So a kubelet that is killed between any two calls finds what it has to undo, and
//! calls again what it does not know to be done; drivers have to answer both.
//!
//! Staged volumes that no pod uses any more are unstaged behind the pods ([`Csi::unstage_unused`]).
//!
//! **Invariant:** of one volume only one call is under way at any time; it is never unstaged while a pod
//! of this node has its file.
//!
//! Upstream: `pkg/volume/csi`.
//!
//! Deviation: block devices are given to containers where the driver
//! published them, without the loop device that upstream holds them with; SELinux labels are not set.

mod allocatable;
mod attach;
mod client;
mod data;
mod expand;
mod fs_group;
mod growth;
mod layout;
mod node_info;
mod publish;
mod registration;
mod stats;
mod unpublish;
mod volume;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use k8s_openapi::api::{core::v1::SecretReference, storage::v1::CSIDriver};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, watch};

use self::layout::Layout;
pub(crate) use self::{
    attach::InUse,
    client::{Driver, RpcError},
    publish::{Again, Needs, PublishError},
    registration::handler,
    stats::VolumeStats,
    unpublish::UnpublishError,
    volume::CsiVolume,
};
pub(super) use self::{
    expand::Growing,
    stats::{FRESH, LIMIT},
};
use crate::{
    api_limit::within,
    events::Recorder,
    metrics::Metrics,
    node_object::NodeObject,
    objects::{ObjectKind, Objects},
    paths::Paths,
};

/// What volumes of drivers are made with.
pub(crate) struct Parts {
    pub client: Client,
    pub recorder: Recorder,
    pub node_name: String,
    pub node_object: Arc<NodeObject>,
    /// See [`Csi::is_reported`].
    pub is_reported: bool,
    pub paths: Paths,
    pub metrics: Arc<Metrics>,
}

pub(crate) struct Csi {
    client: Client,
    recorder: Recorder,
    node_name: String,
    node_object: Arc<NodeObject>,
    /// The controller attaches, and says so in the node's status (`enableControllerAttachDetach`).
    is_reported: bool,
    layout: Layout,
    metrics: Arc<Metrics>,
    drivers: Mutex<BTreeMap<String, Driver>>,
    /// Where this process has published; another process may have, too, which is done again.
    published: Mutex<HashSet<PathBuf>>,
    locks: Mutex<HashMap<Key, Arc<AsyncMutex<()>>>>,
    pub(crate) in_use: InUse,
    unused: Notify,
    registered: Notify,
    /// Marked when a driver has come, or a pod has let go of a volume.
    changes: watch::Sender<()>,
    node: AsyncMutex<()>,
    stats: stats::Kept,
}

/// A volume of a driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub driver: String,
    pub handle: String,
}

impl Key {
    /// As the node's status and the controllers name it.
    fn unique_name(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }
}

/// No driver of this name has registered itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("driver name {0} not found in the list of registered CSI drivers")]
pub(crate) struct NoDriver(String);

impl Csi {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { client, recorder, node_name, node_object, is_reported, paths, metrics } = parts;
        let layout = Layout::new(paths);
        let in_use = InUse::new(layout.staged().into_iter().map(|it| it.key.unique_name()));
        Self {
            client,
            recorder,
            node_name,
            node_object,
            is_reported,
            layout,
            metrics,
            drivers: Mutex::default(),
            published: Mutex::default(),
            locks: Mutex::default(),
            in_use,
            unused: Notify::new(),
            registered: Notify::new(),
            changes: watch::Sender::new(()),
            node: AsyncMutex::default(),
            stats: stats::Kept::default(),
        }
    }

    fn driver(&self, name: &str) -> Result<Driver, NoDriver> {
        let found = self.drivers.lock().get(name).cloned();
        found.ok_or_else(|| NoDriver(name.to_owned()))
    }

    /// The driver's object in the API, which drivers need not have.
    async fn driver_object(&self, name: &str) -> Result<Option<CSIDriver>, String> {
        let api = Api::<CSIDriver>::all(self.client.clone());
        within(api.get_opt(name)).await
    }

    /// Waits until no other call of this volume is under way.
    async fn lock(&self, key: &Key) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock();
            locks.retain(|_, it| Arc::strong_count(it) > 1);
            locks.entry(key.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// Tells of each moment from which on volumes may be had that could not be had before.
pub(super) async fn tell(csi: &Csi, tell: impl Fn()) {
    let mut changes = csi.changes.subscribe();
    while changes.changed().await.is_ok() {
        tell();
    }
}

/// The texts of a secret that a volume names; nothing, if it names none.
async fn read_secret(
    objects: &Objects,
    reference: Option<&SecretReference>,
) -> Result<HashMap<String, String>, String> {
    let Some(reference) = reference else { return Ok(HashMap::new()) };
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let name = reference.name.as_deref().unwrap_or_default();
    let found = objects.find(ObjectKind::Secret, namespace, name).await;
    let data = found.map_err(|it| it.to_string())?;
    let data = data.ok_or_else(|| format!("secrets \"{name}\" not found"))?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    Ok(data.iter().map(|(key, value)| (key.clone(), text(value))).collect())
}
