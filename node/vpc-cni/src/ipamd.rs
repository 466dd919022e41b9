//! The daemon's state and its loop: observe IMDS, plan, apply one step.
//!
//! The loop runs every 5 s and at once when a pod took an address, so that a burst of pods does not
//! wait for a timer. Deviation: upstream takes one step per 5 s and fails an ADD that finds the pool
//! empty; here an ADD waits for a growth that is possible, for at most 5 s.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use api_cni::{
    backend::{Assignment, Sandbox},
    host_link_name,
};
use clock::Clock;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use linux_netlink::{Netlink, OpenError};
use linux_nftables::{Nft, Table};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use crate::{
    checkpoint::{self, CheckpointError},
    cloud::{self, Cloud, CloudError},
    config::Config,
    datastore::{AttachedEni, Datastore, Key, PodName, Row},
    events::Events,
    metadata::{Identity, Metadata, MetadataError},
    metrics::Metrics,
    network::{self, NetworkError, NodeNetwork},
    plan::{self, Circumstances, Limits, Plan},
};

mod grow;
mod shrink;

/// How often the loop runs where nothing happens.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often IMDS is read where nothing happens.
const RECONCILE: Duration = Duration::from_secs(60);
/// How long an ADD waits for a pool that can grow.
const ADD_WAIT: Duration = Duration::from_secs(5);
/// Steps in a row before other work gets a turn.
const MAX_STEPS: usize = 32;

/// What ipamd is made of.
pub struct Parts {
    pub config: Config,
    pub identity: Identity,
    pub limits: Limits,
    pub metadata: Metadata,
    /// `None`: provisioning is disabled.
    pub cloud: Option<Cloud>,
    pub events: Option<Events>,
    pub clock: Clock,
    pub checkpoint: PathBuf,
    /// The node's network namespace; `None`: this process's.
    pub netns: Option<PathBuf>,
}

/// See the module.
pub struct Ipamd {
    pub(crate) parts: Parts,
    pub metrics: Metrics,
    store: Mutex<Datastore>,
    pool: Mutex<Pool>,
    /// The node takes no new pods.
    is_frozen: AtomicBool,
    is_growing: AtomicBool,
    max_pods: AtomicUsize,
    wake: Notify,
    changed: watch::Sender<u64>,
}

/// When the pool last changed, and what it may not do.
#[derive(Debug, Default)]
struct Pool {
    paused_until: Option<Timestamp>,
    last_shrink: Option<Timestamp>,
    last_reconcile: Option<Timestamp>,
    unmanaged: BTreeSet<String>,
    vpc_cidrs: Vec<Ipv4Net>,
    table: Option<Table>,
}

/// Why ipamd does not run, or a step failed.
#[derive(Debug, thiserror::Error)]
pub enum IpamdError {
    #[error("failed to read the instance's metadata")]
    Metadata {
        #[source]
        source: MetadataError,
    },
    #[error("an AWS call failed")]
    Cloud {
        #[source]
        source: CloudError,
    },
    #[error("failed to set the node's network up")]
    Network {
        #[source]
        source: NetworkError,
    },
    #[error("failed to keep the assignments on disk")]
    Checkpoint {
        #[source]
        source: CheckpointError,
    },
    #[error("failed to apply the node's NAT rules")]
    Nftables {
        #[source]
        source: linux_nftables::ApplyError,
    },
    #[error("interface `{eni}` did not appear in the instance's metadata")]
    NotAttached { eni: String },
    #[error("no subnet can hold a new interface")]
    NoSubnet,
}

impl From<OpenError> for IpamdError {
    fn from(source: OpenError) -> Self {
        Self::Network { source: NetworkError::Open { source } }
    }
}

fn unreadable(source: MetadataError) -> IpamdError {
    IpamdError::Metadata { source }
}

/// Why a sandbox got no address.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error("AssignPodIPAddress: no available IP/Prefix addresses: {reason}")]
    Exhausted { reason: String },
    #[error("the assignment could not be kept on disk")]
    Checkpoint {
        #[source]
        source: CheckpointError,
    },
}

impl Ipamd {
    /// Reads what there is, sets the node's network up, and restores the assignments.
    pub async fn start(parts: Parts) -> Result<Self, IpamdError> {
        let targets = parts.config.targets;
        let ipamd = Self {
            metrics: Metrics::default(),
            store: Mutex::new(Datastore::new(parts.config.cooldown, targets.is_prefix_mode)),
            pool: Mutex::default(),
            is_frozen: AtomicBool::new(false),
            is_growing: AtomicBool::new(false),
            max_pods: AtomicUsize::new(parts.limits.max_pods),
            wake: Notify::new(),
            changed: watch::channel(0).0,
            parts,
        };
        ipamd.find_unmanaged().await?;
        ipamd.reconcile().await?;
        ipamd.restore().await?;
        Ok(ipamd)
    }

