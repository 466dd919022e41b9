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

/// `Ready`, from what it depends on: all that is not true of the object as it is now, the latest first.
/// What nothing is known of yet is `Unknown`.
pub(super) fn set_ready(
    conditions: &mut Vec<Condition>,
    of: &[&str],
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let mut is_new = false;
    for kind in of {
        if !conditions.iter().any(|it| it.type_ == *kind) {
            let (reason, message) = ("AwaitingReconciliation", "object is awaiting reconciliation");
            is_new |= set(conditions, kind, None, reason, message, generation, now);
        }
    }
    let is_old = |it: &Condition| it.observed_generation != generation;
    let is_of = |it: &&Condition| of.contains(&it.type_.as_str());
    let mut missing: Vec<_> =
        conditions.iter().filter(is_of).filter(|it| it.status != "True" || is_old(it)).collect();
    missing.sort_by(|a, b| {
        let by_time = b.last_transition_time.0.cmp(&a.last_transition_time.0);
        by_time.then_with(|| a.type_.cmp(&b.type_))
    });
    let is_unhealthy = missing.iter().any(|it| it.status == "False" && !is_old(it));
    let (status, reason) = match (missing.is_empty(), is_unhealthy) {
        (true, _) => (Some(true), "Ready"),
        (false, true) => (Some(false), "UnhealthyDependents"),
        (false, false) => (None, "ReconcilingDependents"),
    };
    let each = missing.iter().map(|it| format!("{}={}", it.type_, it.status));
    let message = each.collect::<Vec<_>>().join(", ");
    set(conditions, "Ready", status, reason, &message, generation, now) || is_new
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: [&str; 3] = ["Launched", "Registered", "Initialized"];

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(conditions: &mut Vec<Condition>, generation: i64) -> (String, String, String) {
        set_ready(conditions, &OF, Some(generation), at(9));
        let it = conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        (it.status.clone(), it.reason.clone(), it.message.clone())
    }

    fn said(status: &str, reason: &str, message: &str) -> (String, String, String) {
        (status.to_owned(), reason.to_owned(), message.to_owned())
    }

    #[test]
    fn ready_names_all_that_is_not_true_the_latest_first() {
        let mut all = Vec::new();
        let nothing = "Initialized=Unknown, Launched=Unknown, Registered=Unknown";
        assert_eq!(ready(&mut all, 1), said("Unknown", "ReconcilingDependents", nothing));
        for kind in OF {
            assert!(all.iter().any(|it| it.type_ == kind && it.status == "Unknown"), "{kind}");
        }
        set(&mut all, "Launched", Some(true), "Launched", "", Some(1), at(10));
        set(&mut all, "Registered", Some(false), "NodeNotFound", "", Some(1), at(11));
        let two = "Registered=False, Initialized=Unknown";
        assert_eq!(ready(&mut all, 1), said("False", "UnhealthyDependents", two));
        for kind in OF {
            set(&mut all, kind, Some(true), kind, "", Some(1), at(12));
        }
        assert_eq!(ready(&mut all, 1), said("True", "Ready", ""));
    }

    #[test]
    fn what_was_true_of_an_older_generation_is_looked_at_again() {
        let mut all = Vec::new();
        for (kind, generation) in OF.into_iter().zip([2, 2, 1]) {
            set(&mut all, kind, Some(true), kind, "", Some(generation), at(1));
        }
        let old = "Initialized=True";
        assert_eq!(ready(&mut all, 2), said("Unknown", "ReconcilingDependents", old));
        set(&mut all, "Initialized", Some(false), "NodeNotReady", "", Some(1), at(2));
        assert_eq!(ready(&mut all, 2).0, "Unknown", "a failure of an older generation");
    }
}
