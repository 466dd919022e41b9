//! Random fleets under random budgets, from one command to the next until nothing is left to do.

use std::{collections::BTreeSet, sync::Arc};

use api_kube::karpenter::{DisruptionReason, NodePool, annotations, labels};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use karpenter_core::{
    InstanceType, Snapshot,
    disruption::{Command, Fleet, Gates},
};
use serde_json::{Value, json};

use crate::{
    draw::{self, Draw},
    moves,
};

/// More commands than these one after the other are no end.
const MOST_STEPS: usize = 200;

/// How many nodes a budget lets go.
#[derive(Clone, Copy, Debug)]
enum Most {
    Nodes(usize),
    Percent(usize),
}

/// A budget, and whether its window is open.
#[derive(Clone, Debug)]
struct Budget {
    most: Most,
    reasons: Vec<DisruptionReason>,
    is_active: bool,
}

/// What is drawn, and what happens to it.
pub(crate) struct Run {
    snapshot: Snapshot,
    types: Arc<[InstanceType]>,
    budgets: Vec<(String, Vec<Budget>)>,
    draw: Draw,
    now: Timestamp,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let types = draw::types(&mut draw);
        let mut it = Self {
            snapshot: Snapshot::default(),
            types,
            budgets: Vec::new(),
            draw,
            now: "2026-11-27T12:00:00Z".parse().expect("a date"),
        };
        for at in 0..1 + it.draw.below(2) {
            it.add_pool(&format!("pool-{at}"));
        }
        for at in 0..2 + it.draw.below(9) {
            it.add_node(&format!("node-{at}"));
        }
        if it.draw.one_in(2) {
            it.snapshot.budgets.push(object(json!({
                "metadata": { "name": "guard", "namespace": "x" },
                "spec": { "selector": { "matchLabels": { "app": "guarded" } } },
                "status": { "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1,
                    "expectedPods": 1 } })));
        }
        it
    }

    fn add_pool(&mut self, name: &str) {
        use DisruptionReason::{Drifted, Empty, Underutilized};
        let draw = &mut self.draw;
        let mut budgets = Vec::new();
        let mut written: Vec<Value> = Vec::new();
        for _ in 0..1 + draw.below(3) {
            let most = match draw.below(2) {
                0 => Most::Nodes(draw.below(4)),
                _ => Most::Percent(*draw.pick(&[0, 10, 34, 50, 100])),
            };
            let reasons: Vec<DisruptionReason> = match draw.below(3) {
                0 => {
                    [Drifted, Empty, Underutilized].into_iter().filter(|_| draw.one_in(2)).collect()
                }
                _ => Vec::new(),
            };
            // It is noon.
            let window =
                *draw.pick(&[None, None, Some(("0 9 * * *", true)), Some(("0 22 * * *", false))]);
            let mut budget = json!({
                "nodes": match most {
                    Most::Nodes(count) => count.to_string(),
                    Most::Percent(share) => format!("{share}%"),
                },
                "reasons": reasons.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
            });
            if let Some((schedule, _)) = window {
                budget["schedule"] = json!(schedule);
                budget["duration"] = json!("8h");
            }
            written.push(budget);
            budgets.push(Budget { most, reasons, is_active: window.is_none_or(|it| it.1) });
        }
        let policy = *draw.pick(&["WhenEmpty", "WhenEmptyOrUnderutilized", "Balanced"]);
        let mut pool: NodePool = object(json!({ "metadata": { "name": name }, "spec": {
            "disruption": { "consolidationPolicy": policy, "budgets": written } } }));
        if draw.one_in(4) {
            let limit = json!({ "cpu": (4 + draw.below(60)).to_string() });
            pool.spec.limits = serde_json::from_value(limit).unwrap();
        }
        self.snapshot.pools.push(pool);
        self.budgets.push((name.to_owned(), budgets));
    }

    fn add_node(&mut self, name: &str) {
        let draw = &mut self.draw;
        let with_offers: Vec<&InstanceType> =
            self.types.iter().filter(|it| !it.offerings.is_empty()).collect();
        let kind = *draw.pick(&with_offers);
        let offering = draw.pick(&kind.offerings);
        let mut marks = kind.labels.clone();
        let pool = format!("pool-{}", draw.below(self.budgets.len()));
        for (key, value) in [
            (labels::NODE_POOL, pool.as_str()),
            (labels::INITIALIZED, "true"),
            (labels::ZONE, offering.zone()),
            (labels::CAPACITY_TYPE, offering.capacity_type()),
            (labels::HOSTNAME, name),
        ] {
            marks.insert(key.to_owned(), value.to_owned());
        }
        let is_ready = if draw.one_in(8) { "False" } else { "True" };
        self.snapshot.nodes.push(object(json!({
            "metadata": { "name": name, "labels": marks,
                "creationTimestamp": "2026-11-27T00:00:00Z" },
            "status": { "allocatable": kind.allocatable.to_list(),
                "capacity": kind.capacity.to_list(),
                "conditions": [{ "type": "Ready", "status": is_ready }] } })));
        let drifted = json!({ "type": "Drifted", "status": "True", "reason": "AMIDrift",
            "message": "", "lastTransitionTime": "2026-11-27T10:00:00Z" });
        let conditions: Vec<Value> = draw.one_in(3).then_some(drifted).into_iter().collect();
        self.snapshot.claims.push(object(json!({ "metadata": { "name": name },
            "status": { "nodeName": name, "conditions": conditions } })));
        let arch = kind.labels[labels::ARCH].clone();
        for at in 0..draw.below(4) {
            let pod = drawn_pod(draw, name, at, &arch);
            self.snapshot.pods.push(pod);
        }
    }

    /// Command after command, each while nodes of those before are still going; says what breaks a
    /// rule.
    pub(crate) fn run_to_its_end(mut self) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            let gates = Gates { spot_to_spot_consolidation: true, ..Gates::default() };
            let types = self.types.clone();
            let mut fleet = Fleet::new(&self.snapshot, |_| Some(types.clone()), self.now, gates);
            match fleet.next_command() {
                Some(command) => {
                    self.check(&command)?;
                    moves::check(&self.snapshot, &self.types, &command)?;
                    self.begin(&command);
                }
                None if !self.finish() => return Ok(()),
                None => {}
            }
            if self.draw.one_in(2) {
                self.finish();
            }
        }
        Err("it comes to no end".to_owned())
    }

    fn check(&self, command: &Command) -> Result<(), String> {
        for (pool, budgets) in &self.budgets {
            let going = command.nodes.iter().filter(|it| it.pool == *pool).count();
            if going == 0 {
                continue;
            }
            let nodes: Vec<&Node> = self.of_pool(pool).collect();
            let gone = nodes.iter().filter(|it| is_gone(it)).count();
            for budget in budgets {
                let is_meant =
                    budget.reasons.is_empty() || budget.reasons.contains(&command.reason);
                let most = match budget.most {
                    Most::Nodes(count) => count,
                    Most::Percent(share) => (nodes.len() * share).div_ceil(100),
                };
                if budget.is_active && is_meant && gone + going > most {
                    let reason = command.reason.as_str();
                    return Err(format!(
                        "{going} nodes of {pool} go ({reason}) beside {gone} of {}: {budget:?}",
                        nodes.len()
                    ));
                }
            }
        }
        let going: BTreeSet<&str> = command.nodes.iter().map(|it| it.name.as_str()).collect();
        let stays = |it: &&Pod| {
            let marks = it.metadata.annotations.as_ref();
            marks.is_some_and(|it| {
                it.get(annotations::DO_NOT_DISRUPT).is_some_and(|it| it == "true")
            })
        };
        let mut staying = self.snapshot.pods.iter().filter(stays);
        let on_going = staying.find(|it| {
            let node = it.spec.as_ref().and_then(|it| it.node_name.as_deref());
            node.is_some_and(|it| going.contains(it))
        });
        match on_going {
            Some(pod) => Err(format!("{:?} wants to stay", pod.metadata.name)),
            None => Ok(()),
        }
    }

    fn of_pool<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Node> {
        self.snapshot.nodes.iter().filter(move |it| {
            let marks = it.metadata.labels.as_ref();
            marks.and_then(|it| it.get(labels::NODE_POOL)).is_some_and(|it| it == pool)
        })
    }

    /// The pods are where they go, and the nodes on their way.
    fn begin(&mut self, command: &Command) {
        let is_going = |it: &&Node| {
            command.nodes.iter().any(|going| Some(&going.name) == it.metadata.name.as_ref())
        };
        let mut going: Vec<Node> = self.snapshot.nodes.iter().filter(is_going).cloned().collect();
        let types = self.types.clone();
        self.snapshot.apply(command, |_| Some(types.clone()));
        for node in &mut going {
            node.metadata.deletion_timestamp = Some(Time(self.now));
        }
        self.snapshot.nodes.append(&mut going);
    }

    /// The first node that goes is gone. Whether there was one.
    fn finish(&mut self) -> bool {
        let nodes = &mut self.snapshot.nodes;
        let at = nodes.iter().position(|it| it.metadata.deletion_timestamp.is_some());
        at.map(|at| nodes.remove(at)).is_some()
    }
}

