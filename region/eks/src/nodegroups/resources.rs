//! What a node group is made of, through the APIs of the services that own it: instance profile,
//! launch template, Auto Scaling group. Every step begins with what is there.

use aws_autoscaling::{
    activity::{Activity, DescribeScalingActivities, DescribeScalingActivitiesRequest},
    capacity::{TerminateInstanceInAutoScalingGroup, TerminateInstanceInAutoScalingGroupRequest},
    group::{
        AutoScalingGroup, CreateAutoScalingGroup, CreateAutoScalingGroupRequest,
        DeleteAutoScalingGroup, DeleteAutoScalingGroupRequest, DescribeAutoScalingGroups,
        DescribeAutoScalingGroupsRequest, InstancesDistribution, LaunchTemplate,
        LaunchTemplateOverrides, LaunchTemplateSpecification, MixedInstancesPolicy,
        UpdateAutoScalingGroup, UpdateAutoScalingGroupRequest,
    },
    lifecycle_hook::LifecycleHookSpecification,
    tag::Tag,
};
use aws_ec2::{
    common::{Filter, TagInput},
    instance::{DescribeInstances, DescribeInstancesRequest},
    instance_state::{RebootInstances, RebootInstancesRequest},
    launch_template::{
        CreateLaunchTemplate, CreateLaunchTemplateRequest, CreateLaunchTemplateVersion,
        CreateLaunchTemplateVersionRequest, DeleteLaunchTemplate, DeleteLaunchTemplateRequest,
        DescribeLaunchTemplateVersions, DescribeLaunchTemplateVersionsRequest,
    },
    launch_template_request::RequestLaunchTemplateData,
};
use aws_iam::{
    AddRoleToInstanceProfile, AddRoleToInstanceProfileRequest, CreateInstanceProfile,
    CreateInstanceProfileRequest, DeleteInstanceProfile, DeleteInstanceProfileRequest,
    RemoveRoleFromInstanceProfile, RemoveRoleFromInstanceProfileRequest,
};
use aws_wire::CallError;

use super::records::Nodegroup;
use crate::{Eks, reconcile::PassError};

/// The lifecycle hook on which EKS drains an instance before it goes.
pub(crate) const TERMINATE_HOOK: &str = "Terminate-LC-Hook";
/// Of EKS's own launch template, which a new group launches from.
pub(crate) const FIRST_VERSION: i64 = 1;
/// From memory of real groups: their hooks' heartbeat.
const HEARTBEAT_SECONDS: i64 = 1800;

/// Whether a call failed with `code`, which means that there is nothing left to do.
fn already<T>(result: Result<T, CallError>, code: &str) -> Result<(), PassError> {
    match result {
        Err(error) if error.is(code) => Ok(()),
        result => result.map(drop).map_err(Into::into),
    }
}

pub(crate) async fn ensure_profile(eks: &Eks, group: &Nodegroup) -> Result<(), PassError> {
    let client = &eks.0.config.client;
    let name = group.template();
    let create =
        CreateInstanceProfileRequest { instance_profile_name: name.clone(), ..Default::default() };
    already(client.call::<CreateInstanceProfile>(create).await, "EntityAlreadyExists")?;
    let add = AddRoleToInstanceProfileRequest {
        instance_profile_name: name,
        role_name: role_name(&group.node_role),
    };
    already(client.call::<AddRoleToInstanceProfile>(add).await, "LimitExceeded")
}

fn role_name(arn: &str) -> String {
    arn.rsplit('/').next().unwrap_or(arn).to_owned()
}

pub(crate) async fn ensure_template(
    eks: &Eks,
    group: &Nodegroup,
    data: RequestLaunchTemplateData,
) -> Result<(), PassError> {
    let request = CreateLaunchTemplateRequest {
        launch_template_name: group.template(),
        launch_template_data: data,
        tag_specifications: vec![aws_ec2::common::TagSpecification {
            resource_type: Some("launch-template".to_owned()),
            tags: eks_tags(group),
        }],
        ..Default::default()
    };
    let made = eks.0.config.client.call::<CreateLaunchTemplate>(request).await;
    already(made, "InvalidLaunchTemplateName.AlreadyExistsException")
}

/// The number of the version of EKS's own template that says `data`: the latest, or a new one.
pub(crate) async fn ensure_template_version(
    eks: &Eks,
    group: &Nodegroup,
    data: RequestLaunchTemplateData,
) -> Result<i64, PassError> {
    let client = &eks.0.config.client;
    let latest = DescribeLaunchTemplateVersionsRequest {
        launch_template_name: Some(group.template()),
        versions: vec!["$Latest".to_owned()],
        ..Default::default()
    };
    let found = client.call::<DescribeLaunchTemplateVersions>(latest).await?;
    let latest = found.launch_template_versions.into_iter().next().unwrap_or_default();
    if latest.launch_template_data.map(RequestLaunchTemplateData::from).as_ref() == Some(&data)
        && let Some(number) = latest.version_number
    {
        return Ok(number);
    }
    let request = CreateLaunchTemplateVersionRequest {
        launch_template_name: Some(group.template()),
        launch_template_data: data,
        ..Default::default()
    };
    let made = client.call::<CreateLaunchTemplateVersion>(request).await?;
    let number = made.launch_template_version.and_then(|it| it.version_number);
    number.ok_or(PassError::Incomplete { what: "the launch template's version" })
}

