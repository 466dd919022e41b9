//! Tags, and what IAM sees of them.
//!
//! Beside the caller's tags there may be one of the region's own: [`HOST_ADDRESS`] says where this
//! machine's users find the load balancer. Tags that begin with `aws:` are AWS's alone.

use std::collections::{BTreeMap, BTreeSet};

use aws_elasticloadbalancing::tag::{
    AddTagsRequest, AddTagsResponse, DescribeTagsRequest, DescribeTagsResponse, RemoveTagsRequest,
    RemoveTagsResponse, Tag, TagDescription,
};
use aws_wire::Fault;
use region_gateway::Target;

use crate::{Call, ElasticLoadBalancing, faults, records::LoadBalancer};

/// Its value is an address of 127.0.0.0/8.
pub const HOST_ADDRESS: &str = "aws:nodestead:host-address";

const MOST: usize = 50;

pub(crate) fn target(service: &ElasticLoadBalancing, name: &str) -> Target {
    let config = service.config();
    let arn = format!(
        "arn:aws:elasticloadbalancing:{}:{}:loadbalancer/{name}",
        config.region, config.account
    );
    let target = Target::resource(arn);
    let Ok(known) = service.get(name) else { return target };
    let tags: Vec<_> = known.tags.iter().map(|(key, value)| (&**key, &**value)).collect();
    let target = target.with_tags("aws:ResourceTag", tags.iter().copied());
    target.with_tags("elasticloadbalancing:ResourceTag", tags)
}

pub(crate) fn with_request_tags(target: Target, tags: &[Tag]) -> Target {
    let pairs = tags.iter().map(|it| (&*it.key, it.value.as_deref().unwrap_or_default()));
    target.with_tags("aws:RequestTag", pairs)
}

/// A load balancer that is made with tags asks for the right to tag it, too.
pub(crate) fn making(target: Target) -> Vec<Target> {
    let tagging = target.right_to_tag("elasticloadbalancing:AddTags", &*target.resource);
    let by = ["CreateLoadBalancer".to_owned()];
    let tagging = tagging.map(|it| it.with("elasticloadbalancing:CreateAction", by));
    [target].into_iter().chain(tagging).collect()
}

/// The tags of a request.
pub(crate) fn read(tags: &[Tag]) -> Result<BTreeMap<String, String>, Fault> {
    let mut read = BTreeMap::new();
    for tag in tags {
        if tag.key.is_empty() || tag.key.chars().count() > 128 {
            return Err(faults::validation(format!("Invalid tag key '{}'", tag.key)));
        }
        if tag.key.to_ascii_lowercase().starts_with("aws:") {
            return Err(faults::validation(
                "aws: prefixed tag key names are not allowed for external use.",
            ));
        }
        if read.insert(tag.key.clone(), tag.value.clone().unwrap_or_default()).is_some() {
            return Err(Fault::new("DuplicateTagKeys", "Tag keys must be unique."));
        }
    }
    check_count(&read)?;
    Ok(read)
}

fn check_count(tags: &BTreeMap<String, String>) -> Result<(), Fault> {
    match tags.len() {
        0..=MOST => Ok(()),
        _ => Err(Fault::new("TooManyTags", format!("Limit of {MOST} tags exceeded."))),
    }
}

pub(crate) async fn add(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: AddTagsRequest,
) -> Result<AddTagsResponse, Fault> {
    let added = read(&request.tags)?;
    for name in named(&request.load_balancer_names)? {
        service.update(name, |it| {
            it.tags.extend(added.clone());
            check_count(&it.tags)
        })?;
    }
    Ok(AddTagsResponse {})
}

pub(crate) async fn remove(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: RemoveTagsRequest,
) -> Result<RemoveTagsResponse, Fault> {
    let keys: BTreeSet<&String> = request.tags.iter().filter_map(|it| it.key.as_ref()).collect();
    for name in named(&request.load_balancer_names)? {
        service.update(name, |it| {
            it.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })?;
    }
    Ok(RemoveTagsResponse {})
}

pub(crate) async fn describe(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DescribeTagsRequest,
) -> Result<DescribeTagsResponse, Fault> {
    /// As AWS: more are asked for in several calls.
    const AT_ONCE: usize = 20;
    if request.load_balancer_names.len() > AT_ONCE {
        return Err(faults::validation(format!(
            "The number of load balancers must not be more than {AT_ONCE}."
        )));
    }
    let described = request.load_balancer_names.iter().map(|name| {
        let known = service.get(name)?;
        Ok(TagDescription { load_balancer_name: Some(name.clone()), tags: shown(&known) })
    });
    Ok(DescribeTagsResponse { tag_descriptions: described.collect::<Result<_, Fault>>()? })
}

fn shown(load_balancer: &LoadBalancer) -> Vec<Tag> {
    let own = load_balancer.host_address.map(|it| (HOST_ADDRESS.to_owned(), it.to_string()));
    let tags = load_balancer.tags.clone().into_iter().chain(own);
    tags.map(|(key, value)| Tag { key, value: Some(value) }).collect()
}

fn named(names: &[String]) -> Result<&[String], Fault> {
    match names {
        [] => Err(faults::validation("LoadBalancerNames must not be empty.")),
        names => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_balancer_that_is_made_with_tags_asks_for_the_right_to_tag_it() {
        let plain = Target::resource("arn:lb");
        assert_eq!(making(plain.clone()), std::slice::from_ref(&plain));
        let tag = Tag { key: "team".to_owned(), value: Some("red".to_owned()) };
        let [made, tagging] = making(with_request_tags(plain, &[tag])).try_into().unwrap();
        assert_eq!((made.action, made.resource), (None, "arn:lb".to_owned()));
        assert_eq!(tagging.action.as_deref(), Some("elasticloadbalancing:AddTags"));
        assert_eq!(tagging.resource, "arn:lb");
        assert_eq!(tagging.context["aws:RequestTag/team"], ["red"]);
        assert_eq!(tagging.context["elasticloadbalancing:CreateAction"], ["CreateLoadBalancer"]);
    }
}
