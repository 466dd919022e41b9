//! One launch: the request is fixed and written down, sent under its token, and what came of it is
//! written down again. Each step can be repeated.

use std::collections::BTreeMap;

use aws_ec2::{
    common::{TagInput, TagSpecification},
    instance::Instance,
    run_instances::{
        InstanceMarketOptionsRequest, LaunchTemplateSpecification, RunInstances,
        RunInstancesRequest,
    },
};
use aws_wire::{CallError, Client};

use crate::{
    AutoScaling,
    plan::retry_at,
    records::{ActivityStatus, Group, Launch, LaunchRequest, Member, MemberState, Source},
    requirements, template,
};

/// Tries the launch, and says whether it succeeded. A failure is written into the group's history
/// and delays the next try.
pub(crate) async fn launch(
    service: &AutoScaling,
    ec2: &Client,
    group: &Group,
    launch: Launch,
) -> bool {
    let outcome = attempt(service, ec2, group, &launch).await;
    let is_launched = outcome.is_ok();
    let written = match outcome {
        Ok((request, instance)) => succeeded(service, &group.name, &launch, request, &instance),
        Err(error) => failed(service, &group.name, &launch, &error),
    };
    if let Err(fault) = written {
        tracing::warn!(group = group.name, %fault, "the outcome of a launch was not written down");
    }
    is_launched
}

async fn attempt(
    service: &AutoScaling,
    ec2: &Client,
    group: &Group,
    launch: &Launch,
) -> Result<(LaunchRequest, Instance), CallError> {
    let request = match &launch.request {
        Some(request) => request.clone(),
        None => fix_request(service, ec2, group, launch).await?,
    };
    let mut request = request;
    loop {
        let error = match ec2.call::<RunInstances>(wire(launch, &request)).await {
            Ok(response) => {
                let instance = response.instances.into_iter().next().unwrap_or_default();
                return Ok((request, instance));
            }
            Err(error) => error,
        };
        // Another type may have room where this one has none.
        if request.alternatives.is_empty() || !NO_ROOM.iter().any(|it| error.is(it)) {
            return Err(error);
        }
        let next = request.alternatives.remove(0);
        request.tried += 1;
        request.weight = next.weight;
        (request.instance_type, request.image_id) = (next.instance_type, next.image_id);
        write_down(service, group, launch, &request)?;
    }
}

/// What EC2 says where a type cannot be had for now.
const NO_ROOM: [&str; 5] = [
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    "Unsupported",
    "VcpuLimitExceeded",
];

/// Resolves what may change (the template's version) and writes it down under the token.
async fn fix_request(
    service: &AutoScaling,
    ec2: &Client,
    group: &Group,
    launch: &Launch,
) -> Result<LaunchRequest, CallError> {
    let named = group.source.template();
    let template = template::resolve(ec2, Some(named.id.clone()), None, &named.version).await?;
    let mut alternatives = requirements::alternatives(ec2, group, launch.is_spot).await?;
    let first = (!alternatives.is_empty()).then(|| alternatives.remove(0));
    let mut tags: BTreeMap<String, String> = group
        .tags
        .iter()
        .filter(|(_, tag)| tag.propagates)
        .map(|(key, tag)| (key.clone(), tag.value.clone()))
        .collect();
    tags.insert("aws:autoscaling:groupName".to_owned(), group.name.clone());
    tags.insert("aws:ec2launchtemplate:id".to_owned(), template.id.clone());
    tags.insert("aws:ec2launchtemplate:version".to_owned(), template.version.clone());
    let request = LaunchRequest {
        template,
        instance_type: first.as_ref().and_then(|it| it.instance_type.clone()),
        image_id: first.as_ref().and_then(|it| it.image_id.clone()),
        tags,
        alternatives,
        tried: 0,
        weight: first.map_or(1, |it| it.weight),
    };
    write_down(service, group, launch, &request)?;
    Ok(request)
}

fn write_down(
    service: &AutoScaling,
    group: &Group,
    launch: &Launch,
    request: &LaunchRequest,
) -> Result<(), CallError> {
    let written = service.update(&group.name, |group, _| {
        if let Some(known) = group.launches.get_mut(&launch.activity) {
            known.request = Some(request.clone());
            known.weight = request.weight;
        }
        Ok(())
    });
    written.map_err(|fault| CallError::Service { service: "autoscaling", action: "Launch", fault })
}

