//! Steps that give something back to EC2, and the hunt for what was left behind.

use std::time::Duration;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tracing::{info, warn};

use super::{Ipamd, IpamdError};
use crate::{
    cloud::{self, Cloud, CloudError},
    network,
    plan::Step,
};

/// A detached interface of this age belongs to nobody.
const LEAK_AGE: Duration = Duration::from_secs(300);
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// The first sweep comes within this time, so that many nodes do not sweep at once.
const SWEEP_SPREAD_SECONDS: u64 = 300;

impl Ipamd {
    /// What is given back leaves the store first, so that no pod gets it meanwhile. Where EC2 refuses,
    /// the next look at IMDS brings it back; where only the answer is missing, it may be somebody
    /// else's by now, and is left alone until IMDS has to know.
    pub(super) async fn shrink(&self, cloud: &Cloud, step: Step) -> Result<(), IpamdError> {
        let now = self.parts.clock.now();
        self.pool.lock().last_shrink = Some(now);
        let done = match step {
            Step::UnassignAddresses { eni, addresses } => {
                let taken = self.store.lock().take_addresses(&eni, &addresses);
                let nets: Vec<Ipv4Net> = taken.iter().copied().map(Ipv4Net::from).collect();
                self.pool.lock().returned.note(&eni, &nets, now);
                let done = match taken.is_empty() {
                    true => Ok(()),
                    false => cloud.unassign_addresses(&eni, &taken).await,
                };
                done.inspect_err(|error| self.keep_refused(error, &eni, &nets))
            }
            Step::UnassignPrefixes { eni, prefixes } => {
                let taken = self.store.lock().take_prefixes(&eni, &prefixes);
                self.pool.lock().returned.note(&eni, &taken, now);
                let done = match taken.is_empty() {
                    true => Ok(()),
                    false => cloud.unassign_prefixes(&eni, &taken).await,
                };
                done.inspect_err(|error| self.keep_refused(error, &eni, &taken))
            }
            Step::DeleteEni { eni } => {
                let taken = self.store.lock().take_idle_eni(&eni, now);
                let Some(taken) = taken else { return Ok(()) };
                let attached = taken.attached;
                let torn_down = linux_netlink::run(self.parts.netns.clone(), move |netlink| {
                    network::tear_down_eni(netlink, &attached)
                });
                if let Err(source) = torn_down.await {
                    self.pool.lock().last_reconcile = None;
                    return Err(IpamdError::Network { source });
                }
                cloud.remove_eni(&eni).await
            }
            _ => Ok(()),
        };
        if done.is_err() {
            self.pool.lock().last_reconcile = None;
        }
        done.map_err(|source| IpamdError::Cloud { source })
    }

    fn keep_refused(&self, error: &CloudError, eni: &str, nets: &[Ipv4Net]) {
        if error.is_refusal() {
            self.pool.lock().returned.forget(eni, nets);
        }
    }

    /// Sweeps hourly; see [`Self::sweep_once`].
    pub async fn sweep(&self) {
        let mut wait = Duration::from_secs(entropy::below(SWEEP_SPREAD_SECONDS));
        loop {
            tokio::time::sleep(wait).await;
            wait = SWEEP_INTERVAL;
            if let Err(error) = self.sweep_once().await {
                self.fail("cleanupLeakedENIs", &error).await;
            }
        }
    }

    /// Deletes interfaces that a node of this cluster created and never attached, or detached and
    /// never deleted.
    pub async fn sweep_once(&self) -> Result<(), IpamdError> {
        let Some(cloud) = &self.parts.cloud else { return Ok(()) };
        let failed = |source| IpamdError::Cloud { source };
        let cluster = &self.parts.config.cluster_name;
        let mut filters = vec![("status", "available"), ("tag-key", cloud::TAG_INSTANCE)];
        if !cluster.is_empty() {
            filters.push(("tag:cluster.k8s.amazonaws.com/name", cluster));
        }
        let now = self.parts.clock.now();
        for eni in cloud.find_enis(&filters).await.map_err(failed)? {
            let is_ours = eni.description.as_deref().is_some_and(|it| it.starts_with("aws-K8S-"));
            let created = cloud::tag(&eni.tag_set, cloud::TAG_CREATED);
            let Some(id) = eni.network_interface_id.clone() else { continue };
            if is_ours && is_leaked(created, now) {
                info!(eni = id, "deleting a leaked interface");
                if let Err(error) = cloud.delete_eni(&id).await {
                    warn!(eni = id, error = %telemetry::chain(&error), "still leaked");
                }
            }
        }
        Ok(())
    }
}

/// One without a readable date is somebody's who is just about to attach it.
fn is_leaked(created: Option<&str>, now: Timestamp) -> bool {
    let created = created.and_then(|text| text.parse::<Timestamp>().ok());
    created.is_some_and(|created| created + LEAK_AGE < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_leaked_when_it_is_older_than_five_minutes() {
        let now: Timestamp = "2026-11-23T12:05:00Z".parse().unwrap();
        assert!(is_leaked(Some("2026-11-23T11:59:59Z"), now));
        assert!(!is_leaked(Some("2026-11-23T12:00:00Z"), now));
        assert!(!is_leaked(Some("yesterday"), now));
        assert!(!is_leaked(None, now));
    }
}
