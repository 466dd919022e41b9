//! Conditions of Karpenter's objects.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub(super) fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|it| it.type_ == kind && it.status == "True")
}

/// Sets one; its transition is now where its status is another. Whether anything has changed.
pub(super) fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: Option<bool>,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let status = match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let wanted = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
    };
    let Some(known) = conditions.iter_mut().find(|it| it.type_ == kind) else {
        conditions.push(wanted);
        return true;
    };
    let transition = match known.status == wanted.status {
        true => known.last_transition_time.clone(),
        false => wanted.last_transition_time.clone(),
    };
    let wanted = Condition { last_transition_time: transition, ..wanted };
    let is_new = *known != wanted;
    *known = wanted;
    is_new
}

/// `Ready`, from what it depends on.
pub(super) fn set_ready(
    conditions: &mut Vec<Condition>,
    of: &[&str],
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let missing = of.iter().find(|kind| !is_true(conditions, kind));
    let found = missing.and_then(|kind| conditions.iter().find(|it| it.type_ == **kind));
    let (status, reason, message) = match (missing, found) {
        (None, _) => (Some(true), "Ready".to_owned(), String::new()),
        (Some(_), Some(it)) if it.status == "False" => {
            (Some(false), "UnhealthyDependents".to_owned(), format!("{}=False", it.type_))
        }
        (Some(kind), _) => (None, "ReconcilingDependents".to_owned(), format!("{kind}=Unknown")),
    };
    set(conditions, "Ready", status, &reason, &message, generation, now)
}
