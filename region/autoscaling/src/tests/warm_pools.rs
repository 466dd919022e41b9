//! Instances that wait, stopped, until the group grows.

use aws_autoscaling::warm_pool::{
    DeleteWarmPool, DeleteWarmPoolRequest, DescribeWarmPool, DescribeWarmPoolRequest,
    InstanceReusePolicy, PutWarmPool, PutWarmPoolRequest,
};

use aws_autoscaling::instance::{DetachInstances, DetachInstancesRequest};

use super::*;

async fn settled(region: &Region) {
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        region.ec2.settle();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn pool(region: &Region) -> Vec<(String, String)> {
    let request = DescribeWarmPoolRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        ..Default::default()
    };
    let found = region.call::<DescribeWarmPool>(request).await.instances;
    found.into_iter().map(|it| (it.instance_id.unwrap(), it.lifecycle_state.unwrap())).collect()
}

fn put() -> PutWarmPoolRequest {
    PutWarmPoolRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        min_size: Some(1),
        max_group_prepared_capacity: Some(2),
        ..Default::default()
    }
}

fn delete() -> DeleteWarmPoolRequest {
    DeleteWarmPoolRequest { auto_scaling_group_name: "nodes".to_owned(), force_delete: None }
}

#[tokio::test(start_paused = true)]
async fn a_group_grows_from_its_warm_pool_which_is_filled_again() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    region.call::<PutWarmPool>(put()).await;
    settled(&region).await;
    let waiting = pool(&region).await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].1, "Warmed:Stopped");
    assert_eq!(region.states().await, ["InService"], "they are described with the pool only");
    assert_eq!(region.group().await.warm_pool_size, Some(1));
    region.call::<SetDesiredCapacity>(desire(2)).await;
    settled(&region).await;
    let members = region.members().await;
    assert!(members.contains(&(waiting[0].0.clone(), "InService".to_owned())), "{members:?}");
    assert_eq!(members.len(), 2);
    assert_eq!(pool(&region).await.len(), 1, "its least");
    let told = format!("Launching a new EC2 instance from warm pool: {}", waiting[0].0);
    let activities = region.activities().await;
    assert!(activities.iter().any(|it| it.description.as_ref() == Some(&told)));
}

#[tokio::test(start_paused = true)]
async fn a_warm_pool_takes_its_instances_with_it() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    assert_eq!(region.code::<DeleteWarmPool>(delete()).await, "ValidationError");
    region.call::<PutWarmPool>(put()).await;
    settled(&region).await;
    region.call::<DeleteWarmPool>(delete()).await;
    settled(&region).await;
    assert!(pool(&region).await.is_empty());
    assert_eq!(region.states().await, ["InService"]);
}

fn reusing() -> PutWarmPoolRequest {
    let policy = InstanceReusePolicy { reuse_on_scale_in: Some(true) };
    PutWarmPoolRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        instance_reuse_policy: Some(policy),
        ..Default::default()
    }
}

/// What waits in the pool that was in service before.
async fn returned(region: &Region, before: &[(String, String)]) -> Vec<(String, String)> {
    let was_there = |id: &String| before.iter().any(|(known, _)| known == id);
    pool(region).await.into_iter().filter(|(id, _)| was_there(id)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_leaves_a_group_that_shrinks_comes_back_to_its_pool_where_that_is_asked_for() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(2)).await;
    region.call::<PutWarmPool>(reusing()).await;
    settled(&region).await;
    let policy = region.group().await.warm_pool_configuration.unwrap().instance_reuse_policy;
    assert_eq!(policy, reusing().instance_reuse_policy);
    let (before, launched) = (region.members().await, region.ec2.world.lock().asked);
    assert_eq!(pool(&region).await.len(), 2, "up to the group's most");
    region.call::<SetDesiredCapacity>(desire(1)).await;
    settled(&region).await;
    let back = returned(&region, &before).await;
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].1, "Warmed:Stopped");
    assert_eq!((pool(&region).await.len(), region.states().await.len()), (3, 1));
    let told = format!("Returning EC2 instance to warm pool: {}", back[0].0);
    let activities = region.activities().await;
    let line = activities.iter().find(|it| it.description.as_ref() == Some(&told)).unwrap();
    assert_eq!(line.status_code.as_deref(), Some("Successful"));
    assert!(line.cause.as_ref().unwrap().contains("shrinking the capacity from 2 to 1"));

    region.call::<SetDesiredCapacity>(desire(4)).await;
    settled(&region).await;
    assert_eq!(region.states().await, ["InService"; 4]);
    assert_eq!(region.ec2.world.lock().asked, launched, "nothing had to be launched for all that");
}

