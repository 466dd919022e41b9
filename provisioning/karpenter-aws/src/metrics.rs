//! Metrics by upstream's names.
//!
//! A family is here once, with the name, kind and words that it has on the page; whoever counts
//! something names the family and its labels.
//!
//! Upstream: `pkg/metrics` and the controllers of kubernetes-sigs/karpenter, `status` of
//! awslabs/operatorpkg. Deviation: no metrics of controller-runtime, the work queues, client-go, the
//! Go runtime and the AWS SDK, and none of the calls of a cloud provider, of its batches and of how far
//! pods are on their way; `docs/karpenter.md` names them.

use std::{collections::BTreeMap, fmt::Write};

use parking_lot::Mutex;

const PREFIX: &str = "karpenter";
const BUCKETS: [f64; 20] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
    600.0, 1200.0, 1800.0, 3600.0,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram as Spread};

/// What is said of the objects of one kind: their conditions, and their ends.
#[derive(Debug)]
pub(crate) struct OfKind {
    pub(crate) transitions: &'static str,
    pub(crate) transition_seconds: &'static str,
    pub(crate) conditions: &'static str,
    pub(crate) condition_seconds: &'static str,
    pub(crate) terminating_seconds: &'static str,
    pub(crate) termination_seconds: &'static str,
}

macro_rules! of_kind {
    ($kind:literal) => {
        OfKind {
            transitions: concat!("operator_", $kind, "_status_condition_transitions_total"),
            transition_seconds: concat!("operator_", $kind, "_status_condition_transition_seconds"),
            conditions: concat!("operator_", $kind, "_status_condition_count"),
            condition_seconds: concat!(
                "operator_",
                $kind,
                "_status_condition_current_status_seconds"
            ),
            terminating_seconds: concat!("operator_", $kind, "_termination_current_time_seconds"),
            termination_seconds: concat!("operator_", $kind, "_termination_duration_seconds"),
        }
    };
}

pub(crate) const NODE_CLAIMS: OfKind = of_kind!("nodeclaim");
pub(crate) const NODE_POOLS: OfKind = of_kind!("nodepool");
pub(crate) const NODE_CLASSES: OfKind = of_kind!("ec2nodeclass");
pub(crate) const NODES: OfKind = of_kind!("node");

type Family = (&'static str, Kind, &'static str);

impl OfKind {
    const fn families(&self) -> [Family; 6] {
        [
            (self.transitions, Counter, "Transitions, by the condition's type and status."),
            (self.transition_seconds, Spread, "How long a condition had the status before."),
            (self.conditions, Gauge, "Conditions, by object, type and status."),
            (self.condition_seconds, Gauge, "For how long a condition has had its status."),
            (self.terminating_seconds, Gauge, "For how long an object has been going."),
            (self.termination_seconds, Spread, "From an object's deletion to its end."),
        ]
    }
}

