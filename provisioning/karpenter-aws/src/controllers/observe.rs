//! What the metrics say of the cluster as it is: nodes, pools, pods.

use std::collections::BTreeMap;

use api_kube::karpenter::{DisruptionReason, NodeClaim, NodePool, labels};
use k8s_openapi::api::core::v1 as core;
use karpenter_core::{Snapshot, disruption::allowed_disruptions};
use resources::{Amounts, node_allocatable};
use scheduling::PodInfo;

use super::{Context, PERIOD};

type Gauge<'a> = Vec<(Vec<(&'a str, &'a str)>, f64)>;

impl Context {
    /// Looks at everything again and again.
    pub(super) async fn watch_metrics(&self) {
        loop {
            self.note_nodes();
            self.note_pools();
            self.note_pods();
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn note_nodes(&self) {
        let (nodes, pods, now) = (self.nodes.all(), self.pods.all(), self.clock.now());
        let mut requests: BTreeMap<(&str, bool), Amounts> = BTreeMap::new();
        for pod in pods.iter().filter(|it| !is_over(it)) {
            let name = pod.spec.as_ref().and_then(|it| it.node_name.as_deref());
            let Some(name) = name.filter(|it| !it.is_empty()) else { continue };
            let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
            let is_daemon = owners.iter().any(|it| it.kind == "DaemonSet");
            requests.entry((name, is_daemon)).or_default().add(&PodInfo::new(pod).requests);
        }
        let (mut allocatable, mut ages) = (Gauge::new(), Gauge::new());
        let (mut of_pods, mut of_daemons) = (Gauge::new(), Gauge::new());
        for node in &nodes {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let marks = node.metadata.labels.as_ref();
            let pool = marks.and_then(|it| it.get(labels::NODE_POOL)).map_or("", String::as_str);
            let of = vec![("node_name", name), ("nodepool", pool)];
            each(&mut allocatable, &of, &node_allocatable(node));
            for (is_daemon, gauge) in [(false, &mut of_pods), (true, &mut of_daemons)] {
                let known = requests.get(&(name, is_daemon)).cloned().unwrap_or_default();
                each(gauge, &of, &known);
            }
            if let Some(made) = &node.metadata.creation_timestamp {
                ages.push((of, now.duration_since(made.0).as_secs_f64()));
            }
        }
        let count = u32::try_from(nodes.len()).map_or(f64::MAX, f64::from);
        self.metrics.replace("cluster_state_node_count", vec![(vec![], count)]);
        self.metrics.replace("nodes_allocatable", allocatable);
        self.metrics.replace("nodes_total_pod_requests", of_pods);
        self.metrics.replace("nodes_total_daemon_requests", of_daemons);
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
        let (mut usage, mut limits, mut allowed) = (Gauge::new(), Gauge::new(), Gauge::new());
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
        }
        self.metrics.replace("nodepools_usage", usage);
        self.metrics.replace("nodepools_limit", limits);
        self.metrics.replace("nodepools_allowed_disruptions", allowed);
    }

    fn note_pods(&self) {
        let pods = self.pods.all();
        let mut counts: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for pod in &pods {
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or("Pending");
            let is_bound = pod.spec.as_ref().is_some_and(|it| it.node_name.is_some());
            *counts.entry((phase, if is_bound { "true" } else { "false" })).or_default() += 1.0;
        }
        let counts = counts.into_iter();
        let gauge =
            counts.map(|((phase, bound), it)| (vec![("phase", phase), ("scheduled", bound)], it));
        self.metrics.replace("pods_state", gauge.collect());
    }

    /// How long a pod waited, when it is bound and when it is ready.
    pub(super) fn time_pod(&self, old: Option<&core::Pod>, new: Option<&core::Pod>) {
        let Some(new) = new else { return };
        let Some(made) = new.metadata.creation_timestamp.as_ref() else { return };
        let Some(old) = old else { return };
        let took = self.clock.now().duration_since(made.0).as_secs_f64();
        let is_bound = |it: &core::Pod| it.spec.as_ref().is_some_and(|it| it.node_name.is_some());
        if is_bound(new) && !is_bound(old) {
            self.metrics.observe("pods_bound_duration_seconds", &[], took);
        }
        if is_ready(new) && !is_ready(old) {
            self.metrics.observe("pods_startup_duration_seconds", &[], took);
        }
    }
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

fn is_over(pod: &core::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &core::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_deref());
    let mut conditions = conditions.unwrap_or_default().iter();
    conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}
