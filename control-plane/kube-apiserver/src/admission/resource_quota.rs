//! ResourceQuota: a namespace holds no more than its quotas allow.
//!
//! Upstream: apiserver/pkg/admission/plugin/resourcequota.
//! Deviation: usage is counted from the objects at each creation instead of being kept in the
//! quota's status; creations in a namespace with quotas take turns until they are stored.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod, ResourceQuotaSpec},
    resource::v1::ResourceClaimSpec,
};
use parking_lot::Mutex;
use resources::{
    DEVICES_OF_CLASS, Format, Quantity, quota_covers, quota_covers_claim, quota_devices,
    quota_has_scopes,
};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::{Attributes, Operation};
use crate::{
    authz::{Objects, items, text},
    status::Status,
};

const OF_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";

/// One creation at a time in each namespace that has quotas.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// Held until the object is stored, so that the next one counts it.
pub(crate) type Turn = Arc<OwnedMutexGuard<()>>;

impl Turns {
    async fn take(&self, namespace: &str) -> Turn {
        let place = {
            let mut all = self.0.lock();
            all.retain(|_, it| Arc::strong_count(it) > 1);
            all.entry(namespace.to_owned()).or_default().clone()
        };
        Arc::new(place.lock_owned().await)
    }
}

/// The turn of this request, where it needs one.
pub(super) async fn turn(
    turns: &Turns,
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
) -> Option<Turn> {
    let namespace = &attributes.info.namespace;
    if !is_counted(attributes) || objects.list("resourcequotas", namespace).is_empty() {
        return None;
    }
    Some(turns.take(namespace).await)
}

fn is_counted(attributes: &Attributes<'_>) -> bool {
    let info = attributes.info;
    let is_new = attributes.operation == Operation::Create && info.subresource.is_empty();
    is_new && !info.namespace.is_empty()
}

pub(super) fn check(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<(), Status> {
    if !is_counted(attributes) {
        return Ok(());
    }
    for quota in objects.list("resourcequotas", &attributes.info.namespace) {
        check_one(objects, attributes, object, &quota)?;
    }
    Ok(())
}

fn check_one(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    object: &Value,
    quota: &Value,
) -> Result<(), Status> {
    let kind = attributes.info.group_resource();
    let name = text(quota, "/metadata/name");
    let scoped = scoped(quota);
    if !is_about(scoped.as_ref(), &kind, object) {
        return Ok(());
    }
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    let mut open = Vec::new();
    let mut over: Vec<[String; 3]> = Vec::new();
    let mut known: Option<Vec<Arc<Value>>> = None;
    for (resource, limit) in hard.into_iter().flatten() {
        let Some(limit) = limit.as_str().and_then(|it| it.parse::<Quantity>().ok()) else {
            continue;
        };
        let Some(requested) = usage(&kind, resource, object) else { continue };
        if kind == "pods" && is_left_open(object, resource) {
            open.push(format!("{resource} for: {}", names_without(object, resource).join(",")));
            continue;
        }
        if requested.is_zero() {
            continue;
        }
        let existing = known.get_or_insert_with(|| objects.list(&kind, &attributes.info.namespace));
        let used = existing
            .iter()
            .filter(|it| counts(&kind, it) && is_about(scoped.as_ref(), &kind, it))
            .filter_map(|it| usage(&kind, resource, it))
            .fold(Quantity::ZERO, Quantity::plus);
        if used.plus(requested) > limit {
            over.push([requested, used, limit].map(|amount| format!("{resource}={amount}")));
        }
    }
    if !open.is_empty() {
        let why = format!("failed quota: {name}: must specify {}", open.join("; "));
        return Err(attributes.forbidden(object, &why));
    }
    if over.is_empty() {
        return Ok(());
    }
    let column = |index: usize| -> String {
        over.iter().map(|row| row[index].as_str()).collect::<Vec<_>>().join(",")
    };
    let why = format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        column(0),
        column(1),
        column(2)
    );
    Err(attributes.forbidden(object, &why))
}

/// The quota, where it is limited to some pods.
fn scoped(quota: &Value) -> Option<ResourceQuotaSpec> {
    let spec = serde_json::from_value(quota.get("spec")?.clone()).ok()?;
    Some(spec).filter(quota_has_scopes)
}

/// A quota with scopes is about pods, or claims of volumes, that are in them, and nothing else.
fn is_about(scoped: Option<&ResourceQuotaSpec>, kind: &str, object: &Value) -> bool {
    let Some(quota) = scoped else { return true };
    match kind {
        "pods" => {
            serde_json::from_value::<Pod>(object.clone()).is_ok_and(|it| quota_covers(quota, &it))
        }
        "persistentvolumeclaims" => serde_json::from_value::<PersistentVolumeClaim>(object.clone())
            .is_ok_and(|it| quota_covers_claim(quota, &it)),
        _ => false,
    }
}

