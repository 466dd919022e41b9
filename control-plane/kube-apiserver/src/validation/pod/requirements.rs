//! What containers and pods ask for: resources, and devices by claims.
//!
//! Upstream: `validateResourceRequirements`, `validatePodResources` in pkg/apis/core/validation.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use resources::Quantity;
use serde_json::Value;

use super::Scope;
use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text},
};

/// Resources without a prefix that a container can ask for.
const OF_CONTAINERS: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
/// Resources without a prefix that have a meaning somewhere.
const STANDARD: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];
const PAGES: &str = "hugepages-";

pub(in crate::validation) fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || name.starts_with(PAGES) || name.starts_with("requests.hugepages-")
}

/// Kubernetes' own: without a prefix, or with one of its.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource of somebody's device plugin.
pub(in crate::validation) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && fields::qualified_name(&format!("requests.{name}")).is_empty()
}

fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(PAGES)
}

/// Counted, never divided.
pub(in crate::validation) fn is_whole(name: &str) -> bool {
    const COUNTED: [&str; 9] = [
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ];
    COUNTED.contains(&name) || is_extended(name)
}

/// Not negative, and whole where it is counted.
pub(in crate::validation) fn amount(faults: &mut Faults, field: &str, name: &str, value: &Value) {
    let Some(quantity) = fields::quantity(value) else { return };
    if quantity.is_negative() {
        faults.invalid(field, value.clone(), "must be greater than or equal to 0");
    }
    if is_whole(name) && quantity.millis() % 1000 != 0 {
        faults.invalid(field, value.clone(), "must be an integer");
    }
}