/// New instances of the group start from this version of EKS's own template.
pub(crate) async fn launch_from(
    eks: &Eks,
    group: &Nodegroup,
    version: i64,
) -> Result<(), PassError> {
    let request = UpdateAutoScalingGroupRequest {
        auto_scaling_group_name: group.auto_scaling_group(),
        mixed_instances_policy: Some(policy(group, version)),
        ..Default::default()
    };
    eks.0.config.client.call::<UpdateAutoScalingGroup>(request).await?;
    Ok(())
}

/// Ends an instance; the group replaces it.
pub(crate) async fn terminate(eks: &Eks, instance: &str) -> Result<(), PassError> {
    let request = TerminateInstanceInAutoScalingGroupRequest {
        instance_id: instance.to_owned(),
        should_decrement_desired_capacity: false,
    };
    let done = eks.0.config.client.call::<TerminateInstanceInAutoScalingGroup>(request).await;
    // One that is gone from the group is gone.
    already(done, "ValidationError")
}

pub(crate) async fn reboot(eks: &Eks, instance: &str) -> Result<(), PassError> {
    let request =
        RebootInstancesRequest { instance_ids: vec![instance.to_owned()], ..Default::default() };
    eks.0.config.client.call::<RebootInstances>(request).await?;
    Ok(())
}

