//! What becomes of launches that fail, that nobody hears of, or that somebody has prepared for.

use std::{collections::BTreeSet, time::Duration};

use api_kube::karpenter::Ec2NodeClass;
use aws_ec2::{
    launch_template::{
        CreateLaunchTemplateVersion, CreateLaunchTemplateVersionRequest, DescribeLaunchTemplates,
        DescribeLaunchTemplatesRequest, LaunchTemplate,
    },
    launch_template_request::RequestLaunchTemplateData,
};
use karpenter_aws::Config;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::{
    MANY,
    support::{Fate, World},
};

/// One instance, and one claim that has it.
async fn settled(world: &World) {
    world
        .until("there is one instance, and its claim is the only one", || async {
            let claims = world.claims().await;
            let [claim] = claims.as_slice() else { return None };
            let provider = claim.status.as_ref()?.provider_id.clone()?;
            let instances = world.instances().await;
            let [instance] = instances.as_slice() else { return None };
            let is_it = provider.ends_with(instance.instance_id.as_deref()?);
            (claim.is_true("Launched") && is_it).then_some(())
        })
        .await;
}

async fn templates(world: &World) -> Vec<LaunchTemplate> {
    let request = DescribeLaunchTemplatesRequest::default();
    let found = world.aws.call::<DescribeLaunchTemplates>(request).await;
    found.expect("they can be read").launch_templates
}

#[tokio::test(start_paused = true)]
async fn a_launch_whose_answer_is_lost_is_not_made_twice() {
    let world = World::new(MANY).await;
    world.meet("CreateFleet", Fate::Lost);
    world.pending("web", "1").await;
    settled(&world).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    settled(&world).await;
    assert_eq!(world.ec2.view().instances.len(), 1, "none was launched and ended again");
}

