//! Draws a world from a seed: groups with and without nodes, pods of every kind, budgets, limits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cluster_autoscaler::{
    Expander, Group, Instance, Limits, Options, PodFact, Template, World, scale_down::Memory,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduling::Cluster;
use serde_json::{Value, json};

pub(crate) fn start() -> Timestamp {
    "2026-11-29T12:00:00Z".parse().unwrap()
}

/// Splitmix64: small, and the same everywhere.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^= it >> 31;
        usize::try_from(it % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn number(&mut self, below: usize) -> i64 {
        i64::try_from(self.below(below)).unwrap()
    }
}

pub(crate) struct Drawn {
    pub(crate) world: World,
    pub(crate) options: Options,
    pub(crate) memory: Memory,
    pub(crate) lot: u64,
}

impl Drawn {
    pub(crate) fn templates(&self) -> BTreeMap<String, Template> {
        let of = |it: &Group| Template::of(&self.world, it, &self.options);
        let each = self.world.groups.iter();
        each.filter_map(|it| Some((it.name.clone(), of(it)?))).collect()
    }

    /// The nodes that are there, with their pods.
    pub(crate) fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for node in &self.world.nodes {
            cluster.set_node(node);
        }
        for pod in &self.world.placed {
            cluster.set_pod(pod.node().unwrap(), pod.info.clone());
        }
        cluster
    }
}

const CORES: [i64; 3] = [2, 4, 8];

fn node(name: &str, kind: usize, team: Option<&str>, taint: bool) -> Node {
    let cores = CORES[kind];
    let amounts = json!({ "cpu": cores.to_string(), "memory": format!("{}Gi", cores * 4),
        "pods": (4 + cores * 4).to_string() });
    let taints = match taint {
        true => json!([{ "key": "dedicated", "value": "x", "effect": "NoSchedule" }]),
        false => json!([]),
    };
    serde_json::from_value(json!({
        "metadata": { "name": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "kubernetes.io/hostname": name, "team": team.unwrap_or("none") } },
        "spec": { "providerID": format!("aws:///z/{name}"), "taints": taints },
        "status": { "allocatable": amounts, "capacity": amounts, "conditions": [{
            "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }] },
    }))
    .unwrap()
}

fn pod(draw: &mut Draw, name: &str, most: usize, on: Option<&str>) -> PodFact {
    let app = ["web", "api", "db"][draw.below(3)];
    let mut spec = json!({
        "nodeName": on,
        "containers": [{ "name": "c", "resources": { "requests": {
            "cpu": format!("{}m", 100 + draw.below(most)),
            "memory": format!("{}Mi", 100 + draw.below(most)) } } }],
    });
    if on.is_none() && draw.one_in(4) {
        spec["nodeSelector"] = json!({ "team": (["blue", "red"][draw.below(2)]) });
    }
    if draw.one_in(3) {
        spec["tolerations"] = json!([{ "key": "dedicated", "operator": "Exists" }]);
    }
    if on.is_none() && draw.one_in(5) {
        spec["affinity"] = json!({ "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": { "matchLabels": { "app": app } } }] } });
    }
    let mut marks = json!({});
    if draw.one_in(12) {
        spec["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
    }
    if draw.one_in(12) {
        marks["cluster-autoscaler.kubernetes.io/safe-to-evict"] =
            json!(if draw.one_in(2) { "true" } else { "false" });
    }
    let owners = match draw.one_in(12) {
        true => json!([]),
        false => json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": app,
            "controller": true }]),
    };
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "labels": { "app": app },
            "annotations": marks, "ownerReferences": owners,
            "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": spec,
    }))
    .unwrap();
    PodFact::new(pod)
}

fn group(draw: &mut Draw, at: usize, nodes: usize, into: &mut Vec<Node>) -> Group {
    let (name, kind) = (format!("g{at}"), draw.below(3));
    let team = ["blue", "red"].get(draw.below(4)).copied();
    let has_taint = draw.one_in(4);
    let mut instances = Vec::new();
    for number in 0..nodes {
        let node = node(&format!("{name}-{number}"), kind, team, has_taint);
        let provider_id = node.spec.as_ref().unwrap().provider_id.clone().unwrap();
        instances.push(Instance { provider_id, is_terminating: false });
        into.push(node);
    }
    let target = i64::try_from(nodes).unwrap();
    let min = draw.number(nodes + 1);
    Group {
        name,
        min,
        max: target + draw.number(5),
        target,
        instances,
        blueprint: Some(Arc::new(node("blueprint", kind, team, has_taint))),
        options: Options::default().scale_down.defaults,
        failure: None,
    }
}

