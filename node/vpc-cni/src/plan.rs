//! What ipamd does next about its pool: at most one step at a time.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::{
    datastore::{Datastore, Eni},
    warm_pool::{Level, PREFIX_SIZE, Targets},
};

/// A new interface is kept at least this long.
const MIN_ENI_AGE: Duration = Duration::from_secs(60);
/// How often the pool may shrink.
pub const SHRINK_INTERVAL: Duration = Duration::from_secs(30);

/// What the instance can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_enis: usize,
    /// Addresses (or prefixes) for pods on one interface: the type's limit without the primary.
    pub per_eni: usize,
    pub max_pods: usize,
}

/// When and whether the pool may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    pub now: Timestamp,
    /// After the subnet ran out.
    pub paused_until: Option<Timestamp>,
    /// After EC2 refused for another reason.
    pub retry_at: Option<Timestamp>,
    pub last_shrink: Option<Timestamp>,
    /// The node is terminating or takes no pods.
    pub is_frozen: bool,
    /// Interfaces attached that are not ours: they use up the type's limit.
    pub unmanaged_enis: usize,
    /// A trunk is to come: a slot is kept for it.
    pub is_trunk_awaited: bool,
}

/// Whether one more interface of ours fits beside those that are there.
pub fn has_room(store: &Datastore, limits: &Limits, at: &Circumstances) -> bool {
    let reserved = usize::from(at.is_trunk_awaited);
    store.enis().count() + at.unmanaged_enis + reserved < limits.max_enis
}

/// A step and why it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub step: Step,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Settled,
    /// Counts are addresses, or prefixes in prefix mode.
    AssignAddresses {
        eni: String,
        count: usize,
    },
    CreateEni {
        count: usize,
    },
    UnassignAddresses {
        eni: String,
        addresses: Vec<Ipv4Addr>,
    },
    UnassignPrefixes {
        eni: String,
        prefixes: Vec<Ipv4Net>,
    },
    DeleteEni {
        eni: String,
    },
}

impl Step {
    pub fn is_growth(&self) -> bool {
        matches!(self, Self::AssignAddresses { .. } | Self::CreateEni { .. })
    }
}

fn because(step: Step, reason: impl Into<String>) -> Plan {
    Plan { step, reason: reason.into() }
}

fn settled(reason: impl Into<String>) -> Plan {
    because(Step::Settled, reason)
}

/// Decides the next step.
pub fn plan(store: &Datastore, targets: &Targets, limits: &Limits, at: &Circumstances) -> Plan {
    if at.is_frozen {
        return settled("the node takes no new pods");
    }
    if may_shrink(at)
        && let Some(plan) = drain(store, targets, at)
    {
        return plan;
    }
    let stock = store.stock();
    let addresses_per_eni =
        if targets.is_prefix_mode { limits.per_eni * PREFIX_SIZE } else { limits.per_eni };
    match targets.level(&stock, addresses_per_eni) {
        Level::TooLow { short } => grow(store, targets, limits, at, short),
        Level::TooHigh { over } if may_shrink(at) => shrink(store, targets, at, over),
        _ if may_shrink(at) => spare(store, targets, addresses_per_eni, at),
        _ => settled("the pool is as wanted"),
    }
}

fn grow(
    store: &Datastore,
    targets: &Targets,
    limits: &Limits,
    at: &Circumstances,
    short: Option<usize>,
) -> Plan {
    let stock = store.stock();
    if at.paused_until.is_some_and(|until| at.now < until) {
        return settled("the subnet ran out of addresses a short while ago");
    }
    if at.retry_at.is_some_and(|until| at.now < until) {
        return settled("EC2 refused a short while ago");
    }
    if stock.total >= limits.max_pods {
        return settled(format!("{} addresses serve all of {} pods", stock.total, limits.max_pods));
    }
    // Deviation: upstream takes a full interface's worth and overshoots (CNI#2793).
    let unit = if targets.is_prefix_mode { PREFIX_SIZE } else { 1 };
    let useful = (limits.max_pods - stock.total).div_ceil(unit);
    let wanted = short.unwrap_or(limits.per_eni).min(useful);
    let reason = format!("{} of {} addresses are free", stock.available(), stock.total);
    let mut enis: Vec<&Eni> = store.pod_enis().collect();
    enis.sort_by_key(|eni| eni.attached.device_number);
    for eni in &enis {
        let room = limits.per_eni.saturating_sub(eni.used_slots());
        if room > 0 {
            let eni = eni.attached.id.clone();
            let step = Step::AssignAddresses { eni, count: room.min(wanted) };
            return because(step, reason);
        }
    }
    if has_room(store, limits, at) {
        return because(Step::CreateEni { count: limits.per_eni.min(wanted) }, reason);
    }
    settled(format!("{reason}, and all {} interfaces that there can be are full", enis.len()))
}

