//! What an apply makes of the live object.
//!
//! The applied configuration is laid over it; what its owner applied before and does not apply any
//! more goes, unless another owner has it too; and a field that another owner set to another value is
//! a conflict, unless the request forces it.
//!
//! Upstream: `Updater.Apply` of sigs.k8s.io/structured-merge-diff/merge.

use serde_json::{Value, json};

use super::{
    Request, conflicts, empty,
    field_set::FieldSet,
    last_applied,
    typed::{self, Kind},
};
use crate::{
    managed_fields::{
        self,
        entries::{self, Owner},
    },
    status::Status,
};

const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The object to store, in place of the live one.
pub(crate) fn plan(live: &Value, request: &Request) -> Result<Value, Status> {
    let Request { owner, applied, kind, .. } = request;
    let mut others = entries::of(live);
    if others.is_empty() {
        others.extend(before_first_apply(live, request));
    }
    let own = others.iter().position(|it| owner.has(it)).map(|at| others.remove(at));
    let wanted = request.wanted();
    let mut object = live.clone();
    typed::merge(&mut object, applied, kind);
    if let Some(own) = &own {
        let mut claimed = wanted.clone();
        others.iter().for_each(|it| claimed.union(&FieldSet::of_entry(it)));
        prune(&mut object, &FieldSet::of_entry(own), &claimed, kind);
    }
    empty::forget_new(live, &mut object, &request.resource);
    let change = typed::difference(live, &object, kind);
    let change = managed_fields::change_within(change, &request.resource, request.part);
    if !request.is_forced {
        let mut found = conflicts::find(&others, &change.set);
        let is_kubectl = owner.manager == last_applied::KUBECTL;
        if is_kubectl && !found.is_empty() {
            // What `kubectl apply` wrote client-side goes over to `kubectl apply --server-side`.
            let allowed = last_applied::unchanged_in(live, request);
            if found.iter().all(|it| allowed.contains(&it.path)) {
                found.clear();
            } else {
                found.retain(|it| !allowed.contains(&it.path));
            }
        }
        conflicts::refuse(&found)?;
    }
    empty::leave_out(&mut object, &request.resource);
    entries::lose(&mut others, &change, |_| true);
    others.extend(request.entry(wanted));
    entries::set(&mut object, others);
    last_applied::renew(&mut object, request);
    Ok(object)
}

/// The owner of everything that was there before anything was tracked.
fn before_first_apply(live: &Value, request: &Request) -> Option<Value> {
    let all = typed::difference(&json!({}), live, &request.kind);
    let all = managed_fields::change_within(all, &request.resource, request.part);
    let set = managed_fields::owned(all.set);
    let owner =
        Owner { manager: BEFORE_FIRST_APPLY.into(), operation: "Update", ..request.owner.clone() };
    (!set.is_empty()).then(|| owner.entry(&set, &request.now))
}

/// Takes away what the owner applied before and nobody claims now.
fn prune(object: &mut Value, previous: &FieldSet, claimed: &FieldSet, kind: &Kind) {
    let all = |object: &Value| typed::ensured(&typed::fields_of(object, kind), kind);
    let (previous, claimed) = (typed::ensured(previous, kind), typed::ensured(claimed, kind));
    let mut without = object.clone();
    typed::remove(&mut without, &previous, kind);
    let before = all(object);
    // Back comes what someone claims, and with it what holds it.
    let mut kept = all(&without);
    kept.union(&claimed);
    let mut left = object.clone();
    typed::remove(&mut left, &before.without(&kept), kind);
    // And back comes what the owner never had.
    let gone = before.without(&all(&left)).within(&previous);
    typed::remove(object, &gone, kind);
}