pub(in crate::validation) fn container_resource(faults: &mut Faults, field: &str, name: &str) {
    let before = faults.count();
    faults.each(field, name, fields::qualified_name(name));
    if faults.count() == before && !name.contains('/') && !is_standard(name) {
        faults.invalid(field, name, "must be a standard resource type or fully qualified");
    }
    if !name.contains('/') {
        if !OF_CONTAINERS.contains(&name) && !name.starts_with(PAGES) {
            faults.invalid(field, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        faults.invalid(field, name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource(faults: &mut Faults, field: &str, name: &str) {
    let before = faults.count();
    faults.each(field, name, fields::qualified_name(name));
    if faults.count() > before {
        return;
    }
    if !name.contains('/') && !is_standard(name) {
        faults.invalid(field, name, "must be a standard resource type or fully qualified");
    } else if !matches!(name, "cpu" | "memory") && !name.starts_with(PAGES) {
        faults.add(FieldError::not_supported(field, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Of a container; without a scope, where there is nothing to claim.
pub(in crate::validation) fn check(
    faults: &mut Faults,
    at: &str,
    resources: &Value,
    scope: Option<&Scope<'_>>,
) {
    amounts(faults, at, resources, container_resource);
    let none = BTreeSet::new();
    claims(faults, &format!("{at}.claims"), resources, scope.map_or(&none, |it| &it.claims));
}

fn amounts(faults: &mut Faults, at: &str, resources: &Value, name: fn(&mut Faults, &str, &str)) {
    let (mut has_compute, mut has_pages) = (false, false);
    let (limits_at, requests_at) = (format!("{at}.limits"), format!("{at}.requests"));
    for (list, kind) in [(&limits_at, "limits"), (&requests_at, "requests")] {
        for (resource, value) in resources[kind].as_object().into_iter().flatten() {
            let field = format!("{list}[{resource}]");
            name(faults, &field, resource);
            amount(faults, &field, resource, value);
            if kind == "requests" {
                within_limit(faults, (list, &limits_at), resource, value, &resources["limits"]);
            }
            pages(faults, &field, resource, value);
            has_pages |= resource.starts_with(PAGES);
            has_compute |= matches!(resource.as_str(), "cpu" | "memory");
        }
    }
    if has_pages && !has_compute {
        faults.forbidden(at, "HugePages require cpu or memory");
    }
}

fn within_limit(
    faults: &mut Faults,
    (requests, limits_at): (&str, &str),
    name: &str,
    value: &Value,
    limits: &Value,
) {
    let limit = fields::quantity(&limits[name]);
    let (Some(asked), Some(most)) = (fields::quantity(value), limit) else {
        if limit.is_none() && !may_overcommit(name) {
            let why = "Limit must be set for non overcommitable resources";
            faults.add(FieldError::required(limits_at, why));
        }
        return;
    };
    if asked != most && !may_overcommit(name) {
        let why = format!("must be equal to {name} limit of {most}");
        faults.invalid(requests, value.clone(), why);
    } else if asked > most {
        let why = format!("must be less than or equal to {name} limit of {most}");
        faults.invalid(requests, value.clone(), why);
    }
}

/// A number of whole pages.
fn pages(faults: &mut Faults, field: &str, name: &str, value: &Value) {
    let size = name.strip_prefix(PAGES).and_then(|it| it.parse::<Quantity>().ok());
    let (Some(size), Some(amount)) = (size, fields::quantity(value)) else { return };
    let size = size.value();
    if amount.value() <= 0 || size <= 0 || amount.value() % size != 0 {
        let why = format!("{amount} is not positive integer multiple of {name}");
        faults.invalid(field, value.clone(), why);
    }
}

fn claims(faults: &mut Faults, list: &str, resources: &Value, known: &BTreeSet<&str>) {
    let mut names: HashSet<String> = HashSet::new();
    for (index, claim) in items(resources, "claims") {
        let at = format!("{list}[{index}]");
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            faults.required(at);
            continue;
        }
        let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
        if names.contains(name) {
            faults.add(FieldError::duplicate(&*at, name));
        } else {
            if !request.is_empty() {
                faults.each(&format!("{at}.request"), request, fields::label(request));
            }
            let of_it = format!("{name}/");
            if names.contains(&key) {
                faults.add(FieldError::duplicate(&*at, &*key));
            } else if request.is_empty() && names.iter().any(|it| it.starts_with(&of_it)) {
                faults.add(FieldError::duplicate(&*at, name));
            }
            names.insert(key);
        }
        if !known.contains(name) {
            let mut error = FieldError::not_found(at, name);
            error.detail = "must be one of the names in pod.spec.resourceClaims".into();
            if known.is_empty() {
                error.detail.push_str(" which is empty");
            } else {
                let all: Vec<&str> = known.iter().copied().collect();
                error.detail.push_str(&format!(": {}", all.join(", ")));
            }
            faults.add(error);
        }
    }
}

/// The claims that a pod's containers can name.
pub(super) fn pod_claims(faults: &mut Faults, list: &str, spec: &Value) {
    let mut names = HashSet::new();
    for (index, claim) in items(spec, "resourceClaims") {
        let at = format!("{list}[{index}]");
        let name = text(claim, "name");
        if name.is_empty() {
            faults.required(format!("{at}.name"));
        } else if !names.insert(name) {
            faults.add(FieldError::duplicate(format!("{at}.name"), name));
        } else {
            faults.each(&format!("{at}.name"), name, fields::label(name));
        }
        let kinds = ["resourceClaimName", "resourceClaimTemplateName"];
        match kinds.into_iter().filter(|it| claim[*it].is_string()).count() {
            0 => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                faults.invalid(&*at, claim.clone(), why);
            }
            1 => {}
            _ => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                faults.invalid(&*at, claim.clone(), why);
            }
        }
        for kind in kinds {
            if let Some(name) = claim[kind].as_str() {
                faults.each(&format!("{at}.{kind}"), name, fields::subdomain(name));
            }
        }
    }
}

/// What a pod asks for as a whole: no less than its containers do.
pub(super) fn of_pod(faults: &mut Faults, at: &str, spec: &Value) {
    let resources = &spec["resources"];
    if !resources.is_object() {
        return;
    }
    if !resources["claims"].is_null() {
        let why = "claims cannot be set for Resources at pod-level";
        faults.forbidden(format!("{at}.claims"), why);
    }
    amounts(faults, at, resources, pod_resource);
    for (name, asked) in together(spec) {
        let of_pod = &resources["requests"][&name];
        let has = fields::quantity(of_pod).unwrap_or(Quantity::ZERO);
        if asked > has {
            let why =
                format!("must be greater than or equal to aggregate container requests of {asked}");
            faults.invalid(format!("{at}.requests[{name}]"), has.to_string(), why);
        }
    }
    for (index, container) in items(spec, "containers") {
        for (name, limit) in container["resources"]["limits"].as_object().into_iter().flatten() {
            let most = fields::quantity(&resources["limits"][name]);
            let (Some(most), Some(own)) = (most, fields::quantity(limit)) else { continue };
            if own > most {
                let why = format!("must be less than or equal to pod limits of {most}");
                // As upstream puts it together.
                let field = format!("{at}.containers[{index}][{name}].limits");
                faults.invalid(field, limit.clone(), why);
            }
        }
    }
}

/// What all containers ask for, those that come before counted while they run.
fn together(spec: &Value) -> BTreeMap<String, Quantity> {
    let mut sum: BTreeMap<String, Quantity> = BTreeMap::new();
    let requests = |container: &Value| -> Vec<(String, Quantity)> {
        let all = container["resources"]["requests"].as_object().into_iter().flatten();
        all.filter_map(|(name, it)| Some((name.clone(), fields::quantity(it)?))).collect()
    };
    let add = |to: &mut BTreeMap<String, Quantity>, container: &Value| {
        for (name, amount) in requests(container) {
            let entry = to.entry(name).or_insert(Quantity::ZERO);
            *entry = entry.plus(amount);
        }
    };
    for (_, container) in items(spec, "containers") {
        add(&mut sum, container);
    }
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut before: BTreeMap<String, Quantity> = BTreeMap::new();
    for (_, container) in items(spec, "initContainers") {
        let mut now = sidecars.clone();
        add(&mut now, container);
        if container["restartPolicy"] == "Always" {
            add(&mut sum, container);
            add(&mut sidecars, container);
        }
        for (name, amount) in now {
            let entry = before.entry(name).or_insert(Quantity::ZERO);
            *entry = (*entry).max(amount);
        }
    }
    for (name, amount) in before {
        let entry = sum.entry(name).or_insert(Quantity::ZERO);
        *entry = (*entry).max(amount);
    }
    sum
}
