//! Instance profiles of classes that name a role.

use std::time::Duration;

use api_kube::karpenter::{Ec2NodeClass, NodeClaim};
use aws_iam::{
    CreateInstanceProfile, CreateInstanceProfileRequest, CreateRole, CreateRoleRequest,
    GetInstanceProfile, GetInstanceProfileRequest, InstanceProfile,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{MANY, support::World, terminations::node};

async fn role(world: &World, name: &str) {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow",
        "Principal": { "Service": "ec2.amazonaws.com" }, "Action": "sts:AssumeRole" }] });
    let request = CreateRoleRequest {
        role_name: name.to_owned(),
        assume_role_policy_document: trust.to_string(),
        ..CreateRoleRequest::default()
    };
    world.aws.call::<CreateRole>(request).await.unwrap();
}

async fn profile(world: &World, name: &str) -> Option<InstanceProfile> {
    let request = GetInstanceProfileRequest { instance_profile_name: name.to_owned() };
    match world.aws.call::<GetInstanceProfile>(request).await {
        Ok(answer) => Some(answer.instance_profile),
        Err(error) if error.is("NoSuchEntity") => None,
        Err(error) => panic!("{error}"),
    }
}

/// Once its one role is that.
async fn until_of(world: &World, name: &str, role: &str) -> InstanceProfile {
    world
        .until(&format!("the profile has the role {role}"), || async {
            let found = profile(world, name).await?;
            let roles: Vec<&str> = found.roles.iter().map(|it| it.role_name.as_str()).collect();
            (roles == [role]).then_some(found)
        })
        .await
}

/// A class that names a role, and its profile.
async fn with_role(world: &World, role: &str) -> String {
    let mut class = world.classes().get("default").await.unwrap();
    class.metadata = serde_json::from_value(json!({ "name": "own" })).unwrap();
    class.status = None;
    class.spec.instance_profile = None;
    class.spec.role = Some(role.to_owned());
    world.classes().create(&PostParams::default(), &class).await.unwrap();
    until_named(world, &[]).await
}

/// The profile that the class names when it is ready, and that is none of those.
async fn until_named(world: &World, others: &[&str]) -> String {
    world
        .until("the class names a profile", || async {
            let status = world.classes().get("own").await.unwrap().status?;
            let is_ready = |it: &&Condition| it.type_ == "Ready" && it.status == "True";
            status.conditions.iter().find(is_ready)?;
            status.instance_profile.filter(|it| !others.contains(&it.as_str()))
        })
        .await
}

async fn change(world: &World, spec: Value) {
    let (patch, parameters) = (json!({ "spec": spec }), PatchParams::default());
    world.classes().patch("own", &parameters, &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_role_of_a_class_has_a_profile_and_all_go_with_the_class() {
    let world = World::new(MANY).await;
    role(&world, "first").await;
    role(&world, "second").await;
    let first = with_role(&world, "first").await;
    let made = until_of(&world, &first, "first").await;
    let tag = |key: &str| made.tags.iter().find(|it| it.key == key).map(|it| it.value.as_str());
    assert_eq!(tag("eks:eks-cluster-name"), Some("stead"));
    assert_eq!(tag("kubernetes.io/cluster/stead"), Some("owned"));
    assert_eq!(tag("topology.kubernetes.io/region"), Some("us-east-1"));
    assert_eq!(tag("karpenter.k8s.aws/ec2nodeclass"), Some("own"));
    let uid = world.classes().get("own").await.unwrap().metadata.uid.unwrap();
    assert_eq!(made.path, format!("/karpenter/us-east-1/stead/{uid}/"));

    change(&world, json!({ "role": "second" })).await;
    let second = until_named(&world, &[&first]).await;
    until_of(&world, &second, "second").await;
    // Instances that run have the rights that they were launched with.
    until_of(&world, &first, "first").await;

    world.classes().delete("own", &DeleteParams::default()).await.unwrap();
    world
        .until("all are gone", || async {
            let class: Option<Ec2NodeClass> = world.classes().get_opt("own").await.unwrap();
            let left = [profile(&world, &first).await, profile(&world, &second).await];
            (class.is_none() && left.iter().all(Option::is_none)).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_its_class_names_no_more_stays_for_as_long_as_a_claim_has_it() {
    let world = World::new(MANY).await;
    role(&world, "first").await;
    let made = with_role(&world, "first").await;
    let spec = json!({ "spec": { "disruption": { "budgets": [{ "nodes": "0" }] },
        "template": { "spec": { "nodeClassRef": { "name": "own" } } } } });
    let parameters = PatchParams::default();
    world.node_pools().patch("default", &parameters, &Patch::Merge(&spec)).await.unwrap();
    let (node, claim) = node(&world).await;
    world.pods().delete("web", &DeleteParams::default().grace_period(0)).await.unwrap();
    world.running("served", &node, "1").await;
    let claims = Api::<NodeClaim>::all(world.admin.clone());
    let marks = claims.get(&claim).await.unwrap().metadata.annotations.unwrap();
    assert_eq!(marks["karpenter.k8s.aws/instance-profile-name"], made);

    change(&world, json!({ "role": null, "instanceProfile": "node" })).await;
    assert_eq!(until_named(&world, &[&made]).await, "node");
    tokio::time::sleep(Duration::from_secs(31 * 60)).await;
    assert!(profile(&world, &made).await.is_some(), "the claim's instance has it");

    claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    world
        .until("the claim is gone", || async {
            let now = DeleteParams::default().grace_period(0);
            world.pods().delete("served", &now).await.ok();
            world.end_instances().await;
            claims.get_opt(&claim).await.unwrap().is_none().then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_secs(31 * 60)).await;
    assert!(profile(&world, &made).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_profile_of_a_class_that_nobody_has_seen_to_goes_and_one_of_another_cluster_stays() {
    let world = World::new(MANY).await;
    for (name, path) in [
        ("left", "/karpenter/us-east-1/stead/0b4a/"),
        ("another-clusters", "/karpenter/us-east-1/stead-2/0b4a/"),
        ("users", "/"),
    ] {
        let request = CreateInstanceProfileRequest {
            instance_profile_name: name.to_owned(),
            path: Some(path.to_owned()),
            tags: Vec::new(),
        };
        world.aws.call::<CreateInstanceProfile>(request).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(31 * 60)).await;
    assert!(profile(&world, "left").await.is_none());
    assert!(profile(&world, "another-clusters").await.is_some());
    assert!(profile(&world, "users").await.is_some());
}
