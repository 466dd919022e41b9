//! Nodes that expire, that are of no more use, or that can be had cheaper.
//!
//! Each ten seconds one command is decided; it is decided again after fifteen, and carried out where
//! it is still the same: replacements first, and when these are ready the nodes go. Upstream:
//! `pkg/controllers/disruption`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use api_kube::karpenter::{DisruptionReason, NodeClaim, taints};
use aws_ec2::instance::Instance;
use controller::{ApplyError, Key};
use k8s_openapi::api::core::v1 as core;
use karpenter_core::disruption::{Command, Fleet, Gates, Kept, expiration};
use serde_json::json;
use tracing::{info, warn};

use super::{Context, PERIOD, blocking, drift::Placed};
use crate::cloud::{NODE_CLAIM_TAG, instance_id};

/// How long a decision has to hold.
const VALIDATION: Duration = Duration::from_secs(15);
/// How long replacements may take.
const REPLACEMENTS: Duration = Duration::from_secs(600);
/// An instance whose claim is not there is left alone for so long.
const COLLECTION: Duration = Duration::from_secs(30);

/// The condition of a claim whose node is being disrupted: what it goes for.
pub(super) const REASON: &str = "DisruptionReason";

/// What was decided, and why no more was.
struct Decided {
    command: Option<Command>,
    kept: Vec<Kept>,
    /// Pools of which budgets let none go for a reason.
    blocked_pools: Vec<(String, DisruptionReason)>,
}

