//! EKS's exceptions, in its words.

use aws_wire::{CallError, Fault};
use http::StatusCode;

pub(crate) fn no_cluster(name: &str) -> Fault {
    Fault::new("ResourceNotFoundException", format!("No cluster found for name: {name}."))
        .with_status(StatusCode::NOT_FOUND)
        .with_field("clusterName", name)
}

pub(crate) fn not_found(message: impl Into<String>) -> Fault {
    Fault::new("ResourceNotFoundException", message).with_status(StatusCode::NOT_FOUND)
}

pub(crate) fn in_use(message: impl Into<String>) -> Fault {
    Fault::new("ResourceInUseException", message).with_status(StatusCode::CONFLICT)
}

pub(crate) fn limit_exceeded(message: impl Into<String>) -> Fault {
    Fault::new("ResourceLimitExceededException", message)
}

pub(crate) fn invalid_parameter(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterException", message)
}

pub(crate) fn invalid_request(message: impl Into<String>) -> Fault {
    Fault::new("InvalidRequestException", message)
}

/// What another service has against a request's parameter is what EKS has against it.
pub(crate) fn of_call(error: &CallError) -> Fault {
    match error.fault() {
        Some(fault) => invalid_parameter(fault.message.clone()),
        None => Fault::internal(error.to_string()),
    }
}
