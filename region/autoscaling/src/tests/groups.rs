//! Groups that grow, shrink, heal and go.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_group_of_a_region_that_takes_its_time_follows_a_change_later() {
    let scaling = Duration::from_secs(5);
    let region = region_with(Latency { scaling, ..Latency::INSTANT });
    // The first look is at a region without groups.
    tokio::time::sleep(Duration::from_millis(1)).await;
    region.call::<CreateAutoScalingGroup>(create(3)).await;
    tokio::time::sleep(scaling - Duration::from_millis(500)).await;
    assert!(region.states().await.is_empty(), "not yet");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(region.states().await, ["Pending"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_group_grows_shrinks_and_goes() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(3)).await;
    assert_eq!(region.states().await, ["Pending"; 3]);
    region.ec2.settle();
    assert_eq!(region.states().await, ["InService"; 3]);
    let group = region.group().await;
    assert_eq!(group.instances[0].launch_template.as_ref().unwrap().version.as_deref(), Some("7"));
    let subnets: std::collections::BTreeSet<_> = {
        let world = region.ec2.world.lock();
        world.instances.values().map(|(it, _)| it.subnet_id.clone().unwrap()).collect()
    };
    assert_eq!(subnets.len(), 3);

    assert_eq!(region.code::<SetDesiredCapacity>(desire(5)).await, "ValidationError");
    region.call::<SetDesiredCapacity>(desire(1)).await;
    region.members().await;
    region.ec2.settle();
    assert_eq!(region.states().await, ["InService"]);
    let activities = region.activities().await;
    assert_eq!(activities.len(), 5);
    assert!(activities.iter().all(|it| it.status_code.as_deref() == Some("Successful")));
    assert!(activities[0].cause.as_ref().unwrap().contains("from 3 to 1"));

    let delete = |force| DeleteAutoScalingGroupRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        force_delete: force,
    };
    assert_eq!(region.code::<DeleteAutoScalingGroup>(delete(None)).await, "ResourceInUse");
    region.call::<DeleteAutoScalingGroup>(delete(Some(true))).await;
    region.members().await;
    region.ec2.settle();
    assert!(region.members().await.is_empty());
    assert_eq!(region.group().await.auto_scaling_group_name, None);
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_deletion_is_prevented_goes_only_once_it_may() {
    let region = region();
    let protected = CreateAutoScalingGroupRequest {
        deletion_protection: Some("prevent-all-deletion".to_owned()),
        min_size: 0,
        ..create(0)
    };
    region.call::<CreateAutoScalingGroup>(protected).await;
    let group = region.group().await;
    assert_eq!(group.deletion_protection.as_deref(), Some("prevent-all-deletion"));
    let delete = |force| DeleteAutoScalingGroupRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        force_delete: force,
    };
    assert_eq!(region.code::<DeleteAutoScalingGroup>(delete(None)).await, "ValidationError");
    let less = UpdateAutoScalingGroupRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        deletion_protection: Some("prevent-force-deletion".to_owned()),
        ..Default::default()
    };
    region.call::<UpdateAutoScalingGroup>(less).await;
    assert_eq!(region.code::<DeleteAutoScalingGroup>(delete(Some(true))).await, "ValidationError");
    region.call::<DeleteAutoScalingGroup>(delete(None)).await;
    assert_eq!(region.group().await.auto_scaling_group_name, None);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_of_printable_ascii_without_colons() {
    let region = region();
    for name in ["with:colon", "with space", "n\u{e4}me", &"x".repeat(256)] {
        let request =
            CreateAutoScalingGroupRequest { auto_scaling_group_name: name.to_owned(), ..create(1) };
        let code = region.code::<CreateAutoScalingGroup>(request).await;
        assert_eq!(code, "ValidationError", "{name}");
    }
    let request = CreateAutoScalingGroupRequest {
        auto_scaling_group_name: "a-b_c/d&<e>".to_owned(),
        ..create(1)
    };
    region.call::<CreateAutoScalingGroup>(request).await;
}

#[tokio::test(start_paused = true)]
async fn instances_carry_the_groups_tags_and_name() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    region.members().await;
    let (request, _) = region.ec2.world.lock().instances.values().next().cloned().unwrap();
    let tags: Vec<_> =
        request.tag_specifications[0].tags.iter().filter_map(|it| it.key.as_deref()).collect();
    assert!(tags.contains(&"team") && tags.contains(&"aws:autoscaling:groupName"), "{tags:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_needs_a_template_and_sizes_that_make_sense() {
    let region = region();
    let template = |id: &str| {
        Some(LaunchTemplateSpecification {
            launch_template_id: Some(id.to_owned()),
            ..Default::default()
        })
    };
    for request in [
        CreateAutoScalingGroupRequest { launch_template: None, ..create(1) },
        CreateAutoScalingGroupRequest { launch_template: template("lt-2"), ..create(1) },
        CreateAutoScalingGroupRequest { min_size: 5, ..create(5) },
        create(9),
        CreateAutoScalingGroupRequest { vpc_zone_identifier: None, ..create(1) },
    ] {
        assert_eq!(region.code::<CreateAutoScalingGroup>(request).await, "ValidationError");
    }
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    assert_eq!(region.code::<CreateAutoScalingGroup>(create(1)).await, "AlreadyExists");
}

