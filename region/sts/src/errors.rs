//! STS's errors, in its words.

use aws_wire::{AwsError, StatusCode};

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StsError {
    #[error("User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}")]
    NotAuthorized { caller: String, role: String },
    #[error("Roles may not be assumed by root accounts.")]
    Root,
    #[error("{message}")]
    Denied { message: String },
    #[error("MultiFactorAuthentication failed, {why}")]
    Mfa { why: &'static str },
    #[error("The parameter {parameter} is not supported by this region.")]
    Unsupported { parameter: &'static str },
    #[error(
        "1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: {constraint}"
    )]
    Invalid { field: &'static str, value: String, constraint: String },
    #[error("The requested DurationSeconds exceeds the {limit} set for this role.")]
    TooLong { limit: &'static str },
    #[error("{message}")]
    Tags { message: String },
    #[error("{arn} is invalid")]
    BadArn { arn: String },
    #[error("{message}")]
    Malformed { message: String },
    #[error(
        "Packed policy and tags consume {percent}% of allotted space.  Please use smaller policy and tags."
    )]
    TooLarge { percent: usize },
    #[error("Message is not valid")]
    BadMessage,
    #[error("{message}")]
    InvalidToken { message: String },
    #[error(
        "Token expired: current date/time {now} must be before the expiration date/time {expires}"
    )]
    ExpiredToken { now: i64, expires: i64 },
    #[error(
        "The request could not be fulfilled because the identity provider (IDP) that was asked to verify the incoming identity token could not be reached"
    )]
    Unreachable,
    #[error("Not authorized to perform sts:AssumeRoleWithWebIdentity")]
    NoWebIdentity,
    #[error("Rate exceeded")]
    Throttled,
}

impl AwsError for StsError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotAuthorized { .. }
            | Self::Root
            | Self::Denied { .. }
            | Self::Mfa { .. }
            | Self::NoWebIdentity => "AccessDenied",
            Self::InvalidToken { .. } => "InvalidIdentityToken",
            Self::Unreachable => "IDPCommunicationError",
            Self::ExpiredToken { .. } => "ExpiredTokenException",
            Self::Invalid { .. }
            | Self::TooLong { .. }
            | Self::BadArn { .. }
            | Self::Tags { .. }
            | Self::Unsupported { .. } => "ValidationError",
            Self::Malformed { .. } => "MalformedPolicyDocument",
            Self::TooLarge { .. } => "PackedPolicyTooLarge",
            Self::Throttled => "Throttling",
            Self::BadMessage => "InvalidAuthorizationMessageException",
        }
    }

    fn status(&self) -> StatusCode {
        match self.code() {
            "AccessDenied" => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
