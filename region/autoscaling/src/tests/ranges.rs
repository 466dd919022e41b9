//! Numbers that no group can have.

use aws_autoscaling::{
    group::{InstanceMaintenancePolicy, UpdateAutoScalingGroup, UpdateAutoScalingGroupRequest},
    lifecycle_hook::{PutLifecycleHook, PutLifecycleHookRequest},
};

use super::*;

fn update(
    change: impl FnOnce(&mut UpdateAutoScalingGroupRequest),
) -> UpdateAutoScalingGroupRequest {
    let mut request = UpdateAutoScalingGroupRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        ..Default::default()
    };
    change(&mut request);
    request
}

#[tokio::test(start_paused = true)]
async fn times_and_shares_out_of_range_are_refused_and_change_nothing() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let before = region.group().await;
    let policy = |least, most| InstanceMaintenancePolicy {
        min_healthy_percentage: least,
        max_healthy_percentage: most,
    };
    for wrong in [
        update(|it| it.default_cooldown = Some(-1)),
        update(|it| it.health_check_grace_period = Some(-1)),
        update(|it| it.health_check_grace_period = Some(i64::MAX)),
        update(|it| it.default_instance_warmup = Some(-2)),
        update(|it| it.max_instance_lifetime = Some(3600)),
        update(|it| it.instance_maintenance_policy = Some(policy(Some(101), Some(110)))),
        update(|it| it.instance_maintenance_policy = Some(policy(Some(50), Some(200)))),
        update(|it| it.instance_maintenance_policy = Some(policy(Some(90), None))),
    ] {
        let code = region.code::<UpdateAutoScalingGroup>(wrong.clone()).await;
        assert_eq!(code, "ValidationError", "{wrong:?}");
    }
    assert_eq!(region.group().await, before);
    let taken_back = update(|it| {
        it.default_instance_warmup = Some(-1);
        it.instance_maintenance_policy = Some(policy(Some(-1), Some(-1)));
    });
    region.call::<UpdateAutoScalingGroup>(taken_back).await;
    assert_eq!(region.group().await.default_instance_warmup, None);
}

#[tokio::test(start_paused = true)]
async fn a_hook_waits_half_a_minute_at_least_and_two_hours_at_most() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let hook = |seconds| PutLifecycleHookRequest {
        lifecycle_hook_name: "h".to_owned(),
        auto_scaling_group_name: "nodes".to_owned(),
        lifecycle_transition: Some("autoscaling:EC2_INSTANCE_TERMINATING".to_owned()),
        heartbeat_timeout: Some(seconds),
        ..Default::default()
    };
    for seconds in [29, 7201] {
        assert_eq!(region.code::<PutLifecycleHook>(hook(seconds)).await, "ValidationError");
    }
    region.call::<PutLifecycleHook>(hook(7200)).await;
}
