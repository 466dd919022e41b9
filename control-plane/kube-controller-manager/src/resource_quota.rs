//! What each ResourceQuota's namespace uses, as its status shows it.
//!
//! Whether a creation is admitted is decided by the API server, from the objects themselves; this
//! keeps the numbers that users read.
//!
//! Upstream: `pkg/controller/resourcequota`, `pkg/quota/v1/evaluator/core`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::{Action, ApplyError, Key, Queue, apply};
use k8s_openapi::{
    api::{
        core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaSpec, Service},
        resource::v1::ResourceClaim,
    },
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use resources::{
    DEVICES_OF_CLASS, Format, PodUsage, Quantity, quota_covers, quota_covers_claim, quota_devices,
    quota_has_scopes,
};
use serde_json::json;

use crate::{Context, pods};

/// Changes are gathered for a moment: a rollout changes hundreds of pods.
const GATHER: Duration = Duration::from_millis(500);
/// Upstream's full resynchronization.
const RESYNC: Duration = Duration::from_secs(5 * 60);
/// Until a kind that a quota names may have been discovered.
const UNDISCOVERED: Duration = Duration::from_secs(5);
/// How long until all kinds are known, at the start.
const UNKNOWN: Duration = Duration::from_millis(200);

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
    let is_limited = quota_has_scopes(&spec);
    let is_counted =
        |name: &String| is_limited || !name.starts_with("count/") || used.contains_key(name);
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
        let of_pods = self.of_pods(quota);
        let is_limited = quota_has_scopes(quota);
        let covered = self.claims.iter().filter(|it| quota_covers_claim(quota, it));
        let covered: Vec<_> = covered.cloned().collect();
        let names = quota.hard.iter().flat_map(BTreeMap::keys);
        let amounts = names.filter_map(|name| {
            let of_objects =
                if is_limited { of_claims(name, &covered) } else { self.of_objects(name) };
            let amount = of_objects.or_else(|| of_pods.amount(name))?;
            Some((name.clone(), amount.into()))
        });
        amounts.collect()
    }

    fn of_objects(&self, name: &str) -> Option<Quantity> {
        if let Some(kind) = name.strip_prefix("count/") {
            return (self.objects)(kind).map(number);
        }
        if OBJECTS.contains(&name) {
            return (self.objects)(name).map(number);
        }
        if let Some(class) = name.strip_suffix(DEVICES_OF_CLASS) {
            let counts = self.device_claims.iter().map(|it| quota_devices(&it.spec, class));
            return Some(Quantity::new(counts.fold(0, i64::saturating_add), Format::DecimalSi));
        }
        match name {
            "services.loadbalancers" => {
                let balancers = self.services.iter().filter(|it| kind_of(it) == "LoadBalancer");
                Some(number(balancers.count()))
            }
            "services.nodeports" => {
                Some(number(self.services.iter().map(|it| node_ports(it)).sum()))
            }
            _ => of_claims(name, &self.claims),
        }
    }

    /// Of the pods that the quota is about and that take room.
    fn of_pods(&self, quota: &ResourceQuotaSpec) -> PodUsage {
        let mut totals = PodUsage::default();
        let pods = self.pods.iter().filter(|it| !pods::is_over(it) && !self.is_stuck(it));
        for pod in pods.filter(|it| quota_covers(quota, it)) {
            totals.add(pod);
        }
        totals
    }

    /// A pod that should be gone by now counts no more: its node may never say so.
    fn is_stuck(&self, pod: &Pod) -> bool {
        let deleted = pod.metadata.deletion_timestamp.as_ref();
        // The date includes the grace period.
        deleted.is_some_and(|it| it.0 < self.now)
            && pod.metadata.deletion_grace_period_seconds.is_some()
    }
}

fn of_claims(name: &str, claims: &[Arc<PersistentVolumeClaim>]) -> Option<Quantity> {
    let (class, what) = name.split_once(OF_CLASS).map_or((None, name), |it| (Some(it.0), it.1));
    let is_of_class =
        |it: &&Arc<PersistentVolumeClaim>| class.is_none_or(|_| class_of(it) == class);
    let counted: Vec<_> = claims.iter().filter(is_of_class).cloned().collect();
    match what {
        "persistentvolumeclaims" | "count/persistentvolumeclaims" => Some(number(counted.len())),
        "requests.storage" => Some(storage(&counted)),
        _ => None,
    }
}

fn number(of: usize) -> Quantity {
    Quantity::new(i64::try_from(of).unwrap_or(i64::MAX), Format::DecimalSi)
}

fn kind_of(service: &Service) -> &str {
    service.spec.as_ref().and_then(|it| it.type_.as_deref()).unwrap_or("ClusterIP")
}

/// How many ports of the nodes a Service takes.
fn node_ports(service: &Service) -> usize {
    let Some(spec) = &service.spec else { return 0 };
    let ports = spec.ports.as_ref().map_or(0, Vec::len);
    match kind_of(service) {
        "NodePort" => ports,
        "LoadBalancer" if spec.allocate_load_balancer_node_ports != Some(false) => ports,
        "LoadBalancer" => {
            spec.ports.iter().flatten().filter(|it| it.node_port.is_some_and(|it| it > 0)).count()
        }
        _ => 0,
    }
}

fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

fn storage(claims: &[Arc<PersistentVolumeClaim>]) -> Quantity {
    let wanted = claims.iter().filter_map(|it| {
        let requests = it.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
        requests.get("storage")?.0.parse::<Quantity>().ok()
    });
    wanted.fold(Quantity::new(0, Format::BinarySi), Quantity::plus)
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
            ("secrets", Some("2")),
            ("count/deployments.apps", Some("3")),
            ("count/unknowns.example.com", None),
            ("services.nodeports", Some("5")),
            ("services.loadbalancers", Some("2")),
            ("requests.storage", Some("3Gi")),
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
        assert_eq!(used(&["Terminating"], "secrets"), None);
        assert_eq!(
            used(&["VolumeAttributesClass"], "persistentvolumeclaims").as_deref(),
            Some("1")
        );
        assert_eq!(used(&["VolumeAttributesClass"], "requests.storage").as_deref(), Some("2Gi"));
    }
}
