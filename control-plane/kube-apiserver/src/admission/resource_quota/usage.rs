//! How much of what quotas limit one object takes.
//!
//! Upstream: pkg/quota/v1/evaluator/core.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod, ResourceQuotaSpec},
    resource::v1::ResourceClaimSpec,
};
use resources::{
    DEVICES_OF_CLASS, Format, PodUsage, Quantity, quota_covers, quota_covers_claim, quota_devices,
};
use serde_json::{Value, json};

use crate::authz::{items, text};

/// What a quota names without `count/`.
const OBJECTS: [&str; 6] = [
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// One object of a namespace, as quotas see it.
pub(super) struct Counted<'a> {
    kind: &'a str,
    object: &'a Value,
    now: Timestamp,
    pod: OnceCell<Option<Pod>>,
}

impl<'a> Counted<'a> {
    pub(super) fn of(kind: &'a str, object: &'a Value, now: Timestamp) -> Self {
        Self { kind, object, now, pod: OnceCell::new() }
    }

    fn pod(&self) -> Option<&Pod> {
        self.pod.get_or_init(|| slim(self.object)).as_ref()
    }

    /// A quota with scopes is about pods, or claims of volumes, that are in them, and nothing else.
    pub(super) fn is_in(&self, scoped: Option<&ResourceQuotaSpec>) -> bool {
        let Some(quota) = scoped else { return true };
        match self.kind {
            "pods" => self.pod().is_some_and(|it| quota_covers(quota, it)),
            "persistentvolumeclaims" => {
                serde_json::from_value::<PersistentVolumeClaim>(self.object.clone())
                    .is_ok_and(|it| quota_covers_claim(quota, &it))
            }
            _ => false,
        }
    }

    /// How much of a quota's resource it takes; `None`: none of its business.
    pub(super) fn amount(&self, resource: &str) -> Option<Quantity> {
        if let Some(counted) = resource.strip_prefix("count/") {
            return (counted == self.kind).then(|| number(1));
        }
        if OBJECTS.contains(&resource) {
            return (resource == self.kind).then(|| number(1));
        }
        match self.kind {
            "pods" => self.of_pod(resource),
            "services" => self.of_service(resource),
            "persistentvolumeclaims" => self.of_claim(resource),
            "resourceclaims.resource.k8s.io" => self.of_devices(resource),
            _ => None,
        }
    }

    /// A pod that has ended takes nothing, and one that should be gone neither: its node may never
    /// say so.
    fn of_pod(&self, resource: &str) -> Option<Quantity> {
        let is_over = matches!(text(self.object, "/status/phase"), "Succeeded" | "Failed");
        let end = text(self.object, "/metadata/deletionTimestamp").parse::<Timestamp>();
        let mut usage = PodUsage::default();
        if !is_over && !end.is_ok_and(|it| it < self.now) {
            usage.add(self.pod()?);
        }
        usage.amount(resource)
    }

    fn of_service(&self, resource: &str) -> Option<Quantity> {
        let is_balancer = text(self.object, "/spec/type") == "LoadBalancer";
        match resource {
            "services.loadbalancers" => Some(number(usize::from(is_balancer))),
            "services.nodeports" => Some(number(self.node_ports(is_balancer))),
            _ => None,
        }
    }

    /// How many ports of the nodes a Service takes.
    fn node_ports(&self, is_balancer: bool) -> usize {
        let ports = items(self.object, "/spec/ports");
        let takes_all = self.object["spec"]["allocateLoadBalancerNodePorts"] != false;
        if text(self.object, "/spec/type") == "NodePort" || is_balancer && takes_all {
            return ports.len();
        }
        let has_one = |it: &&Value| it["nodePort"].as_u64().is_some_and(|it| it > 0);
        if is_balancer { ports.iter().filter(has_one).count() } else { 0 }
    }

