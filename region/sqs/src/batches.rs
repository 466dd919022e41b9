//! Batches: each entry succeeds or fails by itself.

use std::collections::BTreeSet;

use aws_sqs::batch::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequest,
    ChangeMessageVisibilityBatchResponse, ChangeMessageVisibilityBatchResultEntry,
    DeleteMessageBatchRequest, DeleteMessageBatchResponse, DeleteMessageBatchResultEntry,
    SendMessageBatchRequest, SendMessageBatchResponse, SendMessageBatchResultEntry,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{
    Sqs, digest,
    messages::{self, Incoming},
    receipts,
    records::Queue,
};

const MOST: usize = 10;
/// All messages of a batch together, in bytes.
const LARGEST: usize = 1 << 20;

fn check<'a>(ids: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    let ids: Vec<&str> = ids.collect();
    let is_word = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    let is_id = |it: &&str| (1..=80).contains(&it.len()) && it.bytes().all(is_word);
    match () {
        () if ids.is_empty() => Err(Fault::new(
            "EmptyBatchRequest",
            "There should be at least one entry in the request.",
        )
        .with_query_code("AWS.SimpleQueueService.EmptyBatchRequest")),
        () if ids.len() > MOST => Err(Fault::new(
            "TooManyEntriesInBatchRequest",
            format!(
                "Maximum number of entries per request are {MOST}. You have sent {}.",
                ids.len()
            ),
        )
        .with_query_code("AWS.SimpleQueueService.TooManyEntriesInBatchRequest")),
        () if !ids.iter().all(is_id) => Err(Fault::new(
            "InvalidBatchEntryId",
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It \
             can be at most 80 letters long.",
        )
        .with_query_code("AWS.SimpleQueueService.InvalidBatchEntryId")),
        () if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() => {
            Err(Fault::new("BatchEntryIdsNotDistinct", "Two or more batch entries have the same Id.")
                .with_query_code("AWS.SimpleQueueService.BatchEntryIdsNotDistinct"))
        }
        () => Ok(()),
    }
}

fn failed(id: String, fault: Fault) -> BatchResultErrorEntry {
    let code = fault.query_code().map_or_else(|| fault.code.to_string(), str::to_owned);
    let sender_fault = !fault.status.is_server_error();
    BatchResultErrorEntry { id, sender_fault, code, message: Some(fault.message) }
}

pub(crate) fn send(
    sqs: &Sqs,
    caller: &Caller,
    queue: &Queue,
    request: SendMessageBatchRequest,
) -> Result<SendMessageBatchResponse, Fault> {
    check(request.entries.iter().map(|it| it.id.as_str()))?;
    let (mut response, mut accepted) = (SendMessageBatchResponse::default(), Vec::new());
    let mut size = 0;
    for entry in request.entries {
        let incoming = Incoming {
            body: entry.message_body,
            delay: entry.delay_seconds,
            attributes: entry.message_attributes,
            system: entry.message_system_attributes,
            group_id: entry.message_group_id,
            deduplication_id: entry.message_deduplication_id,
        };
        size += messages::size(&incoming);
        match messages::accept(sqs, caller, queue, incoming) {
            Err(fault) => response.failed.push(failed(entry.id, fault)),
            Ok(message) => {
                response.successful.push(SendMessageBatchResultEntry {
                    id: entry.id,
                    message_id: message.id.clone(),
                    md5_of_message_body: digest::of_body(&message.body),
                    md5_of_message_attributes: digest::of_attributes(&message.attributes),
                    md5_of_message_system_attributes: messages::digest_of_system(&message),
                    sequence_number: None,
                });
                accepted.push(message);
            }
        }
    }
    if size > LARGEST {
        return Err(Fault::new(
            "BatchRequestTooLong",
            format!(
                "Batch requests cannot be longer than {LARGEST} bytes. You have sent {size} bytes."
            ),
        )
        .with_query_code("AWS.SimpleQueueService.BatchRequestTooLong"));
    }
    messages::keep(sqs, queue, accepted)?;
    Ok(response)
}

pub(crate) fn delete(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    request: DeleteMessageBatchRequest,
) -> Result<DeleteMessageBatchResponse, Fault> {
    check(request.entries.iter().map(|it| it.id.as_str()))?;
    let mut response = DeleteMessageBatchResponse::default();
    for entry in request.entries {
        match receipts::delete_one(sqs, queue, &entry.receipt_handle) {
            Ok(()) => response.successful.push(DeleteMessageBatchResultEntry { id: entry.id }),
            Err(fault) => response.failed.push(failed(entry.id, fault)),
        }
    }
    Ok(response)
}

pub(crate) fn change(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    request: ChangeMessageVisibilityBatchRequest,
) -> Result<ChangeMessageVisibilityBatchResponse, Fault> {
    check(request.entries.iter().map(|it| it.id.as_str()))?;
    let mut response = ChangeMessageVisibilityBatchResponse::default();
    for entry in request.entries {
        let seconds = entry.visibility_timeout.unwrap_or_else(|| queue.number("VisibilityTimeout"));
        match receipts::change_one(sqs, queue, &entry.receipt_handle, seconds) {
            Ok(()) => {
                let done = ChangeMessageVisibilityBatchResultEntry { id: entry.id };
                response.successful.push(done);
            }
            Err(fault) => response.failed.push(failed(entry.id, fault)),
        }
    }
    Ok(response)
}
