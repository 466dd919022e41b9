//! What there is at all, as users and tools ask for it before they choose.

use aws_autoscaling::{
    kinds::{
        AdjustmentType, DescribeAccountLimitsResponse, DescribeAdjustmentTypesResponse,
        DescribeAutoScalingNotificationTypesResponse, DescribeLifecycleHookTypesResponse,
        DescribeMetricCollectionTypesResponse, DescribeScalingProcessTypesResponse,
        DescribeTerminationPolicyTypesResponse, MetricCollectionType, MetricGranularityType,
        Nothing, ProcessType,
    },
    launch_configuration::{
        CreateLaunchConfigurationRequest, CreateLaunchConfigurationResponse,
        DeleteLaunchConfigurationRequest, DeleteLaunchConfigurationResponse,
    },
};
use aws_wire::Fault;

use crate::{
    AutoScaling, Call, faults, hooks,
    members::{METRICS, PROCESSES},
    plan::victim,
    records,
};

/// EC2 Auto Scaling's quotas.
const MOST_GROUPS: i64 = 500;
const MOST_CONFIGURATIONS: i64 = 200;

pub(crate) async fn limits(
    service: &AutoScaling,
    _call: Call<'_>,
    _request: Nothing,
) -> Result<DescribeAccountLimitsResponse, Fault> {
    Ok(DescribeAccountLimitsResponse {
        max_number_of_auto_scaling_groups: Some(MOST_GROUPS),
        max_number_of_launch_configurations: Some(MOST_CONFIGURATIONS),
        number_of_auto_scaling_groups: i64::try_from(service.groups().len()).ok(),
        number_of_launch_configurations: Some(0),
    })
}

pub(crate) async fn adjustments(
    _service: &AutoScaling,
    _call: Call<'_>,
    _request: Nothing,
) -> Result<DescribeAdjustmentTypesResponse, Fault> {
    let kind = |it: records::AdjustmentType| AdjustmentType {
        adjustment_type: Some(it.name().to_owned()),
    };
    let adjustment_types = records::AdjustmentType::ALL.map(kind).to_vec();
    Ok(DescribeAdjustmentTypesResponse { adjustment_types })
}

/// There is no SNS to notify.
pub(crate) async fn notifications(
    _service: &AutoScaling,
    _call: Call<'_>,
    _request: Nothing,
) -> Result<DescribeAutoScalingNotificationTypesResponse, Fault> {
    let names = [
        "EC2_INSTANCE_LAUNCH",
        "EC2_INSTANCE_LAUNCH_ERROR",
        "EC2_INSTANCE_TERMINATE",
        "EC2_INSTANCE_TERMINATE_ERROR",
        "TEST_NOTIFICATION",
    ];
    let auto_scaling_notification_types = names.map(|it| format!("autoscaling:{it}")).to_vec();
    Ok(DescribeAutoScalingNotificationTypesResponse { auto_scaling_notification_types })
}

pub(crate) async fn hooks(
    _service: &AutoScaling,
    _call: Call<'_>,
    _request: Nothing,
) -> Result<DescribeLifecycleHookTypesResponse, Fault> {
    let lifecycle_hook_types = [hooks::LAUNCHING, hooks::TERMINATING].map(str::to_owned).to_vec();
    Ok(DescribeLifecycleHookTypesResponse { lifecycle_hook_types })
}

pub(crate) async fn metrics(
    _service: &AutoScaling,
    _call: Call<'_>,
    _request: Nothing,
) -> Result<DescribeMetricCollectionTypesResponse, Fault> {
    let metric = |it: &str| MetricCollectionType { metric: Some(it.to_owned()) };
    let granularity = MetricGranularityType { granularity: Some("1Minute".to_owned()) };
    let metrics = METRICS.map(metric).to_vec();
    Ok(DescribeMetricCollectionTypesResponse { metrics, granularities: vec![granularity] })
}

pub(crate) async fn processes(
    _service: &AutoScaling,
    _call: Call<'_>,
    _request: Nothing,
) -> Result<DescribeScalingProcessTypesResponse, Fault> {
    let process = |it: &str| ProcessType { process_name: Some(it.to_owned()) };
    Ok(DescribeScalingProcessTypesResponse { processes: PROCESSES.map(process).to_vec() })
}

pub(crate) async fn termination_policies(
    _service: &AutoScaling,
    _call: Call<'_>,
    _request: Nothing,
) -> Result<DescribeTerminationPolicyTypesResponse, Fault> {
    let termination_policy_types = victim::POLICIES.map(str::to_owned).to_vec();
    Ok(DescribeTerminationPolicyTypesResponse { termination_policy_types })
}

/// As in every account that was made since October 2024.
pub(crate) async fn create_configuration(
    _service: &AutoScaling,
    _call: Call<'_>,
    _request: CreateLaunchConfigurationRequest,
) -> Result<CreateLaunchConfigurationResponse, Fault> {
    Err(Fault::new(
        "UnsupportedOperation",
        "The Launch Configuration creation operation is not available in your account. Use launch \
         templates to create configuration templates for your Auto Scaling groups.",
    ))
}

pub(crate) async fn delete_configuration(
    _service: &AutoScaling,
    _call: Call<'_>,
    request: DeleteLaunchConfigurationRequest,
) -> Result<DeleteLaunchConfigurationResponse, Fault> {
    let name = request.launch_configuration_name;
    Err(faults::validation(format!(
        "Launch configuration name not found - Launch configuration {name} not found"
    )))
}
