//! Instance profiles of classes that name a role.

use api_kube::karpenter::Ec2NodeClass;
use aws_iam::{
    CreateRole, CreateRoleRequest, GetInstanceProfile, GetInstanceProfileRequest, InstanceProfile,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::{MANY, support::World};

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

#[tokio::test(start_paused = true)]
async fn a_profile_is_made_for_the_role_of_a_class_follows_it_and_goes_with_the_class() {
    let world = World::new(MANY).await;
    role(&world, "first").await;
    role(&world, "second").await;
    let mut class = world.classes().get("default").await.unwrap();
    class.metadata = serde_json::from_value(json!({ "name": "own" })).unwrap();
    class.status = None;
    class.spec.instance_profile = None;
    class.spec.role = Some("first".to_owned());
    world.classes().create(&PostParams::default(), &class).await.unwrap();
    let name = world
        .until("the class is ready", || async {
            let status = world.classes().get("own").await.unwrap().status?;
            let is_ready = |it: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
                it.type_ == "InstanceProfileReady" && it.status == "True"
            };
            status.conditions.iter().find(is_ready)?;
            status.instance_profile
        })
        .await;
    let made = until_of(&world, &name, "first").await;
    let tag = |key: &str| made.tags.iter().find(|it| it.key == key).map(|it| it.value.as_str());
    assert_eq!(tag("eks:eks-cluster-name"), Some("stead"));
    assert_eq!(tag("karpenter.k8s.aws/ec2nodeclass"), Some("own"));

    let patch = json!({ "spec": { "role": "second" } });
    let parameters = PatchParams::default();
    world.classes().patch("own", &parameters, &Patch::Merge(&patch)).await.unwrap();
    until_of(&world, &name, "second").await;

    world.classes().delete("own", &DeleteParams::default()).await.unwrap();
    world
        .until("both are gone", || async {
            let class: Option<Ec2NodeClass> = world.classes().get_opt("own").await.unwrap();
            (class.is_none() && profile(&world, &name).await.is_none()).then_some(())
        })
        .await;
}
