//! The ConfigMap `cluster-autoscaler-status`: what the autoscaler sees and does, in upstream's shape.
//!
//! Upstream: `clusterstate/api/types.go`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    options::Options,
    registry::{Readiness, Registry},
    world::{Group, World},
};

/// What is written.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    time: String,
    autoscaler_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_wide: Option<ClusterWide>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    node_groups: Vec<NodeGroup>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterWide {
    health: Health,
    scale_up: ScaleUp,
    scale_down: ScaleDown,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeGroup {
    name: String,
    health: Health,
    scale_up: ScaleUp,
    scale_down: ScaleDown,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    node_counts: NodeCounts,
    #[serde(flatten)]
    size: Option<Size>,
    last_probe_time: String,
    last_transition_time: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Size {
    cloud_provider_target: i64,
    min_size: i64,
    max_size: i64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeCounts {
    registered: Registered,
    long_unregistered: i64,
    unregistered: i64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    total: i64,
    ready: i64,
    not_started: i64,
    #[serde(skip_serializing_if = "is_zero")]
    being_deleted: i64,
    unready: Unready,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Unready {
    total: i64,
    resource_unready: i64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScaleUp {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_info: Option<BackoffInfo>,
    last_probe_time: String,
    last_transition_time: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BackoffInfo {
    error_code: String,
    error_message: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScaleDown {
    status: &'static str,
    #[serde(skip_serializing_if = "is_zero_usize")]
    candidates: usize,
    last_probe_time: String,
    last_transition_time: String,
}

fn is_zero(count: &i64) -> bool {
    *count == 0
}

fn is_zero_usize(count: &usize) -> bool {
    *count == 0
}

/// Since when each condition is what it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transitions(BTreeMap<(String, &'static str), (&'static str, Timestamp)>);

impl Transitions {
    fn since(
        &mut self,
        of: &str,
        kind: &'static str,
        status: &'static str,
        now: Timestamp,
    ) -> String {
        let entry = self.0.entry((of.to_owned(), kind)).or_insert((status, now));
        if entry.0 != status {
            *entry = (status, now);
        }
        date(entry.1)
    }
}

/// What it says before the first pass.
pub(crate) fn initializing(now: Timestamp) -> Status {
    Status {
        time: told(now),
        autoscaler_status: "Initializing",
        cluster_wide: None,
        node_groups: Vec::new(),
    }
}

/// What it says after a pass. `unneeded` are the names of nodes that may go.
pub(crate) fn running(
    world: &World,
    registry: &Registry,
    options: &Options,
    unneeded: &BTreeMap<String, Timestamp>,
    transitions: &mut Transitions,
    now: Timestamp,
) -> Status {
    let mut per_group = BTreeMap::<&str, usize>::new();
    for it in &world.nodes {
        if unneeded.contains_key(crate::node::name(it))
            && let Some(group) = world.group_of(it)
        {
            *per_group.entry(&group.name).or_default() += 1;
        }
    }
    let mut writer = Writer { registry, options, transitions, now };
    let of_group = |writer: &mut Writer<'_>, group: &Group| NodeGroup {
        name: group.name.clone(),
        health: writer.health_of(group),
        scale_up: writer.scale_up_of(group),
        scale_down: writer
            .scale_down(&group.name, per_group.get(group.name.as_str()).copied().unwrap_or(0)),
    };
    let node_groups = world.groups.iter().map(|it| of_group(&mut writer, it)).collect();
    let is_growing = world.groups.iter().any(|it| registry.is_growing(&it.name));
    let health = if registry.is_healthy(options) { "Healthy" } else { "Unhealthy" };
    let growth = if is_growing { "InProgress" } else { "NoActivity" };
    let cluster_wide = ClusterWide {
        health: writer.health("", health, registry.total(), None),
        scale_up: writer.scale_up("", growth, None),
        scale_down: writer.scale_down("", unneeded.len()),
    };
    let autoscaler_status = "Running";
    Status { time: told(now), autoscaler_status, cluster_wide: Some(cluster_wide), node_groups }
}

struct Writer<'a> {
    registry: &'a Registry,
    options: &'a Options,
    transitions: &'a mut Transitions,
    now: Timestamp,
}

impl Writer<'_> {
    fn health_of(&mut self, group: &Group) -> Health {
        let is_healthy = self.registry.is_group_healthy(group, self.options);
        let size =
            Size { cloud_provider_target: group.target, min_size: group.min, max_size: group.max };
        let status = if is_healthy { "Healthy" } else { "Unhealthy" };
        self.health(&group.name, status, self.registry.of(&group.name), Some(size))
    }

    fn health(
        &mut self,
        of: &str,
        status: &'static str,
        counts: Readiness,
        size: Option<Size>,
    ) -> Health {
        let unready = Unready { total: counts.unready, resource_unready: 0 };
        let registered = Registered {
            total: counts.registered(),
            ready: counts.ready,
            not_started: counts.not_started,
            being_deleted: counts.deleted,
            unready,
        };
        let node_counts = NodeCounts {
            registered,
            long_unregistered: counts.long_unregistered,
            unregistered: counts.unregistered,
        };
        let last_transition_time = self.transitions.since(of, "health", status, self.now);
        Health { status, node_counts, size, last_probe_time: date(self.now), last_transition_time }
    }

    fn scale_up_of(&mut self, group: &Group) -> ScaleUp {
        let problem = self.registry.backoffs.problem(&group.name, self.now);
        let info = problem.map(|it| BackoffInfo {
            error_code: it.code.to_owned(),
            error_message: it.message.clone(),
        });
        let status = match (self.registry.is_growing(&group.name), &info) {
            (true, _) => "InProgress",
            (false, Some(_)) => "Backoff",
            (false, None) => "NoActivity",
        };
        self.scale_up(&group.name, status, info)
    }

    fn scale_up(
        &mut self,
        of: &str,
        status: &'static str,
        backoff_info: Option<BackoffInfo>,
    ) -> ScaleUp {
        let last_transition_time = self.transitions.since(of, "scaleUp", status, self.now);
        ScaleUp { status, backoff_info, last_probe_time: date(self.now), last_transition_time }
    }

    fn scale_down(&mut self, of: &str, candidates: usize) -> ScaleDown {
        let status = if candidates > 0 { "CandidatesPresent" } else { "NoCandidates" };
        let last_transition_time = self.transitions.since(of, "scaleDown", status, self.now);
        ScaleDown { status, candidates, last_probe_time: date(self.now), last_transition_time }
    }
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As Go prints a date by default.
pub(crate) fn told(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S.%N +0000 UTC").to_string()
}

impl Status {
    /// As the ConfigMap's key `status` holds it.
    pub(crate) fn yaml(&self) -> String {
        // A value of plain strings and numbers can always be written.
        serde_saphyr::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_told_in_upstreams_shape() {
        let group = Group {
            name: "a".to_owned(),
            min: 0,
            max: 3,
            target: 1,
            instances: Vec::new(),
            blueprint: None,
            options: Options::default().scale_down.defaults,
            failure: None,
        };
        let world = World { groups: vec![group], ..World::default() };
        let (options, now) = (Options::default(), "2026-11-29T12:00:00Z".parse().unwrap());
        let mut registry = Registry::default();
        registry.observe(&world, &options, now);
        let mut transitions = Transitions::default();
        let none = BTreeMap::new();
        let yaml = running(&world, &registry, &options, &none, &mut transitions, now).yaml();
        let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read["autoscalerStatus"], "Running");
        assert_eq!(read["clusterWide"]["health"]["status"], "Healthy");
        let health = &read["nodeGroups"][0]["health"];
        assert_eq!(health["cloudProviderTarget"], 1);
        assert_eq!(health["nodeCounts"]["unregistered"], 1);
        assert_eq!(health["nodeCounts"]["registered"]["unready"]["resourceUnready"], 0);
        assert_eq!(read["nodeGroups"][0]["scaleDown"]["status"], "NoCandidates");
        assert!(yaml.starts_with("time: "), "{yaml}");
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let mut transitions = Transitions::default();
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        assert_eq!(transitions.since("a", "health", "Healthy", at(0)), date(at(0)));
        assert_eq!(transitions.since("a", "health", "Healthy", at(9)), date(at(0)));
        assert_eq!(transitions.since("a", "health", "Unhealthy", at(9)), date(at(9)));
    }
}
