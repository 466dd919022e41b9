//! NodeOverlays: prices and resources that EC2 knows nothing of.

use api_kube::karpenter::{NodeClaim, NodeOverlay};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use karpenter_aws::{Config, FeatureGates};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{
    MANY,
    support::{World, object},
};

const TYPE: &str = "node.kubernetes.io/instance-type";

async fn world(is_open: bool) -> World {
    let gates = FeatureGates { node_overlay: is_open, ..FeatureGates::default() };
    World::with(MANY, Config { gates, ..Config::new("stead") }).await
}

async fn make(world: &World, name: &str, types: &[&str], spec: Value) {
    try_to_make(world, name, types, spec).await.unwrap();
}

async fn try_to_make(
    world: &World,
    name: &str,
    types: &[&str],
    mut spec: Value,
) -> kube::Result<NodeOverlay> {
    spec["requirements"] = json!([{ "key": TYPE, "operator": "In", "values": types }]);
    let overlay: NodeOverlay = object(json!({ "apiVersion": "karpenter.sh/v1alpha1",
        "kind": "NodeOverlay", "metadata": { "name": name }, "spec": spec }));
    let api = Api::<NodeOverlay>::all(world.admin.clone());
    api.create(&PostParams::default(), &overlay).await
}

async fn without_rules(world: &World) {
    let name = "nodeoverlays.karpenter.sh";
    let definitions = Api::<CustomResourceDefinition>::all(world.admin.clone());
    let mut definition = definitions.get(name).await.unwrap();
    let schema = definition.spec.versions[0].schema.as_mut().unwrap();
    let fields = schema.open_api_v3_schema.as_mut().unwrap().properties.as_mut().unwrap();
    fields.get_mut("spec").unwrap().x_kubernetes_validations = None;
    definitions.replace(name, &PostParams::default(), &definition).await.unwrap();
}

/// An overlay's condition, once it has one that says this.
async fn says(world: &World, name: &str, status: &str, reason: &str) {
    let api = Api::<NodeOverlay>::all(world.admin.clone());
    world
        .until(&format!("{name} says {status}, {reason}"), || async {
            let status_of = api.get(name).await.unwrap().status?;
            let mut all = status_of.conditions.iter();
            let found = all.find(|it| it.type_ == "ValidationSucceeded")?;
            (found.status == status && found.reason == reason).then_some(())
        })
        .await;
}

fn type_of(claim: &NodeClaim) -> String {
    claim.metadata.labels.as_ref().unwrap()[TYPE].clone()
}

#[tokio::test(start_paused = true)]
async fn a_type_that_an_overlay_makes_cheap_is_the_one_that_is_launched() {
    let world = world(true).await;
    make(&world, "bargain", &["m5.4xlarge"], json!({ "priceAdjustment": "-99%" })).await;
    says(&world, "bargain", "True", "ValidationSucceeded").await;
    world.pending("web", "1").await;
    // EC2 knows cheaper ones, and is told not to look at its own prices.
    assert_eq!(type_of(&world.claim_that_is("Launched").await), "m5.4xlarge");
    assert_ne!(world.reads_of_overlays(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_overlay_has_no_effect_while_the_gate_is_shut() {
    let world = world(false).await;
    make(&world, "bargain", &["m5.4xlarge"], json!({ "price": "0.001" })).await;
    world.pending("web", "1").await;
    assert_ne!(type_of(&world.claim_that_is("Launched").await), "m5.4xlarge");
    assert_eq!(world.reads_of_overlays(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_given_a_node_with_the_resource_that_an_overlay_adds() {
    let world = world(true).await;
    make(&world, "slices", &["m5.2xlarge"], json!({ "capacity": { "example.com/slice": "4" } }))
        .await;
    says(&world, "slices", "True", "ValidationSucceeded").await;
    let wanted = json!({ "cpu": "1", "example.com/slice": "2" });
    world
        .pending_with(
            "web",
            json!({ "containers": [{ "name": "c", "image": "i", "resources": {
                "requests": wanted, "limits": { "example.com/slice": "2" } } }] }),
        )
        .await;
    let claim = world.claim_that_is("Launched").await;
    assert_eq!(type_of(&claim), "m5.2xlarge");
    assert_eq!(claim.status.unwrap().capacity["example.com/slice"].0, "4");
}

#[tokio::test(start_paused = true)]
async fn overlays_that_cannot_take_effect_say_why() {
    let world = world(true).await;
    make(&world, "first", &["m5.large"], json!({ "price": "0.01" })).await;
    make(&world, "b", &["m5.large", "m5.xlarge"], json!({ "price": "0.02" })).await;
    make(&world, "heavier", &["m5.large"], json!({ "price": "0.03", "weight": 5 })).await;
    let both = json!({ "price": "0.01", "priceAdjustment": "+1" });
    let refused = try_to_make(&world, "wrong", &["m5.8xlarge"], both.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("cannot set both 'price' and 'priceAdjustment'"));
    // Not every API server has the definition's rules.
    without_rules(&world).await;
    make(&world, "wrong", &["m5.8xlarge"], both).await;
    says(&world, "first", "True", "ValidationSucceeded").await;
    says(&world, "heavier", "True", "ValidationSucceeded").await;
    says(&world, "b", "False", "Conflict").await;
    says(&world, "wrong", "False", "RuntimeValidation").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_an_overlay_makes_dear_is_replaced_by_a_cheaper_one() {
    let world = world(true).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let (name, kind) = (world.join(&claim).await, type_of(&claim));
    world.claim_that_is("Initialized").await;
    let now = kube::api::DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("web", &name, "1").await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert_eq!(world.claims().await.len(), 1, "it is the cheapest");
    make(&world, "dear", &[kind.as_str()], json!({ "priceAdjustment": "+400%" })).await;
    let replacement = world
        .until("another is made", || async {
            let claims = world.claims().await;
            claims.into_iter().find(|it| it.name() != claim.name() && it.is_true("Launched"))
        })
        .await;
    assert_ne!(type_of(&replacement), kind);
}
