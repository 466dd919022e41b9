//! Whether a plan breaks a rule.

use std::collections::{BTreeMap, BTreeSet};

use cluster_autoscaler::{
    PodFact,
    scale_down::{Memory, ScaleDown},
    scale_up::ScaleUp,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

use crate::{
    draw::Drawn,
    rules::{Room, accepts, allocatable, have_places, keeps_apart, wants},
};

type Checked = Result<(), String>;

fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

fn cores(node: &Node) -> i64 {
    allocatable(node).millis / 1000
}

pub(crate) fn growth(drawn: &Drawn, plan: &ScaleUp) -> Checked {
    everybody_is_told(drawn, plan)?;
    let (world, options) = (&drawn.world, &drawn.options);
    let there = i64::try_from(world.nodes.len()).unwrap();
    let (mut new, mut new_cores) = (0, 0);
    let mut seen = BTreeSet::new();
    for it in &plan.increases {
        let group = world.group(&it.group).ok_or("a group that is not there")?;
        ensure(seen.insert(&it.group), || format!("{} grows twice", it.group))?;
        ensure(it.from == group.target && it.from < it.to, || format!("{it} is no growth"))?;
        ensure(it.to <= group.max, || format!("{it} is beyond its most"))?;
        new += it.to - it.from;
        new_cores += (it.to - it.from) * cores(group.blueprint.as_ref().unwrap());
    }
    ensure(
        options.max_nodes_total == 0 || there + new <= options.max_nodes_total.max(there),
        || format!("{there} and {new} nodes are more than {}", options.max_nodes_total),
    )?;
    let used: i64 = world.nodes.iter().map(|it| cores(it)).sum();
    ensure(new == 0 || used + new_cores <= options.cores.max, || {
        format!("{used} and {new_cores} cores are more than {}", options.cores.max)
    })?;
    ensure(new <= i64::try_from(options.max_nodes_per_scale_up).unwrap(), || {
        format!("{new} nodes in one pass")
    })?;
    would_run(drawn, plan, new)?;
    nobody_is_forgotten(drawn, plan)
}

/// Each pod is in one of the lists.
fn everybody_is_told(drawn: &Drawn, plan: &ScaleUp) -> Checked {
    let of = |all: &[PodFact]| all.iter().map(|it| it.info.uid.clone()).collect::<Vec<_>>();
    let helpless = plan.helpless.iter().map(|it| it.pod.info.uid.clone());
    let mut told: Vec<String> =
        of(&plan.triggered).into_iter().chain(of(&plan.awaiting)).chain(helpless).collect();
    let mut all = of(&drawn.world.pending);
    told.sort();
    all.sort();
    ensure(told == all, || format!("{all:?} are told as {told:?}"))
}

/// The pods that a group grows for fit on its new nodes, where no limit has made them fewer.
fn would_run(drawn: &Drawn, plan: &ScaleUp, new: i64) -> Checked {
    let Some(reason) = &plan.reason else { return Ok(()) };
    let name = reason.split(':').next().unwrap_or_default();
    let group = drawn.world.group(name).ok_or("a reason of no group")?;
    let node = group.blueprint.as_ref().unwrap();
    for pod in &plan.triggered {
        let fits = allocatable(node).holds(wants(&pod.pod)) && accepts(node, &pod.pod);
        ensure(fits, || format!("{} would not run on {name}", pod.key()))?;
    }
    let is_limited = drawn.options.max_nodes_total > 0
        || drawn.options.cores.max < 320_000
        || (drawn.options.balance_similar && new >= group.max - group.target);
    if is_limited || plan.triggered.is_empty() {
        return Ok(());
    }
    let copies: Vec<Node> = (0..new)
        .map(|number| {
            let mut copy = Node::clone(node);
            copy.metadata.name = Some(format!("new-{number}"));
            copy
        })
        .collect();
    let copies: Vec<&Node> = copies.iter().collect();
    ensure(have_places(&plan.triggered, &copies, &[]), || {
        format!("{} pods do not fit on {new} nodes of {name}", plan.triggered.len())
    })
}

/// A pod that nothing can help: no group that may grow has a node that would take it.
fn nobody_is_forgotten(drawn: &Drawn, plan: &ScaleUp) -> Checked {
    let used: i64 = drawn.world.nodes.iter().map(|it| cores(it)).sum();
    let there = i64::try_from(drawn.world.nodes.len()).unwrap();
    let is_full = drawn.options.max_nodes_total > 0 && there >= drawn.options.max_nodes_total;
    for helpless in plan.helpless.iter().filter(|_| !is_full) {
        let pod = &helpless.pod;
        for group in drawn.world.groups.iter().filter(|it| it.target < it.max) {
            let node = group.blueprint.as_ref().unwrap();
            let has_cores = used + cores(node) <= drawn.options.cores.max;
            let fits = allocatable(node).holds(wants(&pod.pod)) && accepts(node, &pod.pod);
            ensure(!(fits && has_cores), || {
                format!("{} would run on {}: {}", pod.key(), group.name, helpless.message())
            })?;
        }
    }
    Ok(())
}

pub(crate) fn removals(
    drawn: &Drawn,
    memory: &Memory,
    now: Timestamp,
    plan: &ScaleDown,
) -> Checked {
    let (world, options) = (&drawn.world, &drawn.options);
    let mut sizes: BTreeMap<&str, i64> =
        world.groups.iter().map(|it| (it.name.as_str(), it.target)).collect();
    let gone: BTreeSet<&str> = plan.removals.iter().map(|it| it.node.as_str()).collect();
    ensure(gone.len() == plan.removals.len(), || "a node goes twice".to_owned())?;
    for removal in &plan.removals {
        let node = node(drawn, &removal.node).ok_or("a node that is not there")?;
        let group = world.group_of(node).ok_or("a node of no group")?;
        *sizes.entry(&group.name).or_default() -= 1;
        let since = memory.unneeded.get(&removal.node);
        ensure(since.is_some_and(|it| *it + group.options.unneeded_time <= now), || {
            format!("{} was needed not long ago", removal.node)
        })?;
        let marks = node.metadata.annotations.clone().unwrap_or_default();
        let key = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
        ensure(!marks.contains_key(key), || format!("{} is to stay", removal.node))?;
        little_used(drawn, node)?;
        nothing_keeps_it(drawn, removal.node.as_str(), &removal.pods)?;
    }
    for (name, left) in sizes {
        let least = world.group(name).unwrap().min;
        ensure(plan.removals.iter().all(|it| it.group != name) || left >= least, || {
            format!("{name} has {left}, and {least} at least")
        })?;
    }
    let left: i64 =
        world.nodes.iter().filter(|it| !gone.contains(name(it))).map(|it| cores(it)).sum();
    ensure(gone.is_empty() || left >= options.cores.min, || format!("{left} cores are left"))?;
    let drains = plan.removals.iter().filter(|it| it.is_drain()).count();
    ensure(drains <= options.scale_down.max_drain_parallelism, || format!("{drains} are drained"))?;
    budgets_hold(drawn, plan)?;
    // All at once, on what is left: nodes that are little used stay where they are not removed.
    let moved: Vec<PodFact> = plan.removals.iter().flat_map(|it| it.pods.clone()).collect();
    let staying: Vec<&Node> =
        world.nodes.iter().filter(|it| !gone.contains(name(it))).map(|it| &**it).collect();
    ensure(have_places(&moved, &staying, &world.placed), || {
        format!("the pods of {gone:?} have no place together")
    })
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn node<'a>(drawn: &'a Drawn, wanted: &str) -> Option<&'a Node> {
    drawn.world.nodes.iter().map(|it| &**it).find(|it| name(it) == wanted)
}

