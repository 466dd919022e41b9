//! Scheduled actions: made, changed, deleted, described. When they run is planned.

use aws_autoscaling::scheduled_action::{
    BatchDeleteScheduledActionRequest, BatchDeleteScheduledActionResponse,
    BatchPutScheduledUpdateGroupActionRequest, BatchPutScheduledUpdateGroupActionResponse,
    DeleteScheduledActionRequest, DeleteScheduledActionResponse, DescribeScheduledActionsRequest,
    DescribeScheduledActionsResponse, FailedScheduledUpdateGroupActionRequest as Failed,
    PutScheduledUpdateGroupActionRequest, PutScheduledUpdateGroupActionResponse,
    ScheduledUpdateGroupAction, ScheduledUpdateGroupActionRequest as Wanted,
};
use aws_wire::Fault;
use cron::{Dialect, Schedule};
use jiff::Timestamp;

use crate::{
    AutoScaling, Call, faults,
    groups::MOST,
    plan::schedule,
    records::{Group, Scheduled},
    shape::{date, page},
};

/// EC2 Auto Scaling's quota.
const MOST_ACTIONS: usize = 125;
/// As many in one call.
const MOST_AT_ONCE: usize = 50;

pub(crate) async fn put(
    service: &AutoScaling,
    call: Call<'_>,
    request: PutScheduledUpdateGroupActionRequest,
) -> Result<PutScheduledUpdateGroupActionResponse, Fault> {
    let wanted = Wanted {
        scheduled_action_name: request.scheduled_action_name,
        start_time: request.start_time.or(request.time),
        end_time: request.end_time,
        recurrence: request.recurrence,
        min_size: request.min_size,
        max_size: request.max_size,
        desired_capacity: request.desired_capacity,
        time_zone: request.time_zone,
    };
    service.update(&request.auto_scaling_group_name, |group, _| put_one(&call, group, &wanted))?;
    Ok(PutScheduledUpdateGroupActionResponse {})
}

/// What is not said of one that is there stays.
fn put_one(call: &Call<'_>, group: &mut Group, wanted: &Wanted) -> Result<(), Fault> {
    let name = &wanted.scheduled_action_name;
    let known = group.scheduled.get(name);
    if known.is_none() && group.scheduled.len() >= MOST_ACTIONS {
        return Err(Fault::new(
            "LimitExceeded",
            format!("Scheduled actions are limited to {MOST_ACTIONS} for each group."),
        ));
    }
    let at = |text: &Option<String>| text.as_deref().map(time).transpose();
    let of = |pick: fn(&Scheduled) -> Option<i64>| known.and_then(pick);
    let (min, max) = (of(|it| it.min), of(|it| it.max));
    let action = Scheduled {
        name: name.clone(),
        arn: known.map_or_else(|| arn(call, group, name), |it| it.arn.clone()),
        start: at(&wanted.start_time)?.or_else(|| known.and_then(|it| it.start)),
        end: at(&wanted.end_time)?.or_else(|| known.and_then(|it| it.end)),
        recurrence: wanted.recurrence.clone().or_else(|| known?.recurrence.clone()),
        time_zone: wanted.time_zone.clone().or_else(|| known?.time_zone.clone()),
        min: wanted.min_size.or(min),
        max: wanted.max_size.or(max),
        desired: wanted.desired_capacity.or(of(|it| it.desired)),
        next: call.now,
    };
    let is_new = wanted.start_time.is_some() || known.is_none();
    let next = first(&action, is_new, call.now)?;
    let is_taken = |it: &Scheduled| it.name != *name && it.next == next;
    if group.scheduled.values().any(is_taken) {
        return Err(Fault::new(
            "AlreadyExists",
            format!("Another scheduled action of the group is at {}.", date(next)),
        ));
    }
    group.scheduled.insert(name.clone(), Scheduled { next, ..action });
    Ok(())
}

/// Checks an action, and says when it runs first.
fn first(action: &Scheduled, is_new: bool, now: Timestamp) -> Result<Timestamp, Fault> {
    let wrong = |message: &str| Err(faults::validation(message));
    let sizes = [action.min, action.max, action.desired];
    if sizes.iter().all(Option::is_none) {
        return wrong("At least one of MinSize, MaxSize or DesiredCapacity must be specified.");
    }
    if sizes.into_iter().flatten().any(|it| !(0..=MOST).contains(&it)) {
        return wrong("MinSize, MaxSize and DesiredCapacity must not be negative.");
    }
    if action.min.zip(action.max).is_some_and(|(min, max)| min > max) {
        return wrong("MinSize must not be greater than MaxSize.");
    }
    if is_new && action.start.is_some_and(|it| it <= now) {
        return wrong("Given start time is in the past");
    }
    if action.end.is_some_and(|end| end <= now || action.start.is_some_and(|it| end <= it)) {
        return wrong("The end time must be after the start time, and in the future.");
    }
    if cron::zone(action.time_zone.as_deref()).is_err() {
        return wrong("Invalid time zone.");
    }
    let expression = action.recurrence.as_deref();
    if expression.is_some_and(|it| Schedule::parse(it, Dialect::AUTO_SCALING).is_err()) {
        return wrong("Given recurrence string is invalid");
    }
    match action.start.filter(|it| *it > now) {
        Some(start) => Ok(start),
        None if expression.is_none() => {
            wrong("Either a start time or a recurrence must be specified.")
        }
        None => schedule::following(action, now)
            .ok_or_else(|| faults::validation("The recurrence never comes before the end time.")),
    }
}

