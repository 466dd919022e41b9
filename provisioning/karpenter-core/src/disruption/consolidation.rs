//! Fewer or cheaper nodes for the same pods.
//!
//! Nodes go where their pods fit onto the others with at most one new node, which has to be cheaper
//! than they are together, whatever it becomes. Where the new node may be Spot it has to be, so that
//! a lack of Spot capacity leaves things as they are instead of making them dearer; where a
//! reservation has room for it, it takes that. A Spot node for a
//! Spot node only behind its gate, and then with 15 types to choose from, so that it is not the next
//! one to be interrupted.
//!
//! Upstream: `multinodeconsolidation.go`, `singlenodeconsolidation.go`, `consolidation.go`.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{DisruptionReason, capacity_types, labels};

use super::{
    Candidate, Command, Fleet, Kept, KeptBy, balance, is_spot, is_underutilized,
    trial::{NoPlace, Trial},
};
use crate::{
    outcome::{NewClaim, OptionOf},
    requirement::Requirement,
};

/// No more nodes than these go together.
const MOST_TOGETHER: usize = 100;
/// Types that a Spot node has to leave open that takes the place of one.
const SPOT_TYPES: usize = 15;

/// The longest prefix of the candidates that can go for at most one new node.
pub(super) fn several(fleet: &mut Fleet) -> Option<Command> {
    let mut all = fleet.within_budgets(DisruptionReason::Underutilized, is_underutilized);
    all.truncate(MOST_TOGETHER);
    let (mut least, mut most, mut best) = (2, all.len(), None);
    while least <= most {
        let middle = (least + most) / 2;
        match cheaper(fleet, &all[..middle], "multi") {
            Ok(found) => {
                best = Some(found);
                least = middle + 1;
            }
            Err(_) => most = middle - 1,
        }
    }
    best
}

/// The first candidate that can go alone.
pub(super) fn one(fleet: &mut Fleet) -> Option<Command> {
    let mut allowed: BTreeMap<String, u32> = BTreeMap::new();
    for at in 0..fleet.candidates.len() {
        let candidate = fleet.candidates[at].clone();
        if !is_underutilized(&candidate) {
            continue;
        }
        let left = allowed
            .entry(candidate.pool.clone())
            .or_insert_with(|| fleet.allowed(&candidate.pool, DisruptionReason::Underutilized));
        if *left == 0 {
            continue;
        }
        let why = match cheaper(fleet, std::slice::from_ref(&candidate), "single") {
            Ok(found) => return Some(found),
            Err(Refused::NoPlace(pods)) => fleet.sentence(&pods),
            Err(Refused::Said(why)) => why,
            Err(Refused::NotWorthIt) => continue,
        };
        fleet.kept.push(Kept { node: candidate.name, by: KeptBy::Unconsolidatable, why });
    }
    None
}

/// Why nodes stay.
enum Refused {
    NoPlace(NoPlace),
    /// In upstream's words.
    Said(String),
    /// Upstream says nothing of it.
    NotWorthIt,
}

/// The command that takes these nodes away, if it saves anything.
fn cheaper(
    fleet: &mut Fleet,
    nodes: &[Candidate],
    method: &'static str,
) -> Result<Command, Refused> {
    let Trial { mut replacements, moves, others } =
        fleet.without(nodes).map_err(Refused::NoPlace)?;
    // What waits may need a node only because these go: then nothing is saved.
    if others > 0 {
        return Err(Refused::NotWorthIt);
    }
    if replacements.len() > 1 {
        let why = format!("Can't remove without creating {} candidates", replacements.len());
        return Err(Refused::Said(why));
    }
    // What has no known price may go, but pays for nothing.
    let now: f64 = nodes.iter().filter_map(|it| it.price).sum();
    let mut why = "their pods fit onto the other nodes".to_owned();
    if let Some(replacement) = replacements.first_mut() {
        let is_multi = method == "multi";
        let is_gate_open = fleet.gates.spot_to_spot_consolidation;
        narrow(replacement, nodes, now, is_gate_open, is_multi).map_err(Refused::Said)?;
        why =
            format!("their pods fit onto the other nodes and one at ${:.4}/h", replacement.price());
    }
    let then: f64 = replacements.iter().map(NewClaim::price).sum();
    if !balance::is_worth_it(&fleet.candidates, nodes, now - then) {
        return Err(Refused::NotWorthIt);
    }
    Ok(Command {
        reason: DisruptionReason::Underutilized,
        method,
        nodes: nodes.to_vec(),
        saving: now - then,
        replacements,
        moves,
        why,
    })
}