fn little_used(drawn: &Drawn, node: &Node) -> Checked {
    let on_it = drawn.world.placed.iter().filter(|it| it.node() == Some(name(node)));
    let used = on_it.fold(Room::default(), |used, it| {
        let wanted = wants(&it.pod);
        Room { millis: used.millis + wanted.millis, bytes: used.bytes + wanted.bytes, pods: 0 }
    });
    let all = allocatable(node);
    // Below one half of either, without a fraction.
    ensure(2 * used.millis < all.millis && 2 * used.bytes < all.bytes, || {
        format!("{} is used well: {used:?} of {all:?}", name(node))
    })
}

fn nothing_keeps_it(drawn: &Drawn, node: &str, pods: &[PodFact]) -> Checked {
    let on_it: Vec<&PodFact> =
        drawn.world.placed.iter().filter(|it| it.node() == Some(node)).collect();
    ensure(on_it.len() == pods.len(), || format!("not all pods of {node} are moved"))?;
    for pod in on_it {
        let safe = pod.annotation("cluster-autoscaler.kubernetes.io/safe-to-evict");
        let is_replicated = pod.controller().is_some();
        let volumes = pod.pod.spec.as_ref().and_then(|it| it.volumes.clone()).unwrap_or_default();
        let may_go = safe == Some("true") || (is_replicated && volumes.is_empty());
        ensure(may_go && safe != Some("false"), || format!("{} keeps {node}", pod.key()))?;
        ensure(keeps_apart(&pod.pod).is_none(), || "nobody is drawn so".to_owned())?;
    }
    Ok(())
}

fn budgets_hold(drawn: &Drawn, plan: &ScaleDown) -> Checked {
    for budget in &drawn.world.budgets {
        let app = budget.metadata.name.clone().unwrap_or_default();
        let allowed = budget.status.as_ref().and_then(|it| it.disruptions_allowed).unwrap_or(0);
        let moved = plan.removals.iter().flat_map(|it| &it.pods);
        let moved = moved.filter(|it| it.info.labels.get("app") == Some(&app)).count();
        ensure(i32::try_from(moved).unwrap() <= allowed, || {
            format!("{moved} pods of {app} go, and {allowed} may")
        })?;
    }
    Ok(())
}
