//! How much of what quotas limit one object takes.
//!
//! A quota's name is about one kind of object: `count/KIND` and some plain names about how many
//! there are, the others about what is asked for.

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolumeClaim, Pod, ResourceQuotaSpec, Service},
        resource::v1::{ResourceClaim, ResourceClaimSpec},
    },
    jiff::{SignedDuration, Timestamp},
};

use super::scope;
use crate::{Amounts, Format, Quantity, pod_limits, pod_requests};

/// What a quota names without `count/`.
const OBJECTS: [&str; 6] = [
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
const PODS: &str = "pods";
const SERVICES: &str = "services";
const CLAIMS: &str = "persistentvolumeclaims";
const DEVICE_CLAIMS: &str = "resourceclaims.resource.k8s.io";
/// Between a StorageClass and what is limited of it.
const OF_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
/// After a DeviceClass whose devices are limited.
const OF_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Where claims had their class before there was a field for it.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// `AllocationResultsMaxSize`: what a request for all devices may come to.
const ALL_DEVICES: i64 = 32;

/// The kind of object, as `resource.group`, that a quota's `name` is about; `None`: of none.
pub fn quota_kind(name: &str) -> Option<&str> {
    if let Some(kind) = name.strip_prefix("count/") {
        return Some(kind);
    }
    if OBJECTS.contains(&name) {
        return Some(name);
    }
    if name.ends_with(OF_DEVICE_CLASS) {
        return Some(DEVICE_CLAIMS);
    }
    let of_claims = name.split_once(OF_STORAGE_CLASS).map_or(name, |(_, it)| it);
    match of_claims {
        "services.loadbalancers" | "services.nodeports" => Some(SERVICES),
        "requests.storage" | "persistentvolumeclaims" => Some(CLAIMS),
        _ => side_of(name).map(|_| PODS),
    }
}

/// One object of a namespace, as quotas see it.
#[derive(Debug)]
pub struct Counted<'a> {
    kind: &'a str,
    object: Object<'a>,
}