/// Leaves only options that are cheaper than what goes, or says why there is none.
fn narrow(
    replacement: &mut NewClaim,
    nodes: &[Candidate],
    now: f64,
    is_gate_open: bool,
    is_multi: bool,
) -> Result<(), String> {
    let options = Arc::make_mut(&mut replacement.options);
    let has =
        |options: &[OptionOf], kind: &str| options.iter().any(|it| &*it.capacity_type == kind);
    if has(options, capacity_types::RESERVED) {
        options.retain(|it| &*it.capacity_type == capacity_types::RESERVED);
        let only = Requirement::one(capacity_types::RESERVED);
        replacement.requirements.add(labels::CAPACITY_TYPE, only);
    }
    let is_spot_again = has(options, capacity_types::SPOT) && nodes.iter().all(is_spot);
    if has(options, capacity_types::SPOT) {
        if is_spot_again && !is_gate_open {
            let why =
                "SpotToSpotConsolidation is disabled, can't replace a spot node with a spot node";
            return Err(why.to_owned());
        }
        options.retain(|it| &*it.capacity_type == capacity_types::SPOT);
        replacement.requirements.add(labels::CAPACITY_TYPE, Requirement::one(capacity_types::SPOT));
    }
    // The dearest zone counts: nobody knows which one it will be.
    let mut worst: BTreeMap<Arc<str>, f64> = BTreeMap::new();
    for it in options.iter() {
        let price = worst.entry(it.instance_type.clone()).or_insert(it.price);
        *price = price.max(it.price);
    }
    let mut limit = now;
    if is_multi {
        // A type that goes must not come back unless it is cheaper.
        let same = nodes.iter().filter(|it| worst.contains_key(it.instance_type.as_str()));
        limit = same.filter_map(|it| it.price).fold(limit, f64::min);
    }
    options.retain(|it| worst[&it.instance_type] < limit - 1e-9);
    if options.is_empty() {
        return Err("Can't replace with a cheaper node".to_owned());
    }
    keeps_min_values(replacement)?;
    if is_spot_again && !is_multi {
        let types = replacement.types();
        if types.len() < SPOT_TYPES {
            return Err(format!(
                "SpotToSpotConsolidation requires {SPOT_TYPES} cheaper instance type options than \
                 the current candidate to consolidate, got {}",
                types.len()
            ));
        }
        let kept: Vec<Arc<str>> = types.into_iter().take(SPOT_TYPES).map(|(it, _)| it).collect();
        let options = Arc::make_mut(&mut replacement.options);
        options.retain(|it| kept.contains(&it.instance_type));
    }
    Ok(())
}

/// Fewer types may be too few for the pool's `minValues` on the type itself.
fn keeps_min_values(replacement: &NewClaim) -> Result<(), String> {
    let wanted = replacement.requirements.get(labels::INSTANCE_TYPE);
    let least = wanted.and_then(|it| it.min_values).unwrap_or(0);
    let why = || {
        format!(
            "Filtering by price: minValues requirement is not met for label(s) (label(s)=[{}])",
            labels::INSTANCE_TYPE
        )
    };
    (replacement.types().len() >= least as usize).then_some(()).ok_or_else(why)
}
