//! Deletes pods that nobody will look after any more.
//!
//! Pods of nodes that are gone (after a moment in which the node may come back), pods that are
//! being deleted and were never placed, those that are being deleted on a node that is out of service, and
//! the oldest finished pods beyond a threshold.
//!
//! Upstream: `pkg/controller/podgc`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use controller::{Action, ApplyError, Key, Queue, apply, object};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::DeleteParams};
use parking_lot::Mutex;
use serde_json::json;
use tracing::info;

use crate::{Context, pods};

/// Upstream's `gcCheckPeriod`.
const PERIOD: Duration = Duration::from_secs(20);
/// Upstream's `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);

/// What one pass deletes, and why.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    finished: Vec<Arc<Pod>>,
    orphaned: Vec<Arc<Pod>>,
    unplaced: Vec<Arc<Pod>>,
    /// Nobody will end them.
    out_of_service: Vec<Arc<Pod>>,
}

/// Since when each missing node is missing.
type Missing = BTreeMap<String, Timestamp>;

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    queue.add(());
    let missing = Mutex::new(Missing::new());
    controller::run("podgc", queue, 1, |()| reconcile(&context, &missing)).await;
}

async fn reconcile(context: &Context, missing: &Mutex<Missing>) -> Result<Action, ApplyError> {
    let now = context.clock.now();
    let all = context.caches.pods.all();
    let nodes: BTreeSet<_> = context.caches.nodes.keys().into_iter().map(|it| it.name).collect();
    let due = note_missing(&mut missing.lock(), &all, &nodes, now);
    let mut gone = BTreeSet::new();
    for node in due {
        if is_gone(context, &node).await? {
            gone.insert(node);
        }
    }
    let nodes = context.caches.nodes.all();
    let dead: BTreeSet<_> = nodes.iter().filter_map(|it| out_of_service(it)).collect();
    let plan = plan(&all, (&gone, &dead), context.config.terminated_pod_gc_threshold);
    for pod in &plan.orphaned {
        info!(pod = %Key::of(&**pod), "deleting: its node is gone");
        fail(context, pod, Some("PodGC: node no longer exists"), now).await?;
    }
    for pod in &plan.out_of_service {
        info!(pod = %Key::of(&**pod), "deleting: its node is out of service");
        fail(context, pod, None, now).await?;
    }
    let placed = plan.orphaned.iter().chain(&plan.out_of_service);
    for pod in plan.finished.iter().chain(placed).chain(&plan.unplaced) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = apply::api::<Pod>(&context.client, namespace);
        apply::delete_with(&api, &**pod, DeleteParams::default().grace_period(0)).await?;
    }
    Ok(Action::After(PERIOD))
}

/// Caches may be stale, and deleting is final: asks.
async fn is_gone(context: &Context, node: &str) -> Result<bool, ApplyError> {
    let api = Api::<Node>::all(context.client.clone());
    let found = api.get_opt(node).await;
    Ok(found.map_err(|source| ApplyError::new::<Node>("get", node, source))?.is_none())
}

/// Updates since when nodes are missing. Returns those that were missing long enough.
fn note_missing(
    missing: &mut Missing,
    all: &[Arc<Pod>],
    nodes: &BTreeSet<String>,
    now: Timestamp,
) -> Vec<String> {
    let named: BTreeSet<_> = all.iter().filter_map(|it| pods::node_of(it)).collect();
    missing.retain(|node, _| named.contains(node.as_str()) && !nodes.contains(node));
    for node in named {
        if !nodes.contains(node) {
            missing.entry(node.to_owned()).or_insert(now);
        }
    }
    let due = missing.iter().filter(|(_, since)| **since + QUARANTINE <= now);
    due.map(|(node, _)| node.clone()).collect()
}

/// The name of a node that is not ready and of which an administrator says that nothing runs there.
fn out_of_service(node: &Node) -> Option<String> {
    let taints = node.spec.iter().flat_map(|it| it.taints.iter().flatten());
    let is_out = taints.into_iter().any(|it| it.key == "node.kubernetes.io/out-of-service");
    let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True");
    node.metadata.name.clone().filter(|_| is_out && !is_ready)
}

