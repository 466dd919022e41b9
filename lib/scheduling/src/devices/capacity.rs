//! How much a request consumes of each capacity of a device that several may share.
//!
//! What is asked for is rounded up as the capacity's policy says; who asks for nothing gets the policy's
//! default, or all of it.
//!
//! Upstream: `consumable_capacity.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{
    CapacityRequestPolicy, CapacityRequestPolicyRange, DeviceCapacity,
};
use resources::Quantity;

use super::Offer;

/// By the name of the capacity, as the device writes it.
pub type Consumed = BTreeMap<String, Quantity>;

/// What is consumed of all capacities; `None` where the device has not what is asked for, or never so
/// much.
pub(super) fn consumed(offer: &Offer<'_>, requests: &Consumed) -> Option<Consumed> {
    let capacities = || offer.device.capacity.iter().flatten();
    let is_of = |name: &String, request: &String| {
        let own = |it: &str| {
            it.strip_prefix(offer.spec.driver.as_str())?.strip_prefix('/').map(str::to_owned)
        };
        name == request
            || own(name).as_ref() == Some(request)
            || own(request).as_ref() == Some(name)
    };
    if !requests.keys().all(|request| capacities().any(|(name, _)| is_of(name, request))) {
        return None;
    }
    let each = capacities().map(|(name, capacity)| {
        let asked = requests.iter().find(|(request, _)| is_of(name, request)).map(|it| *it.1);
        amount(capacity, asked).map(|it| (name.clone(), it))
    });
    each.collect()
}

/// Whether a device holds `more` beside what it has been asked for already.
pub(super) fn has_room<'a>(
    offer: &Offer<'_>,
    there: impl Iterator<Item = &'a Consumed> + Clone,
    more: &Consumed,
) -> bool {
    more.iter().all(|(name, wanted)| {
        let held = there.clone().filter_map(|it| it.get(name));
        let sum = held.fold(*wanted, |sum, it| sum.plus(*it));
        let all = offer.device.capacity.as_ref().and_then(|it| it.get(name));
        all.and_then(|it| parse(&it.value)).is_some_and(|all| sum <= all)
    })
}

pub(super) fn parse(
    quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
) -> Option<Quantity> {
    quantity.try_into().ok()
}

fn amount(capacity: &DeviceCapacity, asked: Option<Quantity>) -> Option<Quantity> {
    let all = parse(&capacity.value)?;
    let policy = capacity.request_policy.as_ref();
    let default = policy.and_then(|it| it.default.as_ref()).and_then(parse);
    let Some(asked) = asked else { return Some(default.unwrap_or(all)) };
    let amount = match policy {
        None => asked,
        Some(policy) => by_policy(policy, asked)?,
    };
    (amount <= all && !amount.is_negative()).then_some(amount)
}

fn by_policy(policy: &CapacityRequestPolicy, asked: Quantity) -> Option<Quantity> {
    if let Some(range) = &policy.valid_range {
        return in_range(range, asked);
    }
    let mut values: Vec<_> = policy.valid_values.iter().flatten().filter_map(parse).collect();
    if values.is_empty() {
        return Some(asked);
    }
    values.sort();
    values.into_iter().find(|it| *it >= asked)
}

/// The next number of whole steps above the least.
fn in_range(range: &CapacityRequestPolicyRange, asked: Quantity) -> Option<Quantity> {
    let least = parse(&range.min)?;
    let step = range.step.as_ref().and_then(parse).map(|it| it.value()).filter(|it| *it > 0);
    let amount = match step {
        _ if asked <= least => least,
        None => asked,
        Some(step) => {
            let above = asked.value().checked_sub(least.value())?;
            let steps = above.checked_add(step - 1)? / step;
            let sum = steps.checked_mul(step)?.checked_add(least.value())?;
            Quantity::new(sum, asked.format())
        }
    };
    let most = range.max.as_ref().and_then(parse);
    most.is_none_or(|most| amount <= most).then_some(amount)
}
