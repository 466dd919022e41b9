//! Instances that rest, are refreshed, or are of another type than the first.

use aws_autoscaling::{
    group::{InstancesDistribution, LaunchTemplate, LaunchTemplateOverrides, MixedInstancesPolicy},
    instance_refresh::{
        CancelInstanceRefresh, DescribeInstanceRefreshes, DescribeInstanceRefreshesRequest,
        InstanceRefresh, OfGroup, RefreshPreferences, RollbackInstanceRefresh,
        StartInstanceRefresh, StartInstanceRefreshRequest,
    },
    standby::{EnterStandby, EnterStandbyRequest, ExitStandby, ExitStandbyRequest},
};

use super::*;

async fn settled(region: &Region) {
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        region.ec2.settle();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn of_group() -> OfGroup {
    OfGroup { auto_scaling_group_name: "nodes".to_owned() }
}

fn start(least: i64) -> StartInstanceRefreshRequest {
    StartInstanceRefreshRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        preferences: Some(RefreshPreferences {
            min_healthy_percentage: Some(least),
            instance_warmup: Some(0),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn newest(region: &Region) -> InstanceRefresh {
    let request = DescribeInstanceRefreshesRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        ..Default::default()
    };
    region.call::<DescribeInstanceRefreshes>(request).await.instance_refreshes.remove(0)
}

#[tokio::test(start_paused = true)]
async fn instances_rest_without_being_replaced_and_come_back() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(2)).await;
    settled(&region).await;
    let id = region.members().await[0].0.clone();
    let enter = EnterStandbyRequest {
        instance_ids: vec![id.clone()],
        auto_scaling_group_name: "nodes".to_owned(),
        should_decrement_desired_capacity: true,
    };
    let activities = region.call::<EnterStandby>(enter.clone()).await.activities;
    let description = format!("Moving EC2 instance to Standby: {id}");
    assert_eq!(activities[0].description.as_ref(), Some(&description));
    settled(&region).await;
    assert_eq!(region.states().await, ["Standby", "InService"]);
    assert_eq!(region.group().await.desired_capacity, Some(1));
    assert_eq!(region.code::<EnterStandby>(enter).await, "ValidationError");
    let exit =
        ExitStandbyRequest { instance_ids: vec![id], auto_scaling_group_name: "nodes".to_owned() };
    region.call::<ExitStandby>(exit).await;
    settled(&region).await;
    assert_eq!(region.states().await, ["InService", "InService"]);
    assert_eq!(region.group().await.desired_capacity, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_replaces_every_instance_and_is_described() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(3)).await;
    settled(&region).await;
    let before = region.members().await;
    assert_eq!(
        region.code::<CancelInstanceRefresh>(of_group()).await,
        "ActiveInstanceRefreshNotFound"
    );
    region.call::<StartInstanceRefresh>(start(34)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(region.code::<StartInstanceRefresh>(start(34)).await, "InstanceRefreshInProgress");
    assert_eq!(
        region.code::<RollbackInstanceRefresh>(of_group()).await,
        "IrreversibleInstanceRefresh"
    );
    assert_eq!(newest(&region).await.status.as_deref(), Some("InProgress"));
    for _ in 0..6 {
        settled(&region).await;
    }
    let refresh = newest(&region).await;
    assert_eq!(refresh.status.as_deref(), Some("Successful"), "{refresh:?}");
    assert_eq!((refresh.percentage_complete, refresh.instances_to_update), (Some(100), Some(0)));
    let after = region.members().await;
    assert_eq!(after.len(), 3);
    assert!(after.iter().all(|it| !before.contains(it)), "{before:?} {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_called_off_leaves_the_rest_as_it_is() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(3)).await;
    settled(&region).await;
    let before = region.members().await;
    region.call::<StartInstanceRefresh>(start(90)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    region.call::<CancelInstanceRefresh>(of_group()).await;
    for _ in 0..3 {
        settled(&region).await;
    }
    assert_eq!(newest(&region).await.status.as_deref(), Some("Cancelled"));
    let after = region.members().await;
    assert_eq!(after.iter().filter(|it| before.contains(it)).count(), 2, "one was on its way");
    assert_eq!(after.len(), 3);
}

pub(super) fn mixed(types: &[&str]) -> CreateAutoScalingGroupRequest {
    let of = |name: &&str| LaunchTemplateOverrides {
        instance_type: Some((*name).to_owned()),
        ..Default::default()
    };
    let mut request = create(1);
    let policy = MixedInstancesPolicy {
        launch_template: Some(LaunchTemplate {
            launch_template_specification: request.launch_template.take(),
            overrides: types.iter().map(of).collect(),
        }),
        instances_distribution: Some(InstancesDistribution::default()),
    };
    request.mixed_instances_policy = Some(policy);
    request
}

#[tokio::test(start_paused = true)]
async fn a_type_that_cannot_be_had_gives_way_to_the_next() {
    let region = region();
    region.ec2.change(|world| world.scarce = vec!["m5.large".to_owned()]);
    region.call::<CreateAutoScalingGroup>(mixed(&["m5.large", "m5.xlarge"])).await;
    settled(&region).await;
    let types: Vec<_> = {
        let world = region.ec2.world.lock();
        world.instances.values().map(|(request, _)| request.instance_type.clone()).collect()
    };
    assert_eq!(types, [Some("m5.xlarge".to_owned())]);
    assert_eq!(region.states().await, ["InService"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_group_does_not_have_is_refused() {
    let region = region();
    let mut request = create(1);
    request.termination_policies = vec!["Youngest".to_owned()];
    assert_eq!(region.code::<CreateAutoScalingGroup>(request).await, "ValidationError");
    let mut request = create(1);
    request.max_instance_lifetime = Some(3600);
    assert_eq!(region.code::<CreateAutoScalingGroup>(request).await, "ValidationError");
    let mut request = mixed(&["m5.large"]);
    let policy = request.mixed_instances_policy.as_mut().unwrap();
    policy.instances_distribution.as_mut().unwrap().spot_allocation_strategy =
        Some("cheapest".to_owned());
    assert_eq!(region.code::<CreateAutoScalingGroup>(request).await, "ValidationError");
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let mut request = start(90);
    request.preferences.as_mut().unwrap().checkpoint_percentages = vec![50, 40];
    assert_eq!(region.code::<StartInstanceRefresh>(request).await, "ValidationError");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_instance_in_standby_takes_nothing_from_the_capacity() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(2)).await;
    settled(&region).await;
    let members = region.members().await;
    let enter = EnterStandbyRequest {
        instance_ids: vec![members[0].0.clone()],
        auto_scaling_group_name: "nodes".to_owned(),
        should_decrement_desired_capacity: true,
    };
    region.call::<EnterStandby>(enter).await;
    assert_eq!(region.group().await.desired_capacity, Some(1));
    let terminate = TerminateInstanceInAutoScalingGroupRequest {
        instance_id: members[0].0.clone(),
        should_decrement_desired_capacity: true,
    };
    region.call::<TerminateInstanceInAutoScalingGroup>(terminate).await;
    settled(&region).await;
    assert_eq!(region.group().await.desired_capacity, Some(1));
    assert_eq!(region.members().await, [(members[1].0.clone(), "InService".to_owned())]);
}
