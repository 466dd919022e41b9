//! What the metrics say of the cluster as it is: nodes, pools, pods, types, and objects' conditions.

mod objects;
mod pods;
mod types;

use std::collections::BTreeMap;

use api_kube::karpenter::{DisruptionReason, NodeClaim, NodePool, labels};
use k8s_openapi::api::core::v1 as core;
use karpenter_core::{
    Snapshot,
    disruption::{allowed_disruptions, disrupted_nodes},
};
use resources::{Amounts, node_allocatable, node_capacity, pod_limits, pod_requests};

use super::{Context, PERIOD, lifecycle::pool_of};

type Gauge<'a> = Vec<(Vec<(&'a str, &'a str)>, f64)>;

/// What pods on a node request, and their limits.
#[derive(Default)]
struct Load {
    requests: Amounts,
    limits: Amounts,
}

impl Load {
    fn add(&mut self, pod: &core::Pod) {
        self.requests.add(&pod_requests(pod));
        let mut limits = pod_limits(pod);
        limits.pods = 1;
        self.limits.add(&limits);
    }
}

impl Context {
    /// Looks at everything again and again.
    pub(super) async fn watch_metrics(&self) {
        let build = vec![("version", env!("CARGO_PKG_VERSION"))];
        self.metrics.replace("build_info", vec![(build, 1.0)]);
        for pass in 0_u64.. {
            self.note_nodes();
            self.note_pools();
            self.note_pods();
            self.note_objects();
            // Nothing of them changes in seconds, and there are thousands.
            if pass % 6 == 0 {
                self.note_types();
                self.note_costs();
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn note_nodes(&self) {
        let (nodes, pods, now) = (self.nodes.all(), self.pods.all(), self.clock.now());
        let mut loads: BTreeMap<&str, (Load, Load)> = BTreeMap::new();
        for pod in pods.iter().filter(|it| !pods::is_over(it)) {
            let name = pod.spec.as_ref().and_then(|it| it.node_name.as_deref());
            let Some(name) = name.filter(|it| !it.is_empty()) else { continue };
            let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
            let (all, daemons) = loads.entry(name).or_default();
            all.add(pod);
            if owners.iter().any(|it| it.kind == "DaemonSet") {
                daemons.add(pod);
            }
        }
        let (mut allocatable, mut overhead, mut ages) = (Gauge::new(), Gauge::new(), Gauge::new());
        let mut of_pods = (Gauge::new(), Gauge::new());
        let mut of_daemons = (Gauge::new(), Gauge::new());
        let (mut have, mut taken) = (Amounts::default(), Amounts::default());
        let none = (Load::default(), Load::default());
        for node in &nodes {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let marks = node.metadata.labels.as_ref();
            let pool = marks.and_then(|it| it.get(labels::NODE_POOL)).map_or("", String::as_str);
            let of = vec![("node_name", name), ("nodepool", pool)];
            let for_pods = node_allocatable(node);
            each(&mut allocatable, &of, &for_pods);
            let mut kept = node_capacity(node);
            kept.subtract(&for_pods);
            each(&mut overhead, &of, &kept);
            let (all, daemons) = loads.get(name).unwrap_or(&none);
            for (gauges, load) in [(&mut of_pods, all), (&mut of_daemons, daemons)] {
                each(&mut gauges.0, &of, &load.requests);
                each(&mut gauges.1, &of, &load.limits);
            }
            have.add(&for_pods);
            taken.add(&all.requests);
            if let Some(made) = &node.metadata.creation_timestamp {
                ages.push((of, now.duration_since(made.0).as_secs_f64()));
            }
        }
        let count = u32::try_from(nodes.len()).map_or(f64::MAX, f64::from);
        self.metrics.replace("cluster_state_node_count", vec![(vec![], count)]);
        self.metrics.replace("cluster_utilization_percent", utilization(&have, &taken));
        self.metrics.replace("nodes_allocatable", allocatable);
        self.metrics.replace("nodes_system_overhead", overhead);
        self.metrics.replace("nodes_total_pod_requests", of_pods.0);
        self.metrics.replace("nodes_total_pod_limits", of_pods.1);
        self.metrics.replace("nodes_total_daemon_requests", of_daemons.0);
        self.metrics.replace("nodes_total_daemon_limits", of_daemons.1);
        self.metrics.replace("nodes_current_lifetime_seconds", ages);
    }

    fn note_pools(&self) {
        // Pods take no part.
        let snapshot = Snapshot {
            pools: self.pools.all().iter().map(|it| NodePool::clone(it)).collect(),
            claims: self.claims.all().iter().map(|it| NodeClaim::clone(it)).collect(),
            nodes: self.nodes.all().iter().map(|it| core::Node::clone(it)).collect(),
            ..Snapshot::default()
        };
        let now = self.clock.now();
        let (mut usage, mut limits) = (Gauge::new(), Gauge::new());
        let (mut allowed, mut consuming) = (Gauge::new(), Gauge::new());
        for pool in &snapshot.pools {
            let of = vec![("nodepool", pool.name())];
            let used = snapshot.used(pool.name());
            each(&mut usage, &of, &used.amounts);
            each(&mut limits, &of, &Amounts::from_list(pool.spec.limits.as_ref()));
            for reason in [
                DisruptionReason::Empty,
                DisruptionReason::Drifted,
                DisruptionReason::Underutilized,
            ] {
                let count = allowed_disruptions(&snapshot, pool, reason, now);
                let of = vec![("nodepool", pool.name()), ("reason", reason.as_str())];
                allowed.push((of, f64::from(count)));
            }
            consuming.push((of, f64::from(disrupted_nodes(&snapshot, pool))));
        }
        self.metrics.replace("nodepools_usage", usage);
        self.metrics.replace("nodepools_limit", limits);
        self.metrics.replace("nodepools_allowed_disruptions", allowed);
        self.metrics.replace("nodepools_nodes_consuming_budgets", consuming);
    }

    /// What the nodes of each pool cost, as far as that is known.
    fn note_costs(&self) {
        let (pools, claims) = (self.pools.all(), self.claims.all());
        let mut costs = Gauge::new();
        for pool in &pools {
            let Some(types) = self.types(pool) else { continue };
            let of_pool = claims.iter().filter(|it| pool_of(it) == pool.name());
            let prices = of_pool.filter_map(|claim| {
                let marks = claim.metadata.labels.as_ref()?;
                let kind = marks.get(labels::INSTANCE_TYPE)?;
                let kind = types.iter().find(|it| &*it.name == kind.as_str())?;
                let is = |it: &&karpenter_core::Offering| {
                    marks.get(labels::ZONE).is_some_and(|zone| it.zone() == zone)
                        && marks
                            .get(labels::CAPACITY_TYPE)
                            .is_some_and(|of| it.capacity_type() == of)
                };
                kind.offerings.iter().find(is).map(|it| it.price)
            });
            // Of nothing the sum is less than nothing: -0.
            costs.push((vec![("nodepool", pool.name())], 0.0 + prices.sum::<f64>()));
        }
        self.metrics.replace("nodepools_cost_total", costs);
    }
}

#[expect(clippy::cast_precision_loss, reason = "amounts of a cluster are far below 2^52")]
fn utilization<'a>(have: &Amounts, taken: &Amounts) -> Gauge<'a> {
    let each = [
        ("cpu", have.cpu_millis, taken.cpu_millis),
        ("memory", have.memory, taken.memory),
        ("ephemeral_storage", have.ephemeral_storage, taken.ephemeral_storage),
        ("pods", have.pods, taken.pods),
    ];
    let known = each.into_iter().filter(|(_, have, _)| *have > 0);
    known
        .map(|(name, have, taken)| {
            (vec![("resource_type", name)], taken as f64 / have as f64 * 100.0)
        })
        .collect()
}

/// One value for each resource; CPU in cores.
#[expect(clippy::cast_precision_loss, reason = "amounts of a cluster are far below 2^52")]
fn each<'a>(gauge: &mut Gauge<'a>, of: &[(&'a str, &'a str)], amounts: &Amounts) {
    for (name, value) in [
        ("cpu", amounts.cpu_millis as f64 / 1000.0),
        ("memory", amounts.memory as f64),
        ("ephemeral_storage", amounts.ephemeral_storage as f64),
        ("pods", amounts.pods as f64),
    ] {
        let mut labels = of.to_vec();
        labels.push(("resource_type", name));
        gauge.push((labels, value));
    }
}
