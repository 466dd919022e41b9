//! Launch templates and subnets, as EC2 knows them.

use std::collections::BTreeMap;

use aws_autoscaling::{
    group::{LaunchTemplateOverrides, LaunchTemplateSpecification, MixedInstancesPolicy},
    instance_requirements::InstanceRequirements,
};
use aws_ec2::{
    launch_template::{DescribeLaunchTemplateVersions, DescribeLaunchTemplateVersionsRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_wire::{CallError, Client, Fault};

use crate::{
    faults,
    records::{Group, Source, TemplateRef},
    requirements,
};

/// Checks what a request names as its source of instances.
pub(crate) async fn source(
    ec2: &Client,
    template: Option<LaunchTemplateSpecification>,
    policy: Option<MixedInstancesPolicy>,
) -> Result<Source, Fault> {
    match (template, policy) {
        (Some(template), None) => Ok(Source::Template(check(ec2, &template).await?)),
        (None, Some(policy)) => {
            let named = policy
                .launch_template
                .as_ref()
                .and_then(|it| it.launch_template_specification.as_ref());
            let named = named.ok_or_else(|| {
                faults::validation(
                    "A mixed instances policy needs a launch template specification.",
                )
            })?;
            let template = check(ec2, named).await?;
            check_policy(&policy)?;
            for wanted in requirements_of(&policy) {
                requirements::check(ec2, wanted).await?;
            }
            Ok(Source::Mixed { template, policy: Box::new(policy) })
        }
        _ => Err(faults::validation(
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId \
             or MixedInstancesPolicy parameter.",
        )),
    }
}

fn requirements_of(policy: &MixedInstancesPolicy) -> impl Iterator<Item = &InstanceRequirements> {
    let overrides = policy.launch_template.iter().flat_map(|it| &it.overrides);
    overrides.filter_map(|it| it.instance_requirements.as_ref())
}

/// The most overrides of a policy that name types by their attributes.
const MOST_REQUIREMENTS: usize = 4;

/// The most types of a policy.
pub(crate) const MOST_OVERRIDES: usize = 40;

fn check_policy(policy: &MixedInstancesPolicy) -> Result<(), Fault> {
    let overrides = policy.launch_template.iter().flat_map(|it| &it.overrides);
    let overrides: Vec<_> = overrides.collect();
    if overrides.len() > MOST_OVERRIDES {
        return Err(faults::validation(format!(
            "The number of launch template overrides must not exceed {MOST_OVERRIDES}."
        )));
    }
    if overrides.iter().any(|it| it.launch_template_specification.is_some()) {
        return Err(faults::unsupported("Launch templates of overrides"));
    }
    let by_attributes = overrides.iter().filter(|it| it.instance_requirements.is_some()).count();
    let names_one = |it: &&LaunchTemplateOverrides| {
        it.instance_type.is_some() != it.instance_requirements.is_some()
    };
    if !overrides.iter().all(names_one) || !(by_attributes == 0 || by_attributes == overrides.len())
    {
        return Err(faults::validation(
            "Each launch template override must have either an instance type or instance \
             requirements, and all overrides must have the same of them.",
        ));
    }
    if by_attributes > MOST_REQUIREMENTS {
        return Err(faults::validation(format!(
            "The number of launch template overrides with instance requirements must not exceed \
             {MOST_REQUIREMENTS}."
        )));
    }
    let weights: Vec<_> = overrides.iter().filter_map(|it| it.weighted_capacity.as_ref()).collect();
    let is_weight = |it: &&String| it.parse().is_ok_and(|it: i64| (1..=999).contains(&it));
    if !(weights.is_empty() || weights.len() == overrides.len()) || !weights.iter().all(is_weight) {
        return Err(faults::validation(
            "WeightedCapacity must be given for all overrides or none, from 1 to 999.",
        ));
    }
    let Some(distribution) = &policy.instances_distribution else { return Ok(()) };
    let known =
        |given: &Option<String>, all: &[&str]| given.as_deref().is_none_or(|it| all.contains(&it));
    // What has no order has no priorities.
    let on_demand: &[&str] = match by_attributes {
        0 => &["prioritized", "lowest-price"],
        _ => &["lowest-price"],
    };
    let spot = [
        "lowest-price",
        "capacity-optimized",
        "capacity-optimized-prioritized",
        "price-capacity-optimized",
    ];
    let share = distribution.on_demand_percentage_above_base_capacity.unwrap_or(100);
    let base = distribution.on_demand_base_capacity.unwrap_or(0);
    let is_known = known(&distribution.on_demand_allocation_strategy, on_demand)
        && known(&distribution.spot_allocation_strategy, &spot);
    match is_known && (0..=100).contains(&share) && base >= 0 {
        true => Ok(()),
        false => Err(faults::validation("The instances distribution has an invalid value.")),
    }
}

/// The template with both its names; the version stays as it was given.
async fn check(ec2: &Client, named: &LaunchTemplateSpecification) -> Result<TemplateRef, Fault> {
    let version = named.version.clone().unwrap_or("$Default".to_owned());
    let found = resolve(
        ec2,
        named.launch_template_id.clone(),
        named.launch_template_name.clone(),
        &version,
    )
    .await
    .map_err(|error| match error.fault() {
        Some(fault) => faults::validation(format!(
            "You must use a valid fully-formed launch template. {}",
            fault.message
        )),
        None => Fault::internal(error.to_string()),
    })?;
    Ok(TemplateRef { version, ..found })
}

/// The template with the number that its version stands for now.
pub(crate) async fn resolve(
    ec2: &Client,
    id: Option<String>,
    name: Option<String>,
    version: &str,
) -> Result<TemplateRef, CallError> {
    let request = DescribeLaunchTemplateVersionsRequest {
        launch_template_name: if id.is_some() { None } else { name },
        launch_template_id: id,
        versions: vec![version.to_owned()],
        ..Default::default()
    };
    let response = ec2.call::<DescribeLaunchTemplateVersions>(request).await?;
    let found = response.launch_template_versions.into_iter().next().unwrap_or_default();
    Ok(TemplateRef {
        id: found.launch_template_id.unwrap_or_default(),
        name: found.launch_template_name.unwrap_or_default(),
        version: found.version_number.unwrap_or_default().to_string(),
    })
}

/// Whether what the group launches now is configured for hibernation.
pub(crate) async fn can_hibernate(ec2: &Client, group: &Group) -> Result<bool, Fault> {
    let named = group.source.template();
    let request = DescribeLaunchTemplateVersionsRequest {
        launch_template_id: Some(named.id.clone()),
        versions: vec![named.version.clone()],
        ..Default::default()
    };
    let found = ec2.call::<DescribeLaunchTemplateVersions>(request).await;
    let found = found.map_err(|it| faults::of_call(&it))?;
    let data = found.launch_template_versions.into_iter().find_map(|it| it.launch_template_data);
    let options = data.and_then(|it| it.hibernation_options);
    Ok(options.and_then(|it| it.configured).unwrap_or(false))
}

/// The zone of each subnet: those named (separated by commas), or the default ones of the zones.
pub(crate) async fn subnets(
    ec2: &Client,
    identifier: Option<&str>,
    zones: &[String],
) -> Result<BTreeMap<String, String>, Fault> {
    let ids: Vec<String> = identifier
        .unwrap_or_default()
        .split(',')
        .map(|it| it.trim().to_owned())
        .filter(|it| !it.is_empty())
        .collect();
    let filter = |name: &str, values: Vec<String>| aws_ec2::common::Filter {
        name: Some(name.to_owned()),
        values,
    };
    let filters = match (ids.is_empty(), zones.is_empty()) {
        (true, true) => {
            return Err(faults::validation(
                "At least one Availability Zone or VPC Subnet is required.",
            ));
        }
        (true, false) => vec![
            filter("availability-zone", zones.to_vec()),
            filter("default-for-az", vec!["true".to_owned()]),
        ],
        (false, _) => Vec::new(),
    };
    let request = DescribeSubnetsRequest { subnet_ids: ids, filters, ..Default::default() };
    let response = ec2.call::<DescribeSubnets>(request).await;
    let response = response.map_err(|it| faults::of_call(&it))?;
    let found: BTreeMap<String, String> = response
        .subnets
        .into_iter()
        .filter_map(|it| Some((it.subnet_id?, it.availability_zone?)))
        .collect();
    match found.is_empty() {
        true => Err(faults::validation("No default subnet was found for the Availability Zones.")),
        false => Ok(found),
    }
}
