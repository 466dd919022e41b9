//! Why a load balancer is not what it shall be, in the words that events show.

use aws_wire::CallError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    /// Another controller's: not an error.
    #[error("implemented by alternate to cloud providers")]
    Elsewhere,
    #[error("{0}")]
    Failed(String),
}

pub(crate) fn failed(message: impl Into<String>) -> ProviderError {
    ProviderError::Failed(message.into())
}

/// As AWS's SDK for Go puts it, without the request's id.
impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::Service { service, action, fault } => {
                let service = match *service {
                    "elasticloadbalancing" => "Elastic Load Balancing",
                    "ec2" => "EC2",
                    other => other,
                };
                failed(format!(
                    "operation error {service}: {action}, https response error StatusCode: {}, api \
                     error {}: {}",
                    fault.status.as_u16(),
                    fault.code,
                    fault.message
                ))
            }
            _ => failed(telemetry::chain(&error).to_string()),
        }
    }
}

impl ProviderError {
    /// With what was tried before it.
    pub(crate) fn of(self, what: &str) -> Self {
        match self {
            Self::Elsewhere => Self::Elsewhere,
            Self::Failed(message) => Self::Failed(format!("{what}: {message:?}")),
        }
    }
}
