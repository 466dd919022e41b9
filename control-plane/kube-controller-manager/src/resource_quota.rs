//! What each ResourceQuota's namespace uses, as its status shows it.
//!
//! Whether a creation is admitted is decided by the API server, from the objects themselves; this
//! keeps the numbers that users read. What counts is `lib/resources`, for both.
//!
//! Upstream: `pkg/controller/resourcequota`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::{Action, ApplyError, Key, Queue, apply};
use k8s_openapi::{
    api::{
        core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaSpec, Service},
        resource::v1::ResourceClaim,
    },
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use resources::{Counted, Format, Quantity, quota_kind};
use serde_json::json;

use crate::Context;

/// Changes are gathered for a moment: a rollout changes hundreds of pods.
const GATHER: Duration = Duration::from_millis(500);
/// Upstream's full resynchronization.
const RESYNC: Duration = Duration::from_secs(5 * 60);
/// Until a kind that a quota names may have been discovered.
const UNDISCOVERED: Duration = Duration::from_secs(5);
/// How long until all kinds are known, at the start.
const UNKNOWN: Duration = Duration::from_millis(200);

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.quotas.subscribe(move |it| on.add(it.key.clone()));
    let later = || {
        let (queue, quotas) = (queue.clone(), context.caches.quotas.clone());
        move |namespace: &str| {
            for quota in quotas.in_namespace(namespace) {
                queue.add_after(Key::of(&*quota), GATHER);
            }
        }
    };
    let on = later();
    context.caches.pods.subscribe(move |it| on(&it.key.namespace));
    let on = later();
    context.caches.services.subscribe(move |it| on(&it.key.namespace));
    let on = later();
    context.caches.claims.subscribe(move |it| on(&it.key.namespace));
    let on = later();
    context.caches.resource_claims.subscribe(move |it| on(&it.key.namespace));
    context.objects.on_count(later());
    let passes = queue.clone();
    controller::run("resourcequota", passes, 5, |it| reconcile(&context, it)).await;
}

async fn reconcile(context: &Context, key: Key) -> Result<Action, ApplyError> {
    let Some(quota) = context.caches.quotas.get(&key) else { return Ok(Action::Done) };
    if !context.objects.is_synced() {
        return Ok(Action::After(UNKNOWN));
    }
    let spec = quota.spec.clone().unwrap_or_default();
    let hard = spec.hard.clone().unwrap_or_default();
    let namespace = key.namespace.as_str();
    let objects = |kind: &str| context.objects.count(kind, namespace);
    let caches = &context.caches;
    let used = Namespace {
        objects: &objects,
        pods: caches.pods.in_namespace(namespace),
        services: caches.services.in_namespace(namespace),
        claims: caches.claims.in_namespace(namespace),
        device_claims: caches.resource_claims.in_namespace(namespace),
        now: context.clock.now(),
    }
    .used(&spec);
    let known = quota.status.clone().unwrap_or_default();
    let is_counted = |name: &String| !name.starts_with("count/") || used.contains_key(name);
    let again = if hard.keys().all(is_counted) { RESYNC } else { UNDISCOVERED };
    if known.hard.as_ref() == Some(&hard) && known.used.as_ref() == Some(&used) {
        return Ok(Action::After(again));
    }
    let gone = |old: Option<&List>, new: &List| -> Vec<String> {
        old.into_iter()
            .flat_map(BTreeMap::keys)
            .filter(|it| !new.contains_key(*it))
            .cloned()
            .collect()
    };
    let mut status = json!({ "hard": hard, "used": used });
    for name in gone(known.hard.as_ref(), &hard) {
        status["hard"][name] = serde_json::Value::Null;
    }
    for name in gone(known.used.as_ref(), &used) {
        status["used"][name] = serde_json::Value::Null;
    }
    let client = &context.client;
    let patched =
        apply::patch_status::<ResourceQuota, _>(client, namespace, &key.name, &status).await;
    match patched {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(Action::After(again)),
    }
}

