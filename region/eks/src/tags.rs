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

use crate::{Eks, access, addons, fargate, faults, nodegroups, pod_identity};

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

impl Eks {
    /// Changes the tags of what the ARN names, to the last letter: IAM decided on that text.
    fn tagged(
        &self,
        arn: &str,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<BTreeMap<String, String>, Fault> {
        let not_found = || {
            Fault::new("NotFoundException", format!("Resource was not found: {arn}"))
                .with_status(StatusCode::NOT_FOUND)
        };
        let rest = arn.strip_prefix(&self.arn("")).ok_or_else(not_found)?;
        let parts: Vec<&str> = rest.split('/').collect();
        self.0.store.transaction(|transaction| match parts.as_slice() {
            ["cluster", name] => {
                let found = transaction.get(&self.0.clusters, name).ok_or_else(not_found)?;
                let mut record = (*found).clone();
                change(&mut record.tags);
                let tags = record.tags.clone();
                transaction.put(&self.0.clusters, *name, record);
                Ok(tags)
            }
            ["addon", cluster, name, _] => {
                let key = addons::key_of(cluster, name);
                let found = transaction.get(&self.0.addons, &key);
                let found =
                    found.filter(|it| addons::arn(self, it) == arn).ok_or_else(not_found)?;
                let mut record = (*found).clone();
                change(&mut record.tags);
                let tags = record.tags.clone();
                transaction.put(&self.0.addons, key, record);
                Ok(tags)
            }
            ["nodegroup", cluster, name, _] => {
                let key = nodegroups::key_of(cluster, name);
                let found = transaction.get(&self.0.nodegroups, &key);
                let found =
                    found.filter(|it| nodegroups::arn(self, it) == arn).ok_or_else(not_found)?;
                let mut record = (*found).clone();
                change(&mut record.tags);
                let tags = record.tags.clone();
                transaction.put(&self.0.nodegroups, key, record);
                Ok(tags)
            }
            ["fargateprofile", cluster, name, _] => {
                let key = format!("{cluster}/{name}");
                let found = transaction.get(&self.0.profiles, &key);
                let found =
                    found.filter(|it| fargate::arn(self, it) == arn).ok_or_else(not_found)?;
                let mut record = (*found).clone();
                change(&mut record.tags);
                let tags = record.tags.clone();
                transaction.put(&self.0.profiles, key, record);
                Ok(tags)
            }
            ["access-entry", ..] => {
                let all = transaction.list(&self.0.entries);
                let found = all.iter().find(|it| access::arn(self, it) == arn);
                let mut record = (**found.ok_or_else(not_found)?).clone();
                change(&mut record.tags);
                let tags = record.tags.clone();
                transaction.put(&self.0.entries, access::key(&record), record);
                Ok(tags)
            }
            ["podidentityassociation", cluster, id] => {
                let all = transaction.list(&self.0.associations);
                let found = all.iter().find(|it| it.cluster == *cluster && it.id == *id);
                let mut record = (**found.ok_or_else(not_found)?).clone();
                change(&mut record.tags);
                let tags = record.tags.clone();
                transaction.put(&self.0.associations, pod_identity::key(&record), record);
                Ok(tags)
            }
            _ => Err(not_found()),
        })
    }
}

impl Handle<TagResource> for Eks {
    fn targets(&self, _: &Caller, request: &TagResourceRequest) -> Vec<Target> {
        let tags = request.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        vec![Target::resource(&request.resource_arn).with_tags("aws:RequestTag", tags)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: TagResourceRequest,
    ) -> Result<TagResourceResponse, Fault> {
        self.tagged(&request.resource_arn, |tags| tags.extend(request.tags))?;
        Ok(TagResourceResponse {})
    }
}

impl Handle<UntagResource> for Eks {
    fn targets(&self, _: &Caller, request: &UntagResourceRequest) -> Vec<Target> {
        let keys = request.tag_keys.iter().cloned();
        vec![Target::resource(&request.resource_arn).with("aws:TagKeys", keys)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UntagResourceRequest,
    ) -> Result<UntagResourceResponse, Fault> {
        let keys = request.tag_keys;
        self.tagged(&request.resource_arn, |tags| tags.retain(|key, _| !keys.contains(key)))?;
        Ok(UntagResourceResponse {})
    }
}

impl Handle<ListTagsForResource> for Eks {
    fn targets(&self, _: &Caller, request: &ListTagsForResourceRequest) -> Vec<Target> {
        vec![Target::resource(&request.resource_arn)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, Fault> {
        let tags = self.tagged(&request.resource_arn, |_| {})?;
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