/// How much of a quota's resource an object of this kind takes; `None`: none of its business.
fn usage(kind: &str, resource: &str, object: &Value) -> Option<Quantity> {
    let one = Quantity::new(1, Format::DecimalSi);
    if let Some(counted) = resource.strip_prefix("count/") {
        return (counted == kind).then_some(one);
    }
    match (kind, resource) {
        (
            "pods"
            | "services"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "replicationcontrollers"
            | "resourcequotas",
            resource,
        ) if resource == kind => Some(one),
        ("services", "services.nodeports") => {
            let is_node = matches!(text(object, "/spec/type"), "NodePort" | "LoadBalancer");
            let ports = if is_node { items(object, "/spec/ports").len() } else { 0 };
            Some(Quantity::new(i64::try_from(ports).unwrap_or(i64::MAX), Format::DecimalSi))
        }
        ("services", "services.loadbalancers") => {
            let is_balancer = text(object, "/spec/type") == "LoadBalancer";
            Some(if is_balancer { one } else { Quantity::ZERO })
        }
        ("persistentvolumeclaims", "requests.storage") => Some(storage(object)),
        ("persistentvolumeclaims", resource) => {
            let (class, what) = resource.split_once(OF_STORAGE_CLASS)?;
            let is_of_class = text(object, "/spec/storageClassName") == class;
            match what {
                "requests.storage" => {
                    Some(if is_of_class { storage(object) } else { Quantity::ZERO })
                }
                "persistentvolumeclaims" => Some(if is_of_class { one } else { Quantity::ZERO }),
                _ => None,
            }
        }
        ("resourceclaims.resource.k8s.io", resource) => {
            let class = resource.strip_suffix(DEVICES_OF_CLASS)?;
            let claim: ResourceClaimSpec = serde_json::from_value(object["spec"].clone()).ok()?;
            Some(Quantity::new(quota_devices(&claim, class), Format::DecimalSi))
        }
        ("pods", resource) => {
            let (part, name) = compute(resource)?;
            Some(pod_total(object, part, name))
        }
        _ => None,
    }
}

fn storage(claim: &Value) -> Quantity {
    text(claim, "/spec/resources/requests/storage").parse().unwrap_or_default()
}

/// `requests.cpu`, `limits.memory` and the short forms of the requests.
fn compute(resource: &str) -> Option<(&'static str, &str)> {
    match resource {
        "cpu" | "memory" | "ephemeral-storage" => Some(("requests", resource)),
        resource => match resource.split_once('.')? {
            ("requests", name) => Some(("requests", name)),
            ("limits", name) => Some(("limits", name)),
            _ => None,
        },
    }
}

/// The larger of the containers' sum and the largest init container.
fn pod_total(pod: &Value, part: &str, resource: &str) -> Quantity {
    let all = |pointer: &str| amounts(pod, pointer, part, resource);
    let sum = all("/spec/containers").into_iter().flatten().fold(Quantity::ZERO, Quantity::plus);
    let init = all("/spec/initContainers").into_iter().flatten();
    init.fold(sum, |most, it| if it > most { it } else { most })
}

fn amounts(pod: &Value, pointer: &str, part: &str, resource: &str) -> Vec<Option<Quantity>> {
    let amount = |container: &Value| {
        let list = container.get("resources")?.get(part)?;
        list.get(resource)?.as_str()?.parse().ok()
    };
    items(pod, pointer).iter().map(amount).collect()
}

/// A pod under a quota of cpu or memory says how much it wants.
fn is_left_open(pod: &Value, resource: &str) -> bool {
    !names_without(pod, resource).is_empty()
}

fn names_without<'a>(pod: &'a Value, resource: &str) -> Vec<&'a str> {
    let Some((part, name)) = compute(resource) else { return Vec::new() };
    if !matches!(name, "cpu" | "memory") {
        return Vec::new();
    }
    let amounts = amounts(pod, "/spec/containers", part, name);
    let containers = items(pod, "/spec/containers").iter();
    let missing = containers.zip(amounts).filter(|(_, amount)| amount.is_none());
    missing.map(|(container, _)| text(container, "/name")).collect()
}

/// A pod that has ended takes nothing.
fn counts(kind: &str, object: &Value) -> bool {
    kind != "pods" || !matches!(text(object, "/status/phase"), "Succeeded" | "Failed")
}