#[derive(Debug)]
enum Object<'a> {
    Pod { pod: &'a Pod, requests: Amounts, limits: Amounts },
    Service(&'a Service),
    Claim(&'a PersistentVolumeClaim),
    Devices(&'a ResourceClaimSpec),
    Other,
}

impl<'a> Counted<'a> {
    /// A pod that has ended takes nothing, and one that should be gone neither: its node may never
    /// say so.
    pub fn pod(pod: &'a Pod, now: Timestamp) -> Self {
        let (mut requests, mut limits) = Default::default();
        if !is_over(pod) && !is_stuck(pod, now) {
            (requests, limits) = (pod_requests(pod), pod_limits(pod));
        }
        Self { kind: PODS, object: Object::Pod { pod, requests, limits } }
    }

    pub fn service(service: &'a Service) -> Self {
        Self { kind: SERVICES, object: Object::Service(service) }
    }

    pub fn claim(claim: &'a PersistentVolumeClaim) -> Self {
        Self { kind: CLAIMS, object: Object::Claim(claim) }
    }

    pub fn device_claim(claim: &'a ResourceClaim) -> Self {
        Self { kind: DEVICE_CLAIMS, object: Object::Devices(&claim.spec) }
    }

    /// An object of a kind, `resource.group`, of which only the number is limited.
    pub fn other(kind: &'a str) -> Self {
        Self { kind, object: Object::Other }
    }

    /// Whether the quota counts it: one with scopes is about the pods, or claims of volumes, that are
    /// in all of them, and about nothing else.
    pub fn is_in(&self, quota: &ResourceQuotaSpec) -> bool {
        match &self.object {
            _ if !scope::has_scopes(quota) => true,
            Object::Pod { pod, .. } => scope::covers(quota, pod),
            Object::Claim(claim) => scope::covers_claim(quota, claim),
            _ => false,
        }
    }

    /// How much it takes of what a quota calls `name`; `None`: none of its business.
    pub fn amount(&self, name: &str) -> Option<Quantity> {
        if quota_kind(name) != Some(self.kind) {
            return None;
        }
        if name.starts_with("count/") || OBJECTS.contains(&name) {
            return Some(number(1));
        }
        match &self.object {
            Object::Pod { requests, limits, .. } => of_pod(requests, limits, name),
            Object::Service(service) => of_service(service, name),
            Object::Claim(claim) => of_claim(claim, name),
            Object::Devices(claim) => {
                let class = name.strip_suffix(OF_DEVICE_CLASS)?;
                Some(Quantity::new(devices(claim, class), Format::DecimalSi))
            }
            Object::Other => None,
        }
    }
}

fn number(of: usize) -> Quantity {
    Quantity::new(i64::try_from(of).unwrap_or(i64::MAX), Format::DecimalSi)
}

// === pods ===

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_stuck(pod: &Pod, now: Timestamp) -> bool {
    let metadata = &pod.metadata;
    let (Some(deleted), Some(grace)) =
        (&metadata.deletion_timestamp, metadata.deletion_grace_period_seconds)
    else {
        return false;
    };
    // Upstream gives the grace period once more, which the date has in it already.
    deleted.0.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| end < now)
}

#[derive(Clone, Copy)]
enum Side {
    Requests,
    Limits,
}

/// What a quota's name about pods limits, and what the pods call it.
fn side_of(name: &str) -> Option<(Side, &str)> {
    const SIZES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    let is_size = |it: &str| SIZES.contains(&it);
    let is_huge = |it: &str| it.starts_with("hugepages-");
    match name.split_once('.') {
        Some(("limits", it)) if is_size(it) => Some((Side::Limits, it)),
        Some(("requests", it)) if is_size(it) || is_huge(it) || it.contains('/') => {
            Some((Side::Requests, it))
        }
        _ if is_size(name) || is_huge(name) || name == PODS => Some((Side::Requests, name)),
        _ => None,
    }
}

fn of_pod(requests: &Amounts, limits: &Amounts, name: &str) -> Option<Quantity> {
    let (side, resource) = side_of(name)?;
    let amount = match side {
        Side::Requests => requests.amount(resource),
        Side::Limits => limits.amount(resource),
    };
    Some(match resource {
        "cpu" => Quantity::from_millis(amount),
        "memory" | "ephemeral-storage" => Quantity::new(amount, Format::BinarySi),
        it if it.starts_with("hugepages-") => Quantity::new(amount, Format::BinarySi),
        _ => Quantity::new(amount, Format::DecimalSi),
    })
}

// === Services ===

fn of_service(service: &Service, name: &str) -> Option<Quantity> {
    let kind = service.spec.as_ref().and_then(|it| it.type_.as_deref());
    match name {
        "services.loadbalancers" => Some(number(usize::from(kind == Some("LoadBalancer")))),
        "services.nodeports" => Some(number(node_ports(service))),
        _ => None,
    }
}

/// How many ports of the nodes a Service takes.
fn node_ports(service: &Service) -> usize {
    let Some(spec) = &service.spec else { return 0 };
    let ports = || spec.ports.iter().flatten();
    let has_one = ports().filter(|it| it.node_port.is_some_and(|it| it > 0));
    match spec.type_.as_deref() {
        Some("NodePort") => ports().count(),
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports != Some(false) => {
            ports().count()
        }
        Some("LoadBalancer") => has_one.count(),
        _ => 0,
    }
}

// === claims of volumes ===

fn of_claim(claim: &PersistentVolumeClaim, name: &str) -> Option<Quantity> {
    let what = match name.split_once(OF_STORAGE_CLASS) {
        Some((class, what)) => (class_of(claim) == Some(class)).then_some(what)?,
        None => name,
    };
    if what == "requests.storage" { Some(storage(claim)) } else { Some(number(1)) }
}

fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref();
    let old = annotations.and_then(|it| it.get(BETA_CLASS)).map(String::as_str);
    old.or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref()).filter(|it| !it.is_empty())
}

/// What is asked for, or what was given already where that is more; in whole bytes.
fn storage(claim: &PersistentVolumeClaim) -> Quantity {
    let asked = claim.spec.as_ref().and_then(|it| it.resources.as_ref()?.requests.as_ref());
    let given = claim.status.as_ref().and_then(|it| it.allocated_resources.as_ref());
    let [asked, given] = [asked, given].map(|it| {
        let quantity = it.and_then(|it| it.get("storage"));
        quantity.and_then(|it| Quantity::try_from(it).ok())
    });
    let asked = asked.unwrap_or(Quantity::ZERO);
    let most = given.filter(|it| !asked.is_zero() && *it > asked).unwrap_or(asked);
    Quantity::new(most.value(), most.format())
}

// === claims of devices ===

/// How many devices of a class a ResourceClaim asks for, at most.
fn devices(claim: &ResourceClaimSpec, class: &str) -> i64 {
    let count = |of: &str, mode: Option<&str>, count: Option<i64>| match mode {
        _ if of != class => 0,
        Some("All") => ALL_DEVICES,
        _ => count.unwrap_or(1),
    };
    let requests = claim.devices.iter().flat_map(|it| it.requests.iter().flatten());
    let each = requests.map(|request| match &request.exactly {
        Some(it) => count(&it.device_class_name, it.allocation_mode.as_deref(), it.count),
        None => {
            let subs = request.first_available.iter().flatten();
            let counts = subs
                .map(|it| count(&it.device_class_name, it.allocation_mode.as_deref(), it.count));
            counts.max().unwrap_or(0)
        }
    });
    each.fold(0, i64::saturating_add)
}

#[cfg(test)]
mod tests;
