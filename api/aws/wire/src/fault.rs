//! Errors as AWS reports them: a stable code, a message, an HTTP status.

use std::{borrow::Cow, fmt};

use http::StatusCode;
use serde_json::{Map, Value};

/// What every handler fails with, and what a client gets from a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Cow<'static, str>,
    pub message: String,
    pub status: StatusCode,
    /// Further members of the error's body (`clusterName`, `nodegroupName`): REST and JSON
    /// protocols only.
    pub fields: Map<String, Value>,
    /// In a box, as few have one and errors are moved about.
    query_code: Option<Box<QueryCode>>,
}

/// A code of the service's earlier protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct QueryCode(&'static str);

impl Fault {
    /// A fault of the caller: status 400.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self {
            code,
            message,
            status: StatusCode::BAD_REQUEST,
            fields: Map::new(),
            query_code: None,
        }
    }

    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub fn with_query_code(self, code: &'static str) -> Self {
        Self { query_code: Some(Box::new(QueryCode(code))), ..self }
    }

    /// The code under which clients of the service's earlier protocol know it, where that is
    /// another one ([`Protocol::Json10`](crate::service::Protocol::Json10)).
    pub fn query_code(&self) -> Option<&'static str> {
        self.query_code.as_deref().map(|it| it.0)
    }

    pub fn with_field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Something on our side failed; the caller may try again.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("InternalFailure", message).with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether the same call may succeed later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        const THROTTLES: [&str; 8] = [
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "TooManyRequestsException",
            "ServiceUnavailable",
            "PriorRequestNotComplete",
        ];
        self.status.is_server_error() || THROTTLES.contains(&&*self.code)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}

/// Gives an error its AWS code, once, beside the error.
pub trait AwsError: std::error::Error {
    fn code(&self) -> &'static str;

    fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

impl<E: AwsError> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::new(error.code(), error.to_string()).with_status(error.status())
    }
}