/// A pod on a node: the first may have a port of its host, the second want to be alone of its kind.
fn drawn_pod(draw: &mut Draw, node: &str, at: usize, arch: &str) -> Pod {
    let name = format!("{node}-{at}");
    let cpu = *draw.pick(&["50m", "200m", "500m"]);
    let mark = if draw.one_in(10) { "true" } else { "false" };
    let mut app = if draw.one_in(10) { "guarded" } else { "web" };
    let mut spec = json!({ "nodeName": node, "containers": [{ "name": "c",
        "resources": { "requests": { "cpu": cpu } } }] });
    if at == 0 && draw.one_in(4) {
        spec["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 80 }]);
    }
    if at == 1 && draw.one_in(3) {
        app = "lonely";
        spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([{ "topologyKey": labels::HOSTNAME,
                "labelSelector": { "matchLabels": { "app": app } } }]);
    }
    if draw.one_in(5) {
        spec["nodeSelector"] = json!({ labels::ARCH: arch });
    }
    object(json!({
        "metadata": { "name": name, "namespace": "x", "uid": name, "labels": { "app": app },
            "annotations": { annotations::DO_NOT_DISRUPT: mark } },
        "spec": spec }))
}

/// What counts as disrupted: a node that goes, or is not ready.
fn is_gone(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_deref());
    let mut conditions = conditions.unwrap_or_default().iter();
    node.metadata.deletion_timestamp.is_some()
        || conditions.any(|it| it.type_ == "Ready" && it.status != "True")
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}
