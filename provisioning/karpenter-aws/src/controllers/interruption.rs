//! Warnings from the queue: instances that are to go are replaced before they do.
//!
//! EventBridge's rules put EC2's and Health's events on one SQS queue. Who is told that it will be
//! interrupted, or is stopped by somebody, has its NodeClaim deleted: its node takes no more pods,
//! what is on it is decided on anew at once, and it is drained while the replacement boots. What a
//! Spot Instance is taken away from is left alone for three minutes.
//!
//! A message is taken off the queue once all its claims are seen to; one that says nothing to
//! Karpenter, at once. Upstream: `pkg/controllers/interruption` of aws/karpenter-provider-aws.
//! Deviation: zonal shifts are not followed.

use std::{sync::Arc, time::Duration};

use api_kube::karpenter::{NodeClaim, capacity_types, labels};
use aws_sqs::{
    message::{
        DeleteMessage, DeleteMessageRequest, Message, ReceiveMessage, ReceiveMessageRequest,
    },
    queue::{GetQueueUrl, GetQueueUrlRequest},
};
use aws_wire::client::CallError;
use controller::{ApplyError, EventType};
use jiff::Timestamp;
use serde_json::Value;
use tracing::{info, warn};

use super::Context;
use crate::cloud::instance_id;

const AGAIN: Duration = Duration::from_secs(1);
/// As many messages as SQS gives at once, waited for as long as it lets one wait; another reader
/// may have them after as long again.
const MOST_MESSAGES: i64 = 10;
const WAIT_SECONDS: i64 = 20;

/// What a message is about, or EC2's answer when it is asked how an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    SpotInterruption,
    RebalanceRecommendation,
    ScheduledChange,
    Stopping,
    Terminating,
    CapacityReservationInterruption,
    InstanceStatus,
    SystemStatus,
    EventStatus,
}

impl Kind {
    /// Upstream's name of it, in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::SpotInterruption => "spot_interrupted",
            Self::RebalanceRecommendation => "rebalance_recommendation",
            Self::ScheduledChange => "scheduled_change",
            Self::Stopping => "instance_stopped",
            Self::Terminating => "instance_terminated",
            Self::CapacityReservationInterruption => "capacity_reservation_interrupted",
            Self::InstanceStatus => "instance_status",
            Self::SystemStatus => "system_status",
            Self::EventStatus => "event_status",
        }
    }

    /// Upstream's name of what EC2 has answered.
    pub(super) fn category(self) -> &'static str {
        match self {
            Self::InstanceStatus => "InstanceStatus",
            Self::SystemStatus => "SystemStatus",
            _ => "EventStatus",
        }
    }

    /// Whether the instance is broken: nothing on it is waited for.
    fn is_broken(self) -> bool {
        matches!(self, Self::InstanceStatus | Self::SystemStatus)
    }

    /// Whether the node goes.
    fn ends(self) -> bool {
        self != Self::RebalanceRecommendation
    }

    /// The event that says so.
    fn event(self) -> (EventType, &'static str, &'static str) {
        use EventType::{Normal, Warning};
        match self {
            Self::SpotInterruption => {
                (Warning, "SpotInterrupted", "Spot interruption warning was triggered")
            }
            Self::RebalanceRecommendation => (
                Normal,
                "SpotRebalanceRecommendation",
                "Spot rebalance recommendation was triggered",
            ),
            Self::ScheduledChange
            | Self::InstanceStatus
            | Self::SystemStatus
            | Self::EventStatus => (
                Warning,
                "InstanceUnhealthy",
                "An unhealthy warning was triggered for the instance",
            ),
            Self::Stopping => (Warning, "InstanceStopping", "Instance is stopping"),
            Self::Terminating => (Warning, "InstanceTerminating", "Instance is terminating"),
            Self::CapacityReservationInterruption => (
                Warning,
                "CapacityReservationInstanceInterrupted",
                "Capacity reservation interruption warning was triggered",
            ),
        }
    }
}

/// What a message says, and of which instances.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice {
    kind: Kind,
    instances: Vec<String>,
}

