//! Tags on the account's own parameters.

use aws_ssm::tag::{
    AddTagsToResourceRequest, AddTagsToResourceResponse, ListTagsForResourceRequest,
    ListTagsForResourceResponse, RemoveTagsFromResourceRequest, RemoveTagsFromResourceResponse,
    Tag,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Ssm, parameters::Parameter};

fn check_kind(kind: &str) -> Result<(), Fault> {
    match kind {
        "Parameter" => Ok(()),
        _ => Err(Fault::new("InvalidResourceType", "The resource type is not valid.")),
    }
}

fn no_such(id: &str) -> Fault {
    Fault::new("InvalidResourceId", format!("The resource ID \"{id}\" is not valid."))
}

fn change(ssm: &Ssm, id: &str, change: impl FnOnce(&mut Parameter)) -> Result<(), Fault> {
    ssm.change(|transaction, own| match transaction.update(own, id, change) {
        true => Ok(()),
        false => Err(no_such(id)),
    })
}

pub(crate) fn add(
    ssm: &Ssm,
    _caller: &Caller,
    request: AddTagsToResourceRequest,
) -> Result<AddTagsToResourceResponse, Fault> {
    check_kind(&request.resource_type)?;
    change(ssm, &request.resource_id, |it| {
        for tag in request.tags {
            it.tags.insert(tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        }
    })?;
    Ok(AddTagsToResourceResponse {})
}

pub(crate) fn remove(
    ssm: &Ssm,
    _caller: &Caller,
    request: RemoveTagsFromResourceRequest,
) -> Result<RemoveTagsFromResourceResponse, Fault> {
    check_kind(&request.resource_type)?;
    change(ssm, &request.resource_id, |it| {
        it.tags.retain(|key, _| !request.tag_keys.contains(key));
    })?;
    Ok(RemoveTagsFromResourceResponse {})
}

pub(crate) fn list(
    ssm: &Ssm,
    _caller: &Caller,
    request: ListTagsForResourceRequest,
) -> Result<ListTagsForResourceResponse, Fault> {
    check_kind(&request.resource_type)?;
    let found = ssm.find(&request.resource_id).ok_or_else(|| no_such(&request.resource_id))?;
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    Ok(ListTagsForResourceResponse { tag_list: found.tags.iter().map(tag).collect() })
}
