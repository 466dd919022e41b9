//! The conditions of the node.
//!
//! Deviation: `DiskFillingUp` is a condition that upstream does not have: it comes before
//! `DiskPressure`, taints nothing and refuses no pod.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::NodeCondition, apimachinery::pkg::apis::meta::v1::Time};

/// What presses on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
    /// A disk is more than 85 % full.
    pub filling: bool,
}

struct Draft {
    kind: &'static str,
    is_true: bool,
    reason: &'static str,
    message: String,
}

/// All conditions. `problem` is why the node is not ready.
pub(super) fn all(
    earlier: &[NodeCondition],
    problem: Option<&str>,
    pressure: Pressure,
    now: Timestamp,
) -> Vec<NodeCondition> {
    let pressed = |kind, is_true, yes: [&'static str; 2], no: [&'static str; 2]| {
        let [reason, message] = if is_true { yes } else { no };
        Draft { kind, is_true, reason, message: message.to_owned() }
    };
    let drafts = [
        pressed(
            "MemoryPressure",
            pressure.memory,
            ["KubeletHasInsufficientMemory", "kubelet has insufficient memory available"],
            ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
        ),
        pressed(
            "DiskPressure",
            pressure.disk,
            ["KubeletHasDiskPressure", "kubelet has disk pressure"],
            ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
        ),
        pressed(
            "PIDPressure",
            pressure.pids,
            ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
            ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
        ),
        pressed(
            "DiskFillingUp",
            pressure.filling,
            ["KubeletDiskFillingUp", "a disk of the node is more than 85% full"],
            ["KubeletDiskHasRoom", "the disks of the node have room"],
        ),
        ready(problem),
    ];
    drafts.into_iter().map(|draft| finished(earlier, draft, now)).collect()
}

fn ready(problem: Option<&str>) -> Draft {
    let (reason, message) = match problem {
        None => ("KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(problem) => ("KubeletNotReady", problem.to_owned()),
    };
    Draft { kind: "Ready", is_true: problem.is_none(), reason, message }
}

fn finished(earlier: &[NodeCondition], draft: Draft, now: Timestamp) -> NodeCondition {
    let status = if draft.is_true { "True" } else { "False" };
    let since = earlier
        .iter()
        .find(|it| it.type_ == draft.kind && it.status == status)
        .and_then(|it| it.last_transition_time.clone());
    NodeCondition {
        type_: draft.kind.to_owned(),
        status: status.to_owned(),
        reason: Some(draft.reason.to_owned()),
        message: Some(draft.message),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_heartbeat_moves_only_the_heartbeat() {
        let first = Timestamp::UNIX_EPOCH;
        let later = first + Duration::from_secs(300);
        let before = all(&[], None, Pressure::default(), first);
        let after = all(&before, None, Pressure::default(), later);
        let ready = after.iter().find(|it| it.type_ == "Ready").unwrap();
        assert_eq!(ready.last_transition_time, Some(Time(first)));
        assert_eq!(ready.last_heartbeat_time, Some(Time(later)));
        let broken = all(&after, Some("no network"), Pressure::default(), later);
        let ready = broken.iter().find(|it| it.type_ == "Ready").unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.last_transition_time.clone()),
            ("False", Some(Time(later)))
        );
    }
}
