//! How many volumes of a driver this node takes, told anew for as long as that can change.
//!
//! A driver's object may ask for it (`nodeAllocatableUpdatePeriodSeconds`): then the driver is asked
//! again so often, and whenever an attachment failed because the node was full.
//!
//! Upstream: `pkg/volume/csi/csi_node_updater.go`.

use std::{collections::BTreeMap, future::pending, pin::pin, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Csi;

/// When each driver is asked next.
#[derive(Debug, Default)]
struct Schedule(BTreeMap<String, (Duration, Instant)>);

impl Schedule {
    fn note(&mut self, event: Event<CSIDriver>, now: Instant) {
        let (object, is_gone) = match event {
            Event::Apply(object) | Event::InitApply(object) => (object, false),
            Event::Delete(object) => (object, true),
            Event::Init | Event::InitDone => return,
        };
        let name = object.metadata.name.unwrap_or_default();
        let seconds = object.spec.node_allocatable_update_period_seconds.unwrap_or(0);
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 && !is_gone => {
                let period = Duration::from_secs(seconds);
                let known = self.0.get(&name).is_some_and(|it| it.0 == period);
                if !known {
                    self.0.insert(name, (period, now + period));
                }
            }
            _ => drop(self.0.remove(&name)),
        }
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().map(|it| it.1).min()
    }

    /// The drivers whose time has come; they come again after their period.
    fn take_due(&mut self, now: Instant) -> Vec<String> {
        let due = self.0.iter_mut().filter(|(_, (_, at))| *at <= now);
        due.map(|(name, (period, at))| {
            *at = now + *period;
            name.clone()
        })
        .collect()
    }
}

impl Csi {
    /// Asks a driver what this node is to it now, and tells the cluster.
    pub(super) async fn update_allocatable(&self, name: &str) -> Result<(), String> {
        let driver = self.driver(name).map_err(|it| it.to_string())?;
        let info = driver.info().await.map_err(|it| it.to_string())?;
        self.add_to_node(name, &info).await
    }

    /// Asks the drivers whose objects want it, for ever.
    pub(crate) async fn keep_allocatable(&self) {
        // Most nodes of a test have no driver at all: they need no watch.
        self.registered.notified().await;
        let config = watcher::Config::default();
        let api = Api::<CSIDriver>::all(self.client.clone());
        let mut events = pin!(watcher(api, config).default_backoff());
        let mut schedule = Schedule::default();
        loop {
            let next = schedule.next();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => schedule.note(event, Instant::now()),
                    Some(Err(error)) => {
                        debug!(error = %telemetry::chain(&error), "watch of CSI drivers failed");
                    }
                    None => return,
                },
                () = due => self.update_due(schedule.take_due(Instant::now())).await,
            }
        }
    }

    async fn update_due(&self, drivers: Vec<String>) {
        for driver in drivers {
            let is_here = self.drivers.lock().contains_key(&driver);
            if is_here && let Err(error) = self.update_allocatable(&driver).await {
                warn!(driver, error, "how many volumes the node takes was not told");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn driver(seconds: Option<i64>) -> CSIDriver {
        let spec = json!({ "nodeAllocatableUpdatePeriodSeconds": seconds });
        serde_json::from_value(json!({ "metadata": { "name": "d" }, "spec": spec })).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_is_asked_as_often_as_its_object_says() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        schedule.note(Event::InitApply(driver(None)), start);
        assert_eq!(schedule.next(), None);
        schedule.note(Event::Apply(driver(Some(10))), start);
        assert_eq!(schedule.next(), Some(at(10)));
        // The same again, as a watch that begins anew tells it.
        schedule.note(Event::InitApply(driver(Some(10))), at(5));
        assert_eq!(schedule.take_due(at(9)), Vec::<String>::new());
        assert_eq!(schedule.take_due(at(10)), ["d"]);
        assert_eq!(schedule.next(), Some(at(20)));
        schedule.note(Event::Apply(driver(Some(60))), at(12));
        assert_eq!(schedule.next(), Some(at(72)));
        schedule.note(Event::Delete(driver(Some(60))), at(13));
        assert_eq!(schedule.next(), None);
    }
}
