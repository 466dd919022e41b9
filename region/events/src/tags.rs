//! Tags on rules.

use std::{collections::BTreeMap, sync::Arc};

use aws_events::tag::{
    ListTagsForResourceRequest, ListTagsForResourceResponse, Tag, TagResourceRequest,
    TagResourceResponse, UntagResourceRequest, UntagResourceResponse,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{EventBridge, faults, records::Rule};

/// Of a rule.
const MOST: usize = 50;

pub(crate) fn checked(tags: &[Tag]) -> Result<BTreeMap<String, String>, Fault> {
    let checked: BTreeMap<String, String> =
        tags.iter().map(|it| (it.key.clone(), it.value.clone())).collect();
    let is_bad = |key: &String| {
        key.is_empty() || key.chars().count() > 128 || key.to_ascii_lowercase().starts_with("aws:")
    };
    if let Some(key) = checked.keys().find(|it| is_bad(it)) {
        return Err(faults::parameter("Tags", &format!("The key {key} is not valid.")));
    }
    if checked.len() > MOST {
        return Err(faults::invalid("The number of tags exceeds the limit."));
    }
    Ok(checked)
}

/// The name in a rule's ARN, which may name its bus.
pub(crate) fn rule_of<'a>(service: &EventBridge, arn: &'a str) -> Result<&'a str, Fault> {
    let none =
        || Fault::new("ResourceNotFoundException", format!("Resource {arn} does not exist."));
    let prefix = service.rule_arn("");
    let name = arn.strip_prefix(&prefix).ok_or_else(none)?;
    Ok(name.strip_prefix("default/").unwrap_or(name))
}

pub(crate) fn found(service: &EventBridge, arn: &str) -> Option<Arc<Rule>> {
    rule_of(service, arn).ok().and_then(|it| service.find_rule(it))
}

pub(crate) fn add(
    service: &EventBridge,
    _caller: &Caller,
    request: TagResourceRequest,
) -> Result<TagResourceResponse, Fault> {
    let tags = checked(&request.tags)?;
    service.update_rule(rule_of(service, &request.resource_arn)?, |rule| {
        rule.tags.extend(tags);
        match rule.tags.len() > MOST {
            true => Err(faults::invalid("The number of tags exceeds the limit.")),
            false => Ok(()),
        }
    })?;
    Ok(TagResourceResponse {})
}

pub(crate) fn remove(
    service: &EventBridge,
    _caller: &Caller,
    request: UntagResourceRequest,
) -> Result<UntagResourceResponse, Fault> {
    service.update_rule(rule_of(service, &request.resource_arn)?, |rule| {
        rule.tags.retain(|key, _| !request.tag_keys.contains(key));
        Ok(())
    })?;
    Ok(UntagResourceResponse {})
}

pub(crate) fn list(
    service: &EventBridge,
    _caller: &Caller,
    request: ListTagsForResourceRequest,
) -> Result<ListTagsForResourceResponse, Fault> {
    let rule = service.rule(rule_of(service, &request.resource_arn)?)?;
    let tag = |(key, value): (&String, &String)| Tag { key: key.clone(), value: value.clone() };
    Ok(ListTagsForResourceResponse { tags: rule.tags.iter().map(tag).collect() })
}
