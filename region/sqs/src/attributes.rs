//! A queue's attributes: which there are, what they may be, and what they are where nobody set them.
//!
//! Source: Amazon SQS API reference, `SetQueueAttributes`.

use std::collections::BTreeMap;

use aws_wire::Fault;
use iam_policy::{Kind, Policy};
use serde_json::Value;

use crate::{faults, records::Redrive};

/// Whole numbers: least, most, default.
const NUMBERS: [(&str, i64, i64, &str); 5] = [
    ("VisibilityTimeout", 0, 43_200, "30"),
    ("MaximumMessageSize", 1024, 1 << 20, "1048576"),
    ("MessageRetentionPeriod", 60, 1_209_600, "345600"),
    ("DelaySeconds", 0, 900, "0"),
    ("ReceiveMessageWaitTimeSeconds", 0, 20, "0"),
];
/// Documents: an empty one takes it away.
const DOCUMENTS: [&str; 3] = ["Policy", "RedrivePolicy", "RedriveAllowPolicy"];
const SSE: &str = "SqsManagedSseEnabled";
const OF_FIFO: [&str; 4] =
    ["FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"];
const OF_KMS: [&str; 2] = ["KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"];
/// Nobody sets these.
pub(crate) const COMPUTED: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

/// What it is where nobody set it; `None`: not there.
pub(crate) fn default(name: &str) -> Option<&'static str> {
    let number = NUMBERS.iter().find(|it| it.0 == name).map(|it| it.3);
    number.or_else(|| (name == SSE).then_some("true"))
}

/// Those that every queue has.
pub(crate) fn defaults() -> impl Iterator<Item = (&'static str, &'static str)> {
    NUMBERS.iter().map(|it| (it.0, it.3)).chain([(SSE, "true")])
}

/// Whether `GetQueueAttributes` may be asked for it.
pub(crate) fn is_known(name: &str) -> bool {
    name == SSE
        || NUMBERS.iter().any(|it| it.0 == name)
        || [&DOCUMENTS[..], &OF_FIFO, &OF_KMS, &COMPUTED].iter().any(|it| it.contains(&name))
}

/// Checks each and writes them down.
pub(crate) fn set(
    current: &mut BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
    own_arn: &str,
) -> Result<(), Fault> {
    for (name, value) in given {
        check(name, value, own_arn)?;
        let is_gone = value.is_empty() || OF_FIFO.contains(&name.as_str());
        match is_gone {
            true => drop(current.remove(name)),
            false => drop(current.insert(name.clone(), value.clone())),
        }
    }
    Ok(())
}

fn check(name: &str, value: &str, own_arn: &str) -> Result<(), Fault> {
    let bad = || faults::bad_attribute(name);
    if let Some((_, least, most, _)) = NUMBERS.iter().find(|it| it.0 == name) {
        let number: i64 = value.parse().map_err(|_| bad())?;
        return if (*least..=*most).contains(&number) { Ok(()) } else { Err(bad()) };
    }
    match name {
        SSE if matches!(value, "true" | "false") => Ok(()),
        SSE => Err(bad()),
        _ if DOCUMENTS.contains(&name) => check_document(name, value, own_arn),
        "FifoQueue" if value == "true" => {
            Err(faults::unsupported("This region has no FIFO queues."))
        }
        "FifoQueue" => Err(faults::unknown_attribute(name)),
        _ if OF_FIFO.contains(&name) => Err(faults::invalid(format!(
            "You can specify the {name} only when FifoQueue is set to true."
        ))),
        _ if OF_KMS.contains(&name) && value.is_empty() => Ok(()),
        _ if OF_KMS.contains(&name) => Err(faults::unsupported("This region has no KMS keys.")),
        _ => Err(faults::unknown_attribute(name)),
    }
}

fn check_document(name: &str, value: &str, own_arn: &str) -> Result<(), Fault> {
    let bad = || faults::bad_attribute(name);
    if value.is_empty() {
        return Ok(());
    }
    match name {
        "Policy" => Policy::parse(value, Kind::Resource).map(drop).map_err(|_| bad()),
        "RedrivePolicy" => {
            let redrive = redrive(value).ok_or_else(bad)?;
            let is_queue = redrive.target_arn.starts_with("arn:aws:sqs:");
            let is_fit = is_queue && redrive.target_arn != own_arn;
            if is_fit && (1..=1000).contains(&redrive.max_receives) { Ok(()) } else { Err(bad()) }
        }
        _ => {
            let document: Value = serde_json::from_str(value).map_err(|_| bad())?;
            let has_sources = document["sourceQueueArns"]
                .as_array()
                .is_some_and(|it| (1..=10).contains(&it.len()) && it.iter().all(Value::is_string));
            match document["redrivePermission"].as_str() {
                Some("allowAll" | "denyAll") if document["sourceQueueArns"].is_null() => Ok(()),
                Some("byQueue") if has_sources => Ok(()),
                _ => Err(bad()),
            }
        }
    }
}

/// `None`: it is no redrive policy. Numbers may be written as text.
pub(crate) fn redrive(text: &str) -> Option<Redrive> {
    let document: Value = serde_json::from_str(text).ok()?;
    let most = &document["maxReceiveCount"];
    let most = most.as_u64().or_else(|| most.as_str()?.parse().ok())?;
    Some(Redrive {
        target_arn: document["deadLetterTargetArn"].as_str()?.to_owned(),
        max_receives: most.try_into().ok()?,
    })
}

/// Whether a queue with this `RedriveAllowPolicy` takes dead letters of the queue with that ARN.
pub(crate) fn takes_from(policy: Option<&String>, source_arn: &str) -> bool {
    let Some(document) = policy.and_then(|it| serde_json::from_str::<Value>(it).ok()) else {
        return true;
    };
    let sources = document["sourceQueueArns"].as_array();
    match document["redrivePermission"].as_str() {
        Some("denyAll") => false,
        Some("byQueue") => sources.is_some_and(|it| it.iter().any(|it| *it == source_arn)),
        _ => true,
    }
}
