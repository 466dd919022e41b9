//! Scheduled actions that are due.
//!
//! One that fell due while nobody looked runs once, late; while the process `ScheduledActions` is suspended
//! its times pass. One that never comes again is forgotten.
//!
//! Source: user guide, "Scheduled scaling for Amazon EC2 Auto Scaling".

use cron::{Dialect, Schedule};
use jiff::Timestamp;

use super::{Plan, seconds};
use crate::records::{Activity, ActivityStatus, Group, Scheduled};

pub(super) fn run(plan: &mut Plan, now: Timestamp) {
    let is_suspended = plan.group.is_suspended("ScheduledActions") || plan.group.is_deleting;
    let due = plan.group.scheduled.values().filter(|it| it.next <= now);
    let mut due: Vec<Scheduled> = due.cloned().collect();
    due.sort_by_key(|it| it.next);
    for action in due {
        if !is_suspended {
            apply(plan, &action, now);
        }
        let next = following(&action, now);
        let known = plan.group.scheduled.get_mut(&action.name);
        match next.zip(known) {
            Some((next, known)) => known.next = next,
            None => drop(plan.group.scheduled.remove(&action.name)),
        }
    }
}

/// When one is due.
pub(super) fn wake_at(group: &Group) -> Option<Timestamp> {
    group.scheduled.values().map(|it| it.next).min()
}

/// When it runs after `now`; `None`: never again.
pub(crate) fn following(action: &Scheduled, now: Timestamp) -> Option<Timestamp> {
    let recurrence = Schedule::parse(action.recurrence.as_deref()?, Dialect::AUTO_SCALING).ok()?;
    let zone = cron::zone(action.time_zone.as_deref()).ok()?;
    let next = recurrence.next(now, &zone)?;
    action.end.is_none_or(|end| next <= end).then_some(next)
}

/// Bounds that do not fit together change nothing, and the history tells of it.
fn apply(plan: &mut Plan, action: &Scheduled, now: Timestamp) {
    let group = &mut plan.group;
    let before = group.desired;
    let (min, max) = (action.min.unwrap_or(group.min), action.max.unwrap_or(group.max));
    if min > max {
        let message =
            format!("Max bound, {max}, must be greater than or equal to min bound, {min}");
        return failed(plan, action, message, now);
    }
    let desired = action.desired.unwrap_or(before).clamp(min, max);
    (group.min, group.max, group.desired) = (min, max, desired);
    if desired != before {
        group.last_change = format!(
            "At {} a scheduled action update of AutoScalingGroup constraints to min: {min}, max: \
             {max}, desired: {desired} changing the desired capacity from {before} to {desired}.",
            seconds(now)
        );
        group.retry = None;
    }
}

fn failed(plan: &mut Plan, action: &Scheduled, message: String, now: Timestamp) {
    plan.activities.push(Activity {
        id: entropy::uuid(),
        group: plan.group.name.clone(),
        description: format!("Executing scheduled action {}", action.name),
        cause: format!("At {} a scheduled action was executed.", seconds(now)),
        started_at: now,
        ended_at: Some(now),
        status: ActivityStatus::Failed,
        message: Some(message),
        zone: String::new(),
        subnet: None,
    });
}
