//! Karpenter's controllers: pending pods become NodeClaims, NodeClaims instances, and nodes go.
//!
//! What is decided is `karpenter-core`'s; this is what is read and written. State is the API server's
//! and EC2's alone: the unavailable offerings, which are forgotten after three minutes, who was
//! nominated, and what was launched but is not in the store yet are kept in memory.

mod class_rules;
mod conditions;
mod consistency;
mod definition;
mod disruption;
mod drift;
mod events;
mod instance_status;
mod interruption;
mod kubelet_rules;
mod launch;
mod lifecycle;
mod merge;
mod node_class;
mod node_pool;
mod observe;
mod overlays;
mod placement_groups;
mod profiles;
mod provisioner;
mod registrations;
mod repair;
mod reservations;
mod static_capacity;
mod termination;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ::lifecycle::Scope;
use api_kube::karpenter::{Ec2NodeClass, NodeClaim, NodeOverlay, NodePool};
use clock::Clock;
use controller::{ApplyError, Key, Queue, Recorder, Store, StoreSpec, reflect};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1 as core,
    policy::v1::PodDisruptionBudget,
    storage::v1::{CSINode, StorageClass, VolumeAttachment},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use karpenter_core::{InstanceType, MinValues, Overlays, Preferences, Snapshot};
use kube::Client;
use parking_lot::Mutex;
use tracing::warn;

use self::{drift::Placed, events::Events, launch::Launched, registrations::Registrations};
use crate::{
    Group, Market,
    cloud::{Cloud, Offered, SpotPrices},
    metrics::{Metrics, NODE_CLAIMS, NODE_CLASSES, NODE_POOLS, NODES},
    offers,
};

/// Placement group (or nothing), type, zone, capacity type; `*` stands for all of these three.
type Lack = (String, String, String, String);

/// How long an offering that ran out of capacity is left alone (upstream's ICE cache).
const UNAVAILABLE: Duration = Duration::from_secs(180);
/// Claims worked on at once.
const CLAIMS: usize = 50;
/// What is looked at again and again is looked at so often.
const PERIOD: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// Settings of [`run`].
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: String,
    /// A batch ends when no pod has come for so long,
    pub batch_idle: Duration,
    /// or after so long.
    pub batch_max: Duration,
    pub gates: FeatureGates,
    /// Whether what pods prefer is tried as if it had to hold.
    pub preferences: Preferences,
    /// What becomes of `minValues` that are not to be had.
    pub min_values: MinValues,
    /// The SQS queue with EC2's and Health's events, by its name.
    pub interruption_queue: Option<String>,
    /// What Spot is taken to cost of the On-Demand price, where EC2 tells no price.
    pub spot_share: Option<f64>,
    /// How many objects EC2 is asked for at once.
    pub page_size: i64,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Upstream's feature gates, as far as they switch anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    pub node_repair: bool,
    pub spot_to_spot_consolidation: bool,
    pub static_capacity: bool,
    pub node_overlay: bool,
    pub reserved_capacity: bool,
    /// Not upstream's: several nodes may go for several cheaper ones.
    pub repacking: bool,
}

impl Default for FeatureGates {
    /// As upstream has them.
    fn default() -> Self {
        Self {
            node_repair: false,
            spot_to_spot_consolidation: false,
            static_capacity: false,
            node_overlay: false,
            reserved_capacity: true,
            repacking: false,
        }
    }
}

impl FeatureGates {
    /// Of `NodeRepair=true`, `SpotToSpotConsolidation=false`; gates of upstream's that switch nothing
    /// here have to be as they are there by default.
    pub fn parse(settings: &[String]) -> Result<Self, String> {
        let mut gates = Self::default();
        for setting in settings.iter().map(|it| it.trim()).filter(|it| !it.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let is_on: bool = value
                .parse()
                .map_err(|_| format!("`{setting}` is no setting of a feature gate"))?;
            match name {
                "NodeRepair" => gates.node_repair = is_on,
                "SpotToSpotConsolidation" => gates.spot_to_spot_consolidation = is_on,
                "Repacking" => gates.repacking = is_on,
                "StaticCapacity" => gates.static_capacity = is_on,
                "NodeOverlay" => gates.node_overlay = is_on,
                "ReservedCapacity" => gates.reserved_capacity = is_on,
                "CapacityBuffer" if !is_on => {}
                _ => return Err(format!("the feature gate `{name}` is not known here")),
            }
        }
        Ok(gates)
    }
}

