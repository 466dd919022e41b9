//! Whether a command leaves every pod a place that the scheduler gives it too, keeps to what protects
//! pods and to limits, and costs less than what it takes away; told without the solver's code.

use std::{collections::BTreeSet, sync::Arc};

use api_kube::karpenter::{ConsolidationPolicy, DisruptionReason, labels};
use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod};
use karpenter_core::{
    InstanceType, NewClaim, OptionOf, Snapshot,
    disruption::{Command, Destination},
};
use resources::Amounts;
use scheduling::{Cluster, PodInfo, Verdict, filter_node};

/// What is wrong, if anything is.
pub(crate) fn check(
    snapshot: &Snapshot,
    types: &[InstanceType],
    command: &Command,
) -> Result<(), String> {
    let going: BTreeSet<&str> = command.nodes.iter().map(|it| it.name.as_str()).collect();
    let leaving: Vec<&Pod> =
        snapshot.pods.iter().filter(|it| going.contains(node_of(it))).collect();
    everybody_moves(&leaving, command)?;
    nobody_is_guarded(snapshot, &leaving)?;
    if command.reason == DisruptionReason::Underutilized {
        is_cheaper(snapshot, types, command)?;
    }
    for claim in &command.replacements {
        limits_hold(snapshot, types, command, claim)?;
    }
    let cheapest = |it: &NewClaim| it.options.first().cloned();
    let dearest = |it: &NewClaim| it.options.last().cloned();
    scheduler_agrees(snapshot, types, command, &going, cheapest)?;
    scheduler_agrees(snapshot, types, command, &going, dearest)
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|it| it.node_name.as_deref()).unwrap_or_default()
}

fn name_of(pod: &Pod) -> String {
    let part = |it: &Option<String>| it.clone().unwrap_or_default();
    format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
}

fn everybody_moves(leaving: &[&Pod], command: &Command) -> Result<(), String> {
    let moved: BTreeSet<&str> = command.moves.iter().map(|(pod, _)| pod.as_str()).collect();
    if moved.len() != command.moves.len() {
        return Err("a pod goes to two places".to_owned());
    }
    let left: Vec<String> =
        leaving.iter().map(|it| name_of(it)).filter(|it| !moved.contains(it.as_str())).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("{left:?} have no place")) }
}

/// The one budget allows no eviction.
fn nobody_is_guarded(snapshot: &Snapshot, leaving: &[&Pod]) -> Result<(), String> {
    let is_guarded = |it: &&&Pod| {
        it.metadata
            .labels
            .as_ref()
            .is_some_and(|it| it.get("app").is_some_and(|it| it == "guarded"))
    };
    match leaving.iter().find(is_guarded).filter(|_| !snapshot.budgets.is_empty()) {
        Some(pod) => Err(format!("{} cannot be evicted", name_of(pod))),
        None => Ok(()),
    }
}

fn find<'a>(types: &'a [InstanceType], name: &str) -> &'a InstanceType {
    types.iter().find(|it| &*it.name == name).expect("its type is there")
}

/// Whatever the one new node becomes, it costs less than what goes.
fn is_cheaper(
    snapshot: &Snapshot,
    types: &[InstanceType],
    command: &Command,
) -> Result<(), String> {
    for node in &command.nodes {
        let pool = snapshot.pools.iter().find(|it| it.name() == node.pool).expect("its pool");
        if pool.spec.disruption.consolidation_policy == ConsolidationPolicy::WhenEmpty {
            return Err(format!("{} is not empty, and its pool lets no other go", node.name));
        }
    }
    let price = |kind: &str, zone: &str, capacity_type: &str| {
        let mut offerings = find(types, kind).offerings.iter();
        let found = offerings.find(|it| it.zone() == zone && it.capacity_type() == capacity_type);
        found.map_or(0.0, |it| it.price)
    };
    let now: f64 =
        command.nodes.iter().map(|it| price(&it.instance_type, &it.zone, &it.capacity_type)).sum();
    if command.replacements.len() > 1 {
        return Err("several new nodes take the place of some".to_owned());
    }
    let mut options = command.replacements.iter().flat_map(|it| it.options.iter());
    match options.find(|it| it.price >= now) {
        Some(it) => Err(format!("{it:?} is no cheaper than {now}")),
        None => Ok(()),
    }
}

