//! Whether a node was heard of, and what its conditions become when it was not.

use std::time::Duration;

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};

/// The conditions that a kubelet reports.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What was last seen of a node, and when by our own clock.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    heard: Timestamp,
    renewed: Option<Timestamp>,
    reported: Option<Timestamp>,
}

impl Heartbeat {
    /// A node that is seen for the first time gets its full grace period.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { heard: now, renewed: None, reported: None }
    }

    pub(super) fn see_lease(&mut self, renewed: Option<Timestamp>, now: Timestamp) {
        if renewed.is_some() && renewed != self.renewed {
            self.renewed = renewed;
            self.heard = now;
        }
    }

    pub(super) fn see_node(&mut self, node: &Node, now: Timestamp) {
        let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
        let reported = conditions.filter_map(|it| it.last_heartbeat_time.as_ref()).map(|it| it.0);
        let reported = reported.max();
        if reported.is_some() && reported != self.reported {
            self.reported = reported;
            self.heard = now;
        }
    }

    pub(super) fn is_silent(&self, now: Timestamp, grace: Duration) -> bool {
        now >= self.heard + grace
    }
}

/// The status of the `Ready` condition.
pub(super) fn ready(node: &Node) -> Option<&str> {
    status_of(node, "Ready")
}

pub(super) fn status_of<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|it| it.type_ == kind).map(|it| it.status.as_str())
}

/// The conditions of a node that fell silent, or `None` when they say so already.
pub(super) fn unknown(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let known = node.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let mut conditions = known.clone();
    for kind in REPORTED {
        match conditions.iter_mut().find(|it| it.type_ == kind) {
            Some(it) if it.status == "Unknown" => {}
            Some(it) => {
                it.status = "Unknown".into();
                it.reason = Some("NodeStatusUnknown".into());
                it.message = Some("Kubelet stopped posting node status.".into());
                it.last_transition_time = Some(object::time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(object::time(now)),
            }),
        }
    }
    (conditions != known).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GRACE: Duration = Duration::from_secs(40);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_node_is_silent_after_the_grace_period_and_not_one_moment_earlier() {
        let mut heartbeat = Heartbeat::new(at(0));
        assert!(!heartbeat.is_silent(at(39), GRACE));
        assert!(heartbeat.is_silent(at(40), GRACE));
        heartbeat.see_lease(Some(at(1000)), at(30));
        assert!(!heartbeat.is_silent(at(69), GRACE), "our clock counts, not the node's");
        heartbeat.see_lease(Some(at(1000)), at(60));
        assert!(heartbeat.is_silent(at(70), GRACE), "the same renewal is no news");
    }

    #[test]
    fn silence_makes_every_condition_unknown_once() {
        let mut node: Node = serde_json::from_value(json!({ "status": { "conditions": [
            { "type": "Ready", "status": "True", "reason": "KubeletReady" },
            { "type": "Custom", "status": "True" } ] } }))
        .unwrap();
        let conditions = unknown(&node, at(0)).unwrap();
        assert_eq!(conditions.len(), 5);
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].status, "True");
        assert_eq!(conditions[2].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        node.status.as_mut().unwrap().conditions = Some(conditions);
        assert_eq!(unknown(&node, at(9)), None);
    }
}
