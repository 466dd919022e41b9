//! `PutEvents`: events come in, and each becomes a delivery for every target that wants it.
//!
//! Source: EventBridge API reference, `PutEvents`; user guide, "AWS service event metadata".

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
    records::Delivery,
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
    let (mut results, mut events) = (Vec::new(), Vec::new());
    for entry in &entries {
        match event(service, caller, entry) {
            Ok(event) => {
                let event_id = event["id"].as_str().map(str::to_owned);
                results.push(PutEventsResultEntry { event_id, ..Default::default() });
                events.push(event);
            }
            Err(fault) => results.push(PutEventsResultEntry {
                error_code: Some(fault.code.into_owned()),
                error_message: Some(fault.message),
                ..Default::default()
            }),
        }
    }
    let failed = results.iter().filter(|it| it.error_code.is_some()).count();
    keep(service, &events)?;
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

/// Durable when it returns.
fn keep(service: &EventBridge, events: &[Value]) -> Result<(), Fault> {
    let armed = service.armed();
    let now = service.now();
    let ingested_at = shown(now);
    let mut deliveries = Vec::new();
    for event in events {
        for (rule, pattern) in &armed {
            if !pattern.matches(event) {
                continue;
            }
            let rule_arn = service.rule_arn(&rule.name);
            let origin =
                Origin { rule_arn: &rule_arn, rule_name: &rule.name, ingested_at: &ingested_at };
            for target in rule.targets.values() {
                deliveries.push(Delivery {
                    body: input::render(target, event, &origin),
                    rule_arn: rule_arn.clone(),
                    target: target.clone(),
                    accepted_at: now,
                    attempts: 0,
                    next_at: now,
                });
            }
        }
    }
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
