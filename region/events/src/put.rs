//! `PutEvents`: events come in, and each becomes a delivery for every target that wants it.
//!
//! Deviation: deliveries on their way hold 64 MiB at the most; an entry for which there is no room, and
//! those after it, are refused (`ThrottlingException`); one that alone would hold more than that is
//! none that could ever be taken (`InvalidArgument`).
//!
//! Source: EventBridge API reference, `PutEvents`; user guide, "AWS service event metadata".

use std::sync::Arc;

use aws_events::event::{
    PutEventsRequest, PutEventsRequestEntry, PutEventsResponse, PutEventsResultEntry,
};
use aws_wire::Fault;
use jiff::Timestamp;
use region_gateway::Caller;
use serde_json::{Value, json};

use crate::{
    EventBridge, faults,
    input::{self, Origin},
    pattern::Pattern,
    records::{Delivery, Rule},
};

const MOST: usize = 10;
/// All entries of a call together, in bytes.
const LARGEST: usize = 1 << 20;

pub(crate) fn put(
    service: &EventBridge,
    caller: &Caller,
    request: PutEventsRequest,
) -> Result<PutEventsResponse, Fault> {
    let entries = request.entries;
    if entries.is_empty() || entries.len() > MOST {
        return Err(faults::invalid(format!(
            "1 validation error detected: Value at 'entries' failed to satisfy constraint: Member \
             must have between 1 and {MOST} entries"
        )));
    }
    if entries.iter().map(size).sum::<usize>() > LARGEST {
        return Err(faults::invalid("Total size of the entries in the request is over the limit."));
    }
    let mut results = Vec::new();
    let mut batch = Batch::new(service);
    for entry in &entries {
        match event(service, caller, entry).and_then(|it| batch.add(service, it)) {
            Ok(id) => {
                results.push(PutEventsResultEntry { event_id: Some(id), ..Default::default() });
            }
            Err(fault) => results.push(PutEventsResultEntry {
                error_code: Some(fault.code.into_owned()),
                error_message: Some(fault.message),
                ..Default::default()
            }),
        }
    }
    let failed = results.iter().filter(|it| it.error_code.is_some()).count();
    batch.keep(service)?;
    Ok(PutEventsResponse { failed_entry_count: i64::try_from(failed).ok(), entries: results })
}

fn size(entry: &PutEventsRequestEntry) -> usize {
    let texts = [&entry.source, &entry.detail_type, &entry.detail];
    let texts = texts.into_iter().flatten().chain(&entry.resources);
    texts.map(String::len).sum::<usize>() + entry.time.map_or(0, |_| 14)
}

/// The event as rules and targets see it.
fn event(
    service: &EventBridge,
    caller: &Caller,
    entry: &PutEventsRequestEntry,
) -> Result<Value, Fault> {
    service.check_bus(entry.event_bus_name.as_deref())?;
    let required = |name: &str, value: &Option<String>| {
        value.clone().filter(|it| !it.is_empty()).ok_or_else(|| {
            Fault::new(
                "InvalidArgument",
                format!("Parameter {name} is not valid. Reason: {name} is a required argument."),
            )
        })
    };
    let source = required("Source", &entry.source)?;
    let detail_type = required("DetailType", &entry.detail_type)?;
    let detail = required("Detail", &entry.detail)?;
    // Only AWS itself speaks for AWS.
    if source.starts_with("aws.") && !caller.is_service() {
        return Err(Fault::new(
            "NotAuthorizedForSourceException",
            "Not authorized for the source.",
        ));
    }
    let detail: Value = serde_json::from_str(&detail)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Fault::new("MalformedDetail", "Detail is malformed."))?;
    let config = service.config();
    Ok(json!({
        "version": "0",
        "id": entropy::uuid(),
        "detail-type": detail_type,
        "source": source,
        "account": config.account,
        "time": shown(entry.time.and_then(from_epoch).unwrap_or_else(|| service.now())),
        "region": config.region,
        "resources": entry.resources,
        "detail": detail,
    }))
}

#[expect(clippy::cast_possible_truncation, reason = "dates are far from the limits of an i64")]
fn from_epoch(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()
}

/// `2026-11-23T12:00:00Z`
fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What deliveries on their way hold at the most, in bytes: one call can be for hundreds of rules with
/// five targets each.
const MOST_HELD: usize = 64 << 20;

/// Whoever sent it again would hear the same for ever.
fn never_fits() -> Fault {
    Fault::new(
        "InvalidArgument",
        format!(
            "Parameter Detail is not valid. Reason: What the matching rules make of it for all their \
             targets is more than {} MiB.",
            MOST_HELD >> 20
        ),
    )
}

/// The deliveries of one call.
struct Batch {
    armed: Vec<(Arc<Rule>, Pattern)>,
    now: Timestamp,
    ingested_at: String,
    deliveries: Vec<Delivery>,
    /// By what is on its way already too.
    held: usize,
    is_full: bool,
}

impl Batch {
    fn new(service: &EventBridge) -> Self {
        let now = service.now();
        Self {
            armed: service.armed(),
            now,
            ingested_at: shown(now),
            deliveries: Vec::new(),
            held: service.held(),
            is_full: false,
        }
    }

    /// Takes an event as a whole or not at all; nor any after it, so that they stay in their order.
    fn add(&mut self, service: &EventBridge, event: Value) -> Result<String, Fault> {
        let throttled = || Fault::new("ThrottlingException", "Rate exceeded");
        if self.is_full {
            return Err(throttled());
        }
        let before = self.deliveries.len();
        let mut needed = 0;
        for (rule, pattern) in &self.armed {
            if !pattern.matches(&event) {
                continue;
            }
            let rule_arn = service.rule_arn(&rule.name);
            let origin = Origin {
                rule_arn: &rule_arn,
                rule_name: &rule.name,
                ingested_at: &self.ingested_at,
            };
            for target in rule.targets.values() {
                let delivery = Delivery {
                    body: input::render(target, &event, &origin),
                    rule_arn: rule_arn.clone(),
                    target: target.clone(),
                    accepted_at: self.now,
                    attempts: 0,
                    next_at: self.now,
                };
                needed += delivery.size();
                self.is_full |= self.held + needed > MOST_HELD;
                if self.is_full {
                    self.deliveries.truncate(before);
                } else {
                    self.deliveries.push(delivery);
                }
                if needed > MOST_HELD {
                    // It is not the others that it has no room beside: they are taken.
                    self.is_full = false;
                    return Err(never_fits());
                }
            }
        }
        if self.is_full {
            return Err(throttled());
        }
        self.held += needed;
        Ok(event["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Durable when it returns.
    fn keep(self, service: &EventBridge) -> Result<(), Fault> {
        let Self { deliveries, now, .. } = self;
        if deliveries.is_empty() {
            return Ok(());
        }
        service.change_deliveries(|transaction, bucket| {
            for (index, delivery) in deliveries.into_iter().enumerate() {
                // In the order in which they came.
                let key = format!("{:020}-{index:04}-{}", now.as_nanosecond(), entropy::hex(8));
                transaction.put(bucket, key, delivery);
            }
        })?;
        service.accepted().notify_one();
        Ok(())
    }
}
