//! Instances that wait, stopped, until the group grows.

use aws_autoscaling::warm_pool::{
    DeleteWarmPool, DeleteWarmPoolRequest, DescribeWarmPool, DescribeWarmPoolRequest, PutWarmPool,
    PutWarmPoolRequest,
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
    let mut request = put();
    request.pool_state = Some("Hibernated".to_owned());
    assert_eq!(region.code::<PutWarmPool>(request).await, "ValidationError");
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
