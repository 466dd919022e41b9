//! The API's operations.

mod images;
mod layers;
mod lifecycle;
mod policy;
mod repositories;
mod tags;
mod token;

use std::sync::Arc;

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
            fn targets(
                &self,
                _caller: &Caller,
                request: &<aws_ecr::$module::$operation as aws_wire::Operation>::Request,
            ) -> Vec<Target> {
                self.target(request.registry_id.as_deref(), &request.repository_name)
            }

            async fn handle(
                &self,
                caller: &Caller,
                request: <aws_ecr::$module::$operation as aws_wire::Operation>::Request,
            ) -> Result<<aws_ecr::$module::$operation as aws_wire::Operation>::Response, Fault> {
                $function(self, caller, request)
            }
        })*
    };
}

serve! {
    repository::CreateRepository => repositories::create;
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

impl Ecr {
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
        vec![Target::resource(self.arn(&id))]
    }
}
