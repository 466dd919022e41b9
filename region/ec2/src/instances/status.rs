//! Instance status checks, console output and CPU credits.

use aws_ec2::{
    instance_attribute::{
        DescribeInstanceCreditSpecificationsRequest, DescribeInstanceCreditSpecificationsResponse,
        InstanceCreditSpecification,
    },
    instance_state::{
        DescribeInstanceStatusRequest, DescribeInstanceStatusResponse, GetConsoleOutputRequest,
        GetConsoleOutputResponse, InstanceStatus, InstanceStatusDetails, InstanceStatusSummary,
    },
};
use aws_wire::Fault;
use base64::{Engine, prelude::BASE64_STANDARD};

use super::shape;
use crate::{
    Call, names,
    query::{self, Query, Values, one},
    records::{Instance, InstanceState, StatusCheck},
    state::State,
};

/// Only running instances are listed, unless all are asked for.
pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeInstanceStatusRequest,
) -> Result<DescribeInstanceStatusResponse, Fault> {
    let all = request.include_all_instances == Some(true);
    let named = state.instances.named(&request.instance_ids)?;
    let listed = named.into_iter().filter(|it| all || it.state == InstanceState::Running).collect();
    let found = query::select(
        listed,
        &request.filters,
        |it| &it.tags,
        |it, name| attribute(call, it, name),
    )?;
    let (found, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |it| &it.id)?;
    let instance_statuses = found.into_iter().map(|it| answer(call, it)).collect();
    Ok(DescribeInstanceStatusResponse { instance_statuses, next_token })
}

fn attribute(call: &Call<'_>, instance: &Instance, name: &str) -> Values {
    match name {
        "availability-zone" => one(&instance.zone),
        "availability-zone-id" => one(call.config.zone_id(&instance.zone).unwrap_or_default()),
        "instance-state-name" => one(instance.state.name()),
        "instance-state-code" => one(instance.state.code()),
        "instance-status.status" | "system-status.status" => one(instance.status_check(call.now)),
        "instance-status.reachability" | "system-status.reachability" => {
            one(reachability(instance.status_check(call.now)))
        }
        "event.code"
        | "event.description"
        | "event.instance-event-id"
        | "event.not-after"
        | "event.not-before"
        | "event.not-before-deadline" => Some(Vec::new()),
        _ => None,
    }
}

/// The name of the result that a status comes from.
fn reachability(health: &str) -> &'static str {
    match health {
        "ok" => "passed",
        "impaired" => "failed",
        "initializing" => "initializing",
        _ => "insufficient-data",
    }
}

fn answer(call: &Call<'_>, instance: &Instance) -> InstanceStatus {
    let status = instance.status_check(call.now);
    let impaired_since = match instance.check {
        StatusCheck::Failing { since } if status == "impaired" => Some(names::date(since)),
        _ => None,
    };
    let details = InstanceStatusDetails {
        impaired_since,
        name: Some("reachability".to_owned()),
        status: Some(reachability(status).to_owned()),
    };
    let details = if status == "not-applicable" { Vec::new() } else { vec![details] };
    let summary = InstanceStatusSummary { details, status: Some(status.to_owned()) };
    InstanceStatus {
        availability_zone: Some(instance.zone.clone()),
        availability_zone_id: call.config.zone_id(&instance.zone).map(str::to_owned),
        events: Vec::new(),
        instance_id: Some(instance.id.clone()),
        instance_state: Some(shape::instance_state(instance.state)),
        instance_status: Some(summary.clone()),
        system_status: Some(summary),
    }
}

pub(crate) fn console(
    call: &Call<'_>,
    state: &State,
    request: GetConsoleOutputRequest,
) -> Result<GetConsoleOutputResponse, Fault> {
    let instance = state.instances.find(&request.instance_id)?;
    let output = call.environment.console(&instance.id).map(|it| BASE64_STANDARD.encode(it));
    Ok(GetConsoleOutputResponse {
        instance_id: Some(instance.id.clone()),
        timestamp: Some(names::date(call.now)),
        output,
    })
}

pub(crate) fn describe_credits(
    _call: &Call<'_>,
    state: &State,
    request: DescribeInstanceCreditSpecificationsRequest,
) -> Result<DescribeInstanceCreditSpecificationsResponse, Fault> {
    let query = Query {
        ids: &request.instance_ids,
        filters: &request.filters,
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
    };
    let (found, next_token) = query::run(&state.instances, query, |it, name| match name {
        "instance-id" => one(&it.id),
        _ => None,
    })?;
    let burstable = found.into_iter().filter(|it| it.instance_type.starts_with('t'));
    let answer = |it: &Instance| InstanceCreditSpecification {
        instance_id: Some(it.id.clone()),
        cpu_credits: Some(it.cpu_credits.clone().unwrap_or_else(|| default_credits(it))),
    };
    let instance_credit_specifications = burstable.map(answer).collect();
    Ok(DescribeInstanceCreditSpecificationsResponse { instance_credit_specifications, next_token })
}

fn default_credits(instance: &Instance) -> String {
    if instance.instance_type.starts_with("t2.") { "standard" } else { "unlimited" }.to_owned()
}