/// `gone` and `dead` are nodes that are not there, and that are out of service.
fn plan(
    all: &[Arc<Pod>],
    (gone, dead): (&BTreeSet<String>, &BTreeSet<String>),
    threshold: usize,
) -> Plan {
    let mut plan = Plan::default();
    for pod in all {
        match pods::node_of(pod) {
            Some(node) if gone.contains(node) => plan.orphaned.push(pod.clone()),
            Some(node) if dead.contains(node) && object::is_terminating(&**pod) => {
                plan.out_of_service.push(pod.clone());
            }
            None if object::is_terminating(&**pod) => plan.unplaced.push(pod.clone()),
            _ if pods::is_over(pod) && !object::is_terminating(&**pod) => {
                plan.finished.push(pod.clone());
            }
            _ => {}
        }
    }
    plan.finished.sort_by_key(|it| (object::created_at(&**it), it.metadata.name.clone()));
    let surplus = plan.finished.len().saturating_sub(threshold);
    plan.finished.truncate(if threshold == 0 { 0 } else { surplus });
    plan
}

/// Says why before it goes, so that a Job counts it right.
async fn fail(
    context: &Context,
    pod: &Pod,
    why: Option<&str>,
    now: Timestamp,
) -> Result<(), ApplyError> {
    if pods::is_over(pod) {
        return Ok(());
    }
    let mut status = json!({ "phase": "Failed" });
    if let Some(why) = why {
        status["conditions"] = json!(pods::with_disruption(pod, "DeletionByPodGC", why, now));
    }
    let key = Key::of(pod);
    match apply::patch_status::<Pod, _>(&context.client, &key.namespace, &key.name, &status).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, deleted: Value) -> Arc<Pod> {
        let value = json!({
            "metadata": { "name": name, "deletionTimestamp": deleted,
                "creationTimestamp": format!("2026-01-01T00:00:0{}Z", name.len()) },
            "spec": { "containers": [], "nodeName": node },
            "status": { "phase": phase },
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|it| it.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn finished_pods_go_oldest_first_and_orphans_with_their_node() {
        let date = json!("2026-01-01T00:00:00Z");
        let all = [
            pod("a", "n", "Succeeded", Value::Null),
            pod("bb", "n", "Failed", Value::Null),
            pod("ccc", "n", "Succeeded", Value::Null),
            pod("running", "n", "Running", Value::Null),
            pod("orphan", "gone", "Running", Value::Null),
            pod("unplaced", "", "Pending", date.clone()),
            pod("stuck", "dead", "Running", date),
            pod("stays", "dead", "Running", Value::Null),
        ];
        let (gone, dead) = (["gone".to_owned()].into(), ["dead".to_owned()].into());
        let plan = plan(&all, (&gone, &dead), 1);
        assert_eq!(names(&plan.finished), ["a", "bb"]);
        assert_eq!(names(&plan.orphaned), ["orphan"]);
        assert_eq!(names(&plan.unplaced), ["unplaced"]);
        assert_eq!(names(&plan.out_of_service), ["stuck"]);
        let none = BTreeSet::new();
        assert_eq!(super::plan(&all, (&none, &none), 0).finished.len(), 0);
    }

    #[test]
    fn a_node_is_out_of_service_when_it_is_tainted_so_and_not_ready() {
        let node = |taint: &str, ready: &str| -> Node {
            serde_json::from_value(json!({ "metadata": { "name": "n" },
                "spec": { "taints": [{ "key": taint, "effect": "NoExecute" }] },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] } }))
            .unwrap()
        };
        let taint = "node.kubernetes.io/out-of-service";
        assert_eq!(out_of_service(&node(taint, "Unknown")).as_deref(), Some("n"));
        assert_eq!(out_of_service(&node(taint, "True")), None);
        assert_eq!(out_of_service(&node("other", "Unknown")), None);
    }

    #[test]
    fn a_node_is_missing_for_a_while_before_its_pods_go() {
        let (mut missing, start) = (Missing::new(), Timestamp::UNIX_EPOCH);
        let all = [pod("a", "n", "Running", Value::Null)];
        let nodes = BTreeSet::new();
        assert!(note_missing(&mut missing, &all, &nodes, start).is_empty());
        let almost = start + QUARANTINE - Duration::from_secs(1);
        assert!(note_missing(&mut missing, &all, &nodes, almost).is_empty());
        assert_eq!(note_missing(&mut missing, &all, &nodes, start + QUARANTINE), ["n"]);
        assert!(
            note_missing(&mut missing, &all, &["n".to_owned()].into(), start + QUARANTINE)
                .is_empty()
        );
        assert!(missing.is_empty());
    }
}
