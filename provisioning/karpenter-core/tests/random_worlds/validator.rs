//! Whether an outcome breaks a rule, told without the solver's code.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_kube::karpenter::labels;
use k8s_openapi::api::core::v1 as core;
use karpenter_core::{InstanceType, MinValues, NewClaim, OptionOf, Outcome, Pool, World};
use resources::Amounts;
use scheduling::{Cluster, PodInfo, Verdict, filter_node};

/// What is wrong, if anything is.
pub(crate) fn check(world: &World, outcome: &Outcome) -> Result<(), String> {
    everybody_is_somewhere(world, outcome)?;
    limits_hold(world, outcome)?;
    reservations_hold(world, outcome)?;
    for claim in &outcome.claims {
        options_are_allowed(world, claim)?;
    }
    // Whichever option a new node becomes: the cheapest, the dearest, one in between.
    for which in [0.0, 0.5, 1.0] {
        scheduler_agrees(world, outcome, which)?;
    }
    Ok(())
}

fn everybody_is_somewhere(world: &World, outcome: &Outcome) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let on_claims = outcome.claims.iter().flat_map(|it| &it.pods);
    let all = on_claims
        .chain(outcome.existing.iter().map(|(pod, _)| pod))
        .chain(outcome.unschedulable.iter().map(|it| &it.pod));
    for pod in all {
        if !seen.insert(*pod) {
            return Err(format!("pod {pod} is in two places"));
        }
    }
    let placed = outcome.order.len() + outcome.unschedulable.len();
    if seen.len() != world.pods.len() || placed != world.pods.len() {
        return Err(format!("{} of {} pods are accounted for", seen.len(), world.pods.len()));
    }
    if outcome.unschedulable.iter().any(|it| it.reason.is_empty()) {
        return Err("a pod is left over for no reason".to_owned());
    }
    Ok(())
}

fn pool<'a>(world: &'a World, claim: &NewClaim) -> &'a Pool {
    world.pools.iter().find(|it| it.name == claim.pool).expect("its pool is there")
}

fn kind<'a>(pool: &'a Pool, option: &OptionOf) -> &'a InstanceType {
    pool.types.iter().find(|it| it.name == option.instance_type).expect("its type is there")
}

/// Whatever the new nodes become, the limits hold.
fn limits_hold(world: &World, outcome: &Outcome) -> Result<(), String> {
    for pool in &world.pools {
        let Some(limits) = &pool.limits else { continue };
        let claims: Vec<_> = outcome.claims.iter().filter(|it| it.pool == pool.name).collect();
        let count = i64::try_from(claims.len()).unwrap();
        // A pool may have been over its limit before.
        if let Some(nodes) = limits.nodes
            && count > 0
            && pool.used.nodes + count > nodes
        {
            return Err(format!("{} has too many nodes", pool.name));
        }
        for (name, limit) in &limits.amounts {
            let most = claims.iter().map(|claim| {
                let each = claim.options.iter().map(|it| kind(pool, it).capacity.amount(name));
                each.max().unwrap_or(0)
            });
            let most: i64 = most.sum();
            if most > 0 && pool.used.amounts.amount(name) + most > *limit {
                return Err(format!("{} has too much {name}: {most} of {limit}", pool.name));
            }
        }
    }
    Ok(())
}

/// Whatever the new nodes become, no reservation has more of them than it has room for, and what
/// takes room of one takes it of no other.
fn reservations_hold(world: &World, outcome: &Outcome) -> Result<(), String> {
    let mut taken: BTreeMap<&str, u32> = BTreeMap::new();
    for claim in &outcome.claims {
        let of: BTreeSet<&str> =
            claim.options.iter().filter_map(|it| it.reservation.as_deref()).collect();
        if of.len() > 1 {
            return Err(format!("a new node may be in any of {of:?}"));
        }
        of.into_iter().for_each(|id| *taken.entry(id).or_default() += 1);
    }
    let types = world.pools.iter().flat_map(|it| it.types.iter());
    let all = types.flat_map(|it| &it.offerings).filter_map(|it| it.reservation.as_ref());
    for it in all {
        let taken = taken.get(&*it.id).copied().unwrap_or(0);
        if taken > it.left {
            return Err(format!("{} has {taken} new nodes and room for {}", it.id, it.left));
        }
    }
    Ok(())
}

