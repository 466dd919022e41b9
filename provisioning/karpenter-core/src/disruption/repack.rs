//! Several nodes for fewer or cheaper ones, however many: the same packing as for pods that wait.
//!
//! Upstream replaces nodes by one at most, so that a fleet of half-empty nodes shrinks pair by pair,
//! each step with a node that the next step may take away again. Here the pods of many nodes are
//! packed anew at once. It is done where it saves a tenth at least, whatever the new nodes become: moving
//! pods costs something too.
//!
//! Deviation: upstream has nothing of this; it is behind a gate of ours.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{DisruptionReason, capacity_types, labels};

use super::{Candidate, Command, Destination, Fleet, is_spot, is_underutilized};
use crate::{
    outcome::{NewClaim, Outcome},
    requirement::Requirement,
    solve::{Batch, Effort},
};

/// No more nodes than these go together.
const MOST_TOGETHER: usize = 100;
/// Two for one is what consolidation tries by itself.
const LEAST_TOGETHER: usize = 3;
/// The share of its price that a fleet has to save.
const LEAST_SAVING: f64 = 0.1;

/// The most nodes that can go for cheaper ones: all that may, or a half, or a quarter of them.
pub(super) fn repack(fleet: &mut Fleet) -> Option<Command> {
    let is_wanted = |it: &Candidate| is_underutilized(it) && it.price.is_some() && !is_spot(it);
    let mut all = fleet.within_budgets(DisruptionReason::Underutilized, is_wanted);
    all.truncate(MOST_TOGETHER);
    [1, 2, 4]
        .into_iter()
        .map(|part| all.len() / part)
        .filter(|count| *count >= LEAST_TOGETHER)
        .find_map(|count| cheaper(fleet, &all[..count]))
}

fn cheaper(fleet: &mut Fleet, nodes: &[Candidate]) -> Option<Command> {
    let mut state = fleet.start.clone();
    let mut pods = Vec::new();
    for node in nodes {
        let place = *fleet.places.get(&node.name)?;
        state.remove_node(&fleet.engine, place);
        pods.extend(node.pods.iter().cloned());
    }
    let own = pods.len();
    pods.extend(fleet.waiting.pods.iter().cloned());
    let batch = Batch::new(&mut fleet.engine, &pods);
    let outcome = batch.solve(&mut fleet.engine, &state, Effort::Improve);
    let has_place = outcome.unschedulable.iter().all(|it| it.pod >= own);
    let is_ours = |it: &NewClaim| it.pods.iter().any(|pod| *pod < own);
    if !has_place || outcome.claims.is_empty() || !outcome.claims.iter().all(is_ours) {
        return None;
    }
    let nodes_left = &fleet.engine.world.nodes;
    let lands_on_ready =
        |(pod, node): &(usize, usize)| *pod >= own || nodes_left[*node].is_initialized;
    if !outcome.existing.iter().all(lands_on_ready) {
        return None;
    }
    let now: f64 = nodes.iter().filter_map(|it| it.price).sum();
    let replacements = narrowed(outcome.claims.clone(), now * (1.0 - LEAST_SAVING))?;
    let then: f64 = replacements.iter().map(NewClaim::price).sum();
    let names = |pod: usize| format!("{}/{}", pods[pod].namespace, pods[pod].name);
    Some(Command {
        reason: DisruptionReason::Underutilized,
        method: "repack",
        saving: now - then,
        why: format!(
            "their pods fit onto the other nodes and {} at ${then:.4}/h; no choice costs less than \
             ${:.4}/h",
            replacements.len(),
            outcome.lower_bound
        ),
        moves: moves(fleet, &outcome, own, names),
        nodes: nodes.to_vec(),
        replacements,
    })
}

fn moves(
    fleet: &Fleet,
    outcome: &Outcome,
    own: usize,
    name: impl Fn(usize) -> String,
) -> Vec<(String, Destination)> {
    let onto_nodes = outcome
        .existing
        .iter()
        .map(|(pod, node)| (*pod, Destination::Node(fleet.engine.world.nodes[*node].name.clone())));
    let onto_new = outcome.claims.iter().enumerate().flat_map(|(at, claim)| {
        claim.pods.iter().map(move |pod| (*pod, Destination::Replacement(at)))
    });
    let each = onto_nodes.chain(onto_new).filter(|(pod, _)| *pod < own);
    each.map(|(pod, to)| (name(pod), to)).collect()
}

/// Leaves of each claim what costs, all together and whatever they become, less than `limit`; Spot
/// where it may be, as for one node. `None`: there is no such choice.
fn narrowed(mut claims: Vec<NewClaim>, limit: f64) -> Option<Vec<NewClaim>> {
    for claim in &mut claims {
        let options = Arc::make_mut(&mut claim.options);
        if options.iter().any(|it| &*it.capacity_type == capacity_types::SPOT) {
            options.retain(|it| &*it.capacity_type == capacity_types::SPOT);
            claim.requirements.add(labels::CAPACITY_TYPE, Requirement::one(capacity_types::SPOT));
        }
    }
    // What a type costs in its dearest zone: nobody knows which one it will be.
    let worst: Vec<BTreeMap<Arc<str>, f64>> = claims
        .iter()
        .map(|claim| {
            let mut worst: BTreeMap<Arc<str>, f64> = BTreeMap::new();
            for it in claim.options.iter() {
                let price = worst.entry(it.instance_type.clone()).or_insert(it.price);
                *price = price.max(it.price);
            }
            worst
        })
        .collect();
    let least = |of: &BTreeMap<Arc<str>, f64>| of.values().copied().fold(f64::INFINITY, f64::min);
    let cheapest: f64 = worst.iter().map(least).sum();
    if cheapest.is_nan() || cheapest >= limit {
        return None;
    }
    // Each may be dearer than its cheapest by the same share.
    let factor = limit / cheapest;
    for (claim, worst) in claims.iter_mut().zip(&worst) {
        let most = least(worst) * factor;
        Arc::make_mut(&mut claim.options).retain(|it| worst[&it.instance_type] < most);
        let wanted = claim.requirements.get(labels::INSTANCE_TYPE);
        let types = wanted.and_then(|it| it.min_values).unwrap_or(0);
        if claim.types().len() < (types as usize).max(1) {
            return None;
        }
    }
    Some(claims)
}
