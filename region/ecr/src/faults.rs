//! ECR's errors, in its words.

use aws_wire::Fault;
use region_store::CommitError;

use crate::{catalog::PutManifestError, names::RepositoryId};

/// The account that a message calls the registry's id.
fn registry_of(id: &RepositoryId) -> &str {
    id.account().map_or(id.registry.as_str(), |(account, _)| account)
}

pub(crate) fn no_repository(id: &RepositoryId) -> Fault {
    let (name, registry) = (&id.name, registry_of(id));
    Fault::new(
        "RepositoryNotFoundException",
        format!(
            "The repository with name '{name}' does not exist in the registry with id '{registry}'"
        ),
    )
}

pub(crate) fn repository_exists(id: &RepositoryId) -> Fault {
    let (name, registry) = (&id.name, registry_of(id));
    Fault::new(
        "RepositoryAlreadyExistsException",
        format!(
            "The repository with name '{name}' already exists in the registry with id '{registry}'"
        ),
    )
}

pub(crate) fn not_empty(id: &RepositoryId) -> Fault {
    let (name, registry) = (&id.name, registry_of(id));
    Fault::new(
        "RepositoryNotEmptyException",
        format!(
            "The repository with name '{name}' in registry with id '{registry}' cannot be deleted \
             because it still contains images"
        ),
    )
}

pub(crate) fn no_image(id: &RepositoryId, digest: Option<&str>, tag: Option<&str>) -> Fault {
    let (name, registry) = (&id.name, registry_of(id));
    let (digest, tag) = (digest.unwrap_or("null"), tag.unwrap_or("null"));
    Fault::new(
        "ImageNotFoundException",
        format!(
            "The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist \
             within the repository with name '{name}' in the registry with id '{registry}'"
        ),
    )
}

pub(crate) fn no_layer(id: &RepositoryId, digest: &str) -> Fault {
    let (name, registry) = (&id.name, registry_of(id));
    Fault::new(
        "LayersNotFoundException",
        format!(
            "The layer with digest '{digest}' does not exist in the repository with name '{name}' \
             in the registry with id '{registry}'"
        ),
    )
}

pub(crate) fn no_policy(id: &RepositoryId) -> Fault {
    let (name, registry) = (&id.name, registry_of(id));
    Fault::new(
        "RepositoryPolicyNotFoundException",
        format!(
            "Repository policy does not exist for the repository with name '{name}' in the \
             registry with id '{registry}'"
        ),
    )
}

pub(crate) fn no_lifecycle(id: &RepositoryId) -> Fault {
    let (name, registry) = (&id.name, registry_of(id));
    Fault::new(
        "LifecyclePolicyNotFoundException",
        format!(
            "Lifecycle policy does not exist for the repository with name '{name}' in the registry \
             with id '{registry}'"
        ),
    )
}

pub(crate) fn no_upload(id: &RepositoryId, upload: &str) -> Fault {
    let (name, registry) = (&id.name, registry_of(id));
    Fault::new(
        "UploadNotFoundException",
        format!(
            "The upload with id '{upload}' does not exist in the repository with name '{name}' in \
             the registry with id '{registry}'"
        ),
    )
}

pub(crate) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterException", message)
}

pub(crate) fn commit(error: CommitError) -> Fault {
    Fault::from(error)
}

pub(crate) fn put_manifest(error: PutManifestError) -> Fault {
    match error {
        PutManifestError::Manifest { source } => invalid(format!(
            "Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{source}'"
        )),
        PutManifestError::Missing { digest } => Fault::new(
            "LayersNotFoundException",
            format!("Images or layers that the manifest refers to do not exist: [{digest}]"),
        ),
        PutManifestError::Immutable { tag, digest } => Fault::new(
            "ImageTagAlreadyExistsException",
            format!(
                "The image tag '{tag}' already exists with digest '{digest}' in a repository whose \
                 tags are immutable"
            ),
        ),
        PutManifestError::Commit(error) => commit(error),
    }
}
