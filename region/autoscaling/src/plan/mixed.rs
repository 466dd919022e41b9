//! Mixed instances: On-Demand or Spot, and which type first.
//!
//! Source: user guide, "Allocation strategies for multiple instance types". Deviation: there is no
//! market of Spot prices and capacities here: the lowest price is the lowest On-Demand price, and where
//! capacity decides the order of the overrides does.

use aws_autoscaling::group::{
    InstancesDistribution, LaunchTemplateOverrides, MixedInstancesPolicy,
};

use crate::records::{Alternative, Group, Source};

fn policy(group: &Group) -> Option<&MixedInstancesPolicy> {
    match &group.source {
        Source::Template(_) => None,
        Source::Mixed { policy, .. } => Some(policy),
    }
}

fn distribution(group: &Group) -> Option<&InstancesDistribution> {
    policy(group)?.instances_distribution.as_ref()
}

/// The types that may be launched, the best first; `None` for what is named by attributes.
pub(crate) fn alternatives(group: &Group, is_spot: bool) -> Vec<Alternative> {
    let mut found: Vec<Alternative> = overrides(group)
        .iter()
        .map(|it| Alternative {
            instance_type: it.instance_type.clone(),
            image_id: it.image_id.clone(),
            weight: weight(it),
        })
        .collect();
    sort(&mut found, group, is_spot);
    found
}

/// The best first.
pub(crate) fn sort(found: &mut [Alternative], group: &Group, is_spot: bool) {
    let distribution = distribution(group);
    let default = if has_requirements(group) { "lowest-price" } else { "prioritized" };
    let strategy = match is_spot {
        true => distribution
            .and_then(|it| it.spot_allocation_strategy.as_deref())
            .unwrap_or("lowest-price"),
        false => distribution
            .and_then(|it| it.on_demand_allocation_strategy.as_deref())
            .unwrap_or(default),
    };
    if matches!(strategy, "lowest-price" | "price-capacity-optimized") {
        found.sort_by(|a, b| price(a).total_cmp(&price(b)));
    }
}

/// The overrides as they were given.
pub(crate) fn overrides(group: &Group) -> &[LaunchTemplateOverrides] {
    let template = policy(group).and_then(|it| it.launch_template.as_ref());
    template.map(|it| it.overrides.as_slice()).unwrap_or_default()
}

/// Whether types are named by their attributes.
pub(crate) fn has_requirements(group: &Group) -> bool {
    overrides(group).iter().any(|it| it.instance_requirements.is_some())
}

pub(crate) fn weight(of: &LaunchTemplateOverrides) -> i64 {
    of.weighted_capacity.as_deref().and_then(|it| it.parse().ok()).unwrap_or(1)
}

/// In dollars per hour and unit of capacity.
fn price(it: &Alternative) -> f64 {
    let found = it.instance_type.as_deref().and_then(instance_types::find);
    let price = found.and_then(|it| it.price).unwrap_or(f64::MAX);
    price / f64::from(i32::try_from(it.weight).unwrap_or(1).max(1))
}

/// How much of so many units shall be On-Demand: a base, and a share of what is above it, rounded up.
fn on_demand(distribution: &InstancesDistribution, units: i64) -> i64 {
    let base = distribution.on_demand_base_capacity.unwrap_or(0);
    let share = distribution.on_demand_percentage_above_base_capacity.unwrap_or(100);
    let above = (units - base).max(0);
    base.min(units) + (above * share + 99) / 100
}

/// Whether any of the group's instances may be Spot.
pub(crate) fn asks_for_spot(group: &Group) -> bool {
    let share = distribution(group).and_then(|it| it.on_demand_percentage_above_base_capacity);
    share.is_some_and(|it| it < 100)
}

fn spot_units(group: &Group) -> i64 {
    let members = group.active().filter(|it| it.is_spot).map(|it| it.weight).sum::<i64>();
    members + group.launches.values().filter(|it| it.is_spot).map(|it| it.weight).sum::<i64>()
}

/// Whether the next instance is Spot.
pub(super) fn is_next_spot(group: &Group) -> bool {
    let Some(distribution) = distribution(group) else { return false };
    let all = group.units();
    all - spot_units(group) >= on_demand(distribution, all + 1)
}

/// Of which option there is too much for the capacity that is wanted: true for Spot.
pub(super) fn excess(group: &Group) -> Option<bool> {
    let distribution = distribution(group)?;
    let wanted = on_demand(distribution, group.target());
    let spot = spot_units(group);
    Some(group.units() - spot <= wanted)
}
