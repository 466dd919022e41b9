//! The arithmetic of a rolling update, and of changing `replicas` while one is under way.
//!
//! Upstream: `rolling.go`, `sync.go` (`scale`).

use std::sync::Arc;

use controller::object;
use k8s_openapi::api::apps::v1::ReplicaSet;

use super::{
    plan::{self, Observed, Plan, Scale, actual, available, bounds, replicas, size},
    revision,
};

/// The next step, or `None` when the rollout is done.
pub(super) fn step(observed: &Observed) -> Option<Plan> {
    let target = new_size(observed);
    let Some(new) = &observed.new else { return Some(plan::create(observed, target)) };
    if size(new) != target {
        return Some(Plan::Scale(vec![Scale { set: new.clone(), to: target }]));
    }
    let down = scale_down(observed, new);
    (!down.is_empty()).then_some(Plan::Scale(down))
}

/// How large the new ReplicaSet may be now (`NewRSNewReplicas`).
fn new_size(observed: &Observed) -> i32 {
    let wanted = replicas(&observed.deployment);
    let current = observed.new.as_ref().map_or(0, |it| size(it));
    if current >= wanted {
        return wanted;
    }
    let total: i32 = observed.all().map(|it| size(it)).sum();
    let room = wanted + bounds(&observed.deployment).0 - total;
    if room <= 0 { current } else { current + room.min(wanted - current) }
}

/// How the old ReplicaSets may shrink: first what does not serve, then as far as enough serve.
fn scale_down(observed: &Observed, new: &ReplicaSet) -> Vec<Scale> {
    let old: i32 = observed.old.iter().map(|it| size(it)).sum();
    if old == 0 {
        return Vec::new();
    }
    let total: i32 = observed.all().map(|it| size(it)).sum();
    let minimum = replicas(&observed.deployment) - bounds(&observed.deployment).1;
    let new_unavailable = size(new) - available(new);
    let limit = total - minimum - new_unavailable;
    if limit <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<_> = observed.old.iter().map(|it| size(it)).collect();
    let mut cleaned = 0;
    for (set, size) in observed.old.iter().zip(&mut sizes) {
        let unhealthy = (*size - available(set)).max(0).min(limit - cleaned);
        *size -= unhealthy;
        cleaned += unhealthy;
    }
    let serving: i32 = observed.all().map(|it| available(it)).sum();
    let mut spare = (serving - minimum).max(0);
    for size in &mut sizes {
        let down = (*size).min(spare);
        *size -= down;
        spare -= down;
    }
    let pairs = observed.old.iter().zip(sizes);
    let changed = pairs.filter(|(set, to)| size(set) != *to);
    changed.map(|(set, to)| Scale { set: set.clone(), to }).collect()
}

/// Spreads a change of `replicas` over the ReplicaSets, in proportion to their sizes.
pub(super) fn rescale(observed: &Observed) -> Option<Plan> {
    let wanted = replicas(&observed.deployment);
    if let Some(only) = active_or_latest(observed) {
        return scaled([(only, wanted)]);
    }
    if observed.new.as_ref().is_some_and(|it| is_saturated(it, wanted)) {
        let old = observed.old.iter().filter(|it| size(it) > 0).map(|it| (it.clone(), 0));
        return scaled(old);
    }
    let strategy = observed.deployment.spec.as_ref().and_then(|it| it.strategy.as_ref());
    if strategy.and_then(|it| it.type_.as_deref()) == Some("Recreate") {
        return None;
    }
    let surge = if wanted > 0 { bounds(&observed.deployment).0 } else { 0 };
    proportional(observed, wanted + surge)
}

fn proportional(observed: &Observed, allowed: i32) -> Option<Plan> {
    let mut sets: Vec<_> = observed.all().filter(|it| size(it) > 0).cloned().collect();
    let total: i32 = sets.iter().map(|it| size(it)).sum();
    let to_add = allowed - total;
    // The larger get first; of equals the newer when growing, the older when shrinking.
    if to_add > 0 {
        sets.sort_by_key(|it| (-size(it), std::cmp::Reverse(object::created_at(&**it))));
    } else {
        sets.sort_by_key(|it| (-size(it), object::created_at(&**it)));
    }
    let mut added = 0;
    let mut targets = Vec::new();
    for set in sets {
        let share =
            if to_add == 0 { 0 } else { share(observed, &set, allowed, to_add - added, to_add) };
        added += share;
        targets.push((set.clone(), size(&set) + share));
    }
    // What rounding left over goes to the largest.
    if let Some((_, first)) = targets.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    scaled(targets)
}

/// The part of `to_add` that one ReplicaSet takes, within what is left of it.
fn share(observed: &Observed, set: &ReplicaSet, allowed: i32, left: i32, to_add: i32) -> i32 {
    let noted = object::annotation(set, revision::MAXIMUM).and_then(|it| it.parse::<i64>().ok());
    let status = observed.deployment.status.as_ref().and_then(|it| it.replicas).unwrap_or(0);
    let before = noted.unwrap_or(i64::from(status)).max(1);
    let product = i64::from(size(set)) * i64::from(allowed);
    // Rounded to the nearest, as upstream.
    let target = (product * 2 + before) / (before * 2);
    let wanted = i32::try_from(target).unwrap_or(i32::MAX) - size(set);
    if to_add > 0 { wanted.clamp(0, left.max(0)) } else { wanted.clamp(left.min(0), 0) }
}

/// The only ReplicaSet with pods, or the one to use where none has any.
fn active_or_latest(observed: &Observed) -> Option<Arc<ReplicaSet>> {
    let mut active = observed.all().filter(|it| size(it) > 0);
    match (active.next(), active.next()) {
        (Some(only), None) => Some(only.clone()),
        (None, _) => observed.new.clone().or_else(|| observed.old.last().cloned()),
        _ => None,
    }
}

fn is_saturated(set: &ReplicaSet, wanted: i32) -> bool {
    let noted = object::annotation(set, revision::DESIRED).and_then(|it| it.parse::<i32>().ok());
    size(set) == wanted
        && noted == Some(wanted)
        && available(set) == wanted
        && actual(set) == wanted
}

fn scaled(targets: impl IntoIterator<Item = (Arc<ReplicaSet>, i32)>) -> Option<Plan> {
    let scales: Vec<_> = targets
        .into_iter()
        .map(|(set, to)| Scale { set, to })
        .filter(|it| it.from() != it.to)
        .collect();
    (!scales.is_empty()).then_some(Plan::Scale(scales))
}
