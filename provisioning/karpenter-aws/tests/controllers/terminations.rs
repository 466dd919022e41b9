//! How nodes go: what holds them up, and what must not.

use std::time::Duration;

use api_kube::karpenter::NodeClaim;
use aws_ec2::instance_state::{TerminateInstances, TerminateInstancesRequest};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{
    MANY,
    support::{World, object},
};

/// A node with a pod on it.
pub(crate) async fn node(world: &World) -> (String, String) {
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let name = world.join(&claim).await;
    let claim = world.claim_that_is("Initialized").await;
    (name, claim.name().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_node_could_take_does_not_keep_an_empty_node() {
    let world = World::new(MANY).await;
    let (name, _) = node(&world).await;
    world.pending("impossible", "5000").await;
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world
        .until("the node is gone", || async {
            world.end_instances().await;
            world.node(&name).await.is_none().then_some(())
        })
        .await;
    assert!(world.pods().get_opt("impossible").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_instance_is_gone_is_not_drained() {
    let world = World::new(MANY).await;
    let (name, _) = node(&world).await;
    // Nobody ends it: its kubelet is gone.
    world.running("left", &name, "100m").await;
    let ids = world.instances().await.into_iter().filter_map(|it| it.instance_id).collect();
    let request = TerminateInstancesRequest { instance_ids: ids, ..Default::default() };
    world.aws.call::<TerminateInstances>(request).await.unwrap();
    world.end_instances().await;
    world.node_says(&name, json!([{ "type": "Ready", "status": "Unknown" }])).await;
    let begun = tokio::time::Instant::now();
    world
        .until("the node is gone", || async { world.node(&name).await.is_none().then_some(()) })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// A volume that somebody has attached to the node and will detach.
async fn attach(world: &World, node: &str) -> Api<VolumeAttachment> {
    let attachment: VolumeAttachment = object(json!({ "metadata": { "name": "a" }, "spec": {
        "attacher": "ebs.csi.aws.com", "nodeName": node,
        "source": { "persistentVolumeName": "pv-1" } } }));
    let api = Api::all(world.admin.clone());
    api.create(&PostParams::default(), &attachment).await.unwrap();
    api
}

#[tokio::test(start_paused = true)]
async fn an_instance_ends_when_its_volumes_are_detached() {
    let world = World::new(MANY).await;
    let (name, claim) = node(&world).await;
    let attachments = attach(&world, &name).await;
    let claims = Api::<NodeClaim>::all(world.admin.clone());
    world.pods().delete("web", &DeleteParams::default().grace_period(0)).await.unwrap();
    claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.end_instances().await;
    let found = claims.get(&claim).await.unwrap();
    let says = |kind: &str| found.condition(kind).map(|it| (it.status.clone(), it.reason.clone()));
    assert_eq!(says("Drained"), Some(("True".to_owned(), "Drained".to_owned())));
    let waits = ("Unknown".to_owned(), "AwaitingVolumeDetachment".to_owned());
    assert_eq!(says("VolumesDetached"), Some(waits));
    let is_running = |it: &aws_ec2::instance::Instance| {
        it.state.as_ref().and_then(|it| it.name.as_deref()) == Some("running")
    };
    assert!(world.instances().await.iter().all(is_running));
    attachments.delete("a", &DeleteParams::default()).await.unwrap();
    world
        .until("the node is gone", || async {
            world.end_instances().await;
            world.node(&name).await.is_none().then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn volumes_are_not_waited_for_beyond_the_grace_period() {
    let world = World::new(MANY).await;
    let patch = json!({ "spec": { "template": { "spec": { "terminationGracePeriod": "3m" } } } });
    let (parameters, patch) = (Default::default(), kube::api::Patch::Merge(&patch));
    world.node_pools().patch("default", &parameters, &patch).await.unwrap();
    let (name, claim) = node(&world).await;
    attach(&world, &name).await;
    let claims = Api::<NodeClaim>::all(world.admin.clone());
    world.pods().delete("web", &DeleteParams::default().grace_period(0)).await.unwrap();
    claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(150)).await;
    world.end_instances().await;
    assert!(world.node(&name).await.is_some());
    tokio::time::sleep(Duration::from_secs(60)).await;
    world
        .until("the node is gone", || async {
            world.end_instances().await;
            world.node(&name).await.is_none().then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_says_when_its_grace_period_ends() {
    let world = World::new(MANY).await;
    let patch = json!({ "spec": { "template": { "spec": { "terminationGracePeriod": "10m" } } } });
    let (parameters, patch) = (Default::default(), kube::api::Patch::Merge(&patch));
    world.node_pools().patch("default", &parameters, &patch).await.unwrap();
    let (name, claim) = node(&world).await;
    world.running("left", &name, "100m").await;
    let api = Api::<NodeClaim>::all(world.admin.clone());
    api.delete(&claim, &DeleteParams::default()).await.unwrap();
    let deadline = world
        .until("the end is noted", || async {
            let claim = api.get_opt(&claim).await.unwrap()?;
            let asked = claim.metadata.deletion_timestamp.clone()?.0;
            let key = "karpenter.sh/nodeclaim-termination-timestamp";
            let noted = claim.metadata.annotations.as_ref()?.get(key)?.parse::<jiff::Timestamp>();
            Some(noted.unwrap().duration_since(asked).as_mins())
        })
        .await;
    assert_eq!(deadline, 10);
}