#[tokio::test(start_paused = true)]
async fn a_full_subnet_is_told_and_another_zone_is_tried() {
    let region = region();
    region.ec2.change(|world| world.full.push("subnet-a".to_owned()));
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    assert!(region.members().await.is_empty());
    let failed = region.activities().await.pop().unwrap();
    assert_eq!(failed.status_code.as_deref(), Some("Failed"));
    assert_eq!(
        failed.status_message.as_deref(),
        Some("The subnet is full. Launching EC2 instance failed.")
    );
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(region.states().await, ["Pending"]);
    assert!(
        region
            .ec2
            .world
            .lock()
            .instances
            .values()
            .all(|(it, _)| { it.subnet_id.as_deref() != Some("subnet-a") })
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_zone_refuses_is_not_asked_for_again_for_every_instance_that_is_missing() {
    let region = region();
    let all = ["subnet-a", "subnet-b", "subnet-c"].map(str::to_owned);
    region.ec2.change(|world| world.full.extend(all));
    region.call::<CreateAutoScalingGroup>(create(4)).await;
    assert!(region.members().await.is_empty());
    assert!(region.ec2.world.lock().asked <= 3, "once in each zone");
    region.ec2.change(|world| world.full.clear());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(region.states().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_fails_its_status_checks_is_replaced() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    region.members().await;
    region.ec2.settle();
    let (sick, _) = region.members().await.remove(0);
    region.ec2.change(|world| world.impaired.push(sick.clone()));
    region.members().await;
    region.ec2.settle();
    let members = region.members().await;
    assert!(members.len() == 1 && members[0].0 != sick, "{members:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_instance_is_replaced() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(2)).await;
    region.members().await;
    region.ec2.settle();
    let before = region.members().await;
    region.ec2.change(|world| {
        world.instances.values_mut().next().unwrap().1 = "terminated";
    });
    region.members().await;
    region.ec2.settle();
    let after = region.members().await;
    assert_eq!(after.len(), 2);
    assert_ne!(after, before);
}

#[tokio::test(start_paused = true)]
async fn a_termination_waits_for_its_hook_and_the_desired_capacity_follows() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(2)).await;
    region.members().await;
    region.ec2.settle();
    let hook = PutLifecycleHookRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        lifecycle_hook_name: "drain".to_owned(),
        lifecycle_transition: Some("autoscaling:EC2_INSTANCE_TERMINATING".to_owned()),
        heartbeat_timeout: Some(1800),
        default_result: Some("CONTINUE".to_owned()),
        ..Default::default()
    };
    region.call::<PutLifecycleHook>(hook).await;
    let victim = region.members().await[0].0.clone();
    let terminate = TerminateInstanceInAutoScalingGroupRequest {
        instance_id: victim.clone(),
        should_decrement_desired_capacity: true,
    };
    region.call::<TerminateInstanceInAutoScalingGroup>(terminate.clone()).await;
    assert_eq!(region.group().await.desired_capacity, Some(1));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(region.states().await.contains(&"Terminating:Wait".to_owned()));

    let complete = CompleteLifecycleActionRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        lifecycle_hook_name: "drain".to_owned(),
        lifecycle_action_result: "CONTINUE".to_owned(),
        instance_id: Some(victim),
        ..Default::default()
    };
    region.call::<CompleteLifecycleAction>(complete.clone()).await;
    region.members().await;
    region.ec2.settle();
    assert_eq!(region.states().await, ["InService"]);
    assert_eq!(region.code::<CompleteLifecycleAction>(complete).await, "ValidationError");
    let last = TerminateInstanceInAutoScalingGroupRequest {
        instance_id: region.members().await[0].0.clone(),
        ..terminate
    };
    let code = region.code::<TerminateInstanceInAutoScalingGroup>(last).await;
    assert_eq!(code, "ValidationError");
}

#[tokio::test(start_paused = true)]
async fn lowering_the_maximum_pulls_the_desired_capacity_down() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(3)).await;
    let update = UpdateAutoScalingGroupRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        max_size: Some(2),
        ..Default::default()
    };
    region.call::<UpdateAutoScalingGroup>(update).await;
    assert_eq!(region.group().await.desired_capacity, Some(2));
}