impl Config {
    /// Upstream's settings.
    pub fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            batch_idle: Duration::from_secs(1),
            batch_max: Duration::from_secs(10),
            gates: FeatureGates::default(),
            preferences: Preferences::default(),
            min_values: MinValues::default(),
            interruption_queue: None,
            spot_share: Some(0.35),
            page_size: 500,
            metrics: Arc::default(),
        }
    }
}

/// Runs until `scope` is cancelled.
pub async fn run(
    client: Client,
    aws: aws_wire::Client,
    config: Config,
    clock: Clock,
    scope: Scope,
) {
    definition::ensure(&client).await;
    let cloud = Cloud { aws, cluster: config.cluster.clone(), page_size: config.page_size };
    let context = Arc::new(Context::new(client, cloud, config, clock, &scope));
    context.synced().await;
    context.connect();
    // Before claims are looked at: one whose types are not known is one that nothing can be had for.
    while let Err(error) = context.learn_types().await {
        warn!(error = %telemetry::chain(&error), "failed to learn the instance types");
        tokio::time::sleep(RETRY).await;
    }
    let claims = {
        let context = context.clone();
        let queue = context.claims_queue.clone();
        controller::run("nodeclaim", queue, CLAIMS, move |key| {
            let context = context.clone();
            async move { context.reconcile_claim(&key).await }
        })
    };
    tokio::join!(
        claims,
        context.watch_classes(),
        context.watch_pools(),
        context.provision(),
        context.disrupt(),
        context.watch_health(),
        context.watch_static_pools(),
        context.watch_overlays(),
        context.watch_interruptions(),
        context.watch_instance_status(),
        context.watch_blocks(),
        context.watch_consistency(),
        context.watch_profiles(),
        context.watch_metrics(),
        context.collect_garbage()
    );
}

/// Runs a decision where it holds up nobody: it may take seconds.
async fn blocking<T: Send + 'static>(
    decide: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApplyError> {
    let done = tokio::task::spawn_blocking(decide).await;
    done.map_err(|error| ApplyError::other(format!("a decision came to no end: {error}")))
}

pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) cloud: Cloud,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    recorder: Recorder,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pools: Store<NodePool>,
    pub(crate) claims: Store<NodeClaim>,
    pub(crate) classes: Store<Ec2NodeClass>,
    /// Nobody reads them while their gate is shut.
    pub(crate) overlays: Option<Store<NodeOverlay>>,
    pub(crate) nodes: Store<core::Node>,
    pub(crate) pods: Store<core::Pod>,
    daemon_sets: Store<DaemonSet>,
    namespaces: Store<core::Namespace>,
    volumes: Store<core::PersistentVolume>,
    volume_claims: Store<core::PersistentVolumeClaim>,
    storage_classes: Store<StorageClass>,
    csi_nodes: Store<CSINode>,
    attachments: Store<VolumeAttachment>,
    budgets: Store<PodDisruptionBudget>,
    pub(crate) claims_queue: Queue<Key>,
    /// What EC2 offers, once it has been asked.
    pub(crate) offered: Mutex<Option<Offered>>,
    /// What Spot costs: by type and zone, and since when it is known.
    pub(crate) spot: Mutex<Option<(Timestamp, SpotPrices)>>,
    /// What cannot be had, and until when.
    unavailable: Mutex<BTreeMap<Lack, Timestamp>>,
    /// By what selects them.
    groups: Mutex<BTreeMap<String, Group>>,
    /// By the id of a capacity reservation: for how many instances more it has room.
    reservations: Mutex<BTreeMap<String, u32>>,
    /// By the uid of the claim: what was launched for it, until the store says so too.
    launched: Mutex<BTreeMap<String, Launched>>,
    /// By the uid of the pool: how its last launches went.
    registrations: Mutex<BTreeMap<String, Registrations>>,
    /// Nodes that a pod has come to or left, and when; until it is on their claims.
    pub(crate) pod_events: Mutex<BTreeMap<String, Timestamp>>,
    /// Where the cluster's instances are, by their ids.
    pub(crate) placed: Mutex<BTreeMap<String, Placed>>,
    /// Instance profiles, and when a class last named them.
    profiles: Mutex<BTreeMap<String, Timestamp>>,
    /// Launch templates, and when a launch last named them.
    pub(crate) templates: Mutex<BTreeMap<String, Timestamp>>,
    /// The overlays in effect, once they have been looked at; behind their gate.
    pub(crate) effective: Mutex<Option<Arc<Overlays>>>,
    /// Nodes that pods are on their way to, and until when nothing may disrupt them.
    pub(crate) nominated: Mutex<BTreeMap<String, Timestamp>>,
}

