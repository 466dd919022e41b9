//! Messages on their way in.
//!
//! Source: Amazon SQS API reference, `SendMessage`; developer guide, "Message metadata".

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use aws_sqs::message::{
    MessageAttributeValue, MessageSystemAttributeValue, SendMessageRequest, SendMessageResponse,
};
use aws_wire::Fault;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use region_gateway::Caller;

use crate::{
    Sqs, digest, faults,
    records::{Message, Queue},
    service::Tables,
};

/// Of a message.
const MOST_ATTRIBUTES: usize = 10;
/// How many messages whose time is up are taken away by one that comes in: a queue that nobody reads
/// must not grow for ever.
const EXPIRED_AT_ONCE: usize = 10;

/// What a single call and an entry of a batch have in common.
pub(crate) struct Incoming {
    pub body: String,
    pub delay: Option<i64>,
    pub attributes: BTreeMap<String, MessageAttributeValue>,
    pub system: BTreeMap<String, MessageSystemAttributeValue>,
    pub group_id: Option<String>,
    pub deduplication_id: Option<String>,
}

pub(crate) fn send(
    sqs: &Sqs,
    caller: &Caller,
    queue: &Queue,
    request: SendMessageRequest,
) -> Result<SendMessageResponse, Fault> {
    let incoming = Incoming {
        body: request.message_body,
        delay: request.delay_seconds,
        attributes: request.message_attributes,
        system: request.message_system_attributes,
        group_id: request.message_group_id,
        deduplication_id: request.message_deduplication_id,
    };
    let message = accept(sqs, caller, queue, incoming)?;
    keep(sqs, queue, vec![message.clone()])?;
    Ok(SendMessageResponse {
        md5_of_message_body: Some(digest::of_body(&message.body)),
        md5_of_message_attributes: digest::of_attributes(&message.attributes),
        md5_of_message_system_attributes: digest_of_system(&message),
        message_id: Some(message.id),
        sequence_number: None,
    })
}

pub(crate) fn digest_of_system(message: &Message) -> Option<String> {
    let value = message.trace_header.clone()?;
    let value = MessageAttributeValue {
        string_value: Some(value),
        binary_value: None,
        data_type: "String".to_owned(),
    };
    digest::of_attributes(&BTreeMap::from([("AWSTraceHeader".to_owned(), value)]))
}

/// Checks it; nothing is kept yet.
pub(crate) fn accept(
    sqs: &Sqs,
    caller: &Caller,
    queue: &Queue,
    incoming: Incoming,
) -> Result<Message, Fault> {
    let now = sqs.now();
    check_size(queue, &incoming)?;
    if !incoming.body.chars().all(is_allowed) {
        return Err(faults::bad_contents());
    }
    check_attributes(&incoming.attributes)?;
    if incoming.deduplication_id.is_some() {
        return Err(faults::invalid(
            "The request includes a parameter that is not valid for this queue type.",
        ));
    }
    let delay = match incoming.delay {
        None => queue.seconds("DelaySeconds"),
        Some(seconds @ 0..=900) => Duration::from_secs(seconds.unsigned_abs()),
        Some(seconds) => {
            return Err(faults::out_of_range(
                "DelaySeconds",
                seconds,
                "DelaySeconds must be >= 0 and <= 900",
            ));
        }
    };
    Ok(Message {
        id: entropy::uuid(),
        body: incoming.body,
        attributes: incoming.attributes,
        trace_header: trace_header(incoming.system)?,
        sender_id: caller.user_id.clone(),
        sent_at: now,
        visible_at: clock::later(now, delay),
        receipt: None,
        receives: 0,
        first_received_at: None,
        group_id: incoming.group_id,
        dead_letter_source: None,
    })
}

