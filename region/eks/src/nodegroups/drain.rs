//! Empties a node before its instance goes: cordon, then evict.
//!
//! PodDisruptionBudgets are honoured for 15 minutes; after that the instance goes regardless, as
//! EKS documents for scale-in. A node whose kubelet is silent ends no pod, however long it is waited
//! for: its pods are asked to go once, so that others take their place.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tracing::{debug, info};

/// How long evictions may be refused. Source: EKS user guide, "Managed node update behavior".
pub(crate) const EVICTION_LIMIT: SignedDuration = SignedDuration::from_mins(15);
/// An eviction that a budget refuses is tried again after this.
pub(crate) const RETRY: Duration = Duration::from_secs(5);

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Pods are still there.
    Draining,
    /// Nothing that would be missed is left, or time is up.
    Done,
}

/// What becomes of pods that a budget keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// They stay, for as long as the caller likes.
    Ask,
    /// They stay, until time is up.
    Evict,
    /// They are deleted.
    Force,
}

impl Manner {
    /// Of a version update, which ends when pods do not go in time.
    pub(crate) fn of(force: bool) -> Self {
        if force { Self::Force } else { Self::Ask }
    }
}

/// Makes one step: cordons, asks for evictions, and looks what is left.
pub(crate) async fn step(
    client: &Client,
    instance_id: &str,
    since: Timestamp,
    now: Timestamp,
    manner: Manner,
) -> Result<Progress, kube::Error> {
    let nodes = Api::<Node>::all(client.clone());
    let all = nodes.list(&ListParams::default()).await?;
    let Some(node) = all.items.into_iter().find(|it| is_of(it, instance_id)) else {
        return Ok(Progress::Done);
    };
    let name = node.name_any();
    if !node.spec.as_ref().and_then(|it| it.unschedulable).unwrap_or(false) {
        info!(node = name, instance = instance_id, "draining node");
        let cordon = json!({"spec": {"unschedulable": true}});
        nodes.patch(&name, &PatchParams::default(), &Patch::Merge(cordon)).await?;
    }
    let pods = Api::<Pod>::all(client.clone());
    let here = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let left: Vec<Pod> = pods.list(&here).await?.items.into_iter().filter(must_move).collect();
    let is_late = now.duration_since(since) > EVICTION_LIMIT && manner != Manner::Ask;
    if left.is_empty() || is_late {
        return Ok(Progress::Done);
    }
    for pod in left.iter().filter(|it| it.metadata.deletion_timestamp.is_none()) {
        evict(client, pod, manner).await?;
    }
    Ok(if is_silent(&node) { Progress::Done } else { Progress::Draining })
}

/// Whether nothing is heard of the kubelet: it ends no pods. One that says it is not ready may.
fn is_silent(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|it| it.type_ == "Ready");
    ready.is_none_or(|it| it.status == "Unknown")
}

/// Whether the kubelet says that it works.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

/// Whether `provider_id` ends in the instance's id.
pub(crate) fn is_of(node: &Node, instance_id: &str) -> bool {
    let provider_id = node.spec.as_ref().and_then(|it| it.provider_id.as_deref());
    provider_id.and_then(|it| it.rsplit('/').next()) == Some(instance_id)
}

/// Pods of DaemonSets and mirror pods belong to the node; finished ones are not missed.
fn must_move(pod: &Pod) -> bool {
    let is_daemon = pod.owner_references().iter().any(|it| it.kind == "DaemonSet");
    let is_mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    !is_daemon && !is_mirror && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The answers to an eviction that budgets refuse: one, and several for the same pod.
const REFUSED: [u16; 2] = [429, 500];

/// A refusal by a budget is no error: the next step asks again.
async fn evict(client: &Client, pod: &Pod, manner: Manner) -> Result<(), kube::Error> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    match pods.evict(&name, &EvictParams::default()).await {
        Err(kube::Error::Api(status))
            if REFUSED.contains(&status.code) && manner == Manner::Force =>
        {
            let uid = pod.metadata.uid.clone();
            let preconditions = Some(Preconditions { uid, resource_version: None });
            let params = DeleteParams { preconditions, ..DeleteParams::default() };
            match pods.delete(&name, &params).await {
                // It has gone meanwhile, and another one has its name.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                result => result.map(drop),
            }
        }
        Err(kube::Error::Api(status)) if status.code == 404 || REFUSED.contains(&status.code) => {
            debug!(pod = name, reason = status.message, "eviction is refused for now");
            Ok(())
        }
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_that_belong_to_the_node_stay() {
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "a", "uid": "1"}]);
        assert!(!must_move(&pod(json!({"metadata": {"ownerReferences": owner}}))));
        assert!(!must_move(&pod(json!({"status": {"phase": "Succeeded"}}))));
        assert!(must_move(&pod(json!({"metadata": {}, "status": {"phase": "Running"}}))));
    }

    /// An API server with one node and one pod on it, whose eviction a budget refuses.
    fn cluster(ready: &'static str) -> Client {
        refusing(ready, 429)
    }

    fn refusing(ready: &'static str, code: u16) -> Client {
        let answer = move |request: Request<Body>| async move {
            let path = request.uri().path().to_owned();
            let node = json!({
                "metadata": {"name": "n"},
                "spec": {"providerID": "aws:///us-east-1a/i-0abc"},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            });
            let pod = json!({"metadata": {"name": "p", "namespace": "d"}});
            let (code, body) = match path.as_str() {
                "/api/v1/nodes" => (200, json!({"metadata": {}, "items": [node]})),
                "/api/v1/nodes/n" => (200, node),
                "/api/v1/pods" => (200, json!({"metadata": {}, "items": [pod]})),
                _ => (code, json!({"kind": "Status", "code": code, "message": "budget"})),
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn a_budget_is_waited_for_unless_the_kubelet_is_silent() {
        let start = Timestamp::UNIX_EPOCH;
        for (ready, expected) in [
            ("True", Progress::Draining),
            ("False", Progress::Draining),
            ("Unknown", Progress::Done),
        ] {
            assert_eq!(
                step(&cluster(ready), "i-0abc", start, start, Manner::Evict).await.unwrap(),
                expected
            );
        }
        let late = start + EVICTION_LIMIT + SignedDuration::from_secs(1);
        assert_eq!(
            step(&cluster("True"), "i-0abc", start, late, Manner::Evict).await.unwrap(),
            Progress::Done
        );
        let gone = step(&cluster("True"), "i-0other", start, start, Manner::Evict).await.unwrap();
        assert_eq!(gone, Progress::Done);
    }

    #[tokio::test]
    async fn an_update_asks_for_as_long_as_it_likes_and_several_budgets_are_a_refusal_too() {
        let start = Timestamp::UNIX_EPOCH;
        let late = start + EVICTION_LIMIT + SignedDuration::from_secs(1);
        let step = async |code, at, manner| {
            step(&refusing("True", code), "i-0abc", start, at, manner).await.unwrap()
        };
        for code in REFUSED {
            assert_eq!(step(code, late, Manner::of(false)).await, Progress::Draining);
            assert_eq!(step(code, start, Manner::Evict).await, Progress::Draining);
            assert_eq!(step(code, late, Manner::Evict).await, Progress::Done);
        }
    }

    #[test]
    fn a_node_is_found_by_its_instance() {
        let node: Node = serde_json::from_value(
            json!({"metadata": {}, "spec": {"providerID": "aws:///us-east-1a/i-0abc"}}),
        )
        .unwrap();
        assert!(is_of(&node, "i-0abc"));
        assert!(!is_of(&node, "i-0ab"));
    }
}
