//! EKS Auth's errors, in its words where they are known.

use aws_wire::{AwsError, StatusCode};
use jiff::Timestamp;

/// Why there are no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EksAuthError {
    #[error("The value of {field} is not valid")]
    Parameter { field: &'static str },
    #[error("No cluster found for name: {name}.")]
    NoCluster { name: String },
    #[error("The token included in the request has no service account role association for it.")]
    NoAssociation,
    #[error(
        "The token included in the request is expired: current date/time {now} must be before the \
         expiration date/time {expires}"
    )]
    Expired { now: Timestamp, expires: Timestamp },
    #[error("The token included in the request is invalid: {reason}")]
    Invalid { reason: String },
    #[error(
        "Unauthorized Exception! EKS does not have permissions to assume the associated {role}."
    )]
    NotAssumable { role: &'static str },
    /// Of the session that would be made: its tags or its policy.
    #[error("{message}")]
    Session { message: String },
    #[error("{reason}")]
    Unavailable { reason: String },
    #[error("{reason}")]
    Internal { reason: String },
}

impl AwsError for EksAuthError {
    fn code(&self) -> &'static str {
        match self {
            Self::Parameter { .. } => "InvalidParameterException",
            Self::NoCluster { .. } | Self::NoAssociation => "ResourceNotFoundException",
            Self::Expired { .. } => "ExpiredTokenException",
            Self::Invalid { .. } => "InvalidTokenException",
            Self::NotAssumable { .. } => "AccessDeniedException",
            Self::Session { .. } => "InvalidRequestException",
            Self::Unavailable { .. } => "ServiceUnavailableException",
            Self::Internal { .. } => "InternalServerException",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoCluster { .. } | Self::NoAssociation => StatusCode::NOT_FOUND,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
