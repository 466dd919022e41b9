//! Receipt handles, and what is done with them: deleting a message, hiding it for longer or no more.
//!
//! A handle names the message and the receive. One of an earlier receive deletes nothing, and is no
//! error: AWS's standard queues promise no more.

use std::time::Duration;

use aws_sqs::message::{
    ChangeMessageVisibilityRequest, ChangeMessageVisibilityResponse, DeleteMessageRequest,
    DeleteMessageResponse,
};
use aws_wire::Fault;
use base64::{Engine, engine::general_purpose::STANDARD};
use region_gateway::Caller;

use crate::{
    Sqs, faults,
    records::{Message, Queue},
};

pub(crate) fn handle(key: &str, message: &Message) -> String {
    STANDARD.encode(format!("{key} {}", message.receipt.as_deref().unwrap_or_default()))
}

/// The message's key and the receive's receipt. A handle of another queue is none of this one's.
fn read(queue: &Queue, handle: &str) -> Result<(String, String), Fault> {
    let bytes = STANDARD.decode(handle).ok().and_then(|it| String::from_utf8(it).ok());
    let parts = bytes.as_deref().and_then(|it| it.split_once(' '));
    let (key, receipt) = parts
        .filter(|(key, _)| key.starts_with(&queue.prefix()))
        .ok_or_else(|| faults::bad_handle(handle))?;
    Ok((key.to_owned(), receipt.to_owned()))
}

pub(crate) fn delete(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    request: DeleteMessageRequest,
) -> Result<DeleteMessageResponse, Fault> {
    delete_one(sqs, queue, &request.receipt_handle)?;
    Ok(DeleteMessageResponse {})
}

pub(crate) fn delete_one(sqs: &Sqs, queue: &Queue, handle: &str) -> Result<(), Fault> {
    let (key, receipt) = read(queue, handle)?;
    sqs.transaction(|transaction, tables| {
        let message = transaction.get(&tables.messages, &key);
        if message.is_some_and(|it| it.receipt.as_ref() == Some(&receipt)) {
            transaction.delete(&tables.messages, &key);
        }
        Ok(())
    })
}

pub(crate) fn change(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    request: ChangeMessageVisibilityRequest,
) -> Result<ChangeMessageVisibilityResponse, Fault> {
    change_one(sqs, queue, &request.receipt_handle, request.visibility_timeout)?;
    Ok(ChangeMessageVisibilityResponse {})
}

pub(crate) fn change_one(
    sqs: &Sqs,
    queue: &Queue,
    handle: &str,
    seconds: i64,
) -> Result<(), Fault> {
    if !(0..=43_200).contains(&seconds) {
        let reason = "VisibilityTimeout must be an integer between 0 and 43200";
        return Err(faults::out_of_range("VisibilityTimeout", seconds, reason));
    }
    let (key, receipt) = read(queue, handle)?;
    let now = sqs.now();
    sqs.transaction(|transaction, tables| {
        let message = transaction.get(&tables.messages, &key).ok_or_else(|| {
            faults::invalid(format!(
                "Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not \
                 exist or is not available for visibility timeout change."
            ))
        })?;
        if message.receipt.as_ref() != Some(&receipt) || !message.is_in_flight(now) {
            return Err(faults::not_in_flight("The message referred to isn't in flight."));
        }
        let hidden = Duration::from_secs(seconds.unsigned_abs());
        let changed = Message { visible_at: clock::later(now, hidden), ..Message::clone(&message) };
        transaction.put(&tables.messages, key, changed);
        Ok(())
    })?;
    sqs.wake();
    Ok(())
}