fn wire(launch: &Launch, request: &LaunchRequest) -> RunInstancesRequest {
    let tag = |(key, value): (&String, &String)| TagInput {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    let tags = TagSpecification {
        resource_type: Some("instance".to_owned()),
        tags: request.tags.iter().map(tag).collect(),
    };
    RunInstancesRequest {
        min_count: 1,
        max_count: 1,
        // Each type is a request of its own.
        client_token: Some(match request.tried {
            0 => launch.activity.clone(),
            tried => format!("{}-{tried}", launch.activity),
        }),
        subnet_id: Some(launch.subnet.clone()),
        instance_type: request.instance_type.clone(),
        image_id: request.image_id.clone(),
        instance_market_options: launch.is_spot.then(|| InstanceMarketOptionsRequest {
            market_type: Some("spot".to_owned()),
            ..Default::default()
        }),
        launch_template: Some(LaunchTemplateSpecification {
            launch_template_id: Some(request.template.id.clone()),
            version: Some(request.template.version.clone()),
            ..Default::default()
        }),
        tag_specifications: vec![tags],
        ..Default::default()
    }
}

fn succeeded(
    service: &AutoScaling,
    group: &str,
    launch: &Launch,
    request: LaunchRequest,
    instance: &Instance,
) -> Result<(), aws_wire::Fault> {
    let id = instance.instance_id.clone().unwrap_or_default();
    let now = service.now();
    service.update(group, |group, history| {
        group.launches.remove(&launch.activity);
        group.retry = None;
        group.failed_zones.remove(&launch.zone);
        history.change(&launch.activity, |it| {
            it.description = format!("Launching a new EC2 instance: {id}");
            it.status = ActivityStatus::PreInService;
        });
        let member = Member {
            instance_id: id.clone(),
            instance_type: instance.instance_type.clone().unwrap_or_default(),
            zone: launch.zone.clone(),
            state: match launch.is_warm {
                true => MemberState::WarmedPending,
                false => MemberState::Pending,
            },
            is_healthy: true,
            unhealthy_by: Default::default(),
            is_protected: false,
            is_spot: launch.is_spot,
            template: request.template,
            launched_at: now,
            activity: Some(launch.activity.clone()),
            waits: BTreeMap::new(),
            weight: request.weight,
            is_from_pool: false,
            is_returning: false,
            leaves: None,
        };
        group.members.insert(id.clone(), member);
        Ok(())
    })
}

/// As the history has it; groups of a mixed instances policy say more.
fn told(group: &Group, launch: &Launch, error: &CallError) -> String {
    let Some(fault) = error.fault() else {
        return format!("{error}. Launching EC2 instance failed.");
    };
    let message = &fault.message;
    match &group.source {
        Source::Template(_) => format!("{message} Launching EC2 instance failed."),
        Source::Mixed { .. } => {
            let what = if launch.is_spot { "Spot" } else { "On-Demand" };
            let code = &fault.code;
            format!(
                "Could not launch {what} Instances. {code} - {message} Launching EC2 instance failed."
            )
        }
    }
}

fn failed(
    service: &AutoScaling,
    group: &str,
    launch: &Launch,
    error: &CallError,
) -> Result<(), aws_wire::Fault> {
    let now = service.now();
    tracing::warn!(group, %error, "a launch failed");
    service.update(group, |group, history| {
        let message = told(group, launch, error);
        // A refused launch made nothing; one that got no answer is asked about again, by its token.
        if error.fault().is_some() {
            group.launches.remove(&launch.activity);
            history.change(&launch.activity, |it| {
                it.status = ActivityStatus::Failed;
                it.ended_at = Some(now);
                it.message = Some(message.clone());
            });
        }
        let failures = group.retry.map_or(0, |(_, failures)| failures) + 1;
        group.retry = Some((retry_at(now, failures), failures));
        group.failed_zones.insert(launch.zone.clone());
        if group.failed_zones.len() >= group.zones().len() {
            group.failed_zones.clear();
        }
        Ok(())
    })
}