/// `None`: it says nothing to Karpenter.
pub(super) fn parse(body: &str) -> Option<Notice> {
    let event: Value = serde_json::from_str(body).ok()?;
    let detail = &event["detail"];
    let of_one = |kind| {
        let id = detail["instance-id"].as_str()?;
        Some(Notice { kind, instances: vec![id.to_owned()] })
    };
    match (event["source"].as_str()?, event["detail-type"].as_str()?) {
        ("aws.ec2", "EC2 Spot Instance Interruption Warning") => of_one(Kind::SpotInterruption),
        ("aws.ec2", "EC2 Instance Rebalance Recommendation") => {
            of_one(Kind::RebalanceRecommendation)
        }
        ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning") => {
            of_one(Kind::CapacityReservationInterruption)
        }
        ("aws.ec2", "EC2 Instance State-change Notification") => match detail["state"].as_str()? {
            "stopping" | "stopped" => of_one(Kind::Stopping),
            "shutting-down" | "terminated" => of_one(Kind::Terminating),
            _ => None,
        },
        ("aws.health", "AWS Health Event") => {
            let is_meant =
                detail["service"] == "EC2" && detail["eventTypeCategory"] == "scheduledChange";
            let entities = detail["affectedEntities"].as_array().filter(|_| is_meant)?;
            let ids = entities.iter().filter_map(|it| it["entityValue"].as_str());
            Some(Notice {
                kind: Kind::ScheduledChange,
                instances: ids.map(str::to_owned).collect(),
            })
        }
        _ => None,
    }
}

