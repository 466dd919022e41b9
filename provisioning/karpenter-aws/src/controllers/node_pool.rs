//! NodePools: their hash, what their nodes have together, and whether they can be used.

use std::{sync::Arc, time::Duration};

use api_kube::karpenter::{NodeClaim, NodePool, NodePoolStatus, annotations};
use controller::{ApplyError, Key};
use karpenter_core::{
    Used,
    disruption::{HASH_VERSION, pool_hash},
    faults,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::warn;

use super::{
    Context, conditions,
    lifecycle::pool_of,
    merge,
    registrations::{self, Registrations},
};

const PERIOD: Duration = Duration::from_secs(5);
/// What `Ready` depends on.
const READY: [&str; 2] = ["ValidationSucceeded", "NodeClassReady"];
/// What is unknown until it is said.
pub(super) const PARTS: [&str; 3] = ["ValidationSucceeded", "NodeClassReady", registrations::KIND];

impl Context {
    pub(super) async fn watch_pools(&self) {
        loop {
            let pools = self.pools.all();
            let is_there =
                |uid: &String| pools.iter().any(|it| it.metadata.uid.as_ref() == Some(uid));
            self.registrations.lock().retain(|uid, _| is_there(uid));
            for (pool, used) in self.used() {
                if let Err(error) = self.reconcile_pool(&pool, &used).await {
                    warn!(pool = pool.name(), error = %telemetry::chain(&error), "pass failed");
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// The pools, with what their nodes have together.
    fn used(&self) -> Vec<(Arc<NodePool>, Used)> {
        let snapshot = self.snapshot();
        let each = self.pools.all().into_iter().map(|pool| {
            let used = snapshot.used(pool.name());
            (pool, used)
        });
        each.collect()
    }

    async fn reconcile_pool(&self, pool: &NodePool, used: &Used) -> Result<(), ApplyError> {
        let api = Api::<NodePool>::all(self.client.clone());
        let failed = |error| ApplyError::new::<NodePool>("patch", pool.name(), error);
        let known = pool.metadata.annotations.clone().unwrap_or_default();
        let hash = pool_hash(pool);
        if known.get(annotations::NODE_POOL_HASH) != Some(&hash) {
            let patch = json!({ "metadata": { "annotations": {
                annotations::NODE_POOL_HASH: hash,
                annotations::NODE_POOL_HASH_VERSION: HASH_VERSION } } });
            let patched =
                api.patch(pool.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map_err(failed)?;
        }
        if self.class(&pool.spec.template.spec.node_class_ref.name).is_none() {
            self.events.unresolved_class(pool);
        }
        let status = self.pool_status(pool, used);
        if pool.status.as_ref() != Some(&status) {
            let patch = merge::status(pool.status.as_ref(), &status);
            let patched =
                api.patch_status(pool.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map_err(failed)?;
        }
        Ok(())
    }

    /// How the last launches of a pool went; of a pool that is made anew nothing is known.
    pub(super) fn registrations(&self, pool: &NodePool, change: impl FnOnce(&mut Registrations)) {
        let uid = pool.metadata.uid.clone().unwrap_or_default();
        let mut all = self.registrations.lock();
        let known = || {
            let status = pool.status.as_ref();
            Registrations::known(status.map(|it| it.conditions.as_slice()).unwrap_or_default())
        };
        change(all.entry(uid).or_insert_with(known));
    }

    /// The same for the pool that a claim is of.
    pub(super) fn note_registration(
        &self,
        claim: &NodeClaim,
        change: impl FnOnce(&mut Registrations),
    ) {
        let Some(pool) = self.pools.get(&Key::new("", pool_of(claim))) else { return };
        let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
        if owners.iter().any(|it| Some(&it.uid) == pool.metadata.uid.as_ref()) {
            self.registrations(&pool, change);
        }
    }

    fn pool_status(&self, pool: &NodePool, used: &Used) -> NodePoolStatus {
        let mut status = pool.status.clone().unwrap_or_default();
        let (now, generation) = (self.clock.now(), pool.metadata.generation);
        status.nodes = used.nodes;
        status.resources = used.amounts.to_list();
        let class = self.class(&pool.spec.template.spec.node_class_ref.name);
        let of_class = class.as_ref().and_then(|it| it.metadata.generation);
        let known = status.conditions.iter().find(|it| it.type_ == registrations::KIND);
        let is_changed = known.is_some_and(|it| it.observed_generation != generation)
            || (status.node_class_observed_generation.is_some()
                && of_class.is_some()
                && status.node_class_observed_generation != of_class);
        status.node_class_observed_generation = of_class;
        self.registrations(pool, |it| it.say(&mut status.conditions, is_changed, generation, now));
        let is_ready = class
            .as_ref()
            .and_then(|it| it.status.as_ref())
            .is_some_and(|it| conditions::is_true(&it.conditions, "Ready"));
        let reason = match (&class, is_ready) {
            (None, _) => "NodeClassNotFound",
            (Some(_), false) => "NodeClassNotReady",
            (Some(_), true) => "NodeClassReady",
        };
        let all = &mut status.conditions;
        let faults = faults(pool);
        let (is_valid, kind) = (faults.is_empty(), "ValidationSucceeded");
        let why = if is_valid { kind } else { "NodePoolValidationFailed" };
        let said = faults.join("; ");
        conditions::set(all, kind, Some(is_valid), why, &said, generation, now);
        conditions::set(all, "NodeClassReady", Some(is_ready), reason, "", generation, now);
        conditions::set_ready(all, &READY, generation, now);
        status
    }
}