/// With what stays, whatever the new node becomes.
fn limits_hold(
    snapshot: &Snapshot,
    types: &[InstanceType],
    command: &Command,
    claim: &NewClaim,
) -> Result<(), String> {
    let pool = snapshot.pools.iter().find(|it| it.name() == claim.pool).expect("its pool");
    let Some(limits) = &pool.spec.limits else { return Ok(()) };
    let limit = Amounts::from_list(Some(limits)).cpu_millis;
    let stays = |it: &&Node| {
        let marks = it.metadata.labels.as_ref();
        let is_of = marks.and_then(|it| it.get(labels::NODE_POOL)) == Some(&claim.pool);
        is_of && !command.nodes.iter().any(|n| Some(&n.name) == it.metadata.name.as_ref())
    };
    let staying = snapshot.nodes.iter().filter(stays);
    let used: i64 = staying
        .map(|it| Amounts::from_list(it.status.as_ref().unwrap().capacity.as_ref()).cpu_millis)
        .sum();
    let each = claim.options.iter().map(|it| find(types, &it.instance_type).capacity.cpu_millis);
    let most = each.max().unwrap_or(0);
    if used + most > limit {
        return Err(format!("{} has {used} of {limit} and would have {most} more", claim.pool));
    }
    Ok(())
}

fn made(types: &[InstanceType], claim: &NewClaim, option: &OptionOf, name: &str) -> Node {
    let kind = find(types, &option.instance_type);
    let mut marks = kind.labels.clone();
    for (key, requirement) in claim.requirements.iter() {
        if let Some(value) = requirement.example() {
            marks.entry(key.to_string()).or_insert(value);
        }
    }
    marks.insert(labels::ZONE.to_owned(), option.zone.to_string());
    marks.insert(labels::CAPACITY_TYPE.to_owned(), option.capacity_type.to_string());
    marks.insert(labels::HOSTNAME.to_owned(), name.to_owned());
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    node.metadata.labels = Some(marks);
    node.status =
        Some(NodeStatus { allocatable: Some(kind.allocatable.to_list()), ..NodeStatus::default() });
    node
}

/// The scheduler lets each pod in where the command sends it, when what goes is gone.
fn scheduler_agrees(
    snapshot: &Snapshot,
    types: &[InstanceType],
    command: &Command,
    going: &BTreeSet<&str>,
    which: impl Fn(&NewClaim) -> Option<OptionOf>,
) -> Result<(), String> {
    let mut cluster = Cluster::default();
    for node in &snapshot.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        if !going.contains(name) && node.metadata.deletion_timestamp.is_none() {
            cluster.set_node(node);
        }
    }
    for pod in snapshot.pods.iter().filter(|it| !going.contains(node_of(it))) {
        cluster.set_pod(node_of(pod), PodInfo::shared(pod));
    }
    for (at, claim) in command.replacements.iter().enumerate() {
        let option = which(claim).ok_or("a new node has no options")?;
        cluster.set_node(&made(types, claim, &option, &format!("new-{at}")));
    }
    for (name, to) in &command.moves {
        let found = snapshot.pods.iter().find(|it| name_of(it) == *name);
        let pod = found.ok_or("a pod moves that is not there")?;
        let mut info = PodInfo::new(pod);
        info.node_name = None;
        let to = match to {
            Destination::Node(node) => node.clone(),
            Destination::Replacement(at) => format!("new-{at}"),
        };
        let verdict = filter_node(&cluster, &info, &to);
        if !matches!(verdict, Some(Verdict::Fits)) {
            return Err(format!("{name} does not fit on {to}: {verdict:?}"));
        }
        cluster.set_pod(&to, Arc::new(info));
    }
    Ok(())
}