impl Context {
    pub(super) async fn disrupt(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(PERIOD).await;
            if let Err(error) = self.disrupt_once().await {
                warn!(error = %telemetry::chain(&error), "failed to disrupt");
            }
        }
    }

    async fn disrupt_once(self: &Arc<Self>) -> Result<(), ApplyError> {
        // An object that has changed in between is looked at in the next round: it holds up no other.
        self.watch_drift().await;
        self.release_kept().await;
        let claims: Vec<NodeClaim> = self.claims.all().iter().map(|it| (**it).clone()).collect();
        for claim in expiration::expired(&claims, self.clock.now()) {
            self.count_disrupted(claim, "expired");
            passed(self.delete_claim(claim, "it has expired").await);
        }
        let decided = self.decision().await?;
        self.tell_kept(&decided);
        let Some(first) = decided.command else { return Ok(()) };
        tokio::time::sleep(VALIDATION).await;
        match self.decision().await?.command {
            Some(again) if names(&again) == names(&first) => self.carry_out(&again).await,
            _ => {
                let of = [("consolidation_type", first.method)];
                self.metrics.add("voluntary_disruption_failed_validations_total", &of, 1.0);
                Ok(())
            }
        }
    }

    /// Says why nodes stay.
    fn tell_kept(&self, decided: &Decided) {
        for Kept { node, by, why } in &decided.kept {
            let node = self.nodes.get(&Key::new("", node));
            let both = node.and_then(|it| Some((self.claim_of(&it)?, it)));
            if let Some((claim, node)) = both {
                self.events.kept(&node, &claim, *by, why);
            }
        }
        for (pool, reason) in &decided.blocked_pools {
            if let Some(pool) = self.pools.get(&Key::new("", pool)) {
                self.events.pool_blocked(&pool, *reason);
            }
        }
    }

    async fn decision(self: &Arc<Self>) -> Result<Decided, ApplyError> {
        let context = self.clone();
        blocking(move || context.decide()).await
    }

    /// Between two commands no node that stays is tainted: one that is was left over, by a failure
    /// or by a Karpenter before this one.
    async fn release_kept(&self) {
        for claim in self.claims.all() {
            let Some(node) = self.node_of(&claim) else { continue };
            let goes = claim.metadata.deletion_timestamp.is_some()
                || node.metadata.deletion_timestamp.is_some();
            let on_node = node.spec.as_ref().and_then(|it| it.taints.as_deref());
            let is_tainted =
                on_node.unwrap_or_default().iter().any(|it| it.key == taints::DISRUPTED);
            if is_tainted && !goes {
                passed(self.untaint(&node).await);
            }
            if claim.is_true(REASON) && !goes {
                passed(self.clear(&claim, REASON).await);
            }
        }
    }

    fn decide(&self) -> Decided {
        let (snapshot, now) = (self.snapshot(), self.clock.now());
        let gates = Gates {
            spot_to_spot_consolidation: self.config.gates.spot_to_spot_consolidation,
            static_capacity: self.config.gates.static_capacity,
            repacking: self.config.gates.repacking,
        };
        let mut fleet = Fleet::new(&snapshot, |it| self.types(it), now, gates);
        let count = u32::try_from(fleet.candidates.len()).map_or(f64::MAX, f64::from);
        self.metrics.replace("voluntary_disruption_eligible_nodes", vec![(vec![], count)]);
        let command = fleet.next_command();
        let took = self.clock.now().duration_since(now).as_secs_f64();
        let name = "voluntary_disruption_decision_evaluation_duration_seconds";
        self.metrics.observe(name, &[], took);
        Decided { command, blocked_pools: fleet.blocked_pools(), kept: fleet.kept }
    }

    async fn carry_out(&self, command: &Command) -> Result<(), ApplyError> {
        info!(
            reason = command.reason.as_str(),
            nodes = ?names(command),
            replacements = command.replacements.len(),
            saving = command.saving,
            "disrupting"
        );
        let decision = if command.replacements.is_empty() { "delete" } else { "replace" };
        let of = [
            ("decision", decision),
            ("reason", command.reason.as_str()),
            ("consolidation_type", command.method),
        ];
        self.metrics.add("voluntary_disruption_decisions_total", &of, 1.0);
        let nodes: Vec<_> =
            command.nodes.iter().filter_map(|it| self.nodes.get(&Key::new("", &it.name))).collect();
        for node in &nodes {
            self.taint(node).await?;
            if let Some(claim) = self.claim_of(node) {
                let why = command.reason.as_str();
                passed(self.say(&claim, &[(REASON, Some(true), why, why)], |_| {}).await);
            }
        }
        let mut made = Vec::new();
        for replacement in &command.replacements {
            let pool = self.pools.get(&Key::new("", &replacement.pool));
            if let Some(pool) = pool {
                made.push(self.create_claim(&pool, replacement, command.reason.as_str()).await?);
            }
        }
        if !self.are_ready(&made, command.reason).await {
            warn!(?made, "replacements did not become ready: the nodes stay");
            self.metrics.add("voluntary_disruption_queue_failures_total", &of, 1.0);
            for name in &made {
                if let Some(claim) = self.claims.get(&Key::new("", name)) {
                    self.delete_claim(&claim, "what it was to replace stays").await?;
                }
            }
            for node in &nodes {
                self.untaint(node).await?;
            }
            return Ok(());
        }
        for node in &nodes {
            if let Some(claim) = self.claim_of(node) {
                self.events.terminating(node, &claim, command.reason);
                self.count_disrupted(&claim, command.reason.as_str());
                self.delete_claim(&claim, command.reason.as_str()).await?;
            }
        }
        Ok(())
    }

    /// The claim that has become a node.
    fn claim_of(&self, node: &core::Node) -> Option<Arc<NodeClaim>> {
        let wanted = node.metadata.name.as_deref()?;
        self.claims
            .all()
            .into_iter()
            .find(|it| it.status.as_ref().and_then(|it| it.node_name.as_deref()) == Some(wanted))
    }

    /// Whether all became nodes that are ready, in time.
    async fn are_ready(&self, names: &[String], reason: DisruptionReason) -> bool {
        let claim = |name: &String| self.claims.get(&Key::new("", name));
        let all = async {
            let mut seen = BTreeSet::new();
            loop {
                let mut left = 0;
                for name in names {
                    match claim(name) {
                        Some(it) if it.is_true("Initialized") => {}
                        Some(it) => {
                            self.events.launching(&it, reason);
                            self.events.waiting_on_readiness(&it);
                            seen.insert(name);
                            left += 1;
                        }
                        // It was there and is gone: nothing could be had.
                        None if seen.contains(name) => return false,
                        None => left += 1,
                    }
                }
                if left == 0 {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        tokio::time::timeout(REPLACEMENTS, all).await.unwrap_or(false)
    }

    async fn untaint(&self, node: &core::Node) -> Result<(), ApplyError> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let Some(node) = self.nodes.get(&Key::new("", &name)) else { return Ok(()) };
        let mut all = node.spec.clone().unwrap_or_default().taints.unwrap_or_default();
        all.retain(|it| it.key != taints::DISRUPTED);
        let patch = json!({ "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": all } });
        self.patch_node(&name, &patch).await
    }

    /// Instances without a claim are ended, claims without an instance deleted.
    pub(super) async fn collect_garbage(&self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            if let Err(error) = self.collect_once().await {
                warn!(error = %telemetry::chain(&error), "failed to collect garbage");
            }
        }
    }

    async fn collect_once(&self) -> Result<(), ApplyError> {
        let failed = |error| ApplyError::other(telemetry::chain(&error).to_string());
        // Before the instances: a claim that is made in between has its instance then.
        let claims = self.claims.all();
        let instances = self.cloud.instances().await.map_err(failed)?;
        *self.placed.lock() = instances.iter().filter_map(placed).collect();
        if self.config.gates.reserved_capacity {
            passed(self.demote(&instances).await);
        }
        let claimed: BTreeSet<String> = self
            .claims
            .all()
            .iter()
            .filter_map(|it| {
                Some(instance_id(it.status.as_ref()?.provider_id.as_deref()?)?.to_owned())
            })
            .collect();
        for instance in &instances {
            let Some(id) = &instance.instance_id else { continue };
            let launched = instance.launch_time.as_deref().and_then(|it| it.parse().ok());
            let is_old = launched.is_none_or(|it| clock::later(it, COLLECTION) < self.clock.now());
            // One whose launch nobody has been told of yet.
            let of = instance.tags.iter().find(|it| it.key.as_deref() == Some(NODE_CLAIM_TAG));
            let of = of.and_then(|it| it.value.as_deref()).unwrap_or_default();
            let is_awaited = self.claims.get(&Key::new("", of)).is_some_and(|it| {
                it.metadata.deletion_timestamp.is_none()
                    && it.status.as_ref().is_none_or(|it| it.provider_id.is_none())
            });
            if is_old && !claimed.contains(id) && !is_awaited {
                info!(instance = id, "terminating an instance without a NodeClaim");
                self.cloud.terminate(id).await.map_err(failed)?;
            }
        }
        for claim in &claims {
            let provider = claim.status.as_ref().and_then(|it| it.provider_id.as_deref());
            let Some(id) = provider.and_then(instance_id) else { continue };
            let is_known = instances.iter().any(|it| it.instance_id.as_deref() == Some(id));
            // EC2 may not show yet what it has just launched.
            let made = claim.metadata.creation_timestamp.as_ref();
            let is_old = made.is_none_or(|it| clock::later(it.0, COLLECTION) < self.clock.now());
            if claim.metadata.deletion_timestamp.is_none()
                && is_old
                && !is_known
                && self.cloud.instance(id).await.map_err(failed)?.is_none()
            {
                self.delete_claim(claim, "its instance is gone").await?;
            }
        }
        Ok(())
    }
}

fn placed(instance: &Instance) -> Option<(String, Placed)> {
    let groups = instance.security_groups.iter().filter_map(|it| it.group_id.clone());
    let placed = Placed {
        subnet: instance.subnet_id.clone()?,
        groups: groups.collect(),
        reservation: instance.capacity_reservation_id.clone(),
    };
    Some((instance.instance_id.clone()?, placed))
}

/// A failure that holds up nothing else.
fn passed(result: Result<(), ApplyError>) {
    if let Err(error) = result {
        warn!(error = %telemetry::chain(&error), "left for the next round");
    }
}

fn names(command: &Command) -> BTreeSet<&str> {
    command.nodes.iter().map(|it| it.name.as_str()).collect()
}