pub(crate) fn eks_tags(group: &Nodegroup) -> Vec<TagInput> {
    let tag = |key: &str, value: &str| TagInput {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    vec![tag("eks:cluster-name", &group.cluster), tag("eks:nodegroup-name", &group.name)]
}

/// The Auto Scaling group as it is; `None` when there is none.
pub(crate) async fn auto_scaling_group(
    eks: &Eks,
    group: &Nodegroup,
) -> Result<Option<AutoScalingGroup>, PassError> {
    let request = DescribeAutoScalingGroupsRequest {
        auto_scaling_group_names: vec![group.auto_scaling_group()],
        ..Default::default()
    };
    let found = eks.0.config.client.call::<DescribeAutoScalingGroups>(request).await?;
    Ok(found.auto_scaling_groups.into_iter().next())
}

pub(crate) async fn create_auto_scaling_group(
    eks: &Eks,
    group: &Nodegroup,
) -> Result<(), PassError> {
    let hook = LifecycleHookSpecification {
        lifecycle_hook_name: TERMINATE_HOOK.to_owned(),
        lifecycle_transition: "autoscaling:EC2_INSTANCE_TERMINATING".to_owned(),
        heartbeat_timeout: Some(HEARTBEAT_SECONDS),
        default_result: Some("CONTINUE".to_owned()),
        ..Default::default()
    };
    let request = CreateAutoScalingGroupRequest {
        auto_scaling_group_name: group.auto_scaling_group(),
        mixed_instances_policy: Some(policy(group, FIRST_VERSION)),
        min_size: group.scaling.min,
        max_size: group.scaling.max,
        desired_capacity: Some(group.scaling.desired),
        vpc_zone_identifier: Some(group.subnets.join(",")),
        lifecycle_hook_specification_list: vec![hook],
        tags: group_tags(group),
        ..Default::default()
    };
    let made = eks.0.config.client.call::<CreateAutoScalingGroup>(request).await;
    already(made, "AlreadyExists")
}

fn policy(group: &Nodegroup, version: i64) -> MixedInstancesPolicy {
    let template = LaunchTemplateSpecification {
        launch_template_name: Some(group.template()),
        version: Some(version.to_string()),
        ..Default::default()
    };
    let overrides = group.instance_types.iter().map(|it| LaunchTemplateOverrides {
        instance_type: Some(it.clone()),
        ..Default::default()
    });
    MixedInstancesPolicy {
        launch_template: Some(LaunchTemplate {
            launch_template_specification: Some(template),
            overrides: overrides.collect(),
        }),
        instances_distribution: (group.capacity_type == "SPOT").then(all_of_spot),
    }
}

fn all_of_spot() -> InstancesDistribution {
    InstancesDistribution {
        on_demand_base_capacity: Some(0),
        on_demand_percentage_above_base_capacity: Some(0),
        spot_allocation_strategy: Some("price-capacity-optimized".to_owned()),
        ..Default::default()
    }
}

/// Those by which instances and the Cluster Autoscaler find their group.
fn group_tags(group: &Nodegroup) -> Vec<Tag> {
    let tag = |key: String, value: &str, propagate: bool| Tag {
        key,
        value: Some(value.to_owned()),
        propagate_at_launch: Some(propagate),
        resource_id: Some(group.auto_scaling_group()),
        resource_type: Some("auto-scaling-group".to_owned()),
    };
    vec![
        tag("eks:cluster-name".to_owned(), &group.cluster, true),
        tag("eks:nodegroup-name".to_owned(), &group.name, true),
        tag(format!("kubernetes.io/cluster/{}", group.cluster), "owned", true),
        tag("k8s.io/cluster-autoscaler/enabled".to_owned(), "true", false),
        tag(format!("k8s.io/cluster-autoscaler/{}", group.cluster), "owned", false),
    ]
}

pub(crate) async fn resize(
    eks: &Eks,
    group: &Nodegroup,
    min: i64,
    max: i64,
    desired: i64,
) -> Result<(), PassError> {
    let request = UpdateAutoScalingGroupRequest {
        auto_scaling_group_name: group.auto_scaling_group(),
        min_size: Some(min),
        max_size: Some(max),
        desired_capacity: Some(desired),
        ..Default::default()
    };
    eks.0.config.client.call::<UpdateAutoScalingGroup>(request).await?;
    Ok(())
}

/// Why the group's last launch failed, if no later one has succeeded.
pub(crate) async fn launch_failure(
    eks: &Eks,
    group: &Nodegroup,
) -> Result<Option<String>, PassError> {
    let request = DescribeScalingActivitiesRequest {
        auto_scaling_group_name: Some(group.auto_scaling_group()),
        ..Default::default()
    };
    let found = eks.0.config.client.call::<DescribeScalingActivities>(request).await?.activities;
    Ok(last_failure(&found))
}

/// Activities that have launched something name it.
fn last_failure(activities: &[Activity]) -> Option<String> {
    let is = |it: &&Activity, what: &str| {
        it.description.as_deref().is_some_and(|it| it.starts_with(what))
    };
    let launched = activities.iter().filter(|it| is(it, "Launching a new EC2 instance: "));
    let launched = launched.filter_map(|it| it.start_time.as_ref()).max();
    let failed = activities
        .iter()
        .filter(|it| it.status_code.as_deref() == Some("Failed") && is(it, "Launching "))
        .max_by_key(|it| it.end_time.as_ref())?;
    let is_last = failed.end_time.as_ref() >= launched;
    failed.status_message.clone().filter(|_| is_last)
}

/// Whether there is still something to drain on the instance.
pub(crate) async fn is_running(eks: &Eks, instance: &str) -> Result<bool, PassError> {
    let filter = Filter { name: Some("instance-id".to_owned()), values: vec![instance.to_owned()] };
    let request = DescribeInstancesRequest { filters: vec![filter], ..Default::default() };
    let found = eks.0.config.client.call::<DescribeInstances>(request).await?.reservations;
    let states = found.into_iter().flat_map(|it| it.instances).filter_map(|it| it.state?.name);
    Ok(states.into_iter().any(|it| it == "running"))
}

/// Removes all but the instances, which must be gone.
pub(crate) async fn remove(eks: &Eks, group: &Nodegroup) -> Result<(), PassError> {
    let client = &eks.0.config.client;
    if auto_scaling_group(eks, group).await?.is_some() {
        let request = DeleteAutoScalingGroupRequest {
            auto_scaling_group_name: group.auto_scaling_group(),
            ..Default::default()
        };
        client.call::<DeleteAutoScalingGroup>(request).await?;
    }
    let template = DeleteLaunchTemplateRequest {
        launch_template_name: Some(group.template()),
        ..Default::default()
    };
    let deleted = client.call::<DeleteLaunchTemplate>(template).await;
    already(deleted, "InvalidLaunchTemplateName.NotFoundException")?;
    let name = group.template();
    let role = RemoveRoleFromInstanceProfileRequest {
        instance_profile_name: name.clone(),
        role_name: role_name(&group.node_role),
    };
    already(client.call::<RemoveRoleFromInstanceProfile>(role).await, "NoSuchEntity")?;
    let profile = DeleteInstanceProfileRequest { instance_profile_name: name };
    already(client.call::<DeleteInstanceProfile>(profile).await, "NoSuchEntity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_lasts_until_a_later_launch_succeeds() {
        let activity = |description: &str, status: &str, at: &str| Activity {
            description: Some(description.to_owned()),
            status_code: Some(status.to_owned()),
            status_message: Some(format!("{status} {at}")),
            start_time: Some(format!("2026-11-23T12:00:{at}Z")),
            end_time: Some(format!("2026-11-23T12:00:{at}Z")),
            ..Default::default()
        };
        let failed = activity("Launching a new EC2 instance", "Failed", "02");
        let launched = |at| activity("Launching a new EC2 instance: i-1", "PreInService", at);
        assert_eq!(last_failure(&[]), None);
        let history = [launched("01"), failed.clone(), activity("Terminating", "Failed", "09")];
        assert_eq!(last_failure(&history).as_deref(), Some("Failed 02"));
        assert_eq!(last_failure(&[failed, launched("03")]), None);
    }
}