impl Context {
    fn new(client: Client, cloud: Cloud, config: Config, clock: Clock, scope: &Scope) -> Self {
        let recorder = Recorder::new(client.clone(), "karpenter", clock, scope);
        Self {
            pools: reflect(client.clone(), StoreSpec::default(), scope),
            claims: reflect(client.clone(), StoreSpec::default(), scope),
            classes: reflect(client.clone(), StoreSpec::default(), scope),
            overlays: config
                .gates
                .node_overlay
                .then(|| reflect(client.clone(), StoreSpec::default(), scope)),
            nodes: reflect(client.clone(), StoreSpec::default(), scope),
            pods: reflect(client.clone(), StoreSpec::default(), scope),
            daemon_sets: reflect(client.clone(), StoreSpec::default(), scope),
            namespaces: reflect(client.clone(), StoreSpec::default(), scope),
            volumes: reflect(client.clone(), StoreSpec::default(), scope),
            volume_claims: reflect(client.clone(), StoreSpec::default(), scope),
            storage_classes: reflect(client.clone(), StoreSpec::default(), scope),
            csi_nodes: reflect(client.clone(), StoreSpec::default(), scope),
            attachments: reflect(client.clone(), StoreSpec::default(), scope),
            budgets: reflect(client.clone(), StoreSpec::default(), scope),
            events: Events::new(recorder.clone(), clock),
            recorder,
            claims_queue: Queue::new(),
            metrics: config.metrics.clone(),
            spot: Mutex::default(),
            offered: Mutex::default(),
            unavailable: Mutex::default(),
            groups: Mutex::default(),
            reservations: Mutex::default(),
            launched: Mutex::default(),
            registrations: Mutex::default(),
            profiles: Mutex::default(),
            templates: Mutex::default(),
            placed: Mutex::default(),
            nominated: Mutex::default(),
            effective: Mutex::default(),
            pod_events: Mutex::default(),
            client,
            cloud,
            config,
            clock,
        }
    }

    async fn synced(&self) {
        self.pools.synced().await;
        self.claims.synced().await;
        self.classes.synced().await;
        if let Some(overlays) = &self.overlays {
            overlays.synced().await;
        }
        self.nodes.synced().await;
        self.pods.synced().await;
        self.daemon_sets.synced().await;
        self.namespaces.synced().await;
        self.volumes.synced().await;
        self.volume_claims.synced().await;
        self.storage_classes.synced().await;
        self.csi_nodes.synced().await;
        self.attachments.synced().await;
        self.budgets.synced().await;
    }

