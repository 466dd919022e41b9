//! The daemon's state and its loop: observe IMDS, plan, apply one step.
//!
//! The loop runs every 5 s and at once when a pod took an address, so that a burst of pods does not
//! wait for a timer. Deviation: upstream takes one step per 5 s and fails an ADD that finds the pool
//! empty; here an ADD waits for a growth that is possible, for at most 5 s.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use clock::Clock;
use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use linux_netlink::OpenError;
use linux_nftables::{Nft, Table};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use self::returned::Returned;
use crate::{
    checkpoint::CheckpointError,
    cloud::{Cloud, CloudError},
    config::Config,
    datastore::{Datastore, Eni},
    eni_config::Chosen,
    events::Events,
    metadata::{Identity, Metadata, MetadataError},
    metrics::{Metrics, labels},
    network::NetworkError,
    plan::{self, Circumstances, Limits, Plan},
    pods::Pods,
    shortage::Shortage,
    warm_pool::PREFIX_SIZE,
};

mod branches;
mod grow;
pub(crate) mod ipv6;
mod observe;
mod requests;
mod returned;
mod shortfalls;
mod shrink;

/// How often the loop runs where nothing happens.
const INTERVAL: Duration = Duration::from_secs(5);
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
    /// The node's pods, where they can have branches.
    pub pods: Option<Pods>,
    pub clock: Clock,
    pub checkpoint: PathBuf,
    /// The node's network namespace; `None`: this process's.
    pub netns: Option<PathBuf>,
}

/// See the module.
///
/// **Invariant:** nobody holds the locks of `store` and `pool` at once.
pub struct Ipamd {
    pub(crate) parts: Parts,
    pub metrics: Arc<Metrics>,
    store: Mutex<Datastore>,
    pool: Mutex<Pool>,
    /// The node takes no new pods.
    is_frozen: AtomicBool,
    is_growing: AtomicBool,
    /// Of which pods of an IPv6 node have their addresses: the same for as long as this runs.
    prefix: OnceLock<Ipv6Net>,
    max_pods: AtomicUsize,
    /// Pods without an address that nobody was told about yet; `untold` is the far end.
    shortfalls: mpsc::Sender<shortfalls::Shortfall>,
    untold: Mutex<Option<shortfalls::Receiver>>,
    wake: Notify,
    changed: watch::Sender<u64>,
}

/// When the pool last changed, and what it may not do.
#[derive(Debug, Default)]
struct Pool {
    paused_until: Option<Timestamp>,
    /// Why growing failed the last time.
    failure: Option<shortfalls::Failure>,
    /// The subnet that addresses were last asked of.
    subnet: Option<String>,
    /// Custom networking: what the node is to use.
    eni_config: Option<Chosen>,
    returned: Returned,
    last_shrink: Option<Timestamp>,
    last_reconcile: Option<Timestamp>,
    unmanaged: BTreeSet<String>,
    /// How many of ours have no link (yet, or any more).
    unplugged: usize,
    trunk: Option<String>,
    /// The interfaces that EC2 was asked about.
    described: BTreeSet<String>,
    vpc_cidrs: Vec<Ipv4Net>,
    table: Option<Table>,
    /// When it was last looked for whether that is still there.
    looked: Option<Timestamp>,
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
    #[error("interface `{eni}` was assigned addresses that the instance's metadata does not show")]
    NothingAssigned { eni: String },
    #[error("interface `{eni}` got an IPv6 prefix that the instance's metadata does not show")]
    NoPrefix { eni: String },
    #[error("interface `{eni}` has lost the prefix `{prefix}`, of which this node's pods are")]
    PrefixGone { eni: String, prefix: Ipv6Net },
    #[error("Failed to attach any ENIs for custom networking")]
    NoCustomEni,
    #[error("no subnet can hold a new interface")]
    NoSubnet,
    #[error("eniconfig: eniconfig is not available: `{name}`")]
    NoEniConfig { name: String },
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
    Exhausted { reason: String, shortage: Shortage },
    #[error("the assignment could not be kept on disk")]
    Checkpoint {
        #[source]
        source: CheckpointError,
    },
    #[error("{reason}")]
    Branch { reason: &'static str },
}

impl Ipamd {
    /// Reads what there is, sets the node's network up, and restores the assignments.
    pub async fn start(parts: Parts) -> Result<Self, IpamdError> {
        let started = tokio::time::Instant::now();
        let targets = parts.config.targets;
        // An IPv6 node's places are single ones, all there from the start.
        let is_prefix_mode = targets.is_prefix_mode && !parts.config.is_ipv6;
        let store = Datastore::new(parts.config.cooldown, is_prefix_mode)
            .without_primary(parts.config.is_custom_networking);
        let (shortfalls, untold) = mpsc::channel(shortfalls::PENDING);
        let ipamd = Self {
            metrics: parts.cloud.as_ref().map(Cloud::metrics).unwrap_or_default(),
            store: Mutex::new(store),
            shortfalls,
            untold: Mutex::new(Some(untold)),
            pool: Mutex::default(),
            is_frozen: AtomicBool::new(false),
            is_growing: AtomicBool::new(false),
            prefix: OnceLock::new(),
            max_pods: AtomicUsize::new(parts.limits.max_pods),
            wake: Notify::new(),
            changed: watch::channel(0).0,
            parts,
        };
        ipamd.announce_connmark();
        ipamd.find_unmanaged().await?;
        ipamd.reconcile().await?;
        ipamd.restore().await?;
        let took = started.elapsed().as_secs_f64();
        let of_node = "awscni_ipamd_node_initialization_duration_seconds";
        ipamd.metrics.observe(of_node, labels(&[("success", &true)]), took);
        ipamd.learn_subnets().await;
        ipamd.note_startup(started.elapsed());
        Ok(ipamd)
    }

