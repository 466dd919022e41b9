//! LimitRanger: a namespace's defaults for containers, and its bounds for containers, pods and claims.
//!
//! Upstream: plugin/pkg/admission/limitranger.

use std::sync::Arc;

use resources::Quantity;
use serde_json::{Map, Value};

use super::Attributes;
use crate::{
    authz::{Objects, items, text},
    status::Status,
};

/// What was filled in is told in this annotation.
const TOLD: &str = "kubernetes.io/limit-ranger";

/// Fills in what containers leave open: limits from `default`, requests from `defaultRequest`.
pub(super) fn apply_defaults(objects: &dyn Objects, attributes: &Attributes<'_>, pod: &mut Value) {
    for range in ranges(objects, attributes) {
        let mut told = Vec::new();
        for item in items(&range, "/spec/limits").iter().filter(|it| is_for(it, "Container")) {
            for (list, what) in [("containers", "container"), ("initContainers", "init container")]
            {
                for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
                    let name = text(container, "/name").to_owned();
                    let limits = fill(container, "limits", item.get("default"));
                    let requests = fill(container, "requests", item.get("defaultRequest"));
                    for (part, set) in [("request", requests), ("limit", limits)] {
                        if !set.is_empty() {
                            told.push(format!("{} {part} for {what} {name}", set.join(", ")));
                        }
                    }
                }
            }
        }
        if !told.is_empty() {
            let told = format!("LimitRanger plugin set: {}", told.join("; "));
            pod["metadata"]["annotations"][TOLD] = told.into();
        }
    }
}

/// The resources that were not given before, in order.
fn fill(container: &mut Value, part: &str, defaults: Option<&Value>) -> Vec<String> {
    let Some(defaults) = defaults.and_then(Value::as_object).filter(|it| !it.is_empty()) else {
        return Vec::new();
    };
    if !container["resources"][part].is_object() {
        container["resources"][part] = Value::Object(Map::new());
    }
    let Some(given) = container["resources"][part].as_object_mut() else { return Vec::new() };
    let mut set = Vec::new();
    for (resource, amount) in defaults {
        if !given.contains_key(resource) {
            given.insert(resource.clone(), amount.clone());
            set.push(resource.clone());
        }
    }
    set.sort();
    set
}

/// Refuses a claim that asks for less or more than there may be.
pub(super) fn check_claim(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    claim: &Value,
) -> Result<(), Status> {
    const KIND: &str = "PersistentVolumeClaim";
    let mut faults = Vec::new();
    for range in ranges(objects, attributes) {
        for item in items(&range, "/spec/limits").iter().filter(|it| is_for(it, KIND)) {
            let requested =
                |resource: &str| quantity(claim.pointer("/spec/resources/requests"), resource);
            let least = quantities(item.get("min")).into_iter().map(|it| ("minimum", it));
            let most = quantities(item.get("max")).into_iter().map(|it| ("maximum", it));
            for (bound, (resource, limit)) in least.chain(most) {
                let told = format!("{bound} {resource} usage per {KIND} is {limit}");
                match requested(&resource) {
                    None => faults.push(format!("{told}.  No request is specified")),
                    Some(found)
                        if bound == "minimum" && found < limit
                            || bound == "maximum" && found > limit =>
                    {
                        faults.push(format!("{told}, but request is {found}"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    refusal(attributes, claim, &faults)
}

/// Refuses what is out of bounds, all faults at once.
pub(super) fn check(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    pod: &Value,
) -> Result<(), Status> {
    let mut faults = Vec::new();
    for range in ranges(objects, attributes) {
        for item in items(&range, "/spec/limits") {
            if is_for(item, "Container") {
                let containers = items(pod, "/spec/containers").iter();
                for container in containers.chain(items(pod, "/spec/initContainers")) {
                    let amount = |part: &str, resource: &str| {
                        quantity(container.pointer(&format!("/resources/{part}")), resource)
                    };
                    bounds(item, "Container", &amount, &mut faults);
                }
            }
            if is_for(item, "Pod") {
                let amount = |part: &str, resource: &str| total(pod, part, resource);
                bounds(item, "Pod", &amount, &mut faults);
            }
        }
    }
    refusal(attributes, pod, &faults)
}

fn refusal(attributes: &Attributes<'_>, object: &Value, faults: &[String]) -> Result<(), Status> {
    match faults {
        [] => Ok(()),
        [one] => Err(attributes.forbidden(object, one)),
        many => Err(attributes.forbidden(object, &format!("[{}]", many.join(", ")))),
    }
}

/// One item of a range against one container or pod. `amount` gives a request or limit.
fn bounds(
    item: &Value,
    kind: &str,
    amount: &dyn Fn(&str, &str) -> Option<Quantity>,
    faults: &mut Vec<String>,
) {
    for (resource, least) in quantities(item.get("min")) {
        let found = amount("requests", &resource).map(|it| (it, "request"));
        // A limit below the minimum cannot hold a request above it.
        let found = found.or_else(|| amount("limits", &resource).map(|it| (it, "limit")));
        match found {
            None => faults.push(format!(
                "minimum {resource} usage per {kind} is {least}.  No request is specified"
            )),
            Some((found, what)) if found < least => faults.push(format!(
                "minimum {resource} usage per {kind} is {least}, but {what} is {found}"
            )),
            Some(_) => {}
        }
    }
    for (resource, most) in quantities(item.get("max")) {
        match amount("limits", &resource) {
            None => faults.push(format!(
                "maximum {resource} usage per {kind} is {most}.  No limit is specified"
            )),
            Some(found) if found > most => faults.push(format!(
                "maximum {resource} usage per {kind} is {most}, but limit is {found}"
            )),
            Some(_) => {}
        }
    }
    for (resource, ratio) in quantities(item.get("maxLimitRequestRatio")) {
        let given = |part| amount(part, &resource).map(|it| it.millis()).filter(|it| *it != 0);
        let why = match (given("requests"), given("limits")) {
            (None, _) => "no request is specified or request is 0".to_owned(),
            (_, None) => "no limit is specified or limit is 0".to_owned(),
            (Some(request), Some(limit)) => {
                let found = limit as f64 / request as f64;
                if found * 1000.0 <= ratio.millis() as f64 {
                    continue;
                }
                format!("provided ratio is {found:.6}")
            }
        };
        faults.push(format!(
            "{resource} max limit to request ratio per {kind} is {ratio}, but {why}"
        ));
    }
}

/// The sum over the containers that name the resource; nothing if none does.
fn total(pod: &Value, part: &str, resource: &str) -> Option<Quantity> {
    let containers = items(pod, "/spec/containers").iter();
    containers
        .filter_map(|it| quantity(it.pointer(&format!("/resources/{part}")), resource))
        .reduce(Quantity::plus)
}

fn ranges(objects: &dyn Objects, attributes: &Attributes<'_>) -> Vec<Arc<Value>> {
    objects.list("limitranges", &attributes.info.namespace)
}

fn is_for(item: &Value, kind: &str) -> bool {
    text(item, "/type") == kind
}

fn quantity(list: Option<&Value>, resource: &str) -> Option<Quantity> {
    list?.get(resource)?.as_str()?.parse().ok()
}

fn quantities(list: Option<&Value>) -> Vec<(String, Quantity)> {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.parse().ok()?)))
        .collect()
}
