//! Scheduled actions and scaling policies, in virtual time from 23 November 2026, a Monday, at noon.

use aws_autoscaling::{
    kinds::{DescribeTerminationPolicyTypes, Nothing},
    launch_configuration::{CreateLaunchConfiguration, CreateLaunchConfigurationRequest},
    policy::{
        DescribePolicies, DescribePoliciesRequest, ExecutePolicy, ExecutePolicyRequest,
        PutScalingPolicy, PutScalingPolicyRequest, StepAdjustment,
    },
    process::{SuspendProcesses, SuspendProcessesRequest},
    scheduled_action::{
        BatchDeleteScheduledAction, BatchDeleteScheduledActionRequest, DeleteScheduledAction,
        DeleteScheduledActionRequest, DescribeScheduledActions, DescribeScheduledActionsRequest,
        PutScheduledUpdateGroupAction, PutScheduledUpdateGroupActionRequest,
        ScheduledUpdateGroupAction,
    },
};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn action(name: &str) -> PutScheduledUpdateGroupActionRequest {
    PutScheduledUpdateGroupActionRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        scheduled_action_name: name.to_owned(),
        ..Default::default()
    }
}

fn at(hour: &str) -> Option<String> {
    Some(format!("2026-11-23T{hour}:00Z"))
}

async fn actions(region: &Region) -> Vec<ScheduledUpdateGroupAction> {
    let request = DescribeScheduledActionsRequest::default();
    region.call::<DescribeScheduledActions>(request).await.scheduled_update_group_actions
}

#[tokio::test(start_paused = true)]
async fn a_group_gets_its_sizes_when_they_are_due_and_an_action_without_recurrence_is_forgotten() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let request = PutScheduledUpdateGroupActionRequest {
        start_time: at("12:10"),
        min_size: Some(2),
        max_size: Some(6),
        ..action("noon")
    };
    region.call::<PutScheduledUpdateGroupAction>(request).await;
    let known = actions(&region).await;
    assert_eq!(known[0].start_time.as_deref(), Some("2026-11-23T12:10:00.000Z"));
    assert!(known[0].scheduled_action_arn.as_ref().unwrap().ends_with("scheduledActionName/noon"));
    tokio::time::sleep(9 * MINUTE).await;
    assert_eq!(region.states().await.len(), 1, "not yet");
    tokio::time::sleep(2 * MINUTE).await;
    region.ec2.settle();
    assert_eq!(region.states().await.len(), 2, "its new least");
    let group = region.group().await;
    assert_eq!(
        (group.min_size, group.max_size, group.desired_capacity),
        (Some(2), Some(6), Some(2))
    );
    assert!(actions(&region).await.is_empty());
    let causes: Vec<String> =
        region.activities().await.into_iter().filter_map(|it| it.cause).collect();
    let wanted = "At 2026-11-23T12:10:00Z a scheduled action update of AutoScalingGroup constraints \
                  to min: 2, max: 6, desired: 2 changing the desired capacity from 1 to 2.";
    assert!(causes.iter().any(|it| it.starts_with(wanted)), "{causes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_action_recurs_until_its_end_and_passes_while_it_is_suspended() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let grow = PutScheduledUpdateGroupActionRequest {
        recurrence: Some("0 * * * *".to_owned()),
        end_time: at("15:30"),
        desired_capacity: Some(3),
        ..action("grow")
    };
    region.call::<PutScheduledUpdateGroupAction>(grow).await;
    tokio::time::sleep(61 * MINUTE).await;
    assert_eq!(region.group().await.desired_capacity, Some(3));
    region.call::<SetDesiredCapacity>(desire(1)).await;
    let suspend = SuspendProcessesRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        scaling_processes: vec!["ScheduledActions".to_owned()],
    };
    region.call::<SuspendProcesses>(suspend).await;
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(region.group().await.desired_capacity, Some(1));
    assert_eq!(
        actions(&region).await[0].start_time,
        at("15:00").map(|it| it.replace('Z', ".000Z"))
    );
    tokio::time::sleep(60 * MINUTE).await;
    assert!(actions(&region).await.is_empty(), "it never comes again");
}

