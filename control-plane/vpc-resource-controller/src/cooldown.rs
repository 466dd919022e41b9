//! How long a branch rests before it is deleted: `branch-eni-cooldown` of the ConfigMap
//! `amazon-vpc-cni`, for as long as kube-proxies elsewhere may send to the address.
//!
//! Upstream: `pkg/provider/branch/cooldown`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, runtime::watcher};
use tracing::debug;

use crate::Context;

const DEFAULT_SECONDS: u64 = 60;
const LEAST_SECONDS: u64 = 30;
const NAMESPACE: &str = "kube-system";
const NAME: &str = "amazon-vpc-cni";
const KEY: &str = "branch-eni-cooldown";
const PAUSE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Cooldown(AtomicU64);

impl Default for Cooldown {
    fn default() -> Self {
        Self(AtomicU64::new(DEFAULT_SECONDS))
    }
}

impl Cooldown {
    pub(crate) fn get(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    /// `true`: it is another one than before.
    fn set(&self, seconds: u64) -> bool {
        self.0.swap(seconds, Ordering::Relaxed) != seconds
    }
}

/// What is no number counts as the default, what is too short as the shortest.
fn seconds_of(map: Option<&ConfigMap>) -> u64 {
    let value = map.and_then(|it| it.data.as_ref()).and_then(|it| it.get(KEY));
    let value = value.and_then(|it| it.trim().parse().ok()).unwrap_or(DEFAULT_SECONDS);
    value.max(LEAST_SECONDS)
}

impl Context {
    /// Follows the ConfigMap, for ever.
    pub(crate) async fn watch_cooldown(&self) {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), NAMESPACE);
        let mut states = std::pin::pin!(watcher::watch_object(api, NAME));
        while let Some(state) = states.next().await {
            match state {
                Ok(map) => self.learn_cooldown(seconds_of(map.as_ref())),
                Err(error) => {
                    debug!(error = %telemetry::chain(&error), "watching {NAME} failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn learn_cooldown(&self, seconds: u64) {
        if !self.cooldown.set(seconds) {
            return;
        }
        let message = format!("Branch ENI cool down period has been updated to {seconds}s");
        for node in self.nodes.all() {
            self.node_event(&node, "BranchENICoolDownPeriodUpdated", &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_minute_and_half_of_one_at_least() {
        let map = |value: &str| ConfigMap {
            data: Some([(KEY.to_owned(), value.to_owned())].into()),
            ..ConfigMap::default()
        };
        assert_eq!(seconds_of(None), 60);
        for (value, seconds) in [("90", 90), ("5", 30), ("soon", 60), ("-1", 60), ("", 60)] {
            assert_eq!(seconds_of(Some(&map(value))), seconds, "{value}");
        }
    }
}