    /// Claims are looked at when they, their node or its pods change.
    fn connect(self: &Arc<Self>) {
        self.tell_of_conditions();
        let queue = self.claims_queue.clone();
        self.claims.subscribe(move |change| queue.add(change.key.clone()));
        let context = Arc::downgrade(self);
        self.nodes.subscribe(move |change| {
            let Some((context, node)) = context.upgrade().zip(change.latest()) else { return };
            let provider = node.spec.as_ref().and_then(|it| it.provider_id.as_deref());
            let found = context.claims.all().into_iter().find(|it| {
                let known = it.status.as_ref().and_then(|it| it.provider_id.as_deref());
                known.is_some() && known == provider
            });
            if let Some(claim) = found {
                context.claims_queue.add(Key::new("", claim.name()));
            }
        });
        let context = Arc::downgrade(self);
        self.pods.subscribe(move |change| {
            if let Some(context) = context.upgrade() {
                context.time_pod(change.old.as_deref(), change.new.as_deref());
            }
            let node = |pod: &Option<Arc<core::Pod>>| {
                let pod = pod.as_ref()?;
                let phase = pod.status.as_ref().and_then(|it| it.phase.clone());
                let is_over = matches!(phase.as_deref(), Some("Succeeded" | "Failed"));
                pod.spec.as_ref()?.node_name.clone().filter(|_| !is_over)
            };
            let (before, after) = (node(&change.old), node(&change.new));
            if let Some(context) = context.upgrade().filter(|_| before != after) {
                let now = context.clock.now();
                let mut events = context.pod_events.lock();
                events.extend([before, after].into_iter().flatten().map(|it| (it, now)));
            }
        });
        // Those that were there before are no events.
        self.pod_events.lock().clear();
    }

    fn tell_of_conditions(&self) {
        fn of(it: Option<&Vec<Condition>>) -> &[Condition] {
            it.map_or(&[], Vec::as_slice)
        }
        let (recorder, metrics) = (self.recorder.clone(), self.metrics.clone());
        let told = events::Told { recorder, metrics, clock: self.clock };
        told.follow(&self.claims, &NODE_CLAIMS, &lifecycle::PARTS, |it| {
            of(it.status.as_ref().map(|it| &it.conditions))
        });
        told.follow(&self.pools, &NODE_POOLS, &node_pool::PARTS, |it| {
            of(it.status.as_ref().map(|it| &it.conditions))
        });
        told.follow(&self.classes, &NODE_CLASSES, &node_class::PARTS, |it| {
            of(it.status.as_ref().map(|it| &it.conditions))
        });
        told.follow(&self.nodes, &NODES, &[], |it| {
            it.status.as_ref().and_then(|it| it.conditions.as_deref()).unwrap_or_default()
        });
    }

    /// The pods on a node.
    fn pods_on(&self, node: &str) -> Vec<Arc<core::Pod>> {
        let mut pods = self.pods.all();
        pods.retain(|it| it.spec.as_ref().and_then(|it| it.node_name.as_deref()) == Some(node));
        pods
    }

    /// What the decisions are made from.
    pub(crate) fn snapshot(&self) -> Snapshot {
        fn all<K: Clone>(store: &Store<K>) -> Vec<K> {
            store.all().iter().map(|it| K::clone(it)).collect()
        }
        Snapshot {
            pools: all(&self.pools),
            claims: all(&self.claims),
            nodes: all(&self.nodes),
            pods: all(&self.pods),
            daemon_sets: all(&self.daemon_sets),
            namespaces: all(&self.namespaces),
            volumes: all(&self.volumes),
            volume_claims: all(&self.volume_claims),
            storage_classes: all(&self.storage_classes),
            csi_nodes: all(&self.csi_nodes),
            budgets: all(&self.budgets),
            nominated: self.nominated(),
            preferences: self.config.preferences,
            min_values: self.config.min_values,
        }
    }

    /// Nodes that pods are on their way to.
    fn nominated(&self) -> BTreeSet<String> {
        let now = self.clock.now();
        let mut nominated = self.nominated.lock();
        nominated.retain(|_, until| *until > now);
        nominated.keys().cloned().collect()
    }

    pub(crate) fn class(&self, name: &str) -> Option<Arc<Ec2NodeClass>> {
        self.classes.get(&Key::new("", name))
    }

    /// The types of a pool's class, with the overlays that are for them; `None` while the class is
    /// not ready, or nobody has looked at the overlays yet.
    pub(crate) fn types(&self, pool: &NodePool) -> Option<Arc<[InstanceType]>> {
        let class = self.class(&pool.spec.template.spec.node_class_ref.name)?;
        self.laid_over(pool, self.types_of(&class)?)
    }