#[tokio::test(start_paused = true)]
async fn the_hooks_of_terminations_hold_what_comes_back_and_can_say_no() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(3)).await;
    region.call::<PutWarmPool>(reusing()).await;
    settled(&region).await;
    let before = region.members().await;
    let hook = PutLifecycleHookRequest {
        lifecycle_hook_name: "drain".to_owned(),
        auto_scaling_group_name: "nodes".to_owned(),
        lifecycle_transition: Some("autoscaling:EC2_INSTANCE_TERMINATING".to_owned()),
        ..Default::default()
    };
    region.call::<PutLifecycleHook>(hook).await;
    let complete = |id: &str, result: &str| CompleteLifecycleActionRequest {
        lifecycle_hook_name: "drain".to_owned(),
        auto_scaling_group_name: "nodes".to_owned(),
        lifecycle_action_result: result.to_owned(),
        instance_id: Some(id.to_owned()),
        ..Default::default()
    };
    region.call::<SetDesiredCapacity>(desire(2)).await;
    settled(&region).await;
    let first = returned(&region, &before).await.remove(0);
    assert_eq!(first.1, "Warmed:Pending:Wait");
    assert_eq!(region.service.target_state(&first.0, None), Some("Warmed:Stopped"));
    region.call::<CompleteLifecycleAction>(complete(&first.0, "CONTINUE")).await;
    settled(&region).await;
    assert_eq!(returned(&region, &before).await, [(first.0.clone(), "Warmed:Stopped".to_owned())]);

    region.call::<SetDesiredCapacity>(desire(1)).await;
    settled(&region).await;
    let back = returned(&region, &before).await;
    let second = back.into_iter().find(|(id, _)| *id != first.0).unwrap();
    region.call::<CompleteLifecycleAction>(complete(&second.0, "ABANDON")).await;
    settled(&region).await;
    assert_eq!(returned(&region, &before).await.len(), 1, "it is terminated");
    assert_eq!(pool(&region).await.len(), 3, "and the pool is filled anew");
}

#[tokio::test(start_paused = true)]
async fn what_is_ill_or_named_by_its_user_does_not_come_back() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(2)).await;
    region.call::<PutWarmPool>(reusing()).await;
    settled(&region).await;
    let before = region.members().await;
    let terminate = TerminateInstanceInAutoScalingGroupRequest {
        instance_id: before[0].0.clone(),
        should_decrement_desired_capacity: true,
    };
    region.call::<TerminateInstanceInAutoScalingGroup>(terminate).await;
    let id = before[1].0.clone();
    region.ec2.turn(&[id], "stopped");
    settled(&region).await;
    assert_eq!(returned(&region, &before).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_pool_hibernates_its_instances_if_they_are_launched_for_that() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let hibernated = PutWarmPoolRequest { pool_state: Some("Hibernated".to_owned()), ..put() };
    assert_eq!(region.code::<PutWarmPool>(hibernated.clone()).await, "ValidationError");
    region.ec2.change(|world| world.hibernates = true);
    region.call::<PutWarmPool>(hibernated).await;
    settled(&region).await;
    let waiting = pool(&region).await;
    assert_eq!(waiting[0].1, "Warmed:Hibernated");
    assert_eq!(region.ec2.world.lock().hibernated, [waiting[0].0.clone()]);
    assert_eq!(region.service.target_state(&waiting[0].0, None), Some("Warmed:Hibernated"));
    // The template is another one meanwhile: what cannot hibernate is stopped.
    region.ec2.change(|world| world.hibernates = false);
    region.call::<SetDesiredCapacity>(desire(2)).await;
    settled(&region).await;
    let states = pool(&region).await;
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].1, "Warmed:Stopped");
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_the_warm_pool_is_not_ended_or_detached_alone() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    region.call::<PutWarmPool>(put()).await;
    settled(&region).await;
    let id = pool(&region).await[0].0.clone();
    let terminate = TerminateInstanceInAutoScalingGroupRequest {
        instance_id: id.clone(),
        should_decrement_desired_capacity: true,
    };
    let code = region.code::<TerminateInstanceInAutoScalingGroup>(terminate).await;
    assert_eq!(code, "ValidationError");
    let detach = DetachInstancesRequest {
        instance_ids: vec![id],
        auto_scaling_group_name: "nodes".to_owned(),
        should_decrement_desired_capacity: false,
    };
    assert_eq!(region.code::<DetachInstances>(detach).await, "ValidationError");
    assert_eq!(pool(&region).await.len(), 1);
    assert_eq!(region.group().await.desired_capacity, Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_told_whether_it_is_for_the_pool_or_for_the_group() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    region.call::<PutWarmPool>(put()).await;
    let told = |id: &str| region.service.target_state(id, None);
    settled(&region).await;
    let waiting = pool(&region).await[0].0.clone();
    assert_eq!(told(&waiting), Some("Warmed:Stopped"));
    assert_eq!(told(&region.members().await[0].0), Some("InService"));
    assert_eq!(told("i-of-nobody"), None);
    region.call::<SetDesiredCapacity>(desire(2)).await;
    settled(&region).await;
    assert_eq!(told(&waiting), Some("InService"));
}

#[tokio::test(start_paused = true)]
async fn a_group_of_several_types_has_a_pool_unless_it_asks_for_spot_instances() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(refreshes::mixed(&["m5.large", "m5.xlarge"])).await;
    region.call::<PutWarmPool>(put()).await;
    settled(&region).await;
    assert_eq!(pool(&region).await.len(), 1);

    let spot = super::region();
    let mut request = refreshes::mixed(&["m5.large"]);
    let policy = request.mixed_instances_policy.as_mut().unwrap();
    let distribution = policy.instances_distribution.as_mut().unwrap();
    distribution.on_demand_percentage_above_base_capacity = Some(0);
    spot.call::<CreateAutoScalingGroup>(request).await;
    assert_eq!(spot.code::<PutWarmPool>(put()).await, "ValidationError");
}