fn time(text: &str) -> Result<Timestamp, Fault> {
    text.parse().map_err(|_| faults::validation(format!("Invalid timestamp: {text}")))
}

fn arn(call: &Call<'_>, group: &Group, name: &str) -> String {
    let (region, account) = (&call.config.region, &call.config.account);
    format!(
        "arn:aws:autoscaling:{region}:{account}:scheduledUpdateGroupAction:{}:autoScalingGroupName/\
         {}:scheduledActionName/{name}",
        entropy::uuid(),
        group.name
    )
}

pub(crate) async fn delete(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DeleteScheduledActionRequest,
) -> Result<DeleteScheduledActionResponse, Fault> {
    let name = &request.scheduled_action_name;
    service.update(&request.auto_scaling_group_name, |group, _| {
        group.scheduled.remove(name).map(drop).ok_or_else(|| no_such_action(name))
    })?;
    Ok(DeleteScheduledActionResponse {})
}

fn no_such_action(name: &str) -> Fault {
    faults::validation(format!("Scheduled action name not found - no scheduled action {name}"))
}

/// Each succeeds or fails alone.
pub(crate) async fn put_some(
    service: &AutoScaling,
    call: Call<'_>,
    request: BatchPutScheduledUpdateGroupActionRequest,
) -> Result<BatchPutScheduledUpdateGroupActionResponse, Fault> {
    few(request.scheduled_update_group_actions.len())?;
    let failed = service.update(&request.auto_scaling_group_name, |group, _| {
        let mut failed = Vec::new();
        for wanted in &request.scheduled_update_group_actions {
            if let Err(fault) = put_one(&call, group, wanted) {
                failed.push(refused(&wanted.scheduled_action_name, fault));
            }
        }
        Ok(failed)
    })?;
    Ok(BatchPutScheduledUpdateGroupActionResponse { failed_scheduled_update_group_actions: failed })
}

pub(crate) async fn delete_some(
    service: &AutoScaling,
    _call: Call<'_>,
    request: BatchDeleteScheduledActionRequest,
) -> Result<BatchDeleteScheduledActionResponse, Fault> {
    few(request.scheduled_action_names.len())?;
    let failed_scheduled_actions =
        service.update(&request.auto_scaling_group_name, |group, _| {
            let mut failed = Vec::new();
            for name in &request.scheduled_action_names {
                if group.scheduled.remove(name).is_none() {
                    failed.push(refused(name, no_such_action(name)));
                }
            }
            Ok(failed)
        })?;
    Ok(BatchDeleteScheduledActionResponse { failed_scheduled_actions })
}

fn few(count: usize) -> Result<(), Fault> {
    match (1..=MOST_AT_ONCE).contains(&count) {
        true => Ok(()),
        false => {
            Err(faults::validation(format!("1 to {MOST_AT_ONCE} scheduled actions can be named.")))
        }
    }
}

fn refused(name: &str, fault: Fault) -> Failed {
    Failed {
        scheduled_action_name: Some(name.to_owned()),
        error_code: Some(fault.code.into_owned()),
        error_message: Some(fault.message),
    }
}

pub(crate) async fn describe(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DescribeScheduledActionsRequest,
) -> Result<DescribeScheduledActionsResponse, Fault> {
    let groups = match &request.auto_scaling_group_name {
        Some(name) => vec![service.group(name)?],
        None => service.groups(),
    };
    let names = &request.scheduled_action_names;
    let bound = |text: &Option<String>| text.as_deref().map(time).transpose();
    let (from, to) = (bound(&request.start_time)?, bound(&request.end_time)?);
    let mut found: Vec<(&Group, &Scheduled)> = groups
        .iter()
        .flat_map(|group| group.scheduled.values().map(move |it| (&**group, it)))
        // Times are for those that are not named.
        .filter(|(_, it)| match names.is_empty() {
            false => names.contains(&it.name),
            true => from.is_none_or(|from| from <= it.next) && to.is_none_or(|to| it.next <= to),
        })
        .collect();
    let key = |(group, it): &(&Group, &Scheduled)| format!("{}/{}", group.name, it.name);
    found.sort_by_key(key);
    let (found, next_token) =
        page(found, request.max_records.or(Some(50)), request.next_token.as_deref(), key)?;
    let scheduled_update_group_actions =
        found.into_iter().map(|(group, it)| answer(group, it)).collect();
    Ok(DescribeScheduledActionsResponse { scheduled_update_group_actions, next_token })
}

fn answer(group: &Group, it: &Scheduled) -> ScheduledUpdateGroupAction {
    ScheduledUpdateGroupAction {
        auto_scaling_group_name: Some(group.name.clone()),
        scheduled_action_name: Some(it.name.clone()),
        scheduled_action_arn: Some(it.arn.clone()),
        time: Some(date(it.next)),
        start_time: Some(date(it.next)),
        end_time: it.end.map(date),
        recurrence: it.recurrence.clone(),
        min_size: it.min,
        max_size: it.max,
        desired_capacity: it.desired,
        time_zone: it.time_zone.clone(),
    }
}