impl Context {
    /// Reads the queue until it is dropped; does nothing where no queue is named.
    pub(super) async fn watch_interruptions(&self) {
        let Some(queue) = self.config.interruption_queue.clone() else { return };
        let mut url = None;
        loop {
            if let Err(error) = self.receive(&queue, &mut url).await {
                warn!(queue, error = %telemetry::chain(&error), "failed to read the queue");
                // It may have been made anew.
                url = None;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn receive(&self, queue: &str, url: &mut Option<String>) -> Result<(), CallError> {
        let at = match url {
            Some(known) => known.clone(),
            None => {
                let request = GetQueueUrlRequest {
                    queue_name: queue.to_owned(),
                    ..GetQueueUrlRequest::default()
                };
                let found = self.cloud.aws.call::<GetQueueUrl>(request).await?;
                url.insert(found.queue_url.unwrap_or_default()).clone()
            }
        };
        let request = ReceiveMessageRequest {
            queue_url: at.clone(),
            max_number_of_messages: Some(MOST_MESSAGES),
            visibility_timeout: Some(WAIT_SECONDS),
            wait_time_seconds: Some(WAIT_SECONDS),
            attribute_names: vec!["SentTimestamp".to_owned()],
            ..ReceiveMessageRequest::default()
        };
        let received = self.cloud.aws.call::<ReceiveMessage>(request).await?;
        for message in received.messages {
            if let Err(error) = self.heed(&message).await {
                // It comes again.
                warn!(error = %telemetry::chain(&error), "a message could not be followed");
                continue;
            }
            let request = DeleteMessageRequest {
                queue_url: at.clone(),
                receipt_handle: message.receipt_handle.unwrap_or_default(),
            };
            self.cloud.aws.call::<DeleteMessage>(request).await?;
            self.metrics.add("interruption_deleted_messages_total", &[], 1.0);
        }
        Ok(())
    }

    async fn heed(&self, message: &Message) -> Result<(), ApplyError> {
        let notice = parse(message.body.as_deref().unwrap_or_default());
        let kind = notice.as_ref().map_or("no_op", |it| it.kind.name());
        self.metrics.add("interruption_received_messages_total", &[("message_type", kind)], 1.0);
        let sent = message.attributes.get("SentTimestamp").and_then(|it| it.parse().ok());
        if let Some(sent) = sent.and_then(|it| Timestamp::from_millisecond(it).ok()) {
            let waited = self.clock.now().duration_since(sent).as_secs_f64();
            self.metrics.observe("interruption_message_queue_duration_seconds", &[], waited);
        }
        let Some(Notice { kind, instances }) = notice else { return Ok(()) };
        for id in &instances {
            if let Some(claim) = self.claim_of_instance(id) {
                self.interrupt(&claim, kind).await?;
            }
        }
        Ok(())
    }

    pub(super) fn claim_of_instance(&self, id: &str) -> Option<Arc<NodeClaim>> {
        self.claims.all().into_iter().find(|it| {
            let provider = it.status.as_ref().and_then(|it| it.provider_id.as_deref());
            provider.and_then(instance_id) == Some(id)
        })
    }

    pub(super) async fn interrupt(&self, claim: &NodeClaim, kind: Kind) -> Result<(), ApplyError> {
        let of = |key: &str| {
            let marks = claim.metadata.labels.as_ref();
            marks.and_then(|it| it.get(key)).cloned().unwrap_or_default()
        };
        if kind == Kind::SpotInterruption {
            let (name, zone) = (of(labels::INSTANCE_TYPE), of(labels::ZONE));
            self.mark_unavailable("", &name, &zone, capacity_types::SPOT);
        }
        if kind == Kind::CapacityReservationInterruption {
            self.take_room(&of(labels::CAPACITY_RESERVATION_ID), true);
        }
        let node = self.node_of(claim);
        let name = node.as_ref().and_then(|it| it.metadata.name.as_deref());
        // Whoever runs on Spot is to know of it at the pod.
        let pods = name.filter(|_| kind == Kind::SpotInterruption);
        let pods = pods.map(|it| self.pods_on(it)).unwrap_or_default();
        self.events.interrupted(kind.event(), claim, node.as_deref(), &pods);
        if kind.is_broken() {
            self.end_grace_period(claim).await?;
        }
        if !kind.ends() || claim.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        self.events.terminating_on_interruption(claim, node.as_deref());
        info!(claim = claim.name(), kind = kind.name(), "interrupted");
        self.count_disrupted(claim, kind.name());
        self.delete_claim(claim, kind.name()).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(source: &str, kind: &str, detail: Value) -> Option<Notice> {
        let event = json!({ "version": "0", "source": source, "detail-type": kind,
            "detail": detail });
        parse(&event.to_string())
    }

    #[test]
    fn messages_say_which_instances_are_to_go() {
        let state = "EC2 Instance State-change Notification";
        for (kind, detail, expected) in [
            ("EC2 Spot Instance Interruption Warning", json!({}), Some(Kind::SpotInterruption)),
            (
                "EC2 Instance Rebalance Recommendation",
                json!({}),
                Some(Kind::RebalanceRecommendation),
            ),
            (
                "EC2 Capacity Reservation Instance Interruption Warning",
                json!({}),
                Some(Kind::CapacityReservationInterruption),
            ),
            (state, json!({ "state": "stopping" }), Some(Kind::Stopping)),
            (state, json!({ "state": "shutting-down" }), Some(Kind::Terminating)),
            (state, json!({ "state": "running" }), None),
            ("EBS Volume Notification", json!({}), None),
        ] {
            let mut detail = detail;
            detail["instance-id"] = json!("i-1");
            let expected = expected.map(|kind| Notice { kind, instances: vec!["i-1".to_owned()] });
            assert_eq!(of("aws.ec2", kind, detail.clone()), expected, "{kind} {detail}");
        }
        assert_eq!(of("theirs", "EC2 Spot Instance Interruption Warning", json!({})), None);
        assert_eq!(parse("no event"), None);
    }

    #[test]
    fn a_scheduled_change_names_several_instances() {
        let detail = |category: &str| {
            json!({ "service": "EC2", "eventTypeCategory": category,
                "affectedEntities": [{ "entityValue": "i-1" }, { "entityValue": "i-2" }] })
        };
        let found = of("aws.health", "AWS Health Event", detail("scheduledChange")).unwrap();
        assert_eq!(found.kind, Kind::ScheduledChange);
        assert_eq!(found.instances, ["i-1", "i-2"]);
        assert_eq!(of("aws.health", "AWS Health Event", detail("issue")), None);
    }
}