type List = BTreeMap<String, ApiQuantity>;

/// What is in a namespace.
struct Namespace<'a> {
    /// How many objects of a kind there are, where the kind is known.
    objects: &'a dyn Fn(&str) -> Option<usize>,
    pods: Vec<Arc<Pod>>,
    services: Vec<Arc<Service>>,
    claims: Vec<Arc<PersistentVolumeClaim>>,
    device_claims: Vec<Arc<ResourceClaim>>,
    now: jiff::Timestamp,
}

impl Namespace<'_> {
    fn used(&self, quota: &ResourceQuotaSpec) -> List {
        let names = quota.hard.iter().flat_map(BTreeMap::keys);
        let kinds = names.filter_map(|it| Some((quota_kind(it)?, it.as_str())));
        let mut by_kind: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, name) in kinds {
            by_kind.entry(kind).or_default().push(name);
        }
        let amounts = by_kind.iter().filter_map(|(kind, names)| self.of_kind(quota, kind, names));
        amounts.flatten().collect()
    }

    /// How much of these names the objects of the kind take; `None` where the kind is not known.
    fn of_kind(
        &self,
        quota: &ResourceQuotaSpec,
        kind: &str,
        names: &[&str],
    ) -> Option<Vec<(String, ApiQuantity)>> {
        let mut sum = Sum { quota, names, amounts: vec![Quantity::ZERO; names.len()] };
        match kind {
            "pods" => sum.add(self.pods.iter().map(|it| Counted::pod(it, self.now))),
            "services" => sum.add(self.services.iter().map(|it| Counted::service(it))),
            "persistentvolumeclaims" => sum.add(self.claims.iter().map(|it| Counted::claim(it))),
            "resourceclaims.resource.k8s.io" => {
                sum.add(self.device_claims.iter().map(|it| Counted::device_claim(it)));
            }
            _ => {
                // They are all alike.
                let count = (self.objects)(kind)?;
                let is_counted = Counted::other(kind).is_in(quota);
                let count = if is_counted { i64::try_from(count).unwrap_or(i64::MAX) } else { 0 };
                sum.amounts.fill(Quantity::new(count, Format::DecimalSi));
            }
        }
        let names = names.iter().map(|it| (*it).to_owned());
        Some(names.zip(sum.amounts.into_iter().map(Into::into)).collect())
    }
}

/// What objects take together, name by name.
struct Sum<'a> {
    quota: &'a ResourceQuotaSpec,
    names: &'a [&'a str],
    amounts: Vec<Quantity>,
}

