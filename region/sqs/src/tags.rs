//! Tags on queues.

use std::collections::BTreeMap;

use aws_sqs::tag::{
    ListQueueTagsRequest, ListQueueTagsResponse, TagQueueResponse, UntagQueueRequest,
    UntagQueueResponse,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Sqs, faults, records::Queue};

/// Of a queue.
const MOST: usize = 50;

pub(crate) fn check(tags: &BTreeMap<String, String>) -> Result<(), Fault> {
    if tags.len() > MOST {
        return Err(faults::invalid(format!("Too many tags added: {MOST} at the most.")));
    }
    for (key, value) in tags {
        let is_reserved = key.to_ascii_lowercase().starts_with("aws:");
        if is_reserved || key.is_empty() || key.chars().count() > 128 {
            return Err(faults::invalid(format!("The tag key {key} is not valid.")));
        }
        if value.chars().count() > 256 {
            return Err(faults::invalid(format!("The value of the tag {key} is too long.")));
        }
    }
    Ok(())
}

pub(crate) fn add(
    sqs: &Sqs,
    name: &str,
    tags: BTreeMap<String, String>,
) -> Result<TagQueueResponse, Fault> {
    sqs.update(name, |queue| {
        queue.tags.extend(tags);
        check(&queue.tags)
    })?;
    Ok(TagQueueResponse {})
}

pub(crate) fn remove(
    sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    request: UntagQueueRequest,
) -> Result<UntagQueueResponse, Fault> {
    sqs.update(&queue.name, |queue| {
        queue.tags.retain(|key, _| !request.tag_keys.contains(key));
        Ok(())
    })?;
    Ok(UntagQueueResponse {})
}

pub(crate) fn list(
    _sqs: &Sqs,
    _caller: &Caller,
    queue: &Queue,
    _request: ListQueueTagsRequest,
) -> Result<ListQueueTagsResponse, Fault> {
    Ok(ListQueueTagsResponse { tags: queue.tags.clone() })
}
