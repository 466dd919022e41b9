//! Instances that EC2 says are ill, or have planned downtime.
//!
//! EC2 is asked each minute. An instance that has failed a check of its own or of the machine under it
//! for two minutes goes at once: it is broken, and nobody would end its pods. Where an event is
//! scheduled the node is drained as after a warning from the queue; the queue need not be there.
//! Without the right to ask, nobody does. Upstream: `pkg/controllers/interruption` and
//! `pkg/providers/instancestatus` of aws/karpenter-provider-aws.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_ec2::instance_state::{InstanceStatus, InstanceStatusSummary};
use aws_wire::client::CallError;
use jiff::{SignedDuration, Timestamp};
use tracing::{error, info, warn};

use super::{Context, interruption::Kind};

const PERIOD: Duration = Duration::from_secs(60);
/// A failed check is borne for so long.
const BORNE: SignedDuration = SignedDuration::from_secs(120);
/// What is asked for: EC2 gives what all filters of one call let through, so each is a call.
const FILTERS: [(&str, &[&str]); 3] = [
    ("instance-status.status", &["impaired"]),
    ("system-status.status", &["impaired"]),
    (
        "event.code",
        &[
            "instance-reboot",
            "system-reboot",
            "system-maintenance",
            "instance-retirement",
            "instance-stop",
        ],
    ),
];

impl Context {
    pub(super) async fn watch_instance_status(&self) {
        // What has been counted: the instance, and what it has.
        let mut known = BTreeSet::new();
        loop {
            match self.ill_instances().await {
                Ok(ill) => self.see_to_ill(&ill, &mut known).await,
                Err(refused) if refused.is("UnauthorizedOperation") => {
                    let refused = telemetry::chain(&refused).to_string();
                    error!(
                        error = refused,
                        "instances' status is not watched: grant ec2:DescribeInstanceStatus"
                    );
                    return;
                }
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), "failed to learn instances' status");
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// What each instance has that is ill.
    async fn ill_instances(&self) -> Result<BTreeMap<String, Vec<Kind>>, CallError> {
        let now = self.clock.now();
        let mut found: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
        for (name, values) in FILTERS {
            for it in self.cloud.instance_statuses(name, values).await? {
                let kinds = illnesses(&it, now);
                if let Some(id) = it.instance_id.filter(|_| !kinds.is_empty()) {
                    found.insert(id, kinds);
                }
            }
        }
        Ok(found)
    }

    async fn see_to_ill(
        &self,
        ill: &BTreeMap<String, Vec<Kind>>,
        known: &mut BTreeSet<(String, &'static str)>,
    ) {
        let mut seen = BTreeSet::new();
        for (id, kinds) in ill {
            let Some(claim) = self.claim_of_instance(id) else { continue };
            for kind in kinds {
                if let Err(error) = self.interrupt(&claim, *kind).await {
                    let error = telemetry::chain(&error);
                    warn!(claim = claim.name(), %error, "left for the next round");
                }
                let category = kind.category();
                if !known.contains(&(id.clone(), category)) {
                    info!(claim = claim.name(), instance = id, category, "ill");
                    let of = [("category", category)];
                    self.metrics.add("interruption_instance_status_unhealthy_total", &of, 1.0);
                }
                seen.insert((id.clone(), category));
            }
        }
        // One that falls ill again is counted again.
        *known = seen;
    }
}

fn illnesses(it: &InstanceStatus, now: Timestamp) -> Vec<Kind> {
    let has_failed = |of: Option<&InstanceStatusSummary>| {
        of.into_iter().flat_map(|it| &it.details).any(|it| {
            let since = it.impaired_since.as_deref().and_then(|it| it.parse::<Timestamp>().ok());
            let is_long = since.is_none_or(|it| now.duration_since(it) >= BORNE);
            it.status.as_deref() == Some("failed") && is_long
        })
    };
    let each = [
        (has_failed(it.instance_status.as_ref()), Kind::InstanceStatus),
        (has_failed(it.system_status.as_ref()), Kind::SystemStatus),
        (!it.events.is_empty(), Kind::EventStatus),
    ];
    each.into_iter().filter(|(is_so, _)| *is_so).map(|(_, kind)| kind).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_failed_check_is_borne_for_two_minutes_and_an_event_not_at_all() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let check = |status: &str, since: &str| {
            json!({ "status": "impaired",
                "details": [{ "name": "reachability", "status": status, "impairedSince": since }] })
        };
        let long = "2026-01-01T00:08:00Z";
        let none = json!({});
        for (instance, system, events, expected) in [
            (check("failed", long), none.clone(), json!([]), &[Kind::InstanceStatus][..]),
            (check("failed", "2026-01-01T00:08:01Z"), none.clone(), json!([]), &[]),
            (check("initializing", long), none.clone(), json!([]), &[]),
            (none.clone(), check("failed", long), json!([]), &[Kind::SystemStatus]),
            (none.clone(), none, json!([{ "code": "system-reboot" }]), &[Kind::EventStatus]),
        ] {
            let status: Value = json!({ "instanceId": "i-1", "instanceStatus": instance,
                "systemStatus": system, "eventsSet": events });
            let it: InstanceStatus = serde_json::from_value(status.clone()).unwrap();
            assert_eq!(illnesses(&it, now), expected, "{status}");
        }
    }
}
