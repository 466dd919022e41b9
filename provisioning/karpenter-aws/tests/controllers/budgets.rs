//! Budgets of a NodePool over a run of commands: what the ones before have begun counts.

use std::{collections::BTreeMap, time::Duration};

use api_kube::karpenter::NodeClaim;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{MANY, support::World};

/// How long pods take to end: longer than it takes to decide on the next command.
const SLOW: Duration = Duration::from_secs(90);

async fn nodes(world: &World) -> Vec<Node> {
    let api = Api::<Node>::all(world.admin.clone());
    api.list(&ListParams::default()).await.unwrap().items
}

fn is_going(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|it| it.taints.as_deref()).unwrap_or_default();
    node.metadata.deletion_timestamp.is_some()
        || taints.iter().any(|it| it.key == "karpenter.sh/disrupted")
}

/// Three nodes with a pod each.
async fn three(world: &World) {
    world
        .require(json!([
            { "key": "karpenter.k8s.aws/instance-category", "operator": "In", "values": ["m"] },
            { "key": "karpenter.k8s.aws/instance-cpu", "operator": "In", "values": ["2"] },
            { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] }]))
        .await;
    for at in 0..3 {
        world.pending(&format!("web-{at}"), "1500m").await;
    }
    let claims = world
        .until("there are three instances", || async {
            let claims = world.claims().await;
            (claims.iter().filter(|it| it.is_true("Launched")).count() == 3).then_some(claims)
        })
        .await;
    for (at, claim) in claims.iter().enumerate() {
        let (node, name) = (world.join(claim).await, format!("web-{at}"));
        let now = DeleteParams::default().grace_period(0);
        world.pods().delete(&name, &now).await.unwrap();
        world.running(&name, &node, "1500m").await;
    }
}

/// What kubelets and the machine do: instances join, pods end slowly.
async fn live(world: &World, ending: &mut BTreeMap<String, Instant>) {
    let names: Vec<Option<String>> =
        nodes(world).await.into_iter().map(|it| it.spec.and_then(|it| it.provider_id)).collect();
    let provider = |it: &NodeClaim| it.status.as_ref().and_then(|it| it.provider_id.clone());
    for claim in world.claims().await {
        let is_new = claim.is_true("Launched") && !names.contains(&provider(&claim));
        if is_new && claim.metadata.deletion_timestamp.is_none() {
            world.join(&claim).await;
        }
    }
    for pod in world.pods().list(&ListParams::default()).await.unwrap().items {
        let name = pod.metadata.name.unwrap();
        let is_ending = pod.metadata.deletion_timestamp.is_some();
        let since = is_ending.then(|| *ending.entry(name.clone()).or_insert_with(Instant::now));
        if since.is_some_and(|it| it.elapsed() > SLOW) {
            let now = DeleteParams::default().grace_period(0);
            world.pods().delete(&name, &now).await.ok();
        }
    }
    world.end_instances().await;
}

/// The most nodes that were going at once while all three were replaced.
async fn most_at_once(budget: &str) -> usize {
    let world = World::new(MANY).await;
    three(&world).await;
    let patch = json!({ "spec": {
        "disruption": { "consolidateAfter": "Never", "budgets": [{ "nodes": budget }] },
        "template": { "metadata": { "labels": { "team": "red" } } } } });
    let parameters = PatchParams::default();
    world.node_pools().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
    let (mut most, mut ending) = (0, BTreeMap::new());
    for _ in 0..4000 {
        live(&world, &mut ending).await;
        let nodes = nodes(&world).await;
        most = most.max(nodes.iter().filter(|it| is_going(it)).count());
        let is_new = |it: &Node| {
            it.metadata
                .labels
                .as_ref()
                .is_some_and(|it| it.get("team").is_some_and(|it| it == "red"))
        };
        if !nodes.is_empty() && nodes.iter().all(is_new) {
            return most;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("not all were replaced");
}

#[tokio::test(start_paused = true)]
async fn no_more_nodes_go_at_once_than_the_budget_allows_from_one_command_to_the_next() {
    assert_eq!(most_at_once("1").await, 1);
    // So long do their pods take that more would have gone.
    assert!(most_at_once("3").await > 1);
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_none_lets_none_go_and_the_pool_says_so() {
    let world = World::new(MANY).await;
    three(&world).await;
    let patch = json!({ "spec": {
        "disruption": { "budgets": [{ "nodes": "0", "reasons": ["Drifted", "Empty"] }] },
        "template": { "metadata": { "labels": { "team": "red" } } } } });
    let parameters = PatchParams::default();
    world.node_pools().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
    for reason in ["Drifted", "Empty"] {
        let message =
            format!("No allowed disruptions for disruption reason {reason} due to blocking budget");
        world.until_told("NodePool/default", "DisruptionBlocked", &message).await;
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!nodes(&world).await.iter().any(is_going));
    let told = world.told("NodePool/default", "DisruptionBlocked").await;
    assert!(!told.iter().any(|it| it.contains("Underutilized")), "{told:?}");
}
