//! Queues: made, described, changed, deleted.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use aws_sqs::queue::{
    CreateQueueRequest, CreateQueueResponse, DeleteQueueRequest, DeleteQueueResponse,
    GetQueueAttributesRequest, GetQueueAttributesResponse, GetQueueUrlRequest, GetQueueUrlResponse,
    ListDeadLetterSourceQueuesRequest, ListDeadLetterSourceQueuesResponse, ListQueuesRequest,
    ListQueuesResponse, PurgeQueueRequest, PurgeQueueResponse, SetQueueAttributesRequest,
    SetQueueAttributesResponse,
};
use aws_wire::Fault;
use jiff::Timestamp;
use region_gateway::Caller;

use crate::{
    Sqs, attributes, faults,
    records::{Deleted, Queue},
    tags,
};

/// How long a deleted queue's name is not free, and how long a purge keeps off the next.
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn create(sqs: &Sqs, request: CreateQueueRequest) -> Result<CreateQueueResponse, Fault> {
    let name = &request.queue_name;
    check_name(name)?;
    tags::check(&request.tags)?;
    let now = sqs.now();
    let mut wanted = BTreeMap::new();
    attributes::set(&mut wanted, &request.attributes, &sqs.arn(name))?;
    check_redrive(sqs, &request.attributes)?;
    sqs.transaction(|transaction, tables| {
        if let Some(known) = transaction.get(&tables.queues, name) {
            return is_same(&known, &wanted);
        }
        let is_instant = sqs.config().latency.call.is_zero();
        let deleted = transaction.get(&tables.deleted, name).filter(|_| !is_instant);
        if deleted.is_some_and(|it| clock::later(it.at, MINUTE) > now) {
            return Err(faults::deleted_recently());
        }
        let queue = Queue {
            name: name.clone(),
            id: entropy::uuid(),
            created_at: now,
            modified_at: now,
            purged_at: None,
            attributes: wanted,
            tags: request.tags.clone(),
        };
        transaction.delete(&tables.deleted, name);
        transaction.put(&tables.queues, name.clone(), queue);
        Ok(())
    })?;
    Ok(CreateQueueResponse { queue_url: Some(sqs.url(name)) })
}

/// What is asked for is compared, not what is not.
fn is_same(known: &Queue, wanted: &BTreeMap<String, String>) -> Result<(), Fault> {
    for (name, value) in wanted {
        let current = known.attributes.get(name).map(String::as_str);
        if current.or_else(|| attributes::default(name)) != Some(value) {
            return Err(faults::name_exists(name));
        }
    }
    Ok(())
}

/// Dead letters go to a queue that there is.
fn check_redrive(sqs: &Sqs, given: &BTreeMap<String, String>) -> Result<(), Fault> {
    let Some(value) = given.get("RedrivePolicy").filter(|it| !it.is_empty()) else {
        return Ok(());
    };
    let target = attributes::redrive(value).and_then(|it| sqs.queue_of_arn(&it.target_arn));
    target.map(drop).ok_or_else(|| faults::no_dead_letter_queue(value))
}

fn check_name(name: &str) -> Result<(), Fault> {
    if name.ends_with(".fifo") {
        return Err(faults::unsupported("This region has no FIFO queues."));
    }
    let is_word = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    if name.is_empty() || name.len() > 80 || !name.bytes().all(is_word) {
        return Err(faults::invalid(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        ));
    }
    Ok(())
}

pub(crate) fn url(sqs: &Sqs, request: &GetQueueUrlRequest) -> Result<GetQueueUrlResponse, Fault> {
    let owner = request.queue_owner_aws_account_id.as_deref();
    if owner.is_some_and(|it| it != sqs.config().account) {
        return Err(faults::no_queue());
    }
    let queue = sqs.queue(&request.queue_name)?;
    Ok(GetQueueUrlResponse { queue_url: Some(sqs.url(&queue.name)) })
}

pub(crate) fn list(sqs: &Sqs, request: &ListQueuesRequest) -> Result<ListQueuesResponse, Fault> {
    let prefix = request.queue_name_prefix.as_deref().unwrap_or_default();
    let names = sqs.tables().queues.list();
    let names = names.iter().map(|it| it.name.as_str()).filter(|it| it.starts_with(prefix));
    let (names, next_token) = page(names, request.max_results, request.next_token.as_deref())?;
    let queue_urls = names.into_iter().map(|it| sqs.url(it)).collect();
    Ok(ListQueuesResponse { queue_urls, next_token })
}

/// A page's token is the last name given. Without a limit there is one page of a thousand.
fn page<'a>(
    names: impl Iterator<Item = &'a str>,
    max: Option<i64>,
    token: Option<&str>,
) -> Result<(Vec<&'a str>, Option<String>), Fault> {
    let limit = max.map_or(Ok(1000), usize::try_from).unwrap_or(0);
    if !(1..=1000).contains(&limit) {
        let given = max.unwrap_or_default();
        return Err(faults::out_of_range("MaxResults", given, "must be between 1 and 1000"));
    }
    let mut rest = names.skip_while(|it| token.is_some_and(|token| *it <= token));
    let found: Vec<&str> = rest.by_ref().take(limit).collect();
    let is_more = max.is_some() && rest.next().is_some();
    let token = found.last().filter(|_| is_more).map(|it| (*it).to_owned());
    Ok((found, token))
}