fn options_are_allowed(world: &World, claim: &NewClaim) -> Result<(), String> {
    let pool = pool(world, claim);
    if claim.options.is_empty() || claim.pods.is_empty() {
        return Err("a new node has no options or no pods".to_owned());
    }
    if !claim.options.is_sorted_by(|a, b| a.price <= b.price) {
        return Err("the options are not in the order of price".to_owned());
    }
    for option in claim.options.iter() {
        let kind = kind(pool, option);
        let offering = kind.offerings.iter().find(|it| {
            it.zone() == &*option.zone
                && it.capacity_type() == &*option.capacity_type
                && it.reservation.as_ref().map(|it| &it.id) == option.reservation.as_ref()
        });
        let offering = offering.ok_or("an option is offered by nobody")?;
        if !offering.is_available {
            return Err(format!("{option:?} is out of capacity"));
        }
        for (key, value) in kind.labels.iter().chain(&offering.labels) {
            for requirements in [&pool.requirements, &claim.requirements] {
                if requirements.get(key).is_some_and(|it| !it.has(value)) {
                    return Err(format!("{option:?} has {key}={value}"));
                }
            }
        }
    }
    let mut is_relaxed = false;
    for (key, requirement) in pool.requirements.iter() {
        let Some(least) = requirement.min_values else { continue };
        let values: BTreeSet<_> =
            claim.options.iter().filter_map(|it| kind(pool, it).labels.get(&**key)).collect();
        let asked = claim.requirements.get(key).and_then(|it| it.min_values);
        if asked.is_none_or(|it| values.len() < it as usize) {
            return Err(format!("the claim asks for more values of {key} than it may have"));
        }
        let is_enough = values.len() >= least as usize;
        is_relaxed |= !is_enough;
        if !is_enough && world.min_values == MinValues::Strict {
            return Err(format!("minValues of {key} does not hold"));
        }
    }
    if claim.is_relaxed != is_relaxed {
        return Err(
            "a claim does not say that its minValues are relaxed, or says it of none".into()
        );
    }
    Ok(())
}

fn node(
    name: &str,
    labels: core::Node,
    allocatable: &Amounts,
    taints: &[core::Taint],
) -> core::Node {
    let mut node = labels;
    node.metadata.name = Some(name.to_owned());
    node.spec = Some(core::NodeSpec { taints: Some(taints.to_vec()), ..Default::default() });
    node.status =
        Some(core::NodeStatus { allocatable: Some(allocatable.to_list()), ..Default::default() });
    node
}

fn labelled(pairs: impl IntoIterator<Item = (String, String)>) -> core::Node {
    let mut node = core::Node::default();
    node.metadata.labels = Some(pairs.into_iter().collect());
    node
}

/// A Node of a claim that has become the option at `which` (0: the cheapest, 1: the dearest).
fn made(world: &World, claim: &NewClaim, name: &str, which: f64) -> core::Node {
    let pool = pool(world, claim);
    #[expect(clippy::cast_possible_truncation, reason = "an index")]
    let at = ((claim.options.len() - 1) as f64 * which) as usize;
    let option = &claim.options[at];
    let kind = kind(pool, option);
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (key, requirement) in claim.requirements.iter() {
        pairs.extend(requirement.example().map(|it| (key.to_string(), it)));
    }
    pairs.extend(kind.labels.clone());
    pairs.push((labels::ZONE.to_owned(), option.zone.to_string()));
    pairs.push((labels::CAPACITY_TYPE.to_owned(), option.capacity_type.to_string()));
    pairs.push((labels::HOSTNAME.to_owned(), name.to_owned()));
    node(name, labelled(pairs), &kind.allocatable, &pool.taints)
}

/// The daemons that want to be on a new node are there before its pods.
fn daemons_come(world: &World, cluster: &mut Cluster, node: &str) {
    for daemon in &world.daemons {
        if matches!(filter_node(cluster, daemon, node), Some(Verdict::Fits)) {
            let mut own = PodInfo::clone(daemon);
            own.uid = format!("{}-on-{node}", own.name);
            cluster.set_pod(node, Arc::new(own));
        }
    }
}

/// The scheduler's predicates let each pod in, in the order in which the solver placed them.
fn scheduler_agrees(world: &World, outcome: &Outcome, which: f64) -> Result<(), String> {
    let mut cluster = Cluster::default();
    for it in &world.nodes {
        let mut allocatable = it.allocatable.clone();
        allocatable.subtract(&it.reserved);
        let labels = labelled(it.labels.clone());
        allocatable.pods += 1;
        cluster.set_node(&node(&it.name, labels, &allocatable, &it.taints));
        it.pods.iter().for_each(|pod| cluster.set_pod(&it.name, pod.clone()));
        // What is reserved is counted already.
        let mut coming = PodInfo::new(&core::Pod::default());
        coming.uid = format!("daemons-of-{}", it.name);
        coming.host_ports.clone_from(&it.ports);
        cluster.set_pod(&it.name, Arc::new(coming));
    }
    let mut places = vec![String::new(); world.pods.len()];
    for (pod, at) in &outcome.existing {
        places[*pod].clone_from(&world.nodes[*at].name);
    }
    for (at, claim) in outcome.claims.iter().enumerate() {
        let name = format!("claim-{at}");
        cluster.set_node(&made(world, claim, &name, which));
        daemons_come(world, &mut cluster, &name);
        claim.pods.iter().for_each(|pod| places[*pod].clone_from(&name));
    }
    for pod in &outcome.order {
        let (info, place) = (&world.pods[*pod], &places[*pod]);
        let verdict = filter_node(&cluster, info, place);
        if !matches!(verdict, Some(Verdict::Fits)) {
            return Err(format!("{} does not fit on {place}: {verdict:?}", info.name));
        }
        cluster.set_pod(place, Arc::clone(info));
    }
    Ok(())
}
