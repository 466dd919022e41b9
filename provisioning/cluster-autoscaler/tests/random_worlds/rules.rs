//! What a pod asks of a node, told without the code that decides: room, labels, taints, and not to be
//! beside its like.

use std::collections::BTreeMap;

use cluster_autoscaler::PodFact;
use k8s_openapi::api::core::v1::{Node, Pod};

/// Of the resources that worlds have, in their smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) millis: i64,
    pub(crate) bytes: i64,
    pub(crate) pods: i64,
}

impl Room {
    pub(crate) fn holds(self, other: Self) -> bool {
        self.millis >= other.millis && self.bytes >= other.bytes && self.pods >= other.pods
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self {
            millis: self.millis - other.millis,
            bytes: self.bytes - other.bytes,
            pods: self.pods - other.pods,
        }
    }
}

fn number(text: &str) -> i64 {
    let unit = |suffix: &str, factor: i64| {
        text.strip_suffix(suffix).map(|it| it.parse::<i64>().unwrap() * factor)
    };
    unit("Gi", 1 << 30).or_else(|| unit("Mi", 1 << 20)).unwrap_or_else(|| text.parse().unwrap())
}

fn cores(text: &str) -> i64 {
    let millis = text.strip_suffix('m').map(|it| it.parse::<i64>().unwrap());
    millis.unwrap_or_else(|| text.parse::<i64>().unwrap() * 1000)
}

pub(crate) fn allocatable(node: &Node) -> Room {
    let all = node.status.as_ref().unwrap().allocatable.as_ref().unwrap();
    let pods = all["pods"].0.parse().unwrap();
    Room { millis: cores(&all["cpu"].0), bytes: number(&all["memory"].0), pods }
}

pub(crate) fn wants(pod: &Pod) -> Room {
    let mut room = Room { pods: 1, ..Room::default() };
    for container in &pod.spec.as_ref().unwrap().containers {
        let requests = container.resources.as_ref().and_then(|it| it.requests.clone());
        for (name, amount) in requests.unwrap_or_default() {
            match name.as_str() {
                "cpu" => room.millis += cores(&amount.0),
                "memory" => room.bytes += number(&amount.0),
                other => panic!("{other}"),
            }
        }
    }
    room
}

/// Whether the pod would be on such a node, whoever else is there.
pub(crate) fn accepts(node: &Node, pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selector: BTreeMap<String, String> = spec.node_selector.clone().unwrap_or_default();
    let tolerated = spec.tolerations.clone().unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|it| it.taints.clone()).unwrap_or_default();
    let is_tolerated = |key: &str| tolerated.iter().any(|it| it.key.as_deref() == Some(key));
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        && !spec_is_unschedulable(node)
        && taints
            .iter()
            .filter(|it| it.effect != "PreferNoSchedule")
            .all(|it| is_tolerated(&it.key))
}

fn spec_is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|it| it.unschedulable).unwrap_or(false)
}

/// The app beside which a pod may not be: its own.
pub(crate) fn keeps_apart(pod: &Pod) -> Option<String> {
    let affinity = pod.spec.as_ref().unwrap().affinity.as_ref()?;
    affinity.pod_anti_affinity.as_ref()?;
    pod.metadata.labels.as_ref()?.get("app").cloned()
}

/// Whether the pods have places on the nodes, all of them at once: every way is tried.
pub(crate) fn have_places(pods: &[PodFact], nodes: &[&Node], placed: &[PodFact]) -> bool {
    let mut free: Vec<Room> = Vec::new();
    let mut apps: Vec<Vec<(String, bool)>> = Vec::new();
    for node in nodes {
        let name = node.metadata.name.as_deref();
        let on_it: Vec<&PodFact> = placed.iter().filter(|it| it.node() == name).collect();
        let room = |room: Room, it: &&PodFact| room.without(wants(&it.pod));
        free.push(on_it.iter().fold(allocatable(node), room));
        apps.push(on_it.iter().map(|it| app(&it.pod)).collect());
    }
    let mut pods: Vec<&PodFact> = pods.iter().collect();
    pods.sort_by_key(|it| std::cmp::Reverse(wants(&it.pod).millis));
    search(&pods, nodes, &mut free, &mut apps, &mut 200_000)
}

/// A pod's app, and whether it keeps to itself.
fn app(pod: &Pod) -> (String, bool) {
    let name = pod.metadata.labels.as_ref().and_then(|it| it.get("app").cloned());
    (name.unwrap_or_default(), keeps_apart(pod).is_some())
}

fn search(
    pods: &[&PodFact],
    nodes: &[&Node],
    free: &mut [Room],
    apps: &mut [Vec<(String, bool)>],
    steps: &mut u32,
) -> bool {
    let Some((pod, rest)) = pods.split_first() else { return true };
    // A search that takes too long says nothing against the plan.
    if *steps == 0 {
        return true;
    }
    *steps -= 1;
    let (wanted, own) = (wants(&pod.pod), app(&pod.pod));
    for at in 0..nodes.len() {
        let is_apart = apps[at].iter().all(|it| it.0 != own.0 || !(it.1 || own.1));
        if !free[at].holds(wanted) || !is_apart || !accepts(nodes[at], &pod.pod) {
            continue;
        }
        let before = free[at];
        free[at] = before.without(wanted);
        apps[at].push(own.clone());
        if search(rest, nodes, free, apps, steps) {
            return true;
        }
        apps[at].pop();
        free[at] = before;
    }
    false
}
