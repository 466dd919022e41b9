//! Whether the loops that all pods depend on go round: `/healthz/syncloop`.
//!
//! A loop beats each time that it goes round, whether there is anything to do or not. One that has not
//! begun yet is not missed.
//!
//! Upstream: `syncLoopHealthCheck` in `pkg/kubelet/server/server.go`.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Upstream's least patience.
const LEAST: Duration = Duration::from_secs(300);

/// How often a loop without news beats.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Heartbeat {
    patience: Duration,
    beats: Mutex<BTreeMap<&'static str, Instant>>,
}

impl Heartbeat {
    /// A loop may take twice as long as pods are synchronised (`syncFrequency`).
    pub(crate) fn new(sync: Duration) -> Self {
        Self { patience: (sync * 2).max(LEAST), beats: Mutex::default() }
    }

    /// A loop goes round.
    pub(crate) fn beat(&self, of: &'static str) {
        self.beats.lock().insert(of, Instant::now());
    }

    /// What is wrong, in upstream's words.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let beats = self.beats.lock();
        match beats.iter().find(|(_, at)| at.elapsed() > self.patience) {
            None => Ok(()),
            Some((of, at)) => {
                tracing::warn!(of, since = ?at.elapsed(), "a loop of the kubelet has stalled");
                Err("sync Loop took longer than expected")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_loop_that_stands_still_is_noticed_and_one_that_never_began_is_not_missed() {
        let heartbeat = Heartbeat::new(Duration::from_secs(60));
        assert!(heartbeat.check().is_ok());
        heartbeat.beat("a");
        heartbeat.beat("b");
        tokio::time::sleep(Duration::from_secs(200)).await;
        heartbeat.beat("a");
        tokio::time::sleep(Duration::from_secs(101)).await;
        assert_eq!(heartbeat.check(), Err("sync Loop took longer than expected"));
        heartbeat.beat("b");
        assert!(heartbeat.check().is_ok());
        let patient = Heartbeat::new(Duration::from_secs(600));
        patient.beat("a");
        tokio::time::sleep(Duration::from_secs(1199)).await;
        assert!(patient.check().is_ok());
    }
}
