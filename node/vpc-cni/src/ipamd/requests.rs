//! What the plug-in asks for: an address for a sandbox, and its return.

use std::{sync::atomic::Ordering, time::Duration};

use api_cni::backend::{Assignment, Sandbox};
use tracing::{debug, warn};

use super::{AddError, Ipamd, ipv6};
use crate::{
    checkpoint::{self, CheckpointError},
    datastore::{Assigned, Datastore, Key, PodName},
    metrics::labels,
};

/// How long an ADD waits for a pool that can grow.
const ADD_WAIT: Duration = Duration::from_secs(5);

impl Ipamd {
    /// Gives a sandbox an address; waits a moment for a pool that is growing.
    pub async fn add(&self, sandbox: &Sandbox) -> Result<Assignment, AddError> {
        self.metrics.count("awscni_add_ip_req_count");
        if let Some(branch) = self.branch_for(sandbox).await? {
            return Ok(branch);
        }
        let deadline = tokio::time::Instant::now() + ADD_WAIT;
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(assignment) = self.try_add(sandbox)? {
                self.wake.notify_one();
                return Ok(assignment);
            }
            let plan = self.plan();
            let can_grow = self.parts.cloud.is_some() && plan.step.is_growth();
            let is_growing = self.is_growing.load(Ordering::Relaxed);
            let now = self.parts.clock.now();
            let retry_at = self.pool.lock().failure.as_ref().map(|it| it.retry_at);
            let is_retried = self.parts.cloud.is_some()
                && !self.is_paused()
                && retry_at.is_some_and(|at| now < at && at < now + ADD_WAIT);
            self.wake.notify_one();
            let is_over = !(can_grow || is_growing || is_retried)
                || tokio::time::timeout_at(deadline, changes.changed()).await.is_err();
            if is_over {
                self.metrics.count("awscni_no_available_ip_addresses");
                let shortage = self.shortage(&plan);
                warn!(
                    pod = sandbox.pod_name,
                    cause = shortage.reason(),
                    "DataStore has no available IP/Prefix addresses"
                );
                self.report(sandbox, &shortage);
                return Err(AddError::Exhausted { reason: plan.reason, shortage });
            }
        }
    }

    /// Whether the subnet ran out a short while ago.
    pub(super) fn is_paused(&self) -> bool {
        let now = self.parts.clock.now();
        self.pool.lock().paused_until.is_some_and(|until| now < until)
    }

    fn try_add(&self, sandbox: &Sandbox) -> Result<Option<Assignment>, AddError> {
        let key = key_of(sandbox);
        let (namespace, name) = (sandbox.pod_namespace.clone(), sandbox.pod_name.clone());
        let now = self.parts.clock.now();
        let mut store = self.store.lock();
        let Some(assigned) = store.assign(&key, &PodName { namespace, name }, now) else {
            return Ok(None);
        };
        // On disk before anybody hears of it.
        if let Err(source) = self.keep(&store) {
            store.undo(&key);
            return Err(AddError::Checkpoint { source });
        }
        drop(store);
        debug!(address = %assigned.address, pod = sandbox.pod_name, "assigned");
        Ok(Some(self.describe(&assigned)))
    }

    /// Takes a sandbox's address back; `None` where it had none. A branch's goes with its pod: the
    /// controller takes it back.
    ///
    /// Where that cannot be kept on disk it is done all the same: the runtime would not ask again, and
    /// nobody gets the address before it could be kept. After a restart the sandbox has no link.
    pub fn delete(&self, sandbox: &Sandbox) -> Option<Assignment> {
        let reason = labels(&[("reason", &"PodDeleted")]);
        self.metrics.count_labelled("awscni_del_ip_req_count", reason);
        let released = {
            let mut store = self.store.lock();
            let key = key_of(sandbox);
            let was_known = store.row(&key).is_some();
            let released = store.release(&key, self.parts.clock.now());
            if was_known && let Err(error) = self.keep(&store) {
                warn!(error = %telemetry::chain(&error), "a release is not on disk yet");
            }
            released
        };
        self.wake.notify_one();
        released.map(|it| self.describe(&it)).or_else(|| self.known_branch(sandbox))
    }

    fn describe(&self, assigned: &Assigned) -> Assignment {
        Assignment {
            address: assigned.address,
            device_number: assigned.device_number,
            route_table: assigned.route_table,
            use_external_snat: self.parts.config.is_external_snat,
            vpc_cidrs: self.pool.lock().vpc_cidrs.clone(),
            ipv6: self.ipv6_of(assigned.address),
            branch: None,
        }
    }

    /// Puts the assignments on disk.
    pub(super) fn keep(&self, store: &Datastore) -> Result<(), CheckpointError> {
        let ipv6 = |place| self.prefix.get().map(|prefix| ipv6::address_of(*prefix, place));
        checkpoint::write(&self.parts.checkpoint, store.rows(), ipv6)
    }
}

fn key_of(sandbox: &Sandbox) -> Key {
    Key {
        network_name: sandbox.network_name.clone(),
        container_id: sandbox.container_id.clone(),
        if_name: sandbox.interface_name.clone(),
    }
}