/// Every family of Karpenter's: name, kind, what it says.
const FAMILIES: [Family; 50] = [
    ("nodeclaims_created_total", Counter, "NodeClaims created, by reason and NodePool."),
    ("nodeclaims_terminated_total", Counter, "NodeClaims terminated, by NodePool."),
    ("nodeclaims_disrupted_total", Counter, "NodeClaims disrupted, by reason and NodePool."),
    ("nodeclaims_unhealthy_disrupted_total", Counter, "NodeClaims repaired, by condition."),
    ("nodeclaims_termination_duration_seconds", Spread, "From a NodeClaim's deletion to its end."),
    (
        "nodeclaims_instance_termination_duration_seconds",
        Spread,
        "From the call that ends a NodeClaim's instance to its end.",
    ),
    ("nodes_created_total", Counter, "Nodes registered, by NodePool."),
    ("nodes_terminated_total", Counter, "Nodes terminated, by NodePool."),
    ("nodes_drained_total", Counter, "Nodes drained, by NodePool."),
    ("nodes_allocatable", Gauge, "Allocatable resources of a node."),
    ("nodes_system_overhead", Gauge, "What a node has and does not let pods have."),
    ("nodes_total_pod_requests", Gauge, "What pods on a node request, daemons' included."),
    ("nodes_total_pod_limits", Gauge, "The limits of pods on a node, daemons' included."),
    ("nodes_total_daemon_requests", Gauge, "What daemons on a node request."),
    ("nodes_total_daemon_limits", Gauge, "The limits of daemons on a node."),
    ("nodes_lifetime_duration_seconds", Spread, "How old nodes became."),
    ("nodes_current_lifetime_seconds", Gauge, "How old a node is."),
    ("nodes_termination_duration_seconds", Spread, "From a node's deletion to its end."),
    ("nodepools_allowed_disruptions", Gauge, "Nodes that budgets allow to disrupt, by reason."),
    ("nodepools_limit", Gauge, "The NodePool's limits."),
    ("nodepools_usage", Gauge, "What the NodePool's nodes have together."),
    ("nodepools_cost_total", Gauge, "What the NodePool's nodes cost in an hour, US dollars."),
    ("nodepools_nodes_consuming_budgets", Gauge, "Nodes that count as disrupted to budgets."),
    ("pods_state", Gauge, "Pods, with where they are and what they are on."),
    ("pods_unbound_time_seconds", Gauge, "For how long a pod has not been bound."),
    ("pods_unstarted_time_seconds", Gauge, "For how long a pod has not been running."),
    ("pods_startup_duration_seconds", Spread, "From a pod's creation to when it is ready."),
    ("pods_bound_duration_seconds", Spread, "From a pod's creation to when it is bound."),
    ("pods_eviction_requests_total", Counter, "Evictions asked for, by the answer's code."),
    ("pods_drained_total", Counter, "Pods evicted or deleted while draining."),
    ("scheduler_scheduling_duration_seconds", Spread, "What a scheduling decision took."),
    ("scheduler_queue_depth", Gauge, "Pods that a decision was to place."),
    ("scheduler_unschedulable_pods_count", Gauge, "Pods without a place after a decision."),
    ("voluntary_disruption_decisions_total", Counter, "Disruption decisions, by reason."),
    (
        "voluntary_disruption_decision_evaluation_duration_seconds",
        Spread,
        "What a disruption decision took.",
    ),
    ("voluntary_disruption_eligible_nodes", Gauge, "Nodes that could be disrupted."),
    ("voluntary_disruption_failed_validations_total", Counter, "Decisions that did not hold."),
    ("voluntary_disruption_queue_failures_total", Counter, "Decisions that were not carried out."),
    ("cluster_state_node_count", Gauge, "Nodes that Karpenter knows."),
    ("cluster_utilization_percent", Gauge, "What pods request of what nodes have for them."),
    ("cloudprovider_instance_type_cpu_cores", Gauge, "vCPUs of an instance type."),
    ("cloudprovider_instance_type_memory_bytes", Gauge, "Memory of an instance type."),
    (
        "cloudprovider_instance_type_offering_available",
        Gauge,
        "Whether a type can be had in a zone in that way.",
    ),
    (
        "cloudprovider_instance_type_offering_price_estimate",
        Gauge,
        "What a type costs in a zone in that way, US dollars per hour.",
    ),
    ("build_info", Gauge, "1, with the version of this Karpenter."),
    ("interruption_received_messages_total", Counter, "Messages received, by type."),
    ("interruption_deleted_messages_total", Counter, "Messages taken off the queue."),
    (
        "interruption_message_queue_duration_seconds",
        Spread,
        "How long messages waited on the queue.",
    ),
    ("interruption_instance_status_unhealthy_total", Counter, "Ill instances, by what is ill."),
    ("cloudprovider_instance_launch_failures_total", Counter, "Launches that failed, by reason."),
];

type Labels<'a> = &'a [(&'a str, &'a str)];

/// See the module.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By family and labels.
    values: BTreeMap<&'static str, BTreeMap<String, f64>>,
    spreads: BTreeMap<&'static str, BTreeMap<String, Histogram>>,
}

