//! The health of devices, as their drivers tell it in a stream for as long as they live.
//!
//! A device of which nothing was heard for as long as its driver allows is `Unknown`, as all are whose
//! driver tells nothing.
//!
//! Upstream: `healthinfo.go`, `HandleWatchResourcesStream` in `manager.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api_kubelet::dra_health::{
    self as v1alpha1, NodeWatchResourcesRequest,
    dra_resource_health_client::DraResourceHealthClient as Client,
};
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::debug;

use super::{DraManager, claim::DriverState, drivers::Driver};

/// Between two attempts to follow a driver.
const PAUSE: Duration = Duration::from_secs(5);
/// How long what was heard holds, unless the driver says otherwise.
const HOLDS: Duration = Duration::from_secs(30);
/// `ResourceHealthMessageMaxLength`.
/// Whatever a driver says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const LONGEST_MESSAGE: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceHealth {
    pub status: &'static str,
    pub message: Option<String>,
    until: Instant,
}

/// By driver, pool and device.
#[derive(Default)]
pub(super) struct Health(BTreeMap<String, BTreeMap<(String, String), DeviceHealth>>);

impl Health {
    /// `None` is unknown.
    pub(super) fn of(&self, driver: &str, pool: &str, device: &str) -> Option<&DeviceHealth> {
        let key = (pool.to_owned(), device.to_owned());
        self.0.get(driver)?.get(&key).filter(|it| it.until > Instant::now())
    }

    /// Takes the whole list of a driver. Says which devices have changed.
    fn update(
        &mut self,
        driver: &str,
        devices: Vec<v1alpha1::DeviceHealth>,
    ) -> BTreeSet<(String, String)> {
        let known = self.0.entry(driver.to_owned()).or_default();
        let mut changed = BTreeSet::new();
        for it in devices {
            let status = match it.health() {
                v1alpha1::HealthStatus::Healthy => "Healthy",
                v1alpha1::HealthStatus::Unhealthy => "Unhealthy",
                v1alpha1::HealthStatus::Unknown => "Unknown",
            };
            let holds = u64::try_from(it.health_check_timeout_seconds).unwrap_or(0);
            let holds = if holds == 0 { HOLDS } else { Duration::from_secs(holds).min(LONGEST) };
            let message = (!it.message.is_empty()).then(|| truncated(it.message));
            let v1alpha1::DeviceIdentifier { pool_name, device_name } =
                it.device.unwrap_or_default();
            let key = (pool_name, device_name);
            let until = Instant::now() + holds;
            let new = DeviceHealth { status, message, until };
            let old = known.insert(key.clone(), new.clone());
            if old.is_none_or(|old| old.status != new.status || old.message != new.message) {
                changed.insert(key);
            }
        }
        changed
    }

    fn clear(&mut self, driver: &str) -> BTreeSet<(String, String)> {
        self.0.remove(driver).into_iter().flat_map(BTreeMap::into_keys).collect()
    }

    /// The devices that have just become unknown, and the time of the next that will.
    fn lapse(&mut self, driver: &str) -> (BTreeSet<(String, String)>, Option<Instant>) {
        let Some(known) = self.0.get_mut(driver) else { return Default::default() };
        let now = Instant::now();
        let over: BTreeSet<_> =
            known.iter().filter(|(_, it)| it.until <= now).map(|(key, _)| key.clone()).collect();
        known.retain(|key, _| !over.contains(key));
        (over, known.values().map(|it| it.until).min())
    }
}

fn truncated(message: String) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message;
    }
    let end = (0..=LONGEST_MESSAGE - 3).rev().find(|at| message.is_char_boundary(*at));
    format!("{}...", &message[..end.unwrap_or(0)])
}

impl DraManager {
    /// Follows one instance of a driver until it goes, or until it says that it tells no health.
    pub(super) async fn follow_health(self: Arc<Self>, name: String, driver: Driver) {
        let gone = driver.gone.clone();
        let following = async {
            loop {
                let ended = self.follow_once(&name, &driver).await;
                let changed = self.health.lock().clear(&name);
                self.note_health(&name, &changed);
                match ended {
                    Err(status) if status.code() == Code::Unimplemented => return,
                    Err(status) => debug!(driver = name, %status, "no health of devices is told"),
                    Ok(()) => {}
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = following => {}
            () = gone.cancelled() => {}
        }
        let changed = self.health.lock().clear(&name);
        self.note_health(&name, &changed);
    }

    async fn follow_once(&self, name: &str, driver: &Driver) -> Result<(), Status> {
        let mut client = Client::new(driver.channel.clone());
        let asked = client.node_watch_resources(NodeWatchResourcesRequest {});
        let late = |_| Status::deadline_exceeded("context deadline exceeded");
        let stream = tokio::time::timeout(HOLDS, asked).await.map_err(late)??;
        let mut stream = stream.into_inner();
        loop {
            let (over, next) = self.health.lock().lapse(name);
            self.note_health(name, &over);
            // A stream that says nothing lets what it said lapse.
            let next = next.unwrap_or_else(|| Instant::now() + HOLDS);
            let Ok(message) = tokio::time::timeout_at(next, stream.message()).await else {
                continue;
            };
            let Some(message) = message? else { return Ok(()) };
            let changed = self.health.lock().update(name, message.devices);
            self.note_health(name, &changed);
        }
    }

    /// The pods that have one of these devices are looked at.
    fn note_health(&self, driver: &str, changed: &BTreeSet<(String, String)>) {
        if changed.is_empty() {
            return;
        }
        let claims = self.claims.lock();
        let has_one = |it: &&super::ClaimInfo| {
            let devices = it.driver_state.get(driver).into_iter().flat_map(DriverState::devices);
            let mut keys = devices.map(|it| (it.pool_name.clone(), it.device_name.clone()));
            keys.any(|it| changed.contains(&it))
        };
        let pods = claims.values().filter(has_one).flat_map(|it| it.pod_uids.keys().cloned());
        self.affected.lock().extend(pods);
        self.changed.notify_one();
    }
}
