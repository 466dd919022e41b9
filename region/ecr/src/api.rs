//! The API's operations.

mod images;
mod layers;
mod lifecycle;
mod policy;
mod repositories;
mod tags;
mod token;

use std::{collections::BTreeMap, sync::Arc};

use aws_wire::Fault;
use region_gateway::{Caller, Handle, Routes, Target};

use crate::{
    Ecr, faults,
    names::{self, RepositoryId},
    records::Repository,
};

/// Serves operations by functions of the same shape; all are about one repository, by name.
macro_rules! serve {
    ($($module:ident::$operation:ident => $function:path;)*) => {
        $(impl Handle<aws_ecr::$module::$operation> for Ecr {
            /// Decided below, with the repository's policy.
            fn targets(
                &self,
                _: &Caller,
                _: &<aws_ecr::$module::$operation as aws_wire::Operation>::Request,
            ) -> Vec<Target> {
                Vec::new()
            }

            async fn handle(
                &self,
                caller: &Caller,
                request: <aws_ecr::$module::$operation as aws_wire::Operation>::Request,
            ) -> Result<<aws_ecr::$module::$operation as aws_wire::Operation>::Response, Fault> {
                let action = concat!("ecr:", stringify!($operation));
                let (registry, name) = (request.registry_id.as_deref(), &request.repository_name);
                self.authorize(caller, action, registry, name)?;
                $function(self, caller, request)
            }
        })*
    };
}

serve! {
    repository::DeleteRepository => repositories::delete;
    repository::PutImageTagMutability => repositories::set_mutability;
    lifecycle::PutLifecyclePolicy => lifecycle::put;
    lifecycle::GetLifecyclePolicy => lifecycle::get;
    lifecycle::DeleteLifecyclePolicy => lifecycle::delete;
    policy::GetRepositoryPolicy => policy::get;
    policy::SetRepositoryPolicy => policy::set;
    policy::DeleteRepositoryPolicy => policy::delete;
    image::ListImages => images::list;
    image::DescribeImages => images::describe;
    image::BatchGetImage => images::get;
    image::PutImage => images::put;
    image::BatchDeleteImage => images::delete;
    layer::BatchCheckLayerAvailability => layers::check;
    layer::GetDownloadUrlForLayer => layers::url;
    layer::InitiateLayerUpload => layers::begin;
    layer::UploadLayerPart => layers::add;
    layer::CompleteLayerUpload => layers::complete;
}

impl Handle<aws_ecr::repository::CreateRepository> for Ecr {
    fn targets(
        &self,
        _: &Caller,
        request: &aws_ecr::repository::CreateRepositoryRequest,
    ) -> Vec<Target> {
        let tags = request.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str()));
        let targets = self.target(request.registry_id.as_deref(), &request.repository_name);
        let targets = targets.into_iter().map(|it| it.with_tags("aws:RequestTag", tags.clone()));
        let tagging = |it: Target| {
            let arn = it.resource.clone();
            it.and_tagging("ecr:TagResource", arn)
        };
        targets.flat_map(tagging).collect()
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: aws_ecr::repository::CreateRepositoryRequest,
    ) -> Result<aws_ecr::repository::CreateRepositoryResponse, Fault> {
        repositories::create(self, caller, request)
    }
}

impl Ecr {
    /// Whether the caller may do this, by their policies and the repository's.
    fn authorize(
        &self,
        caller: &Caller,
        action: &str,
        registry_id: Option<&str>,
        name: &str,
    ) -> Result<(), Fault> {
        if caller.is_service() {
            return Ok(());
        }
        let known = self.existing(registry_id, name).ok().map(|(id, _)| id);
        let asked = self.id(registry_id, name);
        let arn = self.arn(&asked);
        let refused = self.decide(caller, action, known.as_ref().unwrap_or(&asked), &arn);
        refused.map_or(Ok(()), |it| Err(it.denial(caller, "ecr")))
    }

