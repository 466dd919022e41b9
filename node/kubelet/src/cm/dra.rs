//! Dynamic resources: the devices of the ResourceClaims that a pod names, which drivers on the node
//! make ready for it and take back.
//!
//! A claim is prepared before the sandbox of the first pod that uses it is made, and unprepared when the
//! last one has ended: after its containers, before the API hears that it is over.
//!
//! Upstream: `pkg/kubelet/cm/dra` (`manager.go`).
//!
//! **Invariant:** a driver that may have been asked to prepare a claim is asked to unprepare it: what
//! is planned is in the checkpoint before the driver is called. Of one claim, neither overlaps the other.
//!
//! Deviation: the lapse of a driver's connection is not seen, only the end of its registration; its
//! `ResourceSlice`s are withdrawn then. Hints of NUMA topology are not taken from devices.

mod checkpoint;
mod claim;
mod drivers;
mod health;
mod lookup;
mod prepare;
mod told;
mod turns;
mod unprepare;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kube::Client;
use lifecycle::Scope;
use parking_lot::Mutex;
use scheduling::resourceclaim::ResourceClaimError;
use tokio::sync::Notify;
use tonic::Status;
use tracing::{info, warn};

pub(crate) use self::drivers::handler;
use self::{claim::ClaimInfo, drivers::Drivers, health::Health, turns::Turns};
use super::{ContainerManager, checkpoint::CheckpointError};
use crate::{metrics::Metrics, pod::PodUid, pod_workers::PodWorkers};

/// How often it is looked for claims of pods that are no more.
const RECONCILE: Duration = Duration::from_secs(60);

/// Namespace and name of a claim.
type Key = (String, String);
type Claims = BTreeMap<Key, ClaimInfo>;

/// Why a pod's resources are not ready, or not taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DraError {
    #[error(transparent)]
    Lookup(#[from] ResourceClaimError),
    #[error("fetch ResourceClaim {name}: {message}")]
    Fetch { name: String, message: String },
    #[error("pod {pod} ({uid}) is not allowed to use ResourceClaim {claim} ({claim_uid})")]
    NotReserved { pod: String, uid: String, claim: String, claim_uid: String },
    #[error("ResourceClaim {name}: not allocated")]
    NotAllocated { name: String },
    #[error("DRA driver {0} is not registered")]
    NotRegistered(String),
    #[error(
        "old ResourceClaim with same name {name} and different UID {uid} still exists (previous pod force-deleted?!)"
    )]
    Replaced { name: String, uid: String },
    #[error("{call}: rpc error: code = {:?} desc = {}", .status.code(), .status.message())]
    Rpc { call: &'static str, status: Box<Status> },
    #[error("{call} returned result for unknown claim UID {uid}")]
    Unknown { call: &'static str, uid: String },
    #[error("{call} failed for ResourceClaim {name}: {message}")]
    Failed { call: &'static str, name: String, message: String },
    #[error("{call} skipped {count} ResourceClaims")]
    Skipped { call: &'static str, count: usize },
    #[error("checkpoint ResourceClaim state: {0}")]
    Checkpoint(#[source] io::Error),
}

/// Takes back, for ever, what pods have that are no more. Begins when the pods are known.
pub(crate) async fn run(manager: Arc<ContainerManager>, workers: Arc<PodWorkers>) {
    let dra = manager.dra.clone();
    // Until a driver registers nobody can use what it offered before.
    let this = dra.clone();
    let withdrawing = async move { this.drivers.withdraw(None).await };
    drop(dra.scope.spawn("resource-slices", withdrawing));
    manager.settled().await;
    loop {
        dra.unprepare_gone(|uid| workers.is_known(uid)).await;
        // Either way it is time to look again.
        drop(tokio::time::timeout(RECONCILE, dra.driver_came.notified()).await);
    }
}

/// See the module.
pub(crate) struct DraManager {
    client: Client,
    path: PathBuf,
    claims: Mutex<Claims>,
    turns: Turns,
    drivers: Drivers,
    health: Mutex<Health>,
    metrics: Arc<Metrics>,
    scope: Scope,
    changed: Arc<Notify>,
    /// Pods of which a device has changed its health.
    affected: Mutex<BTreeSet<String>>,
    /// A driver has come: what waits for it is tried again.
    driver_came: Notify,
}

/// What the manager works with.
pub(crate) struct Parts<'a> {
    pub client: Client,
    pub node: &'a str,
    pub root: &'a Path,
    pub metrics: Arc<Metrics>,
    pub scope: Scope,
    pub changed: Arc<Notify>,
}

impl DraManager {
    /// A checkpoint that cannot be read ends the start, as upstream: nobody would know what is prepared.
    pub(crate) fn new(parts: Parts<'_>) -> Result<Self, CheckpointError> {
        let path = parts.root.join(checkpoint::FILE);
        let claims = match super::checkpoint::read(&path)? {
            Some(text) => checkpoint::decode(&text)?,
            None => Claims::new(),
        };
        Ok(Self {
            drivers: Drivers::new(parts.client.clone(), parts.node.to_owned()),
            client: parts.client,
            path,
            claims: Mutex::new(claims),
            turns: Turns::default(),
            health: Mutex::default(),
            metrics: parts.metrics,
            scope: parts.scope,
            changed: parts.changed,
            affected: Mutex::default(),
            driver_came: Notify::new(),
        })
    }

    /// Whether a pod may have resources that are to be taken back.
    pub(crate) fn is_held_by(&self, uid: &PodUid) -> bool {
        self.claims.lock().values().any(|it| it.pod_uids.contains_key(&uid.0))
    }

    /// The pods of which a device has changed since the last time.
    pub(super) fn take_affected(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.affected.lock())
    }

    async fn unprepare_gone(&self, is_known: impl Fn(&PodUid) -> bool) {
        let holders: BTreeSet<_> =
            self.claims.lock().values().flat_map(|it| it.pod_uids.keys().cloned()).collect();
        for uid in holders.into_iter().map(PodUid).filter(|it| !is_known(it)) {
            match self.unprepare(&uid).await {
                Ok(()) => info!(%uid, "what a pod had that is gone was unprepared"),
                Err(error) => warn!(%uid, %error, "what a pod had that is gone is still prepared"),
            }
        }
    }

    /// Writes what is known. Called with the claims locked, so that files have their order.
    fn save(&self, claims: &Claims) -> Result<(), DraError> {
        let text = checkpoint::encode(claims);
        super::checkpoint::write(&self.path, &text).map_err(DraError::Checkpoint)
    }
}