#[tokio::test(start_paused = true)]
async fn bounds_that_do_not_fit_the_groups_fail_in_its_history() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let beyond = PutScheduledUpdateGroupActionRequest {
        start_time: at("12:10"),
        min_size: Some(9),
        ..action("beyond")
    };
    region.call::<PutScheduledUpdateGroupAction>(beyond).await;
    tokio::time::sleep(11 * MINUTE).await;
    assert_eq!(region.group().await.min_size, Some(1));
    let told = "Executing scheduled action beyond";
    let activities = region.activities().await;
    let line = activities.iter().find(|it| it.description.as_deref() == Some(told)).unwrap();
    assert_eq!(line.status_code.as_deref(), Some("Failed"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_schedule_is_refused_and_what_is_not_said_of_one_stays() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let sized = |name| PutScheduledUpdateGroupActionRequest { min_size: Some(1), ..action(name) };
    let recurring = |name| PutScheduledUpdateGroupActionRequest {
        recurrence: Some("0 8 * * *".to_owned()),
        ..sized(name)
    };
    for (request, code) in [
        (sized("never"), "ValidationError"),
        (
            PutScheduledUpdateGroupActionRequest { start_time: at("11:00"), ..sized("past") },
            "ValidationError",
        ),
        (
            PutScheduledUpdateGroupActionRequest { start_time: at("13:00"), ..action("no size") },
            "ValidationError",
        ),
        (
            PutScheduledUpdateGroupActionRequest {
                recurrence: Some("0 8".to_owned()),
                ..sized("odd")
            },
            "ValidationError",
        ),
        (
            PutScheduledUpdateGroupActionRequest {
                time_zone: Some("Mars".to_owned()),
                ..recurring("m")
            },
            "ValidationError",
        ),
        (
            PutScheduledUpdateGroupActionRequest { end_time: at("13:00"), ..recurring("short") },
            "ValidationError",
        ),
    ] {
        let name = request.scheduled_action_name.clone();
        assert_eq!(region.code::<PutScheduledUpdateGroupAction>(request).await, code, "{name}");
    }
    region.call::<PutScheduledUpdateGroupAction>(recurring("early")).await;
    let same_time = region.code::<PutScheduledUpdateGroupAction>(recurring("also")).await;
    assert_eq!(same_time, "AlreadyExists");
    let berlin = PutScheduledUpdateGroupActionRequest {
        time_zone: Some("Europe/Berlin".to_owned()),
        ..action("early")
    };
    region.call::<PutScheduledUpdateGroupAction>(berlin).await;
    let known = actions(&region).await.remove(0);
    assert_eq!((known.recurrence.as_deref(), known.min_size), (Some("0 8 * * *"), Some(1)));
    assert_eq!(known.start_time.as_deref(), Some("2026-11-24T07:00:00.000Z"));

    let gone = BatchDeleteScheduledActionRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        scheduled_action_names: vec!["early".to_owned(), "lost".to_owned()],
    };
    let failed = region.call::<BatchDeleteScheduledAction>(gone).await.failed_scheduled_actions;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].scheduled_action_name.as_deref(), Some("lost"));
    let again = DeleteScheduledActionRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        scheduled_action_name: "early".to_owned(),
    };
    assert_eq!(region.code::<DeleteScheduledAction>(again).await, "ValidationError");
}

fn policy(kind: &str) -> PutScalingPolicyRequest {
    PutScalingPolicyRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        policy_name: "grow".to_owned(),
        policy_type: Some(kind.to_owned()),
        adjustment_type: Some("ChangeInCapacity".to_owned()),
        ..Default::default()
    }
}

fn execute() -> ExecutePolicyRequest {
    ExecutePolicyRequest {
        auto_scaling_group_name: Some("nodes".to_owned()),
        policy_name: "grow".to_owned(),
        honor_cooldown: Some(true),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_simple_policy_changes_the_size_within_its_bounds_and_cools_down() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let simple = PutScalingPolicyRequest {
        scaling_adjustment: Some(2),
        cooldown: Some(120),
        ..policy("SimpleScaling")
    };
    let arn = region.call::<PutScalingPolicy>(simple).await.policy_arn.unwrap();
    assert!(arn.ends_with(":autoScalingGroupName/nodes:policyName/grow"), "{arn}");
    region.call::<ExecutePolicy>(execute()).await;
    assert_eq!(region.group().await.desired_capacity, Some(3));
    assert_eq!(region.code::<ExecutePolicy>(execute()).await, "ScalingActivityInProgress");
    tokio::time::sleep(2 * MINUTE).await;
    let by_arn =
        ExecutePolicyRequest { auto_scaling_group_name: None, policy_name: arn, ..execute() };
    region.call::<ExecutePolicy>(by_arn).await;
    assert_eq!(region.group().await.desired_capacity, Some(4), "the group's most");
}

#[tokio::test(start_paused = true)]
async fn a_step_policy_goes_by_how_far_the_metric_is_beyond_its_threshold() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let step = |lower, upper, by| StepAdjustment {
        metric_interval_lower_bound: lower,
        metric_interval_upper_bound: upper,
        scaling_adjustment: Some(by),
    };
    let steps = vec![step(Some(0.0), Some(10.0), 1), step(Some(10.0), None, 2)];
    let gap = vec![step(Some(0.0), Some(10.0), 1), step(Some(20.0), None, 2)];
    let of =
        |step_adjustments| PutScalingPolicyRequest { step_adjustments, ..policy("StepScaling") };
    assert_eq!(region.code::<PutScalingPolicy>(of(gap)).await, "ValidationError");
    region.call::<PutScalingPolicy>(of(steps)).await;
    let metric = |value| ExecutePolicyRequest {
        metric_value: Some(value),
        breach_threshold: Some(50.0),
        ..execute()
    };
    assert_eq!(region.code::<ExecutePolicy>(execute()).await, "ValidationError");
    assert_eq!(region.code::<ExecutePolicy>(metric(40.0)).await, "ValidationError");
    region.call::<ExecutePolicy>(metric(55.0)).await;
    assert_eq!(region.group().await.desired_capacity, Some(2));
    region.call::<ExecutePolicy>(metric(60.0)).await;
    assert_eq!(region.group().await.desired_capacity, Some(4));
    let request = DescribePoliciesRequest {
        policy_types: vec!["StepScaling".to_owned()],
        ..Default::default()
    };
    let found = region.call::<DescribePolicies>(request).await.scaling_policies;
    assert_eq!(found[0].step_adjustments.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_needs_cloudwatch_or_is_of_the_past_is_refused() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    for kind in ["TargetTrackingScaling", "PredictiveScaling", "Odd"] {
        assert_eq!(
            region.code::<PutScalingPolicy>(policy(kind)).await,
            "ValidationError",
            "{kind}"
        );
    }
    let old = CreateLaunchConfigurationRequest { launch_configuration_name: "old".to_owned() };
    assert_eq!(region.code::<CreateLaunchConfiguration>(old).await, "UnsupportedOperation");
    let known = region.call::<DescribeTerminationPolicyTypes>(Nothing {}).await;
    assert!(known.termination_policy_types.contains(&"OldestLaunchTemplate".to_owned()));
}
