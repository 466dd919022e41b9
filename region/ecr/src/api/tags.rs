//! Tags of repositories.

use std::collections::BTreeMap;

use aws_ecr::tag::{
    ListTagsForResource, ListTagsForResourceRequest, ListTagsForResourceResponse, Tag, TagResource,
    TagResourceRequest, TagResourceResponse, UntagResource, UntagResourceRequest,
    UntagResourceResponse,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};

use super::tagged;
use crate::{Ecr, faults, names::RepositoryId};

impl Ecr {
    fn id_of_arn(&self, arn: &str) -> Result<RepositoryId, Fault> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", _, "ecr", _, account, resource] if resource.starts_with("repository/") => {
                Ok(self.existing(Some(account), &resource["repository/".len()..])?.0)
            }
            _ => Err(faults::invalid(format!("Invalid parameter at 'resourceArn': '{arn}'"))),
        }
    }

    fn tags_target(&self, arn: &str) -> Target {
        let known = self.id_of_arn(arn).ok().and_then(|id| self.catalog.repository(&id));
        let tags = known.as_ref().map(|it| it.tags.clone()).unwrap_or_default();
        tagged(Target::resource(arn), &tags)
    }

    fn change_tags(
        &self,
        arn: &str,
        change_tags: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), Fault> {
        let id = self.id_of_arn(arn)?;
        let catalog = &self.catalog;
        catalog.store.transaction(|change| {
            let current = change.get(&catalog.repositories, &id.key());
            let mut changed = (*current.ok_or_else(|| faults::no_repository(&id))?).clone();
            change_tags(&mut changed.tags);
            change.put(&catalog.repositories, id.key(), changed);
            Ok(())
        })
    }
}

impl Handle<ListTagsForResource> for Ecr {
    fn targets(&self, _: &Caller, request: &ListTagsForResourceRequest) -> Vec<Target> {
        vec![self.tags_target(&request.resource_arn)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, Fault> {
        let id = self.id_of_arn(&request.resource_arn)?;
        let repository = self.catalog.repository(&id);
        let repository = repository.ok_or_else(|| faults::no_repository(&id))?;
        let tags = repository.tags.iter();
        let tags = tags.map(|(key, value)| Tag { key: key.clone(), value: value.clone() });
        Ok(ListTagsForResourceResponse { tags: tags.collect() })
    }
}

impl Handle<TagResource> for Ecr {
    fn targets(&self, _: &Caller, request: &TagResourceRequest) -> Vec<Target> {
        let tags = request.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str()));
        vec![self.tags_target(&request.resource_arn).with_tags("aws:RequestTag", tags)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: TagResourceRequest,
    ) -> Result<TagResourceResponse, Fault> {
        let added = request.tags.into_iter().map(|tag| (tag.key, tag.value));
        self.change_tags(&request.resource_arn, |tags| tags.extend(added))?;
        Ok(TagResourceResponse {})
    }
}

impl Handle<UntagResource> for Ecr {
    fn targets(&self, _: &Caller, request: &UntagResourceRequest) -> Vec<Target> {
        let keys = request.tag_keys.iter().cloned();
        vec![self.tags_target(&request.resource_arn).with("aws:TagKeys", keys)]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UntagResourceRequest,
    ) -> Result<UntagResourceResponse, Fault> {
        let removed = &request.tag_keys;
        self.change_tags(&request.resource_arn, |tags| {
            tags.retain(|key, _| !removed.contains(key));
        })?;
        Ok(UntagResourceResponse {})
    }
}
