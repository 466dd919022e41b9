//! Deletes pods that nobody will look after any more.
//!
//! Pods of nodes that are gone (after a moment in which the node may come back), pods that are
//! being deleted and were never placed, and the oldest finished pods beyond a threshold.
//!
//! Upstream: `pkg/controller/podgc`. Deviation: no out-of-service taints.

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
    let plan = plan(&all, &gone, context.config.terminated_pod_gc_threshold);
    for pod in &plan.orphaned {
        info!(pod = %Key::of(&**pod), "deleting: its node is gone");
        fail(context, pod, now).await?;
    }
    for pod in plan.finished.iter().chain(&plan.orphaned).chain(&plan.unplaced) {
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

fn plan(all: &[Arc<Pod>], gone: &BTreeSet<String>, threshold: usize) -> Plan {
    let mut plan = Plan::default();
    for pod in all {
        match pods::node_of(pod) {
            Some(node) if gone.contains(node) => plan.orphaned.push(pod.clone()),
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
async fn fail(context: &Context, pod: &Pod, now: Timestamp) -> Result<(), ApplyError> {
    if pods::is_over(pod) {
        return Ok(());
    }
    let conditions =
        pods::with_disruption(pod, "DeletionByPodGC", "PodGC: node no longer exists", now);
    let status = json!({ "phase": "Failed", "conditions": conditions });
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
            pod("unplaced", "", "Pending", date),
        ];
        let plan = plan(&all, &["gone".to_owned()].into(), 1);
        assert_eq!(names(&plan.finished), ["a", "bb"]);
        assert_eq!(names(&plan.orphaned), ["orphan"]);
        assert_eq!(names(&plan.unplaced), ["unplaced"]);
        assert_eq!(super::plan(&all, &BTreeSet::new(), 0).finished.len(), 0);
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
