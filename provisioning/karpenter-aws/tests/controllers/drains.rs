//! Budgets of pods on nodes that go: they hold the drain up, and no longer than the grace period.

use std::time::Duration;

use api_kube::karpenter::NodeClaim;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{MANY, support::World, terminations::node};

fn claims(world: &World) -> Api<NodeClaim> {
    Api::all(world.admin.clone())
}

/// The node's pods go but for those that hold it up, and somebody deletes its claim.
async fn delete(world: &World, claim: &str) {
    world.pods().delete("web", &DeleteParams::default().grace_period(0)).await.unwrap();
    claims(world).delete(claim, &DeleteParams::default()).await.unwrap();
}

async fn pod(world: &World, name: &str) -> Pod {
    world.pods().get(name).await.unwrap()
}

fn ends(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.deletion_timestamp.as_ref().map(|it| it.0)
}

/// What the kubelet and the machine do with what is to go.
async fn until_gone(world: &World, node: &str) {
    world
        .until("the node is gone", || async {
            for pod in world.pods().list(&Default::default()).await.unwrap().items {
                let now = DeleteParams::default().grace_period(0);
                if ends(&pod).is_some() {
                    world.pods().delete(pod.metadata.name.as_ref()?, &now).await.ok();
                }
            }
            world.end_instances().await;
            world.node(node).await.is_none().then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_holds_the_drain_up_until_it_allows_an_eviction() {
    let world = World::new(MANY).await;
    let (node, claim) = node(&world).await;
    world.running("held", &node, "100m").await;
    world.forbid_evictions().await;
    delete(&world, &claim).await;
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(ends(&pod(&world, "held").await), None);
    // Beside it there is one that was launched for the pod, and has not started.
    let instances = world.instances().await;
    let mut states = instances.iter().filter_map(|it| it.state.as_ref()?.name.as_deref());
    assert!(states.any(|it| it == "running"), "its instance goes on");
    let drained = claims(&world).get(&claim).await.unwrap().condition("Drained").cloned().unwrap();
    assert_eq!((drained.status.as_str(), drained.reason.as_str()), ("Unknown", "Draining"));
    let of_node = format!("Node/{node}");
    for why in ["evicting pod violates a PDB (Pod=x/held)", "1 pods are waiting to be evicted"] {
        let message = format!("Failed to drain node, {why}");
        world.until_told(&of_node, "FailedDraining", &message).await;
    }

    let budgets = Api::<PodDisruptionBudget>::namespaced(world.admin.clone(), "x");
    let allowed = json!({ "status": { "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2, "observedGeneration": 1 } });
    let parameters = PatchParams::default();
    budgets.patch_status("none", &parameters, &Patch::Merge(&allowed)).await.unwrap();
    until_gone(&world, &node).await;
    world.until_told("Pod/held", "Evicted", "Evicted pod: Forceful Termination").await;
}

#[tokio::test(start_paused = true)]
async fn by_the_end_of_the_grace_period_pods_are_deleted_whatever_budgets_say() {
    let world = World::new(MANY).await;
    let patch = json!({ "spec": { "template": { "spec": { "terminationGracePeriod": "10m" } } } });
    let parameters = PatchParams::default();
    world.node_pools().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
    let (node, claim) = node(&world).await;
    world.running("held", &node, "100m").await;
    // It wants more time than there is.
    world
        .running_with("slow", &node, "100m", json!({ "terminationGracePeriodSeconds": 3600 }))
        .await;
    // Its turn comes when no other pod is left.
    let last = json!({ "priorityClassName": "system-cluster-critical" });
    world.running_with("last", &node, "100m", last).await;
    // Somebody has given it an hour.
    world
        .running_with("going", &node, "100m", json!({ "terminationGracePeriodSeconds": 3600 }))
        .await;
    world.pods().delete("going", &DeleteParams::default()).await.unwrap();
    world.forbid_evictions().await;
    delete(&world, &claim).await;

    let by: Timestamp = world
        .until("the end is noted", || async {
            let claim = claims(&world).get(&claim).await.unwrap();
            let key = "karpenter.sh/nodeclaim-termination-timestamp";
            claim.metadata.annotations.as_ref()?.get(key)?.parse().ok()
        })
        .await;
    tokio::time::sleep(Duration::from_secs(9 * 60)).await;
    for name in ["held", "last"] {
        assert_eq!(ends(&pod(&world, name).await), None, "{name} has a minute left");
    }
    tokio::time::sleep(Duration::from_secs(58)).await;
    for name in ["held", "slow", "last", "going"] {
        let ends = ends(&pod(&world, name).await).expect("it is being deleted");
        assert!(
            ends <= by && by.duration_since(ends) < SignedDuration::from_secs(5),
            "{name}: {ends}"
        );
    }
    let told = world.told("Pod/held", "Disrupted").await;
    assert!(told[0].contains("This bypasses the PDB of the pod"), "{told:?}");
    let message = format!("All pods will be deleted by {by}");
    for about in [format!("Node/{node}"), format!("NodeClaim/{claim}")] {
        world.until_told(&about, "TerminationGracePeriodExpiring", &message).await;
    }
    until_gone(&world, &node).await;
}
