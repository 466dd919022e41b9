//! What the API server knows of a pod whose kubelet cannot be asked: its node's state, the pod's
//! conditions and events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Node, NodeCondition, Pod, PodStatus};
use kube::{Api, Client, api::ListParams};
use serde::Serialize;

/// Why there is no timeline, and what is known instead.
#[derive(Debug, Serialize)]
pub(super) struct Unreachable {
    pub(super) node: String,
    /// What asking the kubelet came to.
    pub(super) why: String,
    /// The node's `Ready` condition; none where the node is gone or has none yet.
    pub(super) ready: Option<Ready>,
    pub(super) events: Vec<Happened>,
}

#[derive(Debug, Serialize)]
pub(super) struct Ready {
    pub(super) status: String,
    pub(super) since: Option<Timestamp>,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A condition that changed or an event, of the pod or of its node.
#[derive(Debug, Serialize)]
pub(super) struct Happened {
    pub(super) at: Timestamp,
    pub(super) what: String,
    pub(super) detail: String,
}

/// What was told about the pod; nothing where that cannot be had.
pub(super) async fn events(client: &Client, pod: &Pod) -> Vec<Event> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let events = Api::<Event>::namespaced(client.clone(), namespace);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let selector = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    events.list(&selector).await.map(|it| it.items).unwrap_or_default()
}

/// Asks for the node. What cannot be had is left out: the reader has a reason already.
pub(super) async fn of(
    client: &Client,
    pod: &Pod,
    node: &str,
    why: String,
    events: &[Event],
) -> Unreachable {
    let nodes = Api::<Node>::all(client.clone());
    let found = nodes.get_opt(node).await.ok().flatten();
    let ready = found.as_ref().and_then(ready);
    let status = pod.status.clone().unwrap_or_default();
    let node = node.to_owned();
    Unreachable { node, why, ready, events: history(&status, events) }
}

fn ready(node: &Node) -> Option<Ready> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let NodeCondition { status, reason, message, last_transition_time, .. } =
        conditions.iter().find(|it| it.type_ == "Ready")?.clone();
    Some(Ready {
        status,
        since: last_transition_time.map(|it| it.0),
        reason: reason.unwrap_or_default(),
        message: message.unwrap_or_default(),
    })
}

/// In the order in which it happened.
fn history(status: &PodStatus, events: &[Event]) -> Vec<Happened> {
    let mut all: Vec<_> = events.iter().filter_map(event).collect();
    for it in status.conditions.iter().flatten() {
        let Some(at) = it.last_transition_time.as_ref() else { continue };
        let words = [it.reason.as_deref(), it.message.as_deref()];
        let detail: Vec<_> = words.into_iter().flatten().filter(|it| !it.is_empty()).collect();
        let what = format!("{} became {}", it.type_, it.status);
        all.push(Happened { at: at.0, what, detail: detail.join(": ") });
    }
    all.sort_by_key(|it| it.at);
    all
}

fn event(event: &Event) -> Option<Happened> {
    let last = event.last_timestamp.as_ref().map(|it| it.0);
    let at = last
        .or_else(|| event.event_time.as_ref().map(|it| it.0))
        .or_else(|| event.first_timestamp.as_ref().map(|it| it.0))?;
    let mut detail = event.message.clone().unwrap_or_default();
    if let Some(count) = event.count.filter(|it| *it > 1) {
        detail += &format!(" ({count} times)");
    }
    Some(Happened { at, what: event.reason.clone().unwrap_or_default(), detail })
}

/// For people.
pub(super) fn rendered(it: &Unreachable) -> String {
    let Unreachable { node, why, ready, events } = it;
    let mut text = format!("The kubelet of node {node} cannot be reached: {why}\n");
    match ready {
        None => text += &format!("Node {node} is gone, or has told nothing of itself yet.\n"),
        Some(Ready { status, since, reason, message }) => {
            let word = if status == "True" { "Ready" } else { "NotReady" };
            let since = since.map(|it| format!(" since {it}")).unwrap_or_default();
            text += &format!("Node {node} is {word}{since} ({reason}: {message})\n");
        }
    }
    if ready.as_ref().is_some_and(|it| it.status == "True") {
        text += "Its security group may keep the control plane from port 10250, or its kubelet \
                 stopped a moment ago.\n";
    }
    if events.is_empty() {
        return text;
    }
    text += "\nWhat the API server knows:\n";
    let mut table = super::plain_table();
    table.set_header(["AT", "WHAT", "DETAIL"]);
    for Happened { at, what, detail } in events {
        table.add_row([at.to_string(), what.clone(), detail.clone()]);
    }
    text + &format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dead_nodes_pod_is_told_from_conditions_and_events_in_their_order() {
        let node: Node = serde_json::from_value(json!({ "status": { "conditions": [{
            "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
            "lastTransitionTime": "2026-01-01T00:10:00Z",
        }] } }))
        .unwrap();
        let status: PodStatus = serde_json::from_value(json!({ "conditions": [
            { "type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:10:05Z" },
            { "type": "PodScheduled", "status": "True",
              "lastTransitionTime": "2026-01-01T00:00:00Z" },
        ] }))
        .unwrap();
        let event: Event = serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "reason": "BackOff", "message": "no image",
            "count": 3, "lastTimestamp": "2026-01-01T00:05:00Z",
        }))
        .unwrap();
        let told = rendered(&Unreachable {
            node: "n1".to_owned(),
            why: "no answer within 2s".to_owned(),
            ready: ready(&node),
            events: history(&status, &[event]),
        });
        let lines: Vec<_> = told.lines().map(str::trim).collect();
        assert_eq!(lines[0], "The kubelet of node n1 cannot be reached: no answer within 2s");
        assert_eq!(
            lines[1],
            "Node n1 is NotReady since 2026-01-01T00:10:00Z \
             (NodeStatusUnknown: Kubelet stopped posting node status.)"
        );
        let rows: Vec<_> = lines[5..].iter().map(|it| it.split_whitespace().nth(1)).collect();
        assert_eq!(rows, [Some("PodScheduled"), Some("BackOff"), Some("Ready")]);
        assert!(told.contains("no image (3 times)"), "{told}");
    }

    #[test]
    fn a_ready_node_that_does_not_answer_points_at_the_firewall() {
        let told = rendered(&Unreachable {
            node: "n1".to_owned(),
            why: "dial tcp 10.0.0.1:10250: i/o timeout".to_owned(),
            ready: Some(Ready {
                status: "True".to_owned(),
                since: None,
                reason: "KubeletReady".to_owned(),
                message: "kubelet is posting ready status".to_owned(),
            }),
            events: Vec::new(),
        });
        assert!(told.contains("security group") && told.contains("10250"), "{told}");
    }
}