    /// Keeps the pool as wanted until it is dropped.
    pub async fn run(&self) {
        loop {
            self.settle().await;
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// What the Node object says: pods it takes at most, and whether it takes any.
    pub fn learn_node(&self, max_pods: Option<usize>, is_frozen: bool) {
        if let Some(max_pods) = max_pods {
            self.max_pods.store(max_pods, Ordering::Relaxed);
        }
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
    }

    /// Takes steps until there is none to take or one failed.
    async fn settle(&self) {
        for _ in 0..MAX_STEPS {
            if self.needs_reconcile()
                && let Err(error) = self.reconcile().await
            {
                self.fail("reconcile", &error).await;
                return;
            }
            let plan = self.plan();
            let is_growth = plan.step.is_growth();
            match self.apply(plan).await {
                Ok(true) if is_growth => {}
                Ok(_) => return,
                Err(error) => {
                    self.fail(if is_growth { "increaseDatastorePool" } else { "decrease" }, &error)
                        .await;
                    return;
                }
            }
        }
    }

    /// The next step, for the loop and for introspection.
    pub fn plan(&self) -> Plan {
        let config = &self.parts.config;
        let pool = self.pool.lock();
        let is_frozen =
            self.is_frozen.load(Ordering::Relaxed) && !config.manages_when_unschedulable;
        let at = Circumstances {
            now: self.parts.clock.now(),
            paused_until: pool.paused_until,
            last_shrink: pool.last_shrink,
            is_frozen,
            unmanaged_enis: pool.unmanaged.len(),
        };
        let max_pods = self.max_pods.load(Ordering::Relaxed);
        let limits = Limits { max_pods, ..self.parts.limits };
        plan::plan(&self.store.lock(), &config.targets, &limits, &at)
    }

    /// `true` where something was done.
    async fn apply(&self, plan: Plan) -> Result<bool, IpamdError> {
        use plan::Step;
        let Some(cloud) = &self.parts.cloud else { return Ok(false) };
        if plan.step == Step::Settled {
            return Ok(false);
        }
        info!(step = ?plan.step, reason = plan.reason, "changing the pool");
        match plan.step {
            Step::Settled => Ok(false),
            Step::AssignAddresses { .. } | Step::CreateEni { .. } => {
                self.is_growing.store(true, Ordering::Relaxed);
                let done = self.grow(cloud, plan.step).await;
                self.is_growing.store(false, Ordering::Relaxed);
                self.announce();
                done.map(|()| true)
            }
            step => self.shrink(cloud, step).await.map(|()| true),
        }
    }

    /// Logs, counts, and tells Kubernetes where the role lacks a permission.
    async fn fail(&self, function: &str, error: &IpamdError) {
        warn!(function, error = %telemetry::chain(error), "failed");
        self.metrics.count_labelled("awscni_ipamd_error_count", format!("fn=\"{function}\""));
        let IpamdError::Cloud { source } = error else { return };
        self.metrics.count("awscni_ec2api_error_count");
        self.report_permission(source).await;
    }

    async fn report_permission(&self, error: &CloudError) {
        if error.is_unauthorized()
            && let Some(events) = &self.parts.events
        {
            events.missing_permission(error).await;
        }
    }

    // === what there is ===

    /// Finds the interfaces that are not ours to manage. Fails where the role may not even look,
    /// which is where upstream gives up, too.
    async fn find_unmanaged(&self) -> Result<(), IpamdError> {
        let Some(cloud) = &self.parts.cloud else { return Ok(()) };
        let filter = [("attachment.instance-id", self.parts.identity.instance_id.as_str())];
        let described = match cloud.find_enis(&filter).await {
            Ok(described) => described,
            Err(source) => {
                self.report_permission(&source).await;
                return Err(IpamdError::Cloud { source });
            }
        };
        let is_unmanaged = |eni: &aws_ec2::network_interface::NetworkInterface| {
            let is_primary = eni.attachment.as_ref().is_some_and(|it| it.device_index == Some(0));
            let is_own = cloud::tag(&eni.tag_set, cloud::TAG_INSTANCE)
                == Some(self.parts.identity.instance_id.as_str());
            let is_refused = cloud::tag(&eni.tag_set, cloud::TAG_NO_MANAGE) == Some("true");
            let is_foreign = !is_own && !self.parts.config.manages_untagged;
            !is_primary && (is_refused || is_foreign)
        };
        let ids =
            described.into_iter().filter(is_unmanaged).filter_map(|it| it.network_interface_id);
        self.pool.lock().unmanaged = ids.collect();
        Ok(())
    }

    fn needs_reconcile(&self) -> bool {
        let last = self.pool.lock().last_reconcile;
        last.is_none_or(|last| last + RECONCILE <= self.parts.clock.now())
    }

    /// Takes what IMDS says, and puts the node's routes, rules and NAT in place for it.
    pub(crate) async fn reconcile(&self) -> Result<(), IpamdError> {
        self.metrics.count("awscni_reconcile_count");
        let mut attached = self.parts.metadata.interfaces().await.map_err(unreadable)?;
        let unmanaged = self.pool.lock().unmanaged.clone();
        attached.retain(|eni| !unmanaged.contains(&eni.id));
        self.ensure_network(&attached).await?;
        let now = self.parts.clock.now();
        {
            let mut store = self.store.lock();
            let gone: Vec<String> = store
                .enis()
                .map(|eni| eni.attached.id.clone())
                .filter(|id| !attached.iter().any(|eni| eni.id == *id))
                .collect();
            gone.iter().for_each(|id| store.remove_eni(id));
            attached.into_iter().for_each(|eni| store.observe(eni, now));
        }
        self.pool.lock().last_reconcile = Some(now);
        self.announce();
        Ok(())
    }

    async fn ensure_network(&self, attached: &[AttachedEni]) -> Result<(), IpamdError> {
        let identity = &self.parts.identity;
        let vpc_cidrs = self.parts.metadata.vpc_cidrs(&identity.mac).await.map_err(unreadable)?;
        let config = self.parts.config.clone();
        let (mac, address) = (identity.mac.clone(), identity.local_ipv4);
        let cidrs = vpc_cidrs.clone();
        let secondary: Vec<AttachedEni> =
            attached.iter().filter(|eni| !eni.is_primary()).cloned().collect();
        let failed = |source| IpamdError::Network { source };
        let node = linux_netlink::run(self.parts.netns.clone(), move |netlink| {
            let (_, primary_link) = network::link_of(netlink, "the primary interface", &mac)?;
            let node = NodeNetwork {
                primary_link,
                primary_address: address,
                vpc_cidrs: cidrs,
                exclude_snat_cidrs: config.exclude_snat_cidrs.clone(),
                external_service_cidrs: config.external_service_cidrs.clone(),
                is_external_snat: config.is_external_snat,
                randomize_snat: config.randomize_snat.clone(),
                veth_prefix: config.veth_prefix.clone(),
            };
            network::ensure_rules(netlink, &node)?;
            for eni in &secondary {
                set_up_if_there(netlink, eni, config.eni_mtu)?;
            }
            Ok::<_, NetworkError>(node)
        });
        let table = network::table(&node.await.map_err(failed)?);
        let known = self.pool.lock().table.clone();
        if known.as_ref() != Some(&table) {
            let wanted = linux_nftables::Transaction::replace(&table);
            let applied = self.nft().apply_async(wanted).await;
            applied.map_err(|source| IpamdError::Nftables { source })?;
        }
        let mut pool = self.pool.lock();
        pool.table = Some(table);
        pool.vpc_cidrs = vpc_cidrs;
        Ok(())
    }

    /// Puts the checkpoint's assignments back, without those whose link is gone: the runtime may
    /// never have told that the sandbox went.
    async fn restore(&self) -> Result<(), IpamdError> {
        let failed = |source| IpamdError::Checkpoint { source };
        let rows = checkpoint::read(&self.parts.checkpoint).map_err(failed)?;
        let links = linux_netlink::run(self.parts.netns.clone(), |netlink| {
            let failed = |source| IpamdError::Network { source: NetworkError::Request { source } };
            let links = netlink.links().map_err(failed)?;
            Ok::<_, IpamdError>(links.into_iter().map(|link| link.name).collect::<BTreeSet<_>>())
        });
        let links = links.await?;
        let prefix = &self.parts.config.veth_prefix;
        let is_alive =
            |row: &Row| links.contains(&host_link_name(prefix, &row.pod.namespace, &row.pod.name));
        let mut rules = Vec::new();
        {
            let mut store = self.store.lock();
            for row in rows {
                let address = row.address;
                let (is_alive, key) = (is_alive(&row), row.key.clone());
                if !is_alive {
                    info!(%address, container = key.container_id, "the sandbox is gone");
                } else if store.restore(row) {
                    let known = store.assign(&key, &PodName::default(), self.parts.clock.now());
                    let table = known.map_or(linux_netlink::TABLE_MAIN, |it| it.route_table);
                    rules.extend(network::pod_rules(address, table));
                } else {
                    warn!(%address, "the checkpoint has an address that no interface has");
                }
            }
            checkpoint::write(&self.parts.checkpoint, store.rows()).map_err(failed)?;
        }
        let ensured = linux_netlink::run(self.parts.netns.clone(), move |netlink| {
            let failed = |source| IpamdError::Network { source: NetworkError::Request { source } };
            rules.iter().try_for_each(|rule| netlink.add_rule(rule)).map_err(failed)
        });
        ensured.await
    }

    // === what the plug-in asks for ===

    /// Gives a sandbox an address; waits a moment for a pool that is growing.
    pub async fn add(&self, sandbox: &Sandbox) -> Result<Assignment, AddError> {
        self.metrics.count("awscni_add_ip_req_count");
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
            self.wake.notify_one();
            let is_over = !(can_grow || is_growing)
                || tokio::time::timeout_at(deadline, changes.changed()).await.is_err();
            if is_over {
                self.metrics.count("awscni_no_available_ip_addresses");
                warn!(pod = sandbox.pod_name, "DataStore has no available IP/Prefix addresses");
                return Err(AddError::Exhausted { reason: plan.reason });
            }
        }
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
        if let Err(source) = checkpoint::write(&self.parts.checkpoint, store.rows()) {
            store.undo(&key);
            return Err(AddError::Checkpoint { source });
        }
        debug!(address = %assigned.address, pod = sandbox.pod_name, "assigned");
        Ok(Some(self.describe(&assigned)))
    }

    /// Takes a sandbox's address back; `None` where it had none.
    pub fn delete(&self, sandbox: &Sandbox) -> Result<Option<Assignment>, AddError> {
        self.metrics.count("awscni_del_ip_req_count");
        let released = {
            let mut store = self.store.lock();
            let released = store.release(&key_of(sandbox), self.parts.clock.now());
            if released.is_some() {
                checkpoint::write(&self.parts.checkpoint, store.rows())
                    .map_err(|source| AddError::Checkpoint { source })?;
            }
            released
        };
        self.wake.notify_one();
        Ok(released.map(|it| self.describe(&it)))
    }

    fn describe(&self, assigned: &crate::datastore::Assigned) -> Assignment {
        Assignment {
            address: assigned.address,
            device_number: assigned.device_number,
            route_table: assigned.route_table,
            use_external_snat: self.parts.config.is_external_snat,
            vpc_cidrs: self.pool.lock().vpc_cidrs.clone(),
        }
    }

    fn nft(&self) -> Nft {
        self.parts.netns.as_ref().map_or_else(Nft::here, Nft::at)
    }

    fn announce(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// A copy of the store, for metrics and introspection.
    pub fn snapshot(&self) -> Datastore {
        self.store.lock().clone()
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        let store = self.store.lock();
        let (stock, limits) = (store.stock(), self.parts.limits);
        let metrics = &self.metrics;
        metrics.set("awscni_total_ip_addresses", stock.total);
        metrics.set("awscni_assigned_ip_addresses", stock.assigned);
        metrics.set("awscni_total_ipv4_prefixes", stock.prefixes);
        metrics.set("awscni_cooling_ip_addresses", store.resting(self.parts.clock.now()));
        metrics.set("awscni_eni_allocated", store.enis().count());
        metrics.set("awscni_eni_max", limits.max_enis);
        metrics.set("awscni_ip_max", limits.max_enis * limits.per_eni);
    }
}

/// A link that is not there yet is set up by the step that attached it, or by the next pass.
fn set_up_if_there(netlink: &Netlink, eni: &AttachedEni, mtu: u32) -> Result<(), NetworkError> {
    match network::set_up_eni(netlink, eni, mtu) {
        Err(NetworkError::NoLink { eni, .. }) => {
            warn!(eni, "the interface has no link yet");
            Ok(())
        }
        other => other,
    }
}

fn key_of(sandbox: &Sandbox) -> Key {
    Key {
        network_name: sandbox.network_name.clone(),
        container_id: sandbox.container_id.clone(),
        if_name: sandbox.interface_name.clone(),
    }
}