    /// A start that fails is told by the log and an event: nobody can ask a process that has ended.
    fn note_startup(&self, took: Duration) {
        let has_api_server = self.parts.events.is_some();
        let how = labels(&[
            ("success", &true),
            ("with_api_server", &has_api_server),
            ("failure_reason", &""),
        ]);
        self.metrics.observe("awscni_ipamd_startup_duration_seconds", how, took.as_secs_f64());
    }

    /// Both results are there from the start, as upstream has them.
    fn announce_connmark(&self) {
        let backend = labels(&[("backend", &"nftables")]);
        self.metrics.set_float("awscni_connmark_backend", backend, 1.0);
        for result in ["success", "error"] {
            let how = labels(&[("result", &result)]);
            self.metrics.add("awscni_connmark_reconcile_total", how, 0.0);
        }
    }

    /// Keeps the pool as wanted until it is dropped.
    pub async fn run(&self) {
        loop {
            self.look().await;
            self.settle().await;
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.idle_time()) => {}
            }
        }
    }

    /// How long there is nothing to do, if nobody asks for anything.
    fn idle_time(&self) -> Duration {
        let now = self.parts.clock.now();
        let retry_at = self.pool.lock().failure.as_ref().map(|it| it.retry_at);
        let until = retry_at.filter(|at| *at > now).map(|at| at.duration_since(now));
        let until = until.and_then(|it| Duration::try_from(it).ok());
        until.map_or(INTERVAL, |it| it.min(INTERVAL))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.parts.config
    }

    /// Which ENIConfig this node is to use.
    pub fn learn_eni_config(&self, chosen: Chosen) {
        let mut pool = self.pool.lock();
        if pool.eni_config.as_ref() != Some(&chosen) {
            pool.eni_config = Some(chosen);
            // What failed for want of it may work now.
            pool.failure = None;
            self.wake.notify_one();
        }
    }

    pub(crate) fn eni_config(&self) -> Option<Chosen> {
        self.pool.lock().eni_config.clone()
    }

    /// Waits until pods can have addresses, where they may not be the primary interface's.
    pub async fn until_custom(&self, limit: Duration) -> Result<(), IpamdError> {
        if !self.parts.config.is_custom_networking || self.parts.cloud.is_none() {
            return Ok(());
        }
        let mut changes = self.changed.subscribe();
        let served = async {
            while self.store.lock().stock().total == 0 {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let is_served = tokio::time::timeout(limit, served).await.is_ok();
        if is_served { Ok(()) } else { Err(IpamdError::NoCustomEni) }
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
        if config.is_ipv6 {
            let reason = "an IPv6 node has one prefix for all of its pods".to_owned();
            return Plan { step: plan::Step::Settled, reason };
        }
        let is_frozen =
            self.is_frozen.load(Ordering::Relaxed) && !config.manages_when_unschedulable;
        let pool = self.pool.lock();
        let at = Circumstances {
            now: self.parts.clock.now(),
            paused_until: pool.paused_until,
            retry_at: pool.failure.as_ref().map(|it| it.retry_at),
            last_shrink: pool.last_shrink,
            is_frozen,
            unmanaged_enis: pool.unmanaged.len() + pool.unplugged,
            is_trunk_awaited: self.is_trunk_awaited(&pool),
        };
        drop(pool);
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
                let _action = self.action("increaseDatastorePool");
                let done = self.grow(cloud, plan.step).await;
                self.is_growing.store(false, Ordering::Relaxed);
                self.note_growth(&done);
                self.announce();
                done.map(|()| true)
            }
            step => {
                let _action = self.action("decreaseDatastorePool");
                self.shrink(cloud, step).await.map(|()| true)
            }
        }
    }

    /// Logs, counts, and tells Kubernetes where the role lacks a permission.
    async fn fail(&self, function: &str, error: &IpamdError) {
        warn!(function, error = %telemetry::chain(error), "failed");
        self.metrics.count_labelled("awscni_ipamd_error_count", labels(&[("fn", &function)]));
        let IpamdError::Cloud { source } = error else { return };
        self.report_permission(source).await;
    }

    async fn report_permission(&self, error: &CloudError) {
        if error.is_unauthorized()
            && let Some(events) = &self.parts.events
        {
            events.missing_permission(error).await;
        }
    }

    /// Counts as in progress until what is given back is dropped.
    fn action(&self, function: &'static str) -> Action<'_> {
        let action = Action { metrics: &self.metrics, function };
        action.add(1.0);
        action
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
        let unmanaged = self.pool.lock().unmanaged.len();
        let store = self.store.lock();
        let (stock, limits) = (store.stock(), self.parts.limits);
        let metrics = &self.metrics;
        let (total, assigned) = store.counts();
        metrics.set("awscni_total_ip_addresses", total);
        metrics.set("awscni_assigned_ip_addresses", assigned);
        metrics.set("awscni_total_ipv4_prefixes", stock.prefixes);
        metrics.set("awscni_cooling_ip_addresses", store.resting(self.parts.clock.now()));
        metrics.set("awscni_eni_allocated", store.enis().count());
        let max_enis = limits.max_enis.saturating_sub(unmanaged);
        let config = &self.parts.config;
        let unit = if config.targets.is_prefix_mode { PREFIX_SIZE } else { 1 };
        let kept_off = store.enis().filter(|it| store.excludes(&it.attached)).count();
        let for_pods = max_enis.saturating_sub(kept_off);
        metrics.set("awscni_eni_max", max_enis);
        let of_interfaces = for_pods * limits.per_eni * unit;
        metrics.set("awscni_ip_max", if config.is_ipv6 { stock.total } else { of_interfaces });
        let per_eni = |eni: &Eni| (labels(&[("eni", &eni.attached.id)]), eni.assigned());
        metrics.set_all("awscni_assigned_ip_per_eni", store.enis().map(per_eni));
        let cidrs = store.enis().flat_map(Eni::assigned_by_cidr);
        let per_cidr = cidrs.map(|(cidr, count)| (labels(&[("cidr", &cidr)]), count));
        metrics.set_all("awscni_assigned_ip_per_cidr", per_cidr);
    }
}

/// Something that ipamd is about, for the metric of it.
struct Action<'a> {
    metrics: &'a Metrics,
    function: &'static str,
}

impl Action<'_> {
    fn add(&self, by: f64) {
        let labels = labels(&[("fn", &self.function)]);
        self.metrics.add("awscni_ipamd_action_inprogress", labels, by);
    }
}

impl Drop for Action<'_> {
    fn drop(&mut self) {
        self.add(-1.0);
    }
}