pub(crate) fn attributes(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    request: GetQueueAttributesRequest,
) -> Result<GetQueueAttributesResponse, Fault> {
    let names = &request.attribute_names;
    let unknown = names.iter().find(|it| *it != "All" && !attributes::is_known(it));
    if let Some(name) = unknown {
        return Err(faults::unknown_attribute(name));
    }
    let mut found = shown(sqs, queue);
    if !names.iter().any(|it| it == "All") {
        found.retain(|name, _| names.contains(name));
    }
    Ok(GetQueueAttributesResponse { attributes: found })
}

fn shown(sqs: &Sqs, queue: &Queue) -> BTreeMap<String, String> {
    let now = sqs.now();
    let mut counts = [0_usize; 3];
    sqs.tables().messages.visit(&queue.prefix(), |_, message| {
        let place = match () {
            () if message.is_expired(queue, now) => return ControlFlow::Continue(()),
            () if message.visible_at <= now => 0,
            () if message.is_in_flight(now) => 2,
            () => 1,
        };
        counts[place] += 1;
        ControlFlow::Continue(())
    });
    let [visible, delayed, in_flight] = counts.map(|it| it.to_string());
    let epoch = |at: Timestamp| at.as_second().to_string();
    let mut found: BTreeMap<String, String> =
        attributes::defaults().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    found.extend(queue.attributes.clone());
    let computed = [visible, delayed, in_flight].into_iter().chain([
        epoch(queue.created_at),
        epoch(queue.modified_at),
        sqs.arn(&queue.name),
    ]);
    found.extend(attributes::COMPUTED.map(str::to_owned).into_iter().zip(computed));
    found
}

pub(crate) fn set_attributes(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    request: SetQueueAttributesRequest,
) -> Result<SetQueueAttributesResponse, Fault> {
    let now = sqs.now();
    let arn = sqs.arn(&queue.name);
    check_redrive(sqs, &request.attributes)?;
    sqs.update(&queue.name, |queue| {
        attributes::set(&mut queue.attributes, &request.attributes, &arn)?;
        queue.modified_at = now;
        Ok(())
    })?;
    sqs.wake();
    Ok(SetQueueAttributesResponse {})
}

pub(crate) fn delete(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    _request: DeleteQueueRequest,
) -> Result<DeleteQueueResponse, Fault> {
    let at = sqs.now();
    sqs.transaction(|transaction, tables| {
        let current = transaction.get(&tables.queues, &queue.name).ok_or_else(faults::no_queue)?;
        for (key, _) in tables.messages.under(&current.prefix()) {
            transaction.delete(&tables.messages, &key);
        }
        transaction.delete(&tables.queues, &queue.name);
        for (name, deleted) in tables.deleted.entries() {
            if clock::later(deleted.at, MINUTE) <= at {
                transaction.delete(&tables.deleted, &name);
            }
        }
        transaction.put(&tables.deleted, queue.name.clone(), Deleted { at });
        Ok(())
    })?;
    // Who waits for its messages hears that it is gone.
    sqs.wake();
    Ok(DeleteQueueResponse {})
}

/// Those whose dead letters come here.
pub(crate) fn sources(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    request: ListDeadLetterSourceQueuesRequest,
) -> Result<ListDeadLetterSourceQueuesResponse, Fault> {
    let arn = sqs.arn(&queue.name);
    let all = sqs.tables().queues.list();
    let is_source =
        |it: &&std::sync::Arc<Queue>| it.redrive().is_some_and(|it| it.target_arn == arn);
    let names = all.iter().filter(is_source).map(|it| it.name.as_str());
    let (names, next_token) = page(names, request.max_results, request.next_token.as_deref())?;
    let queue_urls = names.into_iter().map(|it| sqs.url(it)).collect();
    Ok(ListDeadLetterSourceQueuesResponse { queue_urls, next_token })
}

pub(crate) fn purge(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    _request: PurgeQueueRequest,
) -> Result<PurgeQueueResponse, Fault> {
    let now = sqs.now();
    sqs.transaction(|transaction, tables| {
        let current = transaction.get(&tables.queues, &queue.name).ok_or_else(faults::no_queue)?;
        if current.purged_at.is_some_and(|it| clock::later(it, MINUTE) > now) {
            return Err(faults::purge_in_progress(&queue.name));
        }
        for (key, _) in tables.messages.under(&current.prefix()) {
            transaction.delete(&tables.messages, &key);
        }
        transaction.update(&tables.queues, &queue.name, |it| it.purged_at = Some(now));
        Ok(())
    })?;
    Ok(PurgeQueueResponse {})
}
