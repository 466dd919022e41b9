//! Tags of groups; those that propagate are given to new instances.

use aws_autoscaling::tag::{
    CreateOrUpdateTagsRequest, CreateOrUpdateTagsResponse, DeleteTagsRequest, DeleteTagsResponse,
    DescribeTagsRequest, DescribeTagsResponse, Filter, Tag, TagDescription,
};
use aws_wire::Fault;

use crate::{
    AutoScaling, Call, Config, faults,
    records::{Group, GroupTag},
    shape::page,
};

pub(crate) fn set(call: &Call<'_>, group: &mut Group, tag: &Tag) -> Result<(), Fault> {
    if tag.key.starts_with("aws:") && !call.caller.is_service() {
        return Err(faults::validation("Tag keys starting with 'aws:' are reserved."));
    }
    if tag.key.is_empty() || tag.key.chars().count() > 128 {
        return Err(faults::validation("Tag keys have 1 to 128 characters."));
    }
    let value = tag.value.clone().unwrap_or_default();
    let propagates = tag.propagate_at_launch.unwrap_or(false);
    group.tags.insert(tag.key.clone(), GroupTag { value, propagates });
    Ok(())
}

fn group_name(tag: &Tag) -> Result<&str, Fault> {
    tag.resource_id.as_deref().ok_or_else(|| faults::validation("Tags need a ResourceId."))
}

pub(crate) async fn create(
    service: &AutoScaling,
    call: Call<'_>,
    request: CreateOrUpdateTagsRequest,
) -> Result<CreateOrUpdateTagsResponse, Fault> {
    for tag in &request.tags {
        service.group(group_name(tag)?)?;
    }
    for tag in &request.tags {
        service.update(group_name(tag)?, |group, _| set(&call, group, tag))?;
    }
    Ok(CreateOrUpdateTagsResponse {})
}

pub(crate) async fn delete(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DeleteTagsRequest,
) -> Result<DeleteTagsResponse, Fault> {
    for tag in &request.tags {
        service.update(group_name(tag)?, |group, _| {
            group.tags.remove(&tag.key);
            Ok(())
        })?;
    }
    Ok(DeleteTagsResponse {})
}

pub(crate) async fn describe(
    service: &AutoScaling,
    call: Call<'_>,
    request: DescribeTagsRequest,
) -> Result<DescribeTagsResponse, Fault> {
    let mut found = Vec::new();
    for group in service.groups() {
        for tag in answer(call.config, &group) {
            if tag_passes(&request.filters, &tag)? {
                found.push(tag);
            }
        }
    }
    let key = |it: &TagDescription| {
        format!(
            "{}/{}",
            it.resource_id.as_deref().unwrap_or_default(),
            it.key.as_deref().unwrap_or_default()
        )
    };
    let (tags, next_token) = page(found, request.max_records, request.next_token.as_deref(), key)?;
    Ok(DescribeTagsResponse { tags, next_token })
}

fn tag_passes(filters: &[Filter], tag: &TagDescription) -> Result<bool, Fault> {
    let mut passes = true;
    for filter in filters {
        let propagates = tag.propagate_at_launch.unwrap_or_default().to_string();
        let value = match filter.name.as_deref() {
            Some("auto-scaling-group") => tag.resource_id.as_deref(),
            Some("key") => tag.key.as_deref(),
            Some("value") => tag.value.as_deref(),
            Some("propagate-at-launch") => Some(propagates.as_str()),
            other => return Err(unknown_filter(other)),
        };
        passes &= value.is_some_and(|it| filter.values.iter().any(|wanted| wanted == it));
    }
    Ok(passes)
}

fn unknown_filter(name: Option<&str>) -> Fault {
    faults::validation(format!("Filter type {} is not correct.", name.unwrap_or_default()))
}

/// Whether a group passes filters by tag.
pub(crate) fn passes(filters: &[Filter], group: &Group) -> Result<bool, Fault> {
    let mut passes = true;
    for filter in filters {
        let wanted = |it: &String| filter.values.contains(it);
        let name = filter.name.as_deref();
        passes &= match name {
            Some("tag-key") => group.tags.keys().any(wanted),
            Some("tag-value") => group.tags.values().any(|it| wanted(&it.value)),
            _ => {
                let key = name.and_then(|it| it.strip_prefix("tag:"));
                let key = key.ok_or_else(|| unknown_filter(name))?;
                group.tags.get(key).is_some_and(|it| wanted(&it.value))
            }
        };
    }
    Ok(passes)
}

pub(crate) fn answer(_config: &Config, group: &Group) -> Vec<TagDescription> {
    let one = |(key, tag): (&String, &GroupTag)| TagDescription {
        resource_id: Some(group.name.clone()),
        resource_type: Some("auto-scaling-group".to_owned()),
        key: Some(key.clone()),
        value: Some(tag.value.clone()),
        propagate_at_launch: Some(tag.propagates),
    };
    group.tags.iter().map(one).collect()
}