impl Sum<'_> {
    fn add<'b>(&mut self, objects: impl Iterator<Item = Counted<'b>>) {
        for object in objects.filter(|it| it.is_in(self.quota)) {
            for (name, total) in self.names.iter().zip(&mut self.amounts) {
                *total = total.plus(object.amount(name).unwrap_or(Quantity::ZERO));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn of<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn pod(phase: &str, spec: Value) -> Arc<Pod> {
        let resources = json!({ "requests": { "cpu": "250m", "memory": "64Mi" },
            "limits": { "memory": "128Mi" } });
        let mut full = json!({ "containers": [{ "name": "c", "resources": resources }] });
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        of(json!({ "spec": full, "status": { "phase": phase } }))
    }

    fn claim(class: &str, storage: &str) -> Arc<PersistentVolumeClaim> {
        of(json!({ "spec": { "storageClassName": class,
            "resources": { "requests": { "storage": storage } } } }))
    }

    fn service(kind: &str, ports: usize, allocates: bool) -> Arc<Service> {
        let ports: Vec<_> = (0..ports).map(|it| json!({ "port": 80 + it })).collect();
        of(json!({ "spec": { "type": kind, "ports": ports,
            "allocateLoadBalancerNodePorts": allocates } }))
    }

    fn used(scopes: &[&str], name: &str) -> Option<String> {
        let objects = |kind: &str| match kind {
            "secrets" => Some(2),
            "deployments.apps" => Some(3),
            _ => None,
        };
        let namespace = Namespace {
            objects: &objects,
            pods: vec![
                pod("Running", json!({})),
                pod("Pending", json!({ "activeDeadlineSeconds": 5 })),
                pod("Succeeded", json!({})),
            ],
            services: vec![
                service("ClusterIP", 9, true),
                service("NodePort", 2, true),
                service("LoadBalancer", 3, true),
                service("LoadBalancer", 4, false),
            ],
            claims: vec![
                claim("fast", "1Gi"),
                of(json!({ "metadata": { "annotations": {
                        "volume.beta.kubernetes.io/storage-class": "old" } },
                    "spec": { "resources": { "requests": { "storage": "1Gi" } } },
                    "status": { "allocatedResources": { "storage": "4Gi" } } })),
                of(
                    json!({ "spec": { "storageClassName": "slow", "volumeAttributesClassName": "gold",
                    "resources": { "requests": { "storage": "2Gi" } } } }),
                ),
            ],
            device_claims: vec![of(json!({ "spec": { "devices": { "requests": [
                { "name": "r", "exactly": { "deviceClassName": "gpu", "count": 2 } }] } } }))],
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let spec = json!({ "hard": { name: "1" }, "scopes": scopes });
        let used = namespace.used(&serde_json::from_value(spec).unwrap());
        used.get(name).map(|it| it.0.clone())
    }

    #[test]
    fn every_name_of_a_quota_is_counted_as_upstream_counts_it() {
        for (name, expected) in [
            ("requests.cpu", Some("500m")),
            ("cpu", Some("500m")),
            ("memory", Some("128Mi")),
            ("limits.memory", Some("256Mi")),
            ("limits.cpu", Some("0")),
            ("pods", Some("2")),
            ("count/pods", Some("3")),
            ("secrets", Some("2")),
            ("count/deployments.apps", Some("3")),
            ("count/unknowns.example.com", None),
            ("services.nodeports", Some("5")),
            ("services.loadbalancers", Some("2")),
            ("requests.storage", Some("7Gi")),
            ("old.storageclass.storage.k8s.io/requests.storage", Some("4Gi")),
            ("persistentvolumeclaims", Some("3")),
            ("limits.example.com/dongle", None),
            ("gpu.deviceclass.resource.k8s.io/devices", Some("2")),
            ("nic.deviceclass.resource.k8s.io/devices", Some("0")),
            ("fast.storageclass.storage.k8s.io/requests.storage", Some("1Gi")),
            ("slow.storageclass.storage.k8s.io/persistentvolumeclaims", Some("1")),
            ("gold.storageclass.storage.k8s.io/persistentvolumeclaims", Some("0")),
        ] {
            assert_eq!(used(&[], name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_quota_with_scopes_counts_the_pods_that_are_in_them_and_nothing_else() {
        assert_eq!(used(&["Terminating"], "pods").as_deref(), Some("1"));
        assert_eq!(used(&["NotTerminating", "NotBestEffort"], "pods").as_deref(), Some("1"));
        assert_eq!(used(&["BestEffort"], "pods").as_deref(), Some("0"));
        assert_eq!(used(&["Terminating"], "count/pods").as_deref(), Some("1"));
        assert_eq!(used(&["NotTerminating"], "count/pods").as_deref(), Some("2"), "the ended too");
        for name in ["secrets", "count/deployments.apps", "services.nodeports"] {
            assert_eq!(used(&["Terminating"], name).as_deref(), Some("0"), "{name}");
        }
        assert_eq!(
            used(&["VolumeAttributesClass"], "persistentvolumeclaims").as_deref(),
            Some("1")
        );
        assert_eq!(used(&["VolumeAttributesClass"], "requests.storage").as_deref(), Some("2Gi"));
    }
}