    fn of_claim(&self, resource: &str) -> Option<Quantity> {
        if resource == "requests.storage" {
            return Some(self.storage());
        }
        let (class, what) = resource.split_once(OF_CLASS)?;
        let old = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";
        let is_it = [old, "/spec/storageClassName"].map(|it| text(self.object, it));
        if is_it.into_iter().find(|it| !it.is_empty()) != Some(class) {
            return None;
        }
        match what {
            "persistentvolumeclaims" => Some(number(1)),
            "requests.storage" => Some(self.storage()),
            _ => None,
        }
    }

    /// The devices of a class that a ResourceClaim may come to.
    fn of_devices(&self, resource: &str) -> Option<Quantity> {
        let class = resource.strip_suffix(DEVICES_OF_CLASS)?;
        let claim: ResourceClaimSpec = serde_json::from_value(self.object["spec"].clone()).ok()?;
        Some(Quantity::new(quota_devices(&claim, class), Format::DecimalSi))
    }

    /// What is asked for, or what was given already where that is more.
    fn storage(&self) -> Quantity {
        let of = |pointer| text(self.object, pointer).parse().unwrap_or(Quantity::ZERO);
        let asked: Quantity = of("/spec/resources/requests/storage");
        let given = of("/status/allocatedResources/storage");
        if given > asked { given } else { asked }
    }
}

fn number(of: usize) -> Quantity {
    Quantity::new(i64::try_from(of).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// A pod, as far as quotas look at it: many are read for one write.
fn slim(pod: &Value) -> Option<Pod> {
    let spec = &pod["spec"];
    let containers = |pointer: &str| -> Value {
        let all = items(spec, pointer).iter().map(|it| {
            json!({"name": it["name"], "resources": it["resources"],
                "restartPolicy": it["restartPolicy"]})
        });
        all.collect()
    };
    let mut slim = json!({
        "containers": containers("/containers"), "initContainers": containers("/initContainers"),
    });
    for field in ["overhead", "resources", "activeDeadlineSeconds", "priorityClassName", "affinity"]
    {
        slim[field] = spec[field].clone();
    }
    // What a resize has not taken back yet counts.
    let status = &pod["status"];
    let given = |pointer: &str| -> Value {
        let all = items(status, pointer).iter().map(|it| {
            json!({"name": it["name"], "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "resources": it["resources"],
                "allocatedResources": it["allocatedResources"]})
        });
        all.collect()
    };
    let status = json!({
        "conditions": status["conditions"], "resources": status["resources"],
        "allocatedResources": status["allocatedResources"],
        "containerStatuses": given("/containerStatuses"),
        "initContainerStatuses": given("/initContainerStatuses"),
    });
    serde_json::from_value(json!({"spec": slim, "status": status})).ok()
}

/// What containers leave open although a quota of cpu or memory wants it said; empty: nothing.
pub(super) fn missing<'a>(
    kind: &str,
    pod: &Value,
    resources: impl Iterator<Item = &'a str>,
) -> String {
    let mut open: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for resource in resources.filter(|_| kind == "pods") {
        let Some(pointer) = required(resource) else { continue };
        let is_said = |it: &Value| it["resources"].pointer(pointer).is_some();
        if is_said(&pod["spec"]) {
            continue;
        }
        let all = items(pod, "/spec/containers").iter().chain(items(pod, "/spec/initContainers"));
        for container in all.filter(|it| !is_said(it)) {
            open.entry(resource).or_default().insert(text(container, "/name"));
        }
    }
    let told = open.into_iter().map(|(resource, names)| {
        let names: Vec<&str> = names.into_iter().collect();
        format!("{resource} for: {}", names.join(","))
    });
    told.collect::<Vec<_>>().join("; ")
}

/// Where a container says how much it wants of what a quota wants said.
fn required(resource: &str) -> Option<&'static str> {
    match resource {
        "cpu" | "requests.cpu" => Some("/requests/cpu"),
        "memory" | "requests.memory" => Some("/requests/memory"),
        "limits.cpu" => Some("/limits/cpu"),
        "limits.memory" => Some("/limits/memory"),
        _ => None,
    }
}
