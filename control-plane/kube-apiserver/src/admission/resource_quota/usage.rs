//! The objects that quotas count, read from what is stored.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod, Service},
    resource::v1::ResourceClaim,
};
use resources::Counted;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::authz::{items, text};

/// One object, as its kind.
pub(super) enum Stored<'a> {
    Pod(Box<Pod>),
    Service(Box<Service>),
    Claim(Box<PersistentVolumeClaim>),
    DeviceClaim(Box<ResourceClaim>),
    Other(&'a str),
}

impl<'a> Stored<'a> {
    /// `None`: it is not what its kind should be, which is told elsewhere.
    pub(super) fn read(kind: &'a str, object: &Value) -> Option<Self> {
        Some(match kind {
            "pods" => Self::Pod(slim(object)?),
            "services" => Self::Service(whole(object)?),
            "persistentvolumeclaims" => Self::Claim(whole(object)?),
            "resourceclaims.resource.k8s.io" => Self::DeviceClaim(whole(object)?),
            _ => Self::Other(kind),
        })
    }

    pub(super) fn counted(&self, now: Timestamp) -> Counted<'_> {
        match self {
            Self::Pod(it) => Counted::pod(it, now),
            Self::Service(it) => Counted::service(it),
            Self::Claim(it) => Counted::claim(it),
            Self::DeviceClaim(it) => Counted::device_claim(it),
            Self::Other(kind) => Counted::other(kind),
        }
    }
}

fn whole<K: DeserializeOwned>(object: &Value) -> Option<Box<K>> {
    K::deserialize(object).ok().map(Box::new)
}

/// A pod, as far as quotas look at it: many are read for one write.
fn slim(pod: &Value) -> Option<Box<Pod>> {
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
        "phase": status["phase"], "conditions": status["conditions"], "resources": status["resources"],
        "allocatedResources": status["allocatedResources"],
        "containerStatuses": given("/containerStatuses"),
        "initContainerStatuses": given("/initContainerStatuses"),
    });
    let metadata = &pod["metadata"];
    let metadata = json!({
        "deletionTimestamp": metadata["deletionTimestamp"],
        "deletionGracePeriodSeconds": metadata["deletionGracePeriodSeconds"],
    });
    serde_json::from_value(json!({"metadata": metadata, "spec": slim, "status": status})).ok()
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