/// Durable when it returns.
pub(crate) fn keep(sqs: &Sqs, queue: &Queue, messages: Vec<Message>) -> Result<(), Fault> {
    let now = sqs.now();
    if !sqs.has_room_for(messages.iter().map(Message::size).sum()) {
        return Err(faults::throttled());
    }
    sqs.transaction(|transaction, tables| {
        let current = transaction.get(&tables.queues, &queue.name);
        let current = current.filter(|it| it.id == queue.id).ok_or_else(faults::no_queue)?;
        for key in expired(tables, &current, now) {
            transaction.delete(&tables.messages, &key);
        }
        for message in messages {
            transaction.put(&tables.messages, message.key(&current), message);
        }
        Ok(())
    })?;
    sqs.wake();
    Ok(())
}

/// The oldest messages come first; those whose time is up are among them.
fn expired(tables: &Tables, queue: &Queue, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    tables.messages.visit(&queue.prefix(), |key, message| {
        let is_over = message.is_expired(queue, now) && found.len() < EXPIRED_AT_ONCE;
        if !is_over {
            return ControlFlow::Break(());
        }
        found.push(key.to_owned());
        ControlFlow::Continue(())
    });
    found
}

fn check_size(queue: &Queue, incoming: &Incoming) -> Result<(), Fault> {
    if incoming.body.is_empty() {
        return Err(Fault::new(
            "MissingRequiredParameterException",
            "The request must contain the parameter MessageBody.",
        )
        .with_query_code("MissingParameter"));
    }
    let most = queue.number("MaximumMessageSize");
    if i64::try_from(size(incoming)).unwrap_or(i64::MAX) > most {
        return Err(faults::invalid(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {most} bytes."
        )));
    }
    Ok(())
}

/// Body and attributes count, in bytes.
pub(crate) fn size(incoming: &Incoming) -> usize {
    let of_value = |it: &MessageAttributeValue| {
        let text = it.string_value.as_ref().map_or(0, String::len);
        let binary = it.binary_value.as_ref().map_or(0, |it| it.len() / 4 * 3);
        it.data_type.len() + text + binary
    };
    let attributes = incoming.attributes.iter().map(|(name, it)| name.len() + of_value(it));
    incoming.body.len() + attributes.sum::<usize>()
}

/// What XML 1.0 can carry.
fn is_allowed(it: char) -> bool {
    matches!(it, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn check_attributes(attributes: &BTreeMap<String, MessageAttributeValue>) -> Result<(), Fault> {
    if attributes.len() > MOST_ATTRIBUTES {
        return Err(faults::invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{MOST_ATTRIBUTES}].",
            attributes.len()
        )));
    }
    for (name, value) in attributes {
        let is_word = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
        let lower = name.to_ascii_lowercase();
        let is_reserved = lower.starts_with("aws.") || lower.starts_with("amazon.");
        if name.is_empty() || name.len() > 256 || !name.bytes().all(is_word) || is_reserved {
            return Err(faults::invalid(format!(
                "The message attribute name '{name}' is invalid."
            )));
        }
        let kind = value.data_type.split('.').next().unwrap_or_default();
        let is_fit = match kind {
            "String" => value.string_value.as_ref().is_some_and(|it| !it.is_empty()),
            "Number" => value.string_value.as_ref().is_some_and(|it| it.parse::<f64>().is_ok()),
            "Binary" => value.binary_value.as_ref().is_some_and(|it| STANDARD.decode(it).is_ok()),
            _ => false,
        };
        if !is_fit {
            return Err(faults::invalid(format!(
                "The message attribute '{name}' must contain a non-empty message attribute value \
                 of its type '{}'.",
                value.data_type
            )));
        }
    }
    Ok(())
}

fn trace_header(
    system: BTreeMap<String, MessageSystemAttributeValue>,
) -> Result<Option<String>, Fault> {
    let mut found = None;
    for (name, value) in system {
        if name != "AWSTraceHeader" || value.data_type != "String" {
            return Err(faults::invalid(format!(
                "Message system attribute name '{name}' is invalid."
            )));
        }
        found = value.string_value;
    }
    Ok(found)
}
