//! Receiving: which messages, hidden for how long, and waiting for those that are not there yet.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use aws_sqs::message::{self, ReceiveMessageRequest, ReceiveMessageResponse};
use aws_wire::Fault;
use jiff::Timestamp;

use crate::{
    Sqs, attributes, digest, faults, receipts,
    records::{Message, Queue},
    service::Tables,
};

/// Of a standard queue.
const MOST_IN_FLIGHT: usize = 120_000;
const SYSTEM_ATTRIBUTES: [&str; 10] = [
    "All",
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

struct Wanted {
    most: usize,
    hidden: Duration,
    attributes: Vec<String>,
    system: Vec<String>,
}

pub(crate) async fn receive(
    sqs: &Sqs,
    queue: &Queue,
    request: ReceiveMessageRequest,
) -> Result<ReceiveMessageResponse, Fault> {
    let seconds = |name: &str, given: Option<i64>, most: i64, by: &str| match given {
        None => Ok(queue.seconds(by)),
        Some(it) if (0..=most).contains(&it) => Ok(Duration::from_secs(it.unsigned_abs())),
        Some(it) => {
            Err(faults::out_of_range(name, it, &format!("Must be >= 0 and <= {most}, if provided")))
        }
    };
    let asked = request.max_number_of_messages.unwrap_or(1);
    let most = usize::try_from(asked).ok().filter(|it| (1..=10).contains(it));
    let most = most.ok_or_else(|| {
        faults::out_of_range("MaxNumberOfMessages", asked, "Must be between 1 and 10, if provided")
    })?;
    let mut system = request.attribute_names;
    system.extend(request.message_system_attribute_names);
    if let Some(name) = system.iter().find(|it| !SYSTEM_ATTRIBUTES.contains(&it.as_str())) {
        return Err(faults::unknown_attribute(name));
    }
    let wanted = Wanted {
        most,
        hidden: seconds(
            "VisibilityTimeout",
            request.visibility_timeout,
            43_200,
            "VisibilityTimeout",
        )?,
        attributes: request.message_attribute_names,
        system,
    };
    let wait =
        seconds("WaitTimeSeconds", request.wait_time_seconds, 20, "ReceiveMessageWaitTimeSeconds")?;
    let messages = wait_for(sqs, queue, &wanted, wait).await?;
    Ok(ReceiveMessageResponse { messages })
}

/// Answers as soon as there is something, and at the end with nothing.
async fn wait_for(
    sqs: &Sqs,
    queue: &Queue,
    wanted: &Wanted,
    wait: Duration,
) -> Result<Vec<message::Message>, Fault> {
    let until = tokio::time::Instant::now() + wait;
    let mut sent = sqs.sent();
    loop {
        sent.mark_unchanged();
        let Taken { messages, next, .. } = take(sqs, queue, wanted)?;
        let is_over = tokio::time::Instant::now() >= until;
        if !messages.is_empty() || is_over {
            return Ok(messages);
        }
        let due = async {
            match next {
                None => std::future::pending().await,
                Some(at) => tokio::time::sleep(sqs.clock().until(at)).await,
            }
        };
        tokio::select! {
            changed = sent.changed() => if changed.is_err() { return Ok(Vec::new()) },
            () = due => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

#[derive(Default)]
struct Taken {
    messages: Vec<message::Message>,
    /// When the next hidden message is to be seen.
    next: Option<Timestamp>,
    /// Something has gone to a dead-letter queue.
    has_moved: bool,
}

/// Hides what it gives. Letters that were received too often go to the dead-letter queue instead, and
/// those whose time is up go.
fn take(sqs: &Sqs, queue: &Queue, wanted: &Wanted) -> Result<Taken, Fault> {
    let now = sqs.now();
    if let Look::Until(next) = look(sqs, queue, now) {
        sqs.queue(&queue.name)?;
        return Ok(Taken { next, ..Taken::default() });
    }
    let taken = sqs.transaction(|transaction, tables| {
        let current = transaction.get(&tables.queues, &queue.name);
        let current = current.filter(|it| it.id == queue.id).ok_or_else(faults::no_queue)?;
        let dead = dead_letters(sqs, &current);
        let mut taken = Taken::default();
        let most_receives = dead.as_ref().map(|(_, most)| *most);
        for (key, message) in chosen(tables, &current, wanted.most, most_receives, now)? {
            if message.is_expired(&current, now) {
                transaction.delete(&tables.messages, &key);
                continue;
            }
            if let Some((target, most)) = &dead
                && message.receives >= *most
            {
                let moved = Message {
                    visible_at: now,
                    receipt: None,
                    dead_letter_source: Some(sqs.arn(&current.name)),
                    ..Message::clone(&message)
                };
                transaction.delete(&tables.messages, &key);
                transaction.put(&tables.messages, moved.key(target), moved);
                taken.has_moved = true;
                continue;
            }
            let received = received(&message, now, wanted.hidden);
            taken.messages.push(shown(&received, &key, wanted));
            transaction.put(&tables.messages, key, received);
        }
        if taken.messages.is_empty() {
            // What was due has gone: the next look sees when something else is.
            taken.next = Some(now);
        }
        Ok(taken)
    })?;
    if taken.has_moved {
        sqs.wake();
    }
    Ok(taken)
}

/// What there is to receive.
enum Look {
    Due,
    /// Nothing before then.
    Until(Option<Timestamp>),
}

fn look(sqs: &Sqs, queue: &Queue, now: Timestamp) -> Look {
    let mut found = Look::Until(None);
    sqs.tables().messages.visit(&queue.prefix(), |_, message| {
        if message.visible_at <= now {
            found = Look::Due;
            return ControlFlow::Break(());
        }
        if let Look::Until(next) = &mut found {
            *next = Some(next.map_or(message.visible_at, |it| it.min(message.visible_at)));
        }
        ControlFlow::Continue(())
    });
    found
}

/// How many of those that nobody receives any more go in one transaction.
const LEAVING_AT_ONCE: usize = 1000;

/// What a receive looks at more closely: as many as are wanted, the dead letters before them, and
/// those whose time is up.
fn chosen(
    tables: &Tables,
    queue: &Queue,
    most: usize,
    most_receives: Option<u32>,
    now: Timestamp,
) -> Result<Vec<(String, Arc<Message>)>, Fault> {
    let (mut found, mut wanted, mut in_flight) = (Vec::new(), 0, 0);
    tables.messages.visit(&queue.prefix(), |key, message| {
        in_flight += usize::from(message.is_in_flight(now));
        let is_leaving = message.is_expired(queue, now)
            || message.visible_at <= now && most_receives.is_some_and(|it| message.receives >= it);
        let is_wanted = match is_leaving {
            true => found.len() - wanted < LEAVING_AT_ONCE && wanted < most,
            false => message.visible_at <= now && wanted < most,
        };
        if is_wanted {
            wanted += usize::from(!is_leaving);
            found.push((key.to_owned(), message.clone()));
        }
        ControlFlow::Continue(())
    });
    if in_flight >= MOST_IN_FLIGHT { Err(faults::over_limit()) } else { Ok(found) }
}

/// Where the queue's dead letters go, and after how many receives. A queue that is not there, or does
/// not take them, leaves them where they are.
fn dead_letters(sqs: &Sqs, queue: &Queue) -> Option<(Arc<Queue>, u32)> {
    let redrive = queue.redrive()?;
    let target = sqs.queue_of_arn(&redrive.target_arn)?;
    let allowed = target.attributes.get("RedriveAllowPolicy");
    let takes = attributes::takes_from(allowed, &sqs.arn(&queue.name));
    takes.then_some((target, redrive.max_receives))
}

fn received(message: &Message, now: Timestamp, hidden: Duration) -> Message {
    Message {
        visible_at: clock::later(now, hidden),
        receipt: Some(entropy::uuid()),
        receives: message.receives.saturating_add(1),
        first_received_at: message.first_received_at.or(Some(now)),
        ..message.clone()
    }
}

fn shown(message: &Message, key: &str, wanted: &Wanted) -> message::Message {
    let mut attributes = message.attributes.clone();
    attributes.retain(|name, _| {
        wanted.attributes.iter().any(|it| match it.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => it == name || matches!(it.as_str(), "All" | "*"),
        })
    });
    let milliseconds = |at: Timestamp| Some(at.as_millisecond().to_string());
    let system = [
        ("SenderId", Some(message.sender_id.clone())),
        ("SentTimestamp", milliseconds(message.sent_at)),
        ("ApproximateReceiveCount", Some(message.receives.to_string())),
        ("ApproximateFirstReceiveTimestamp", message.first_received_at.and_then(milliseconds)),
        ("MessageGroupId", message.group_id.clone()),
        ("AWSTraceHeader", message.trace_header.clone()),
        ("DeadLetterQueueSourceArn", message.dead_letter_source.clone()),
    ];
    let is_wanted = |name: &str| wanted.system.iter().any(|it| it == "All" || it == name);
    let system = system.into_iter().filter(|(name, _)| is_wanted(name));
    message::Message {
        message_id: Some(message.id.clone()),
        receipt_handle: Some(receipts::handle(key, message)),
        md5_of_body: Some(digest::of_body(&message.body)),
        body: Some(message.body.clone()),
        attributes: system.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
        md5_of_message_attributes: digest::of_attributes(&attributes),
        message_attributes: attributes,
    }
}
