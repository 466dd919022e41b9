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
/// Whatever a driver says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// `ResourceHealthMessageMaxLength`.
const LONGEST_MESSAGE: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceHealth {
    pub status: &'static str,
    pub message: Option<String>,
    until: Instant,
}

/// Pool and name of a device.
type Key = (String, String);
type Devices = BTreeMap<Key, DeviceHealth>;

/// What each instance of each driver has told. The newest that tells of a device is right.
#[derive(Default)]
pub(super) struct Health(BTreeMap<String, BTreeMap<u64, Devices>>);

impl Health {
    /// `None` is unknown.
    pub(super) fn of(&self, driver: &str, pool: &str, device: &str) -> Option<&DeviceHealth> {
        let (key, now) = ((pool.to_owned(), device.to_owned()), Instant::now());
        let mut told = self.0.get(driver)?.values().rev().filter_map(|it| it.get(&key));
        told.find(|it| it.until > now)
    }

    fn said(&self, driver: &str, (pool, device): &Key) -> Option<(&'static str, Option<String>)> {
        self.of(driver, pool, device).map(|it| (it.status, it.message.clone()))
    }

    /// Changes what is known of some devices. Says of which something else is known now.
    fn change(
        &mut self,
        driver: &str,
        keys: BTreeSet<Key>,
        change: impl FnOnce(&mut Self),
    ) -> BTreeSet<Key> {
        let before: Vec<_> = keys.into_iter().map(|key| (self.said(driver, &key), key)).collect();
        change(self);
        let others = before.into_iter().filter(|(said, key)| *said != self.said(driver, key));
        others.map(|(_, key)| key).collect()
    }

    /// Takes the whole list of an instance. Says which devices have changed.
    fn update(
        &mut self,
        driver: &str,
        instance: u64,
        devices: Vec<v1alpha1::DeviceHealth>,
    ) -> BTreeSet<Key> {
        let told: Devices = devices.into_iter().map(entry).collect();
        self.change(driver, told.keys().cloned().collect(), |this| {
            this.0.entry(driver.to_owned()).or_default().entry(instance).or_default().extend(told);
        })
    }

    /// What an instance told holds no more; what another one told does.
    fn clear(&mut self, driver: &str, instance: u64) -> BTreeSet<Key> {
        let told = self.0.get(driver).and_then(|it| it.get(&instance));
        let keys = told.into_iter().flat_map(BTreeMap::keys).cloned().collect();
        self.change(driver, keys, |this| {
            let Some(instances) = this.0.get_mut(driver) else { return };
            instances.remove(&instance);
            if instances.is_empty() {
                this.0.remove(driver);
            }
        })
    }

    /// The devices of which what an instance told holds no more, and the time of the next.
    fn lapse(&mut self, driver: &str, instance: u64) -> (BTreeSet<Key>, Option<Instant>) {
        let told = self.0.get_mut(driver).and_then(|it| it.get_mut(&instance));
        let Some(told) = told else { return Default::default() };
        let now = Instant::now();
        let over: BTreeSet<_> =
            told.iter().filter(|(_, it)| it.until <= now).map(|(key, _)| key.clone()).collect();
        told.retain(|key, _| !over.contains(key));
        (over, told.values().map(|it| it.until).min())
    }
}

fn entry(it: v1alpha1::DeviceHealth) -> (Key, DeviceHealth) {
    let status = match it.health() {
        v1alpha1::HealthStatus::Healthy => "Healthy",
        v1alpha1::HealthStatus::Unhealthy => "Unhealthy",
        v1alpha1::HealthStatus::Unknown => "Unknown",
    };
    let holds = u64::try_from(it.health_check_timeout_seconds).unwrap_or(0);
    let holds = if holds == 0 { HOLDS } else { Duration::from_secs(holds).min(LONGEST) };
    let message = (!it.message.is_empty()).then(|| truncated(it.message));
    let v1alpha1::DeviceIdentifier { pool_name, device_name } = it.device.unwrap_or_default();
    ((pool_name, device_name), DeviceHealth { status, message, until: Instant::now() + holds })
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
                let changed = self.health.lock().clear(&name, driver.instance);
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
        let changed = self.health.lock().clear(&name, driver.instance);
        self.note_health(&name, &changed);
    }

    async fn follow_once(&self, name: &str, driver: &Driver) -> Result<(), Status> {
        let mut client = Client::new(driver.channel.clone());
        let asked = client.node_watch_resources(NodeWatchResourcesRequest {});
        let late = |_| Status::deadline_exceeded("context deadline exceeded");
        let stream = tokio::time::timeout(HOLDS, asked).await.map_err(late)??;
        let mut stream = stream.into_inner();
        loop {
            let (over, next) = self.health.lock().lapse(name, driver.instance);
            self.note_health(name, &over);
            // A stream that says nothing lets what it said lapse.
            let next = next.unwrap_or_else(|| Instant::now() + HOLDS);
            let Ok(message) = tokio::time::timeout_at(next, stream.message()).await else {
                continue;
            };
            let Some(message) = message? else { return Ok(()) };
            let changed = self.health.lock().update(name, driver.instance, message.devices);
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

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: &str = "d";

    fn told(device: &str, health: v1alpha1::HealthStatus, seconds: i64) -> v1alpha1::DeviceHealth {
        let (pool_name, device_name) = ("p".to_owned(), device.to_owned());
        v1alpha1::DeviceHealth {
            device: Some(v1alpha1::DeviceIdentifier { pool_name, device_name }),
            health: health.into(),
            health_check_timeout_seconds: seconds,
            ..v1alpha1::DeviceHealth::default()
        }
    }

    fn of(health: &Health, device: &str) -> Option<&'static str> {
        health.of(DRIVER, "p", device).map(|it| it.status)
    }

    fn keys(all: &[&str]) -> BTreeSet<Key> {
        all.iter().map(|it| ("p".to_owned(), (*it).to_owned())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_instance_takes_nothing_from_what_the_newer_one_told() {
        use v1alpha1::HealthStatus::{Healthy, Unhealthy};
        let mut health = Health::default();
        let both = vec![told("a", Healthy, 0), told("b", Healthy, 0)];
        assert_eq!(health.update(DRIVER, 1, both.clone()), keys(&["a", "b"]));
        assert_eq!(health.update(DRIVER, 1, both.clone()), keys(&[]));
        assert_eq!(health.update(DRIVER, 2, vec![told("a", Unhealthy, 60)]), keys(&["a"]));
        // The older one says once more what it thinks.
        assert_eq!(health.update(DRIVER, 1, both), keys(&[]));
        assert_eq!((of(&health, "a"), of(&health, "b")), (Some("Unhealthy"), Some("Healthy")));
        assert_eq!(health.clear(DRIVER, 1), keys(&["b"]));
        assert_eq!((of(&health, "a"), of(&health, "b")), (Some("Unhealthy"), None));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(of(&health, "a"), None);
        assert_eq!(health.lapse(DRIVER, 2), (keys(&["a"]), None));
        health.clear(DRIVER, 2);
        assert!(health.0.is_empty());
    }
}
