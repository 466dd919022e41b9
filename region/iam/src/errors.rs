//! IAM's errors, in its words.

use aws_wire::{AwsError, StatusCode};

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IamError {
    #[error("The {noun} with name {name} cannot be found.")]
    NotFound { noun: &'static str, name: String },
    #[error("Instance Profile {name} cannot be found.")]
    ProfileNotFound { name: String },
    #[error("Policy {arn} was not found.")]
    PolicyNotFound { arn: String },
    #[error("Policy {arn} version {version} does not exist or is not attachable.")]
    VersionNotFound { arn: String, version: String },
    #[error("Policy {arn} does not exist or is not attachable.")]
    NotAttachable { arn: String },
    #[error("The {noun} policy with name {name} cannot be found.")]
    InlineNotFound { noun: &'static str, name: String },
    #[error("OpenIDConnect Provider not found for arn {arn}")]
    ProviderNotFound { arn: String },
    #[error("The Access Key with id {id} cannot be found.")]
    KeyNotFound { id: String },
    #[error("{noun} with name {name} already exists.")]
    Exists { noun: &'static str, name: String },
    #[error("Instance Profile {name} already exists.")]
    ProfileExists { name: String },
    #[error("A policy called {name} already exists. Duplicate names are not allowed.")]
    PolicyExists { name: String },
    #[error("Provider with url {url} already exists.")]
    ProviderExists { url: String },
    #[error(
        "Service role name {name} has been taken in this account, please try a different suffix."
    )]
    ServiceRoleExists { name: String },
    #[error("Cannot delete entity, must {what} first.")]
    InUse { what: &'static str },
    #[error("Cannot delete a policy attached to entities.")]
    PolicyInUse,
    #[error("Cannot delete the default version of a policy.")]
    DefaultVersion,
    #[error("Cannot exceed quota for {what}: {limit}")]
    Quota { what: &'static str, limit: usize },
    #[error(
        "A managed policy can have up to 5 versions. Before you create a new version, you must \
         delete an existing version."
    )]
    TooManyVersions,
    #[error("Maximum policy size of {limit} bytes exceeded for {noun} {name}")]
    InlineSize { limit: usize, noun: &'static str, name: String },
    #[error(
        "Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS"
    )]
    Protected { name: String },
    #[error("{message}")]
    Malformed { message: String },
    #[error(
        "1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: {constraint}"
    )]
    Invalid { field: &'static str, value: String, constraint: String },
    #[error("{message}")]
    Input { message: String },
    #[error("Must specify userName when calling with non-User credentials")]
    NoUserName,
}

impl AwsError for IamError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. }
            | Self::ProfileNotFound { .. }
            | Self::PolicyNotFound { .. }
            | Self::VersionNotFound { .. }
            | Self::NotAttachable { .. }
            | Self::InlineNotFound { .. }
            | Self::ProviderNotFound { .. }
            | Self::KeyNotFound { .. } => "NoSuchEntity",
            Self::Exists { .. }
            | Self::ProfileExists { .. }
            | Self::PolicyExists { .. }
            | Self::ProviderExists { .. } => "EntityAlreadyExists",
            Self::InUse { .. } | Self::PolicyInUse | Self::DefaultVersion => "DeleteConflict",
            Self::Quota { .. } | Self::TooManyVersions | Self::InlineSize { .. } => "LimitExceeded",
            Self::Protected { .. } => "UnmodifiableEntity",
            Self::Malformed { .. } => "MalformedPolicyDocument",
            Self::Invalid { .. } | Self::NoUserName => "ValidationError",
            Self::Input { .. } | Self::ServiceRoleExists { .. } => "InvalidInput",
        }
    }

    fn status(&self) -> StatusCode {
        match self.code() {
            "NoSuchEntity" => StatusCode::NOT_FOUND,
            "EntityAlreadyExists" | "DeleteConflict" | "LimitExceeded" => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
