//! What each ResourceQuota's namespace uses, as its status shows it.
//!
//! Whether a creation is admitted is decided by the API server, from the objects themselves; this
//! keeps the numbers that users read.
//!
//! Upstream: `pkg/controller/resourcequota`. Deviation: counted are pods and what they request and
//! limit, and the objects that this process watches anyway; other counts are left out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::{Action, ApplyError, Key, Queue, apply};
use k8s_openapi::{
    api::core::v1::{Pod, ResourceQuota, Service},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use resources::{Amounts, Format, Quantity, pod_limits, pod_requests};
use serde_json::json;

use crate::{Context, caches::Caches, pods};

/// Changes are gathered for a moment: a rollout changes hundreds of pods.
const GATHER: Duration = Duration::from_millis(500);
/// Upstream's full resynchronization.
const RESYNC: Duration = Duration::from_secs(5 * 60);

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.quotas.subscribe(move |it| on.add(it.key.clone()));
    let later = |queue: &Queue<Key>, caches: &Caches| {
        let (queue, quotas) = (queue.clone(), caches.quotas.clone());
        move |namespace: &str| {
            for quota in quotas.in_namespace(namespace) {
                queue.add_after(Key::of(&*quota), GATHER);
            }
        }
    };
    let on = later(&queue, &context.caches);
    context.caches.pods.subscribe(move |it| on(&it.key.namespace));
    let on = later(&queue, &context.caches);
    context.caches.services.subscribe(move |it| on(&it.key.namespace));
    controller::run("resourcequota", queue, 5, |it| reconcile(&context, it)).await;
}

async fn reconcile(context: &Context, key: Key) -> Result<Action, ApplyError> {
    let Some(quota) = context.caches.quotas.get(&key) else { return Ok(Action::Done) };
    let hard = quota.spec.as_ref().and_then(|it| it.hard.clone()).unwrap_or_default();
    let used = used(&hard, &context.caches, &key.namespace);
    let known = quota.status.clone().unwrap_or_default();
    if known.hard.as_ref() != Some(&hard) || known.used.as_ref() != Some(&used) {
        let status = json!({ "hard": hard, "used": used });
        let client = &context.client;
        let patched =
            apply::patch_status::<ResourceQuota, _>(client, &key.namespace, &key.name, &status)
                .await;
        match patched {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(Action::After(RESYNC))
}

type List = BTreeMap<String, ApiQuantity>;

fn used(hard: &List, caches: &Caches, namespace: &str) -> List {
    let pods = caches.pods.in_namespace(namespace);
    let services = caches.services.in_namespace(namespace);
    let count = |name: &str| match name {
        "services" | "count/services" => Some(services.len()),
        "services.loadbalancers" => Some(of_type(&services, "LoadBalancer")),
        "services.nodeports" => Some(of_type(&services, "NodePort")),
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => None,
        "persistentvolumeclaims" | "count/persistentvolumeclaims" => {
            Some(caches.claims.in_namespace(namespace).len())
        }
        "count/deployments.apps" => Some(caches.deployments.in_namespace(namespace).len()),
        "count/replicasets.apps" => Some(caches.replica_sets.in_namespace(namespace).len()),
        "count/statefulsets.apps" => Some(caches.stateful_sets.in_namespace(namespace).len()),
        "count/jobs.batch" => Some(caches.jobs.in_namespace(namespace).len()),
        "count/cronjobs.batch" => Some(caches.cron_jobs.in_namespace(namespace).len()),
        "count/pods" => Some(pods.len()),
        _ => None,
    };
    let of_pods = of_pods(&pods);
    let amounts = hard.keys().filter_map(|name| {
        let number = count(name).and_then(|it| i64::try_from(it).ok());
        let quantity = number.map(|it| Quantity::new(it, Format::DecimalSi));
        let quantity = quantity.or_else(|| of_pods.find(name))?;
        Some((name.clone(), quantity.into()))
    });
    amounts.collect()
}

fn of_type(services: &[Arc<Service>], kind: &str) -> usize {
    let kind_of =
        |it: &&Arc<Service>| it.spec.as_ref().and_then(|it| it.type_.as_deref()) == Some(kind);
    services.iter().filter(kind_of).count()
}

/// What all pods of a namespace that are not over ask for.
struct Totals {
    requests: Amounts,
    limits: Amounts,
}

fn of_pods(pods: &[Arc<Pod>]) -> Totals {
    let mut totals = Totals { requests: Amounts::default(), limits: Amounts::default() };
    for pod in pods.iter().filter(|it| !pods::is_over(it)) {
        totals.requests.add(&pod_requests(pod));
        totals.limits.add(&pod_limits(pod));
    }
    totals
}

impl Totals {
    fn find(&self, name: &str) -> Option<Quantity> {
        let (amounts, resource) = match name.split_once('.') {
            Some(("limits", resource)) => (&self.limits, resource),
            Some(("requests", resource)) => (&self.requests, resource),
            _ if ["cpu", "memory", "ephemeral-storage", "pods"].contains(&name) => {
                (&self.requests, name)
            }
            _ => return None,
        };
        let amount = amounts.amount(resource);
        Some(match resource {
            "cpu" => Quantity::from_millis(amount),
            "memory" | "ephemeral-storage" => Quantity::new(amount, Format::BinarySi),
            _ => Quantity::new(amount, Format::DecimalSi),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_count_by_what_they_request_and_limit_until_they_are_over() {
        let pod = |phase: &str| {
            let resources = json!({ "requests": { "cpu": "250m", "memory": "64Mi" },
                "limits": { "memory": "128Mi" } });
            let value = json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] },
                "status": { "phase": phase } });
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let totals = of_pods(&[pod("Running"), pod("Pending"), pod("Succeeded")]);
        for (name, expected) in [
            ("requests.cpu", "500m"),
            ("cpu", "500m"),
            ("memory", "128Mi"),
            ("limits.memory", "256Mi"),
            ("limits.cpu", "0"),
            ("pods", "2"),
        ] {
            assert_eq!(totals.find(name).unwrap().to_string(), expected, "{name}");
        }
        assert_eq!(totals.find("configmaps"), None);
    }
}
