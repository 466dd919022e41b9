//! From updates to passes: takes what arrived, all of it, and applies it in one transaction.

use std::{sync::Arc, time::Duration};

use controller::Recorder;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use linux_nftables::Family;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use crate::{
    config::{Configuration, NodeFacts},
    conntrack,
    endpoint_slices::Slice,
    health::Health,
    metrics::Pass,
    proxier::Proxier,
    service_health::HealthPorts,
    service_map::ServiceName,
    watch::Update,
};

/// Until a refused transaction is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// So many updates go into one pass at most.
const MAX_BATCH: usize = 10_000;
/// How long the first pass waits for the Node, whose addresses have node ports.
const NODE_LIMIT: Duration = Duration::from_secs(30);
/// How often the whole table is put in place, whatever somebody may have done to it.
const WHOLE: Duration = Duration::from_secs(3600);

pub(super) struct Loop {
    proxier: Proxier,
    config: Configuration,
    families: Vec<Family>,
    health: Arc<Health>,
    ports: HealthPorts,
    recorder: Recorder,
    /// Whether the first lists of Services and of slices are complete, and the Node is known.
    lists: (bool, bool),
    has_node: bool,
    facts: NodeFacts,
    started: (Instant, Timestamp),
    whole_at: Instant,
    /// When the control plane saw what the next pass brings; with the family.
    triggers: Vec<(bool, Timestamp)>,
    /// Flows to look for once the kernel has what was planned: those of passes that it refused, too.
    flows: conntrack::Expected,
}

impl Loop {
    pub(super) fn new(
        proxier: Proxier,
        config: Configuration,
        families: Vec<Family>,
        health: Arc<Health>,
        ports: HealthPorts,
        recorder: Recorder,
    ) -> Self {
        let now = Instant::now();
        Self {
            proxier,
            config,
            families,
            started: (now, health.clock.now()),
            health,
            ports,
            recorder,
            lists: (false, false),
            has_node: false,
            facts: NodeFacts::default(),
            whole_at: now + WHOLE,
            triggers: Vec::new(),
            flows: conntrack::Expected::default(),
        }
    }

    pub(super) async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        let mut batch = Vec::new();
        let mut is_behind = false;
        loop {
            let limit = if is_behind { RETRY } else { self.idle() };
            if let Ok(0) = timeout(limit, updates.recv_many(&mut batch, MAX_BATCH)).await {
                return;
            }
            batch.drain(..).for_each(|update| self.take(update));
            if Instant::now() >= self.whole_at {
                self.proxier.distrust();
            }
            if self.is_ready() && self.proxier.is_behind() {
                is_behind = !self.sync().await;
            }
        }
    }

    /// How long nothing has to be done without an update.
    fn idle(&self) -> Duration {
        match self.has_node {
            true => self.whole_at.saturating_duration_since(Instant::now()),
            false => NODE_LIMIT.saturating_sub(self.started.0.elapsed()).max(RETRY),
        }
    }

    fn is_ready(&self) -> bool {
        let has_node = self.has_node || self.started.0.elapsed() >= NODE_LIMIT;
        self.lists == (true, true) && has_node
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Service(name, ports) => {
                if self.proxier.set_service(&name, ports) {
                    self.health.metrics.service_changes.add();
                    self.health.queued();
                }
            }
            Update::Slice { service, name, slice, triggered } => {
                let is_ipv4 = slice.as_ref().is_none_or(Slice::is_ipv4);
                if self.proxier.set_slice(&service, &name, slice) {
                    self.health.metrics.endpoint_changes.add();
                    self.health.queued();
                    // What happened before this proxy began is not its delay.
                    let triggered = triggered.filter(|time| *time >= self.started.1);
                    self.triggers.extend(triggered.map(|time| (is_ipv4, time)));
                }
            }
            Update::Services(present) => {
                self.proxier.retain_services(&present);
                self.lists.0 = true;
            }
            Update::Slices(present) => {
                self.proxier.retain_slices(&present);
                self.lists.1 = true;
            }
            Update::Node { zone, facts, is_eligible } => {
                self.has_node |= facts.is_some();
                self.proxier.set_zone(zone);
                self.health.set_eligible(is_eligible);
                if let Some(facts) = facts.filter(|facts| *facts != self.facts) {
                    let options = |family: &Family| self.config.options(*family, &facts);
                    self.proxier.set_options(self.families.iter().map(options).collect());
                    self.facts = facts;
                }
            }
        }
    }

    /// Whether the kernel holds what is wanted.
    async fn sync(&mut self) -> bool {
        let started = Instant::now();
        let mut pass = self.proxier.plan();
        self.flows.follow(std::mem::take(&mut pass.flows));
        if let Err(error) = pass.apply(self.proxier.nft()).await {
            warn!(error = %telemetry::chain(&error), "the kernel refused a pass");
            self.health.metrics.failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.proxier.distrust();
            return false;
        }
        let took = started.elapsed();
        debug!(services = pass.services, is_whole = pass.is_whole, ?took, "synced");
        let now = self.health.clock.now();
        if pass.is_whole {
            self.whole_at = Instant::now() + WHOLE;
        }
        let done = Pass { took, is_full: pass.is_whole, at: now };
        self.health.metrics.synced(done, self.proxier.no_local());
        self.health.updated();
        for (is_ipv4, triggered) in self.triggers.drain(..) {
            let took = Duration::try_from(now.duration_since(triggered)).unwrap_or_default();
            self.health.metrics.programmed(is_ipv4, took);
        }
        let flows = std::mem::take(&mut self.flows);
        self.delete_flows(flows).await;
        for (service, message) in self.ports.update(self.proxier.local_counts()) {
            let message =
                format!("node {} failed to start healthcheck {service:?} on port {message}", {
                    self.proxier.node()
                });
            self.recorder.warn(&reference(&service), "FailedToStartServiceHealthcheck", message);
        }
        true
    }

    async fn delete_flows(&self, flows: conntrack::Expected) {
        if flows.is_empty() {
            return;
        }
        for is_ipv4 in self.families.iter().map(|family| *family == Family::Ip) {
            let started = Instant::now();
            let deleted = conntrack::delete(flows.clone(), is_ipv4).await;
            self.health.metrics.reconciled(is_ipv4, started.elapsed(), deleted);
        }
    }
}

fn reference(name: &ServiceName) -> Service {
    let mut service = Service::default();
    service.metadata.namespace = Some(name.namespace.clone());
    service.metadata.name = Some(name.name.clone());
    service
}