#[tokio::test(start_paused = true)]
async fn a_lost_launch_is_found_again_although_what_can_be_had_has_changed() {
    let mut world = World::new(MANY).await;
    (0..20).for_each(|_| world.meet("CreateFleet", Fate::Lost));
    world.pending("web", "1").await;
    world
        .until("the launch has failed", || async {
            let claims = world.claims().await;
            claims.first()?.condition("Launched").filter(|it| it.status == "Unknown").map(drop)
        })
        .await;
    // Other tags are another request.
    let patch = json!({ "spec": { "tags": { "team": "red" } } });
    let patched =
        world.classes().patch("default", &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.unwrap();
    world.pardon();
    world.start();
    settled(&world).await;
    assert_eq!(world.ec2.view().instances.len(), 1, "none was launched and ended again");
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_takes_minutes_is_not_made_twice() {
    let world = World::new(MANY).await;
    world.meet("CreateFleet", Fate::Late(Duration::from_secs(150)));
    world.pending("web", "1").await;
    tokio::time::sleep(Duration::from_secs(140)).await;
    assert_eq!(world.claims().await.len(), 1);
    settled(&world).await;
    assert_eq!(world.ec2.view().instances.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_claim_says_why_its_launch_was_refused() {
    let world = World::new(MANY).await;
    (0..20).for_each(|_| world.meet("CreateFleet", Fate::Refused("UnauthorizedOperation")));
    world.pending("web", "1").await;
    let condition = world
        .until("the launch has failed", || async {
            let claims = world.claims().await;
            claims.first()?.condition("Launched").filter(|it| it.status == "Unknown").cloned()
        })
        .await;
    assert_eq!(condition.reason, "UnauthorizedOperation");
    assert!(condition.message.contains("CreateFleet"), "{}", condition.message);
    world.pardon();
    settled(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_waits_until_it_is_known_again_what_ec2_has() {
    let mut world = World::new(MANY).await;
    (0..20).for_each(|_| world.meet("CreateFleet", Fate::Refused("UnauthorizedOperation")));
    world.pending("web", "1").await;
    let refused = || async {
        let claims = world.claims().await;
        claims.first()?.condition("Launched").map(|_| claims[0].name().to_owned())
    };
    let name = world.until("the launch has failed", refused).await;
    world.stop();
    world.pardon();
    let unknown = Fate::Refused("InternalError");
    (0..200).for_each(|_| world.meet("DescribeInstanceTypes", unknown.clone()));
    world.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let names =
        || async { world.claims().await.iter().map(|it| it.name().to_owned()).collect::<Vec<_>>() };
    assert_eq!(names().await, std::slice::from_ref(&name), "its class is as ready as before");
    world.pardon();
    settled(&world).await;
    assert_eq!(names().await, [name]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_somebody_else_has_made_of_a_template_is_not_launched() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    settled(&world).await;
    for template in templates(&world).await {
        let request = CreateLaunchTemplateVersionRequest {
            launch_template_id: template.launch_template_id,
            launch_template_data: RequestLaunchTemplateData {
                user_data: Some("ZXZpbA==".to_owned()),
                ..RequestLaunchTemplateData::default()
            },
            ..CreateLaunchTemplateVersionRequest::default()
        };
        world.aws.call::<CreateLaunchTemplateVersion>(request).await.unwrap();
    }
    world.pending("more", "1800m").await;
    world
        .until("there are two", || async { (world.instances().await.len() == 2).then_some(()) })
        .await;
    let told: BTreeSet<Option<String>> =
        world.ec2.view().instances.iter().map(|it| it.user_data.clone()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_ne!(told.first().unwrap().as_deref(), Some("ZXZpbA=="));
}

#[tokio::test(start_paused = true)]
async fn launch_templates_go_when_they_are_not_used_and_with_their_class() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    settled(&world).await;
    assert_eq!(templates(&world).await.len(), 1);
    let finalizers = world.classes().get("default").await.unwrap().metadata.finalizers.unwrap();
    assert_eq!(finalizers, ["karpenter.k8s.aws/termination"]);
    tokio::time::sleep(Duration::from_secs(12 * 60)).await;
    assert_eq!(templates(&world).await, [], "nothing was launched for ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_class_goes_with_its_launch_templates() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    settled(&world).await;
    let now = DeleteParams::default().grace_period(0);
    world.node_pools().delete("default", &DeleteParams::default()).await.unwrap();
    world.pods().delete("web", &now).await.unwrap();
    world.classes().delete("default", &DeleteParams::default()).await.unwrap();
    let claim = world.claims().await.remove(0);
    let claims = kube::Api::<api_kube::karpenter::NodeClaim>::all(world.admin.clone());
    drop(claims.delete(claim.name(), &DeleteParams::default()).await);
    world
        .until("the class is gone", || async {
            world.end_instances().await;
            let class: Option<Ec2NodeClass> = world.classes().get_opt("default").await.unwrap();
            class.is_none().then_some(())
        })
        .await;
    assert_eq!(templates(&world).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_the_interfaces_that_its_class_says() {
    let world = World::new(MANY).await;
    // The default VPC's subnets would give it a public address.
    let patch = json!({ "spec": { "associatePublicIPAddress": false, "ipPrefixCount": 2 } });
    let parameters = PatchParams::default();
    world.classes().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
    world.pending("web", "3").await;
    settled(&world).await;
    let instance = world.instances().await.remove(0);
    let [interface] = instance.network_interfaces.as_slice() else { panic!("it has one") };
    assert_eq!(interface.ipv4_prefixes.len(), 2);
    let groups = |it: &[aws_ec2::common::GroupIdentifier]| it.to_vec();
    assert_eq!(groups(&interface.groups), groups(&instance.security_groups));
    let status = world.classes().get("default").await.unwrap().status.unwrap();
    let selected = &status.security_groups[0].id;
    assert_eq!(instance.security_groups[0].group_id.as_ref(), Some(selected));
    assert_eq!(instance.public_ip_address, None);
}

#[tokio::test(start_paused = true)]
async fn what_instances_here_cannot_have_ec2_refuses() {
    let world = World::new(MANY).await;
    let spec = json!({ "cpuOptions": { "nestedVirtualization": "enabled" } });
    let patch = Patch::Merge(json!({ "spec": spec }));
    world.classes().patch("default", &PatchParams::default(), &patch).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.pending("web", "1").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.instances().await.is_empty());
    assert!(world.claims().await.iter().all(|it| !it.is_true("Launched")));
}

#[tokio::test(start_paused = true)]
async fn instances_without_a_claim_are_ended_on_every_page_of_the_list() {
    let world = World::with(MANY, Config { page_size: 3, ..Config::new("stead") }).await;
    for at in 0..8 {
        world.pending(&format!("web-{at}"), "15").await;
    }
    world
        .until("there are four instances", || async {
            let claims = world.claims().await;
            let launched = claims.iter().filter(|it| it.is_true("Launched")).count();
            (launched >= 4).then_some(())
        })
        .await;
    let before = world.instances().await.len();
    for at in 0..8 {
        let now = DeleteParams::default().grace_period(0);
        world.pods().delete(&format!("web-{at}"), &now).await.unwrap();
    }
    // Somebody takes the claims away without their finalizer.
    let api = kube::Api::<api_kube::karpenter::NodeClaim>::all(world.admin.clone());
    for claim in world.claims().await {
        let patch = json!({ "metadata": { "finalizers": null } });
        api.patch(claim.name(), &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        drop(api.delete(claim.name(), &DeleteParams::default()).await);
    }
    world
        .until("all are gone", || async {
            world.end_instances().await;
            world.instances().await.is_empty().then_some(())
        })
        .await;
    assert!(before > 3, "{before} are on one page");
}
