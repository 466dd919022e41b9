//! `CreateTags`, `DeleteTags`, `DescribeTags`: on resources of any type.

use aws_ec2::tag::{
    CreateTagsRequest, CreateTagsResponse, DeleteTagsRequest, DeleteTagsResponse,
    DescribeTagsRequest, DescribeTagsResponse, TagDescription,
};
use aws_wire::Fault;
use region_gateway::{Caller, Target};

use crate::{
    Call, Ec2, faults,
    query::{self, one},
    records::Tags,
    state::State,
    tagging,
};

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateTagsRequest,
) -> Result<CreateTagsResponse, Fault> {
    if request.resources.is_empty() {
        return Err(faults::missing("resourceIdSet"));
    }
    for id in &request.resources {
        let tags = tags_of(state, id)?;
        tagging::merge(call, tags, &request.tags)?;
    }
    Ok(CreateTagsResponse {})
}

/// A key alone removes the tag; with a value it must match; no keys at all remove everything.
pub(crate) fn delete(
    call: &Call<'_>,
    state: &mut State,
    request: DeleteTagsRequest,
) -> Result<DeleteTagsResponse, Fault> {
    for id in &request.resources {
        let tags = tags_of(state, id)?;
        if request.tags.is_empty() {
            tags.retain(|key, _| key.starts_with("aws:"));
        }
        for tag in &request.tags {
            let key = tag.key.as_deref().unwrap_or_default();
            tagging::check(call, key, "")?;
            if tag.value.is_none() || tag.value.as_ref() == tags.get(key) {
                tags.remove(key);
            }
        }
    }
    Ok(DeleteTagsResponse {})
}

fn tags_of<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Tags, Fault> {
    if !id.starts_with("sgr-") {
        return state.tags_mut(id);
    }
    let group = state.security_groups.iter().find(|it| it.rules.iter().any(|it| it.id == id));
    let group = group.map(|it| it.id.clone()).ok_or_else(|| faults::unknown_id(id))?;
    let group = state.security_groups.edit(&group)?;
    let rule = group.rules.iter_mut().find(|it| it.id == id);
    rule.map(|it| &mut it.tags).ok_or_else(|| faults::unknown_id(id))
}

pub(crate) fn describe(
    _call: &Call<'_>,
    state: &State,
    request: DescribeTagsRequest,
) -> Result<DescribeTagsResponse, Fault> {
    query::check(&request.filters, |name| attribute([""; 4], name))?;
    let mut found = Vec::new();
    for (kind, id, tags) in state.all_tags() {
        for (key, value) in tags {
            let passes = query::passes(&request.filters, query::no_tags(), |name| {
                attribute([key, value, id, kind], name)
            })?;
            if passes {
                let tag = TagDescription {
                    key: Some(key.clone()),
                    resource_id: Some(id.to_owned()),
                    resource_type: Some(kind.to_owned()),
                    value: Some(value.clone()),
                };
                found.push((format!("{id}/{key}"), tag));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (page, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |(key, _)| key)?;
    Ok(DescribeTagsResponse { next_token, tags: page.into_iter().map(|(_, tag)| tag).collect() })
}

fn attribute([key, value, id, kind]: [&str; 4], name: &str) -> query::Values {
    match name {
        "key" => one(key),
        "value" => one(value),
        "resource-id" => one(id),
        "resource-type" => one(kind),
        _ => None,
    }
}

pub(crate) fn create_targets(
    ec2: &Ec2,
    caller: &Caller,
    request: &CreateTagsRequest,
) -> Vec<Target> {
    let tags = request
        .tags
        .iter()
        .map(|it| (it.key.as_deref().unwrap_or_default(), it.value.as_deref().unwrap_or_default()));
    let tags: Vec<(&str, &str)> = tags.collect();
    let with = |target: Target| target.with_tags("aws:RequestTag", tags.iter().copied());
    crate::targets::of_ids(ec2, caller, &request.resources).into_iter().map(with).collect()
}

pub(crate) fn delete_targets(
    ec2: &Ec2,
    caller: &Caller,
    request: &DeleteTagsRequest,
) -> Vec<Target> {
    crate::targets::of_ids(ec2, caller, &request.resources)
}
