//! Tags of EKS's resources, and pages of lists.

use std::collections::BTreeMap;

use aws_eks::{
    ListTagsForResource, ListTagsForResourceRequest, ListTagsForResourceResponse, TagResource,
    TagResourceRequest, TagResourceResponse, UntagResource, UntagResourceRequest,
    UntagResourceResponse,
};
use aws_wire::Fault;
use http::StatusCode;
use region_gateway::{Caller, Handle, Target};

use crate::{Eks, access, addons, fargate, faults, nodegroups, targets};

/// One page of a list of names. The token is the last name that was shown.
pub(crate) fn page(
    mut names: Vec<String>,
    max_results: Option<i64>,
    token: Option<&str>,
) -> Result<(Vec<String>, Option<String>), Fault> {
    let size = match max_results {
        None => 100,
        Some(size @ 1..=100) => usize::try_from(size).unwrap_or(100),
        Some(_) => return Err(faults::invalid_parameter("maxResults must be between 1 and 100")),
    };
    names.sort();
    names.retain(|name| token.is_none_or(|token| name.as_str() > token));
    let has_more = names.len() > size;
    names.truncate(size);
    let next = if has_more { names.last().cloned() } else { None };
    Ok((names, next))
}

type Tags = BTreeMap<String, String>;

/// What an ARN names, by its key.
enum Tagged {
    Cluster(String),
    Addon(String),
    Nodegroup(String),
    Profile(String),
    Entry(String),
    Association(String),
}

impl Eks {
    /// What the ARN names, to the last letter: IAM decides on that text.
    fn named(&self, arn: &str) -> Option<Tagged> {
        let inner = &self.0;
        let parts: Vec<&str> = arn.strip_prefix(&self.arn(""))?.split('/').collect();
        match parts.as_slice() {
            ["cluster", name] => {
                inner.clusters.contains(name).then(|| Tagged::Cluster((*name).to_owned()))
            }
            ["addon", cluster, name, _] => {
                let key = addons::key_of(cluster, name);
                inner.addons.get(&key).filter(|it| addons::arn(self, it) == arn)?;
                Some(Tagged::Addon(key))
            }
            ["nodegroup", cluster, name, _] => {
                let key = nodegroups::key_of(cluster, name);
                inner.nodegroups.get(&key).filter(|it| nodegroups::arn(self, it) == arn)?;
                Some(Tagged::Nodegroup(key))
            }
            ["fargateprofile", cluster, name, _] => {
                let key = format!("{cluster}/{name}");
                inner.profiles.get(&key).filter(|it| fargate::arn(self, it) == arn)?;
                Some(Tagged::Profile(key))
            }
            ["access-entry", cluster, ..] => {
                let all = inner.entries.under(&format!("{cluster}/"));
                let (key, _) = all.into_iter().find(|(_, it)| access::arn(self, it) == arn)?;
                Some(Tagged::Entry(key))
            }
            ["podidentityassociation", cluster, id] => {
                let all = inner.associations.under(&format!("{cluster}/"));
                let (key, _) = all.into_iter().find(|(_, it)| it.id == *id)?;
                Some(Tagged::Association(key))
            }
            _ => None,
        }
    }

    fn tags_of(&self, arn: &str) -> Option<Tags> {
        let inner = &self.0;
        match self.named(arn)? {
            Tagged::Cluster(key) => inner.clusters.get(&key).map(|it| it.tags.clone()),
            Tagged::Addon(key) => inner.addons.get(&key).map(|it| it.tags.clone()),
            Tagged::Nodegroup(key) => inner.nodegroups.get(&key).map(|it| it.tags.clone()),
            Tagged::Profile(key) => inner.profiles.get(&key).map(|it| it.tags.clone()),
            Tagged::Entry(key) => inner.entries.get(&key).map(|it| it.tags.clone()),
            Tagged::Association(key) => inner.associations.get(&key).map(|it| it.tags.clone()),
        }
    }

    fn change_tags(&self, arn: &str, change: impl FnOnce(&mut Tags)) -> Result<(), Fault> {
        let inner = &self.0;
        inner.store.transaction(|transaction| {
            // Nobody else writes here: what is found now is what is changed.
            match self.named(arn).ok_or_else(|| not_found(arn))? {
                Tagged::Cluster(key) => {
                    transaction.update(&inner.clusters, &key, |it| change(&mut it.tags))
                }
                Tagged::Addon(key) => {
                    transaction.update(&inner.addons, &key, |it| change(&mut it.tags))
                }
                Tagged::Nodegroup(key) => {
                    transaction.update(&inner.nodegroups, &key, |it| change(&mut it.tags))
                }
                Tagged::Profile(key) => {
                    transaction.update(&inner.profiles, &key, |it| change(&mut it.tags))
                }
                Tagged::Entry(key) => {
                    transaction.update(&inner.entries, &key, |it| change(&mut it.tags))
                }
                Tagged::Association(key) => {
                    transaction.update(&inner.associations, &key, |it| change(&mut it.tags))
                }
            };
            Ok(())
        })
    }

    fn tags_target(&self, arn: &str) -> Target {
        if let Some(Tagged::Entry(key)) = self.named(arn)
            && let Some(entry) = self.0.entries.get(&key)
        {
            return self.target_of(&entry);
        }
        targets::tagged(arn.to_owned(), &self.tags_of(arn).unwrap_or_default())
    }
}

fn not_found(arn: &str) -> Fault {
    Fault::new("NotFoundException", format!("Resource was not found: {arn}"))
        .with_status(StatusCode::NOT_FOUND)
}

impl Handle<TagResource> for Eks {
    fn targets(&self, _: &Caller, request: &TagResourceRequest) -> Vec<Target> {
        vec![targets::tagging(self.tags_target(&request.resource_arn), &request.tags)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: TagResourceRequest,
    ) -> Result<TagResourceResponse, Fault> {
        self.change_tags(&request.resource_arn, |tags| tags.extend(request.tags))?;
        Ok(TagResourceResponse {})
    }
}

impl Handle<UntagResource> for Eks {
    fn targets(&self, _: &Caller, request: &UntagResourceRequest) -> Vec<Target> {
        let keys = request.tag_keys.iter().cloned();
        vec![self.tags_target(&request.resource_arn).with("aws:TagKeys", keys)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UntagResourceRequest,
    ) -> Result<UntagResourceResponse, Fault> {
        let keys = request.tag_keys;
        self.change_tags(&request.resource_arn, |tags| tags.retain(|key, _| !keys.contains(key)))?;
        Ok(UntagResourceResponse {})
    }
}

impl Handle<ListTagsForResource> for Eks {
    fn targets(&self, _: &Caller, request: &ListTagsForResourceRequest) -> Vec<Target> {
        vec![self.tags_target(&request.resource_arn)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, Fault> {
        let arn = &request.resource_arn;
        let tags = self.tags_of(arn).ok_or_else(|| not_found(arn))?;
        Ok(ListTagsForResourceResponse { tags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_all_names_once() {
        let names = || ["c", "a", "b"].map(str::to_owned).to_vec();
        let (first, token) = page(names(), Some(2), None).unwrap();
        let (second, end) = page(names(), Some(2), token.as_deref()).unwrap();
        assert_eq!([first, second].concat(), ["a", "b", "c"]);
        assert_eq!(end, None);
        assert!(page(names(), Some(0), None).is_err());
    }
}
