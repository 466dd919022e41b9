//! From updates to passes: takes what arrived, all of it, and applies it in one transaction.

use std::{sync::Arc, time::Duration};

use controller::Recorder;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use linux_nftables::{ApplyError, Family};
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
    ruleset::TABLE,
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
        let period = self.config.sync_periods().0.get();
        let mut look_at = Instant::now() + period;
        loop {
            let until_look = look_at.saturating_duration_since(Instant::now());
            let limit = if is_behind { RETRY } else { self.idle().min(until_look) };
            if let Ok(0) = timeout(limit, updates.recv_many(&mut batch, MAX_BATCH)).await {
                return;
            }
            batch.drain(..).for_each(|update| self.take(update));
            if Instant::now() >= look_at {
                if self.is_ready() && self.is_gone().await {
                    self.proxier.distrust();
                }
                look_at = Instant::now() + period;
            }
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
                if let Some(facts) = facts {
                    let service_cidrs = self.facts.service_cidrs.clone();
                    self.learn(NodeFacts { service_cidrs, ..facts });
                }
            }
            Update::ServiceCidrs(cidrs) => {
                let service_cidrs = cidrs.into_iter().collect();
                self.learn(NodeFacts { service_cidrs, ..self.facts.clone() });
            }
        }
    }

    /// What the rules are made by.
    fn learn(&mut self, facts: NodeFacts) {
        if facts != self.facts {
            let options = |family: &Family| self.config.options(*family, &facts);
            self.proxier.set_options(self.families.iter().map(options).collect());
            self.facts = facts;
        }
    }

    /// Whether somebody has taken a table away, and with it every Service.
    async fn is_gone(&self) -> bool {
        let (nft, families) = (self.proxier.nft().clone(), self.families.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let there = families.into_iter().map(|family| nft.has_table(family, TABLE));
            Ok::<_, ApplyError>(there.collect::<Result<Vec<_>, _>>()?.contains(&false))
        });
        let is_gone = matches!(asked.await, Ok(Ok(true)));
        if is_gone {
            warn!("the table of Services is gone: it is put in place again");
        }
        is_gone
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

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use clock::Clock;
    use lifecycle::Scope;
    use linux_nftables::Nft;
    use transport::Place;

    use super::*;
    use crate::{endpoint_slices::Here, metrics::Metrics};

    struct Netns(String);

    impl Netns {
        fn new(tail: &str) -> Option<Self> {
            let name = format!("nst-t-passes-{}-{tail}", std::process::id());
            let mut add = Command::new("ip");
            add.args(["netns", "add", &name]).stderr(Stdio::null());
            if add.status().is_ok_and(|it| it.success()) {
                return Some(Self(name));
            }
            eprintln!("not run: cannot make network namespaces here");
            None
        }
    }

    impl Drop for Netns {
        fn drop(&mut self) {
            drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
        }
    }

    fn looped(nft: &Nft, scope: &Scope) -> Loop {
        let mut config = Configuration::default();
        config.complete();
        let families = vec![Family::Ip, Family::Ip6];
        let clock = Clock::system();
        let health = Health::new(clock, Metrics::new(families.len()), Duration::from_secs(60));
        let health = Arc::new(health);
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody"))
        });
        let client = kube::Client::new(nobody, "default");
        let options = families.iter().map(|it| config.options(*it, &NodeFacts::default()));
        let here = Here { node: "node".into(), zone: None };
        Loop::new(
            Proxier::new(nft.clone(), here, options.collect()),
            config,
            families,
            health.clone(),
            HealthPorts::new(health, Place::Here, scope.clone()),
            Recorder::new(client, "kube-proxy", clock, scope),
        )
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..200 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("never: {what}");
    }

    /// As the policies' do: upstream, too, looks every `syncPeriod`, which is half a minute.
    #[tokio::test(start_paused = true)]
    async fn tables_that_somebody_took_away_come_back_though_no_service_changes() {
        let Some(netns) = Netns::new("a") else { return };
        let nft = Nft::at(format!("/run/netns/{}", netns.0));
        let scope = Scope::new();
        let (sender, updates) = mpsc::channel(8);
        let running = scope.spawn("passes", looped(&nft, &scope).run(updates));
        let has = |family| nft.has_table(family, TABLE).unwrap();
        let facts = Some(NodeFacts::default());
        let node = Update::Node { zone: None, facts, is_eligible: true };
        for update in [Update::Services([].into()), Update::Slices([].into()), node] {
            sender.send(update).await.unwrap();
        }
        until("the tables are there", || has(Family::Ip) && has(Family::Ip6)).await;
        for family in [Family::Ip, Family::Ip6] {
            nft.delete_table(family, TABLE).unwrap();
            let started = Instant::now();
            until("it is there again", || has(family)).await;
            assert!(started.elapsed() <= Duration::from_secs(32), "{:?}", started.elapsed());
        }
        drop(sender);
        running.await.unwrap();
        scope.cancel();
    }
}
