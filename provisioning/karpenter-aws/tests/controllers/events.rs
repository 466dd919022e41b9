//! Events: upstream's reasons and messages, on the objects that they are about.
//!
//! Those of nodes that go are in `drains` and `budgets`, those of interruptions in `interruptions`.

use api_kube::karpenter::NodeClaim;
use k8s_openapi::api::core::v1::{Event, Node};
use karpenter_aws::{Config, FeatureGates};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{MANY, support::World, terminations::node};

async fn change_pool(world: &World, spec: Value) {
    let (parameters, patch) = (PatchParams::default(), json!({ "spec": spec }));
    world.node_pools().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_told_where_it_should_go_and_why_it_has_no_place() {
    let world = World::new(MANY).await;
    world.pending("web", "500m").await;
    let claim = world.claim_that_is("Launched").await;
    let place = format!("nodeclaim/{}", claim.name());
    world.until_told("Pod/web", "Nominated", &format!("Pod should schedule on: {place}")).await;
    world.pending("early", "100m").await;
    world.until_told("Pod/early", "Nominated", &format!("Pod should schedule on: {place}")).await;
    let node = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    world.pending("late", "100m").await;
    let both = format!("Pod should schedule on: {place}, node/{node}");
    world.until_told("Pod/late", "Nominated", &both).await;

    world.pending("impossible", "5000").await;
    let told = world
        .until("it is told", || async {
            world.told("Pod/impossible", "FailedScheduling").await.pop()
        })
        .await;
    let begin = "Failed to schedule pod, NodePool default: the pod wants 5k of cpu";
    assert!(told.starts_with(begin), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_allows_nothing_and_a_class_that_is_missing_are_told_of() {
    let world = World::new(MANY).await;
    world
        .require(json!([{ "key": "karpenter.k8s.aws/instance-cpu", "operator": "In",
            "values": ["3"] }]))
        .await;
    world.pending("web", "1").await;
    let all = "NodePool requirements filtered out all compatible available instance types";
    world.until_told("NodePool/default", "NoCompatibleInstanceTypes", all).await;
    world
        .require(json!([{ "key": "node.kubernetes.io/instance-type", "operator": "In",
            "values": ["m5.large", "m5.none", "m5.neither"], "minValues": 2 }]))
        .await;
    let few = format!("{all} due to minValues incompatibility");
    world.until_told("NodePool/default", "NoCompatibleInstanceTypes", &few).await;
    let class = json!({ "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "none" });
    change_pool(&world, json!({ "template": { "spec": { "nodeClassRef": class } } })).await;
    world.until_told("NodePool/default", "", "Failed resolving NodeClass").await;
}

#[tokio::test(start_paused = true)]
async fn conditions_that_change_are_told_of_their_claim_its_pool_its_class_and_its_node() {
    let world = World::new(MANY).await;
    let (node, claim) = node(&world).await;
    let turned = |kind: &str, reason: &str| {
        format!(
            "Status condition transitioned, Type: {kind}, Status: Unknown -> True, Reason: {reason}"
        )
    };
    let of_claim = format!("NodeClaim/{claim}");
    for kind in ["Launched", "Registered", "Initialized", "Ready"] {
        world.until_told(&of_claim, kind, &turned(kind, kind)).await;
    }
    world.until_told("EC2NodeClass/default", "AMIsReady", &turned("AMIsReady", "AMIsReady")).await;
    // Whether the class was ready before the pool was first looked at is left open.
    world
        .until("the pool is told of", || async {
            let told = world.told("NodePool/default", "NodeClassReady").await;
            told.iter().any(|it| it.ends_with(" -> True, Reason: NodeClassReady")).then_some(())
        })
        .await;
    let ill = json!([{ "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status." }]);
    world.node_says(&node, ill).await;
    let message = "Status condition transitioned, Type: Ready, Status: True -> Unknown, Reason: \
                   NodeStatusUnknown, Message: Kubelet stopped posting node status.";
    world.until_told(&format!("Node/{node}"), "Ready", message).await;
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_nothing_can_be_had_for_is_told_of_its_claim() {
    let world = World::new(0).await;
    world.pending("web", "1").await;
    // It goes at once.
    let (name, told) = world
        .until("it is told", || async {
            let events = Api::<Event>::all(world.admin.clone());
            let all = events.list(&Default::default()).await.unwrap().items;
            let is_it = |it: &Event| it.reason.as_deref() == Some("InsufficientCapacityError");
            let found = all.into_iter().find(is_it)?;
            Some((found.involved_object.name?, found.message?))
        })
        .await;
    let begin = format!("NodeClaim {name} event: InsufficientInstanceCapacity: ");
    assert!(told.starts_with(&begin), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_without_the_taint_is_told_of_its_claim() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let node: Node = serde_json::from_value(json!({
        "metadata": { "name": "bare" },
        "spec": { "providerID": claim.status.as_ref().unwrap().provider_id } }))
    .unwrap();
    Api::all(world.admin.clone()).create(&Default::default(), &node).await.unwrap();
    let message = "Missing karpenter.sh/unregistered taint which prevents registration related \
                   race conditions on Karpenter-managed nodes";
    let about = format!("NodeClaim/{}", claim.name());
    world.until_told(&about, "UnregisteredTaintMissing", message).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stays_says_what_keeps_it() {
    let world = World::new(MANY).await;
    let (node, claim) = node(&world).await;
    world.pods().delete("web", &DeleteParams::default().grace_period(0)).await.unwrap();
    world.running("web", &node, "1500m").await;
    let both = |reason: &'static str, message: String| {
        let (world, node, claim) = (&world, &node, &claim);
        async move {
            world.until_told(&format!("Node/{node}"), reason, &message).await;
            world.until_told(&format!("NodeClaim/{claim}"), reason, &message).await;
        }
    };
    both("Unconsolidatable", "Can't replace with a cheaper node".to_owned()).await;

    world.forbid_evictions().await;
    let none = json!({ "status": { "disruptionsAllowed": 0, "currentHealthy": 1,
        "desiredHealthy": 1, "expectedPods": 1 } });
    let budgets = Api::<k8s_openapi::api::policy::v1::PodDisruptionBudget>::namespaced(
        world.admin.clone(),
        "x",
    );
    let parameters = PatchParams::default();
    budgets.patch_status("none", &parameters, &Patch::Merge(&none)).await.unwrap();
    let why = "Pdb prevents pod evictions (PodDisruptionBudget=x/none)";
    both("DisruptionBlocked", why.to_owned()).await;
    budgets.delete("none", &DeleteParams::default()).await.unwrap();

    let mark = json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } });
    world.pods().patch("web", &parameters, &Patch::Merge(&mark)).await.unwrap();
    let why = "Pod has \"karpenter.sh/do-not-disrupt\" annotation (Pod=x/web)";
    both("DisruptionBlocked", why.to_owned()).await;
    world
        .pods()
        .patch("web", &parameters, &Patch::Merge(&json!({ "metadata": { "annotations": null } })))
        .await
        .unwrap();

    // What was told of consolidation a quarter of an hour ago is told again, if it is another.
    change_pool(&world, json!({ "disruption": { "consolidationPolicy": "WhenEmpty" } })).await;
    tokio::time::sleep(std::time::Duration::from_secs(900)).await;
    let why = "NodePool \"default\" has non-empty consolidation disabled";
    both("Unconsolidatable", why.to_owned()).await;
}

#[tokio::test(start_paused = true)]
async fn a_disruption_is_told_from_the_launch_of_the_replacement_to_the_eviction() {
    let world = World::new(MANY).await;
    let (node, claim) = node(&world).await;
    world.pods().delete("web", &DeleteParams::default().grace_period(0)).await.unwrap();
    world.running("web", &node, "1500m").await;
    let labels = json!({ "metadata": { "labels": { "team": "red" } } });
    change_pool(&world, json!({ "template": labels })).await;
    let other = world
        .until("a replacement is launched", || async {
            let claims = world.claims().await;
            claims.into_iter().find(|it| it.name() != claim && it.is_true("Launched"))
        })
        .await;
    let about = format!("NodeClaim/{}", other.name());
    world.until_told(&about, "DisruptionLaunching", "Launching NodeClaim: Drifted").await;
    let waits = "Waiting on readiness to continue disruption";
    world.until_told(&about, "DisruptionWaitingReadiness", waits).await;
    let first = Api::<NodeClaim>::all(world.admin.clone()).get(&claim).await.unwrap();
    let reason = first.condition("DisruptionReason").unwrap();
    assert_eq!((reason.status.as_str(), reason.reason.as_str()), ("True", "Drifted"));
    world.join(&other).await;
    let kind = "DisruptionTerminating";
    world.until_told(&format!("Node/{node}"), kind, "Disrupting Node: Drifted").await;
    world.until_told(&format!("NodeClaim/{claim}"), kind, "Disrupting NodeClaim: Drifted").await;
    world.until_told("Pod/web", "Evicted", "Evicted pod: Drifted").await;
}

#[tokio::test(start_paused = true)]
async fn too_many_ill_nodes_are_told_of_and_left_alone() {
    let gates = FeatureGates { node_repair: true, ..FeatureGates::default() };
    let world = World::with(MANY, Config { gates, ..Config::new("stead") }).await;
    let mut nodes = Vec::new();
    for at in 0..2 {
        let name = format!("web-{at}");
        world.pending(&name, "1800m").await;
        let claim = world
            .until("it is launched", || async {
                let known = |it: &NodeClaim| nodes.iter().any(|(_, claim)| claim == it.name());
                let claims = world.claims().await;
                claims.into_iter().find(|it| it.is_true("Launched") && !known(it))
            })
            .await;
        let node = world.join(&claim).await;
        world.pods().delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
        world.running(&name, &node, "1800m").await;
        nodes.push((node, claim.name().to_owned()));
    }
    let ill = json!([{ "type": "Ready", "status": "False",
        "lastTransitionTime": "2026-11-29T11:00:00Z" }]);
    for (node, _) in &nodes {
        world.node_says(node, ill.clone()).await;
    }
    let why = "more than 20% nodes are unhealthy in the nodepool";
    let (node, claim) = &nodes[0];
    for about in
        [format!("Node/{node}"), format!("NodeClaim/{claim}"), "NodePool/default".to_owned()]
    {
        world.until_told(&about, "NodeRepairBlocked", why).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_class_that_waits_for_its_claims_says_for_which() {
    let world = World::new(MANY).await;
    let (_, claim) = node(&world).await;
    world.classes().delete("default", &DeleteParams::default()).await.unwrap();
    let message = format!("Waiting on NodeClaim termination for {claim}");
    world.until_told("EC2NodeClass/default", "WaitingOnNodeClaimTermination", &message).await;
}