/// Few nodes, and pods that have no place on them.
pub(crate) fn growing(seed: u64) -> Drawn {
    let mut draw = Draw(seed);
    let (mut nodes, mut groups) = (Vec::new(), Vec::new());
    for at in 0..1 + draw.below(4) {
        let count = draw.below(3);
        groups.push(group(&mut draw, at, count, &mut nodes));
    }
    // Each node is full.
    let mut placed = Vec::new();
    for node in &nodes {
        let name = node.metadata.name.clone().unwrap();
        let cores = &node.status.as_ref().unwrap().allocatable.as_ref().unwrap()["cpu"].0;
        let mut full = pod(&mut draw, &format!("full-{name}"), 1, Some(&name));
        let mut whole = Pod::clone(&full.pod);
        let containers = &mut whole.spec.as_mut().unwrap().containers;
        containers[0].resources = Some(
            serde_json::from_value(json!({ "requests": { "cpu": cores, "memory": "1Gi" } }))
                .unwrap(),
        );
        full = PodFact::new(whole);
        placed.push(full);
    }
    let count = 1 + draw.below(12);
    let pending = (0..count).map(|at| pod(&mut draw, &format!("p{at}"), 9000, None)).collect();
    let mut options = Options {
        balance_similar: draw.one_in(2),
        max_nodes_per_scale_up: if draw.one_in(4) { 2 } else { 1000 },
        ..Options::default()
    };
    options.expanders = vec![
        [Expander::LeastWaste, Expander::MostPods, Expander::LeastNodes, Expander::Random]
            [draw.below(4)],
    ];
    let there = i64::try_from(nodes.len()).unwrap();
    if draw.one_in(3) {
        options.max_nodes_total = (there + draw.number(4)).max(1);
    }
    if draw.one_in(4) {
        options.cores = Limits { min: 0, max: 4 * there + draw.number(20) };
    }
    let nodes = nodes.into_iter().map(Arc::new).collect();
    let world = World { nodes, placed, pending, groups, ..World::default() };
    Drawn { world, options, memory: Memory::default(), lot: seed }
}

/// Nodes that are little used, some of them.
pub(crate) fn shrinking(seed: u64) -> Drawn {
    let mut draw = Draw(seed ^ 0x5eed);
    let (mut nodes, mut groups) = (Vec::new(), Vec::new());
    for at in 0..1 + draw.below(3) {
        let count = 1 + draw.below(4);
        groups.push(group(&mut draw, at, count, &mut nodes));
    }
    if draw.one_in(3) {
        nodes.push(node("nobodys", 0, None, false));
    }
    let mut placed = Vec::new();
    for node in &mut nodes {
        let name = node.metadata.name.clone().unwrap();
        if draw.one_in(8) {
            let marks = node.metadata.annotations.get_or_insert_default();
            let key = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
            marks.insert(key.to_owned(), "true".to_owned());
        }
        let most = if draw.one_in(3) { 1500 } else { 400 };
        for number in 0..draw.below(4) {
            let mut it = pod(&mut draw, &format!("{name}-p{number}"), most, Some(&name));
            let mut tolerant = Pod::clone(&it.pod);
            // Who is there already is tolerated there.
            tolerant.spec.as_mut().unwrap().tolerations = Some(
                serde_json::from_value(json!([{ "key": "dedicated", "operator": "Exists" }]))
                    .unwrap(),
            );
            it = PodFact::new(tolerant);
            placed.push(it);
        }
    }
    let budget = |app: &str, allowed: usize| {
        let budget: Value = json!({ "metadata": { "name": app, "namespace": "default" },
            "spec": { "selector": { "matchLabels": { "app": app } } },
            "status": { "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
                "expectedPods": 1 } });
        Arc::new(serde_json::from_value(budget).unwrap())
    };
    let mut budgets = Vec::new();
    for app in ["web", "api"] {
        if draw.one_in(2) {
            budgets.push(budget(app, draw.below(4)));
        }
    }
    let mut options = Options::default();
    options.scale_down.max_drain_parallelism = 1 + draw.below(3);
    options.scale_down.recheck = Duration::from_secs(60);
    if draw.one_in(4) {
        let count = i64::try_from(nodes.len()).unwrap();
        options.cores = Limits { min: count + draw.number(10), max: 320_000 };
    }
    let nodes = nodes.into_iter().map(Arc::new).collect();
    let world = World { nodes, placed, groups, budgets, ..World::default() };
    Drawn { world, options, memory: Memory::default(), lot: seed }
}