#[derive(Debug, Default)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    pub(crate) fn add(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        debug_assert_eq!(kind(name), Some(Counter), "{name}");
        let mut state = self.0.lock();
        *state.values.entry(name).or_default().entry(text(labels)).or_default() += value;
    }

    /// A gauge, all of it: what it said of others is forgotten.
    pub(crate) fn replace(&self, name: &'static str, values: Vec<(Vec<(&str, &str)>, f64)>) {
        debug_assert_eq!(kind(name), Some(Gauge), "{name}");
        let values = values.into_iter().map(|(labels, it)| (text(&labels), it)).collect();
        self.0.lock().values.insert(name, values);
    }

    pub(crate) fn observe(&self, name: &'static str, labels: Labels<'_>, seconds: f64) {
        debug_assert_eq!(kind(name), Some(Spread), "{name}");
        let mut state = self.0.lock();
        let histogram = state.spreads.entry(name).or_default().entry(text(labels)).or_default();
        for (count, bound) in histogram.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
        histogram.count += 1;
        histogram.sum += seconds;
    }

    /// The Prometheus text format.
    pub fn render(&self) -> String {
        let state = self.0.lock();
        let mut out = String::new();
        for (name, kind, help) in families() {
            let named = match kind {
                Counter => "counter",
                Gauge => "gauge",
                Spread => "histogram",
            };
            let values = state.values.get(name).filter(|it| !it.is_empty());
            let spreads = state.spreads.get(name);
            if values.is_none() && spreads.is_none() {
                continue;
            }
            let name = &full(name);
            line(&mut out, format_args!("# HELP {name} {help}"));
            line(&mut out, format_args!("# TYPE {name} {named}"));
            for (labels, value) in values.into_iter().flatten() {
                let labels = braced(labels);
                line(&mut out, format_args!("{name}{labels} {value}"));
            }
            for (labels, it) in spreads.into_iter().flatten() {
                it.render(&mut out, name, labels);
            }
        }
        out
    }
}

impl Histogram {
    fn render(&self, out: &mut String, name: &str, labels: &str) {
        let bucket = |out: &mut String, bound: &str, count: u64| {
            let comma = if labels.is_empty() { "" } else { "," };
            let all = format!("{labels}{comma}le=\"{bound}\"");
            line(out, format_args!("{name}_bucket{{{all}}} {count}"));
        };
        for (bound, count) in BUCKETS.iter().zip(self.counts) {
            bucket(out, &bound.to_string(), count);
        }
        bucket(out, "+Inf", self.count);
        let labels = braced(labels);
        line(out, format_args!("{name}_sum{labels} {}", self.sum));
        line(out, format_args!("{name}_count{labels} {}", self.count));
    }
}

fn families() -> impl Iterator<Item = Family> {
    let kinds = [NODE_CLAIMS, NODE_POOLS, NODE_CLASSES, NODES];
    FAMILIES.into_iter().chain(kinds.into_iter().flat_map(|it| it.families()))
}

fn kind(name: &str) -> Option<Kind> {
    families().find(|(it, ..)| *it == name).map(|(_, kind, _)| kind)
}

/// The name on the page: those of objects' conditions are any operator's.
fn full(name: &str) -> String {
    if name.starts_with("operator_") { name.to_owned() } else { format!("{PREFIX}_{name}") }
}

/// `a="1",b="2"`
fn text(labels: Labels<'_>) -> String {
    let escaped = |it: &str| it.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let each: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
    each.join(",")
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = writeln!(out, "{text}");
    debug_assert!(written.is_ok(), "writing into memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_upstreams_names_and_what_was_counted() {
        let metrics = Metrics::default();
        let of = [("reason", "empty"), ("nodepool", "a\"b")];
        metrics.add("nodeclaims_disrupted_total", &of, 1.0);
        metrics.add("nodeclaims_disrupted_total", &of, 1.0);
        metrics.replace("scheduler_queue_depth", vec![(vec![], 7.0)]);
        metrics.replace("scheduler_queue_depth", vec![(vec![], 3.0)]);
        metrics.observe("scheduler_scheduling_duration_seconds", &[("controller", "x")], 0.2);
        let page = metrics.render();
        for wanted in [
            "karpenter_nodeclaims_disrupted_total{reason=\"empty\",nodepool=\"a\\\"b\"} 2\n",
            "karpenter_scheduler_queue_depth 3\n",
            "karpenter_scheduler_scheduling_duration_seconds_bucket{controller=\"x\",le=\"0.25\"} 1\n",
            "karpenter_scheduler_scheduling_duration_seconds_bucket{controller=\"x\",le=\"0.1\"} 0\n",
            "karpenter_scheduler_scheduling_duration_seconds_count{controller=\"x\"} 1\n",
            "# TYPE karpenter_nodeclaims_disrupted_total counter\n",
        ] {
            assert!(page.contains(wanted), "{wanted}\n{page}");
        }
    }
}
