//! Targets of rules.

use aws_events::target::{
    ListTargetsByRuleRequest, ListTargetsByRuleResponse, PutTargetsRequest, PutTargetsResponse,
    RemoveTargetsRequest, RemoveTargetsResponse, Target,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{EventBridge, faults, input, rules};

/// Of a rule.
const MOST: usize = 5;

pub(crate) fn put(
    service: &EventBridge,
    _caller: &Caller,
    request: PutTargetsRequest,
) -> Result<PutTargetsResponse, Fault> {
    service.check_bus(request.event_bus_name.as_deref())?;
    if request.targets.is_empty() {
        return Err(faults::parameter("Targets", "There is none."));
    }
    for target in &request.targets {
        check(service, target)?;
    }
    service.update_rule(&request.rule, |rule| {
        for target in request.targets {
            rule.targets.insert(target.id.clone(), target);
        }
        match rule.targets.len() > MOST {
            true => {
                Err(faults::limit("The requested resource exceeds the maximum number allowed."))
            }
            false => Ok(()),
        }
    })?;
    Ok(PutTargetsResponse { failed_entry_count: Some(0), failed_entries: Vec::new() })
}

fn check(service: &EventBridge, target: &Target) -> Result<(), Fault> {
    let is_word = |it: u8| it.is_ascii_alphanumeric() || b".-_".contains(&it);
    if target.id.is_empty() || target.id.len() > 64 || !target.id.bytes().all(is_word) {
        return Err(faults::parameter("Id", "It has 1 to 64 letters, digits and .-_"));
    }
    queue_url(service, &target.arn)?;
    if let Some(config) = &target.dead_letter_config {
        queue_url(service, config.arn.as_deref().unwrap_or_default())?;
    }
    if let Some(policy) = &target.retry_policy {
        let within =
            |it: Option<i64>, least, most| it.is_none_or(|it| (least..=most).contains(&it));
        if !within(policy.maximum_retry_attempts, 0, 185)
            || !within(policy.maximum_event_age_in_seconds, 60, 86_400)
        {
            return Err(faults::parameter(
                "RetryPolicy",
                "It has 0 to 185 attempts and 60 to 86400 seconds.",
            ));
        }
    }
    let has_group = target.sqs_parameters.as_ref().is_some_and(|it| it.message_group_id.is_some());
    if has_group {
        return Err(faults::parameter(
            "SqsParameters",
            "This region has no FIFO queues, which alone have groups.",
        ));
    }
    input::check(target)
}

/// Where a queue's messages are sent to. Other targets are not served here.
pub(crate) fn queue_url(service: &EventBridge, arn: &str) -> Result<String, Fault> {
    let mut parts = arn.splitn(6, ':');
    let parts: [&str; 6] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let [prefix, "aws", of, region, account, name] = parts else {
        return Err(faults::parameter("Arn", "Provided Arn is not in correct format."));
    };
    if prefix != "arn" || of.is_empty() || name.is_empty() {
        return Err(faults::parameter("Arn", "Provided Arn is not in correct format."));
    }
    let config = service.config();
    if of != "sqs" {
        return Err(faults::parameter(
            "Arn",
            &format!("{of} is not supported as a target in this region: SQS queues are."),
        ));
    }
    if region != config.region || account != config.account {
        return Err(faults::parameter(
            "Arn",
            "The queue must be in the rule's region and account.",
        ));
    }
    Ok(format!("https://sqs.{region}.amazonaws.com/{account}/{name}"))
}

pub(crate) fn list(
    service: &EventBridge,
    _caller: &Caller,
    request: ListTargetsByRuleRequest,
) -> Result<ListTargetsByRuleResponse, Fault> {
    service.check_bus(request.event_bus_name.as_deref())?;
    let rule = service.rule(&request.rule)?;
    let all = rule.targets.values().map(|it| (&*it.id, it.clone()));
    let (targets, next_token) = rules::page(all, request.limit, request.next_token.as_deref())?;
    Ok(ListTargetsByRuleResponse { targets, next_token })
}

/// One that is not there is removed already.
pub(crate) fn remove(
    service: &EventBridge,
    _caller: &Caller,
    request: RemoveTargetsRequest,
) -> Result<RemoveTargetsResponse, Fault> {
    service.check_bus(request.event_bus_name.as_deref())?;
    service.update_rule(&request.rule, |rule| {
        rule.targets.retain(|id, _| !request.ids.contains(id));
        Ok(())
    })?;
    Ok(RemoveTargetsResponse { failed_entry_count: Some(0), failed_entries: Vec::new() })
}
