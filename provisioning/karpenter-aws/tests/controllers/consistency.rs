//! Whether nodes are what their claims say, and what keeps those that are to go.

use std::time::Duration;

use api_kube::karpenter::NodeClaim;
use k8s_openapi::api::{core::v1::Node, policy::v1::PodDisruptionBudget};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{MANY, support::World, terminations::node};

const KIND: &str = "ConsistentStateFound";
/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(11 * 60);

async fn found(world: &World, claim: &str) -> (String, String) {
    let api = Api::<NodeClaim>::all(world.admin.clone());
    let it = api.get(claim).await.unwrap().condition(KIND).cloned().expect("it was looked at");
    (it.status, it.reason)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_less_than_its_claim_was_promised_is_told_of_until_it_has_enough() {
    let world = World::new(MANY).await;
    let (node, claim) = node(&world).await;
    world.pods().delete("web", &DeleteParams::default().grace_period(0)).await.unwrap();
    world.running("served", &node, "1").await;
    let it = world.claim_that_is(KIND).await;
    let promised = it.status.unwrap().capacity["cpu"].0.clone();
    let set = async |cpu: &str| {
        let patch = json!({ "status": { "capacity": { "cpu": cpu } } });
        let (nodes, parameters) = (Api::<Node>::all(world.admin.clone()), PatchParams::default());
        nodes.patch_status(&node, &parameters, &Patch::Merge(&patch)).await.unwrap();
    };
    set("500m").await;
    tokio::time::sleep(PERIOD).await;
    assert_eq!(found(&world, &claim).await, ("False".into(), "ConsistencyCheckFailed".into()));
    let told = world.told(&format!("NodeClaim/{claim}"), "FailedConsistencyCheck").await;
    let message = format!("expected {promised} of resource cpu, but found 500m (");
    assert!(told.iter().any(|it| it.starts_with(&message)), "{told:?}");
    set(&promised).await;
    tokio::time::sleep(PERIOD).await;
    assert_eq!(found(&world, &claim).await, ("True".into(), KIND.into()));
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_node_that_is_to_go_is_told_by_its_name() {
    let world = World::new(MANY).await;
    let (node, claim) = node(&world).await;
    world.running("held", &node, "100m").await;
    world.claim_that_is(KIND).await;
    world.forbid_evictions().await;
    let budgets = Api::<PodDisruptionBudget>::namespaced(world.admin.clone(), "x");
    let full = json!({ "status": { "disruptionsAllowed": 0, "currentHealthy": 1,
        "desiredHealthy": 1, "expectedPods": 1, "observedGeneration": 1 } });
    let parameters = PatchParams::default();
    budgets.patch_status("none", &parameters, &Patch::Merge(&full)).await.unwrap();
    let claims = Api::<NodeClaim>::all(world.admin.clone());
    claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(PERIOD).await;
    assert_eq!(found(&world, &claim).await, ("False".into(), "ConsistencyCheckFailed".into()));
    let told = world.told(&format!("NodeClaim/{claim}"), "FailedConsistencyCheck").await;
    assert_eq!(told, ["can't drain node, PDB \"x/none\" is blocking evictions"]);
}