fn may_shrink(at: &Circumstances) -> bool {
    at.last_shrink.is_none_or(|last| last + SHRINK_INTERVAL <= at.now)
}

fn shrink(store: &Datastore, targets: &Targets, at: &Circumstances, over: usize) -> Plan {
    let mut enis: Vec<&Eni> = store.pod_enis().collect();
    enis.sort_by_key(|eni| std::cmp::Reverse(eni.attached.device_number));
    // An interface that is not needed goes whole, before its addresses go one by one.
    for eni in &enis {
        let held = store.stock_of(eni);
        let size = if targets.is_prefix_mode { held.prefixes } else { held.total };
        if size <= over && is_deletable(store, eni, at.now) {
            let eni = eni.attached.id.clone();
            return because(
                Step::DeleteEni { eni },
                format!("{over} more than the target is free"),
            );
        }
    }
    let reason = format!("{over} more than the target is free");
    for eni in enis {
        let id = eni.attached.id.clone();
        if targets.is_prefix_mode {
            let mut prefixes = store.idle_prefixes(eni, at.now);
            prefixes.truncate(over);
            if !prefixes.is_empty() {
                return because(Step::UnassignPrefixes { eni: id, prefixes }, reason);
            }
        } else {
            let mut addresses = store.idle_addresses(eni, at.now);
            addresses.truncate(over);
            if !addresses.is_empty() {
                return because(Step::UnassignAddresses { eni: id, addresses }, reason);
            }
        }
    }
    settled("what is over the target still rests")
}

/// What is of the kind that new pods do not get, since prefix mode was turned on or off, and what no pod
/// has any more, goes back: it takes places that the other kind needs.
fn drain(store: &Datastore, targets: &Targets, at: &Circumstances) -> Option<Plan> {
    store.pod_enis().find_map(|eni| {
        let id = eni.attached.id.clone();
        if targets.is_prefix_mode {
            let addresses = store.idle_addresses(eni, at.now);
            let step = Step::UnassignAddresses { eni: id, addresses: addresses.clone() };
            let reason = "prefix mode is on, and no pod has these single addresses";
            (!addresses.is_empty()).then(|| because(step, reason))
        } else {
            let prefixes = store.idle_prefixes(eni, at.now);
            let step = Step::UnassignPrefixes { eni: id, prefixes: prefixes.clone() };
            let reason = "prefix mode is off, and no pod has an address of these prefixes";
            (!prefixes.is_empty()).then(|| because(step, reason))
        }
    })
}

/// Looks for a whole interface that the targets do not need.
fn spare(store: &Datastore, targets: &Targets, per_eni: usize, at: &Circumstances) -> Plan {
    let stock = store.stock();
    let mut enis: Vec<&Eni> = store.pod_enis().collect();
    enis.sort_by_key(|eni| std::cmp::Reverse(eni.attached.device_number));
    for eni in enis {
        let can_spare = targets.can_spare(&stock, &store.stock_of(eni), per_eni);
        if can_spare && is_deletable(store, eni, at.now) {
            let reason = format!("{} of {} addresses are free", stock.available(), stock.total);
            return because(Step::DeleteEni { eni: eni.attached.id.clone() }, reason);
        }
    }
    settled("the pool is as wanted")
}

fn is_deletable(store: &Datastore, eni: &Eni, now: Timestamp) -> bool {
    !eni.attached.is_primary() && eni.added + MIN_ENI_AGE <= now && store.is_idle(eni, now)
}

#[cfg(test)]
mod tests;
