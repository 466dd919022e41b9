//! Resources of a pod as a whole, which follow those of its containers where they are half said.
//!
//! Upstream: `defaultHugePagePodLimits` and `defaultPodRequests` in pkg/apis/core/v1.

use std::collections::BTreeMap;

use resources::Quantity;
use serde_json::Value;

use crate::defaults::{at, or};

type Amounts = BTreeMap<String, Quantity>;

pub(super) fn apply(spec: &mut Value) {
    let has = |spec: &Value, side: &str| {
        spec["resources"][side].as_object().is_some_and(|it| !it.is_empty())
    };
    if !has(spec, "limits") && !has(spec, "requests") {
        return;
    }
    for (name, amount) in of_containers(spec, "limits") {
        let is_asked_for = !spec["resources"]["requests"][&name].is_null();
        if name.starts_with(HUGE) && !is_asked_for {
            or(at(at(spec, "resources"), "limits"), &name, amount.to_string().into());
        }
    }
    if !has(spec, "limits") {
        return;
    }
    let of_containers = of_containers(spec, "requests");
    let resources = at(spec, "resources");
    for (name, amount) in of_containers.iter().filter(|it| matches!(&**it.0, "cpu" | "memory")) {
        or(at(resources, "requests"), name, amount.to_string().into());
    }
    let limits = resources["limits"].as_object().cloned().unwrap_or_default();
    for (name, limit) in limits.into_iter().filter(|(it, _)| is_of_pods(it)) {
        or(at(resources, "requests"), &name, limit);
    }
}

const HUGE: &str = "hugepages-";

fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with(HUGE)
}

/// What all containers need at one moment, at most.
fn of_containers(spec: &Value, side: &str) -> Amounts {
    let list = |name: &str| spec[name].as_array().into_iter().flatten();
    let mut running = Amounts::new();
    for container in list("containers") {
        add(&mut running, &of(container, side));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in list("initContainers") {
        let mut needs = of(container, side);
        if container["restartPolicy"] == "Always" {
            add(&mut running, &needs);
            add(&mut sidecars, &needs);
            needs.clone_from(&sidecars);
        } else {
            add(&mut needs, &sidecars);
        }
        raise(&mut peak, &needs);
    }
    raise(&mut running, &peak);
    running
}

fn of(container: &Value, side: &str) -> Amounts {
    let amounts = container["resources"][side].as_object().into_iter().flatten();
    amounts
        .filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?)))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |it| it.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, at_least: &Amounts) {
    for (name, amount) in at_least {
        let most = to.get(name).map_or(*amount, |it| *it.max(amount));
        to.insert(name.clone(), most);
    }
}