    /// All operations, for the gateway.
    pub fn routes(self: &Arc<Self>) -> Routes {
        use aws_ecr::{image, layer, lifecycle, policy, repository, tag, token};
        Routes::new()
            .operation::<repository::CreateRepository, _>(self.clone())
            .operation::<repository::DescribeRepositories, _>(self.clone())
            .operation::<repository::DeleteRepository, _>(self.clone())
            .operation::<repository::PutImageTagMutability, _>(self.clone())
            .operation::<lifecycle::PutLifecyclePolicy, _>(self.clone())
            .operation::<lifecycle::GetLifecyclePolicy, _>(self.clone())
            .operation::<lifecycle::DeleteLifecyclePolicy, _>(self.clone())
            .operation::<policy::GetRepositoryPolicy, _>(self.clone())
            .operation::<policy::SetRepositoryPolicy, _>(self.clone())
            .operation::<policy::DeleteRepositoryPolicy, _>(self.clone())
            .operation::<tag::ListTagsForResource, _>(self.clone())
            .operation::<tag::TagResource, _>(self.clone())
            .operation::<tag::UntagResource, _>(self.clone())
            .operation::<token::GetAuthorizationToken, _>(self.clone())
            .operation::<image::ListImages, _>(self.clone())
            .operation::<image::DescribeImages, _>(self.clone())
            .operation::<image::BatchGetImage, _>(self.clone())
            .operation::<image::PutImage, _>(self.clone())
            .operation::<image::BatchDeleteImage, _>(self.clone())
            .operation::<layer::BatchCheckLayerAvailability, _>(self.clone())
            .operation::<layer::GetDownloadUrlForLayer, _>(self.clone())
            .operation::<layer::InitiateLayerUpload, _>(self.clone())
            .operation::<layer::UploadLayerPart, _>(self.clone())
            .operation::<layer::CompleteLayerUpload, _>(self.clone())
    }

    /// The repository that a request names, in the account's own registry by default.
    fn id(&self, registry_id: Option<&str>, name: &str) -> RepositoryId {
        let account = registry_id.filter(|it| !it.is_empty()).unwrap_or(&self.config.account);
        RepositoryId::new(&names::ecr_host(account, &self.config.region), name)
    }

    fn existing(
        &self,
        registry_id: Option<&str>,
        name: &str,
    ) -> Result<(RepositoryId, Arc<Repository>), Fault> {
        let id = self.id(registry_id, name);
        if let Some(repository) = self.catalog.repository(&id) {
            return Ok((id, repository));
        }
        let loaded = RepositoryId::of_shown(name).filter(|_| self.is_own(&id));
        let found = loaded.and_then(|it| Some((it.clone(), self.catalog.repository(&it)?)));
        found.ok_or_else(|| faults::no_repository(&id))
    }

    /// Whether it is in the account's own registry, with which other registries' images are listed.
    fn is_own(&self, id: &RepositoryId) -> bool {
        id.registry == self.id(None, "").registry
    }

    /// The account of a registry, as answers name it.
    fn registry_id(&self, id: &RepositoryId) -> String {
        id.account().map_or(self.config.account.as_str(), |(account, _)| account).to_owned()
    }

    fn arn(&self, id: &RepositoryId) -> String {
        let (account, region) = id.account().unwrap_or((&self.config.account, &self.config.region));
        format!("arn:aws:ecr:{region}:{account}:repository/{}", id.shown())
    }

    fn target(&self, registry_id: Option<&str>, name: &str) -> Vec<Target> {
        let id = self.id(registry_id, name);
        let known = self.existing(registry_id, name).ok().map(|(_, it)| it);
        let tags = known.as_ref().map(|it| it.tags.clone()).unwrap_or_default();
        vec![tagged(Target::resource(self.arn(&id)), &tags)]
    }
}

/// A repository with its tags.
pub(crate) fn tagged(target: Target, tags: &BTreeMap<String, String>) -> Target {
    let pairs = || tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    target.with_tags("aws:ResourceTag", pairs()).with_tags("ecr:ResourceTag", pairs())
}