    /// The types that a claim may be; room of reservations that is kept for claims is there for them.
    pub(crate) fn types_for(
        &self,
        claim: &NodeClaim,
        class: &Ec2NodeClass,
    ) -> Option<Arc<[InstanceType]>> {
        let types = self.types_with(class, &BTreeMap::new())?;
        match self.pools.get(&Key::new("", lifecycle::pool_of(claim))) {
            Some(pool) => self.laid_over(&pool, types),
            None => Some(types),
        }
    }

    fn laid_over(
        &self,
        pool: &NodePool,
        types: Arc<[InstanceType]>,
    ) -> Option<Arc<[InstanceType]>> {
        if self.overlays.is_none() {
            return Some(types);
        }
        let effective = self.effective.lock().clone()?;
        Some(effective.apply(pool, types))
    }

    /// The types of a class, for claims that are to be made: what is kept for others is left out.
    pub(crate) fn types_of(&self, class: &Ec2NodeClass) -> Option<Arc<[InstanceType]>> {
        self.types_with(class, &self.coming())
    }

    /// `kept`: room of reservations that is not to be had, by their ids.
    fn types_with(
        &self,
        class: &Ec2NodeClass,
        kept: &BTreeMap<String, u32>,
    ) -> Option<Arc<[InstanceType]>> {
        let status = class.status.as_ref()?;
        let offered = self.offered.lock().clone()?;
        let group = self.group_of(class).ok()?;
        let spot = self.spot.lock().as_ref().map(|(_, it)| it.clone()).unwrap_or_default();
        let market = Market {
            region: self.cloud.aws.region().to_owned(),
            zones: Vec::new(),
            // Where EC2 tells prices, a pool without one is not sold.
            spot_share: self.config.spot_share.filter(|_| spot.is_empty()),
            spot,
            unavailable: self.unavailable(group.as_ref().map_or("", |it| &it.id)),
            reservations: self.reserved(status, kept),
            group,
        };
        offers(class, market, |name| offered.iter().any(|it| **it == *name))
    }

    /// In a placement group, or outside of any.
    fn unavailable(&self, group: &str) -> Vec<(String, String, String)> {
        let now = self.clock.now();
        let mut unavailable = self.unavailable.lock();
        unavailable.retain(|_, until| *until > now);
        let here = unavailable.keys().filter(|it| it.0 == group);
        here.map(|(_, kind, zone, way)| (kind.clone(), zone.clone(), way.clone())).collect()
    }

    /// `group`: the placement group where it cannot be had, or nothing.
    pub(crate) fn mark_unavailable(
        &self,
        group: &str,
        kind: &str,
        zone: &str,
        capacity_type: &str,
    ) {
        let key = [group, kind, zone, capacity_type].map(str::to_owned).into();
        self.unavailable.lock().insert(key, clock::later(self.clock.now(), UNAVAILABLE));
    }

    /// Takes notice that a claim is disrupted, by whatever.
    pub(crate) fn count_disrupted(&self, claim: &NodeClaim, reason: &str) {
        let of = |key: &str| {
            let marks = claim.metadata.labels.as_ref();
            marks.and_then(|it| it.get(key)).map_or("", String::as_str)
        };
        let labels = [
            ("reason", reason),
            ("nodepool", of(api_kube::karpenter::labels::NODE_POOL)),
            ("capacity_type", of(api_kube::karpenter::labels::CAPACITY_TYPE)),
        ];
        self.metrics.add("nodeclaims_disrupted_total", &labels, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_switched_by_name_and_what_is_not_known_is_refused() {
        let of = |text: &str| {
            let all: Vec<String> = text.split(',').map(str::to_owned).collect();
            FeatureGates::parse(&all)
        };
        let gates = of("NodeRepair=true,SpotToSpotConsolidation=false,NodeOverlay=false").unwrap();
        assert!(gates.node_repair && !gates.spot_to_spot_consolidation);
        assert!(!of("").unwrap().node_repair);
        for wrong in ["NodeRepair", "NodeRepair=perhaps", "Unknown=true", "CapacityBuffer=true"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
