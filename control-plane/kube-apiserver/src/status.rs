//! `Status`: how the API says no.
//!
//! Every failure of every handler is a [`Status`], made where the reason is known, and rendered
//! once by the router. Messages are upstream's, because tools and people match on them.
//!
//! Upstream: k8s.io/apimachinery/pkg/api/errors and pkg/util/validation/field.

use std::{borrow::Cow, fmt};

use http::StatusCode;
use serde_json::{Value, json};

/// A failed (or, for deletes, successful) answer without an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub code: StatusCode,
    /// One of the API's own, or a webhook's.
    pub reason: Cow<'static, str>,
    pub message: String,
    /// `details`, `null` when there are none.
    pub details: Value,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
    /// It is told as a line of text, as Go's own handlers do.
    pub is_text: bool,
    /// What few have.
    pub aside: Option<Box<Aside>>,
}

/// What a client is told beside the failure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aside {
    /// With which a list that outlived its revision can go on.
    pub go_on: Option<String>,
    pub warnings: Vec<String>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Status {
    pub fn new(
        code: StatusCode,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        let (reason, message) = (reason.into(), message.into());
        Self {
            code,
            reason,
            message,
            details: Value::Null,
            retry_after: None,
            is_text: false,
            aside: None,
        }
    }

    /// The same, with the token of the rest of a list.
    pub(crate) fn going_on(mut self, token: String) -> Self {
        self.aside.get_or_insert_default().go_on = Some(token);
        self
    }

    /// The same, with what the client is warned of, refused or not.
    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        if !warnings.is_empty() {
            self.aside.get_or_insert_default().warnings = warnings;
        }
        self
    }

    fn about(mut self, kind: &str, name: &str) -> Self {
        let (group, resource) = split_group(kind);
        let mut details = serde_json::Map::new();
        for (key, value) in [("name", name), ("group", group), ("kind", resource)] {
            if !value.is_empty() {
                details.insert(key.into(), value.into());
            }
        }
        self.details = Value::Object(details);
        self
    }

    /// `resource` is `pods` or `deployments.apps`.
    pub fn not_found(resource: &str, name: &str) -> Self {
        let message = format!("{resource} \"{name}\" not found");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(resource, name)
    }

    /// For a path below which nothing is served.
    pub fn page_not_found() -> Self {
        let mut status = Self::new(StatusCode::NOT_FOUND, "NotFound", "404 page not found");
        status.is_text = true;
        status
    }

    /// For a path that names no resource of a group that is there.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        let mut status = Self::new(StatusCode::NOT_FOUND, "NotFound", message);
        status.details = json!({});
        status
    }

    pub fn already_exists(resource: &str, name: &str) -> Self {
        let message = format!("{resource} \"{name}\" already exists");
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(resource, name)
    }

    pub fn conflict(resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(resource, name)
    }

    /// The conflict of an outdated `resourceVersion`.
    pub fn modified(resource: &str, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and \
             try again",
        )
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// `resource` is `pods` or `deployments.apps`; `why` is the authorizer's or the plugin's word.
    pub fn forbidden(resource: &str, name: &str, why: &str) -> Self {
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} \"{name}\" is forbidden: {why}"),
        };
        let status = Self::new(StatusCode::FORBIDDEN, "Forbidden", message);
        if resource.is_empty() { status } else { status.about(resource, name) }
    }

    /// 422 with one cause per error. `kind` is `Pod` or `Deployment.apps`.
    pub fn invalid(kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let list = match errors {
            [one] => one.to_string(),
            many => {
                let all: Vec<String> = many.iter().map(ToString::to_string).collect();
                format!("[{}]", all.join(", "))
            }
        };
        let message = format!("{kind} \"{name}\" is invalid: {list}");
        let mut status =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(kind, name);
        status.details["causes"] = errors.iter().map(FieldError::cause).collect();
        status
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// For a path that there is with other methods.
    pub fn no_such_method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let code = StatusCode::METHOD_NOT_ALLOWED;
        let mut status = Self::new(code, "MethodNotAllowed", message);
        status.details = json!({});
        status
    }

    pub fn method_not_allowed(verb: &str, resource: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{resource}\"");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).about(resource, "")
    }

    pub fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {accepted}"
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        let mut status = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        status.retry_after = Some(seconds);
        status.details = json!({ "retryAfterSeconds": seconds });
        status
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        let message = format!("Internal error occurred: {message}");
        let mut status =
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message.clone());
        status.details = json!({ "causes": [{ "message": message }] });
        status
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    /// Adds a cause with a reason of its own (`DisruptionBudget`, `FieldManagerConflict`).
    pub fn cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let mut cause = json!({ "reason": reason, "message": message });
        if !field.is_empty() {
            cause["field"] = field.into();
        }
        if !self.details.is_object() {
            self.details = json!({});
        }
        match self.details.get_mut("causes").and_then(Value::as_array_mut) {
            Some(causes) => causes.push(cause),
            None => self.details["causes"] = json!([cause]),
        }
        self
    }

    /// The object as it goes over the wire.
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if self.reason.is_empty() {
            value.as_object_mut().expect("made as an object above").remove("reason");
        }
        if let Some(token) = self.aside.as_ref().and_then(|it| it.go_on.as_ref()) {
            value["metadata"]["continue"] = token.as_str().into();
        }
        if !self.details.is_null() {
            value["details"] = self.details.clone();
        }
        value
    }
}

fn split_group(resource: &str) -> (&str, &str) {
    resource.split_once('.').map_or(("", resource), |(resource, group)| (group, resource))
}

/// What kind of fault a [`FieldError`] reports; also the reason of its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    Forbidden,
    NotFound,
    TooLong,
    TooMany,
    TypeInvalid,
}

/// One fault of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub fault: Fault,
    pub field: String,
    /// The value as it is shown; `null` where upstream shows none.
    pub value: Value,
    pub detail: String,
    /// The value is text to be shown as it is: how Go prints a struct.
    pub is_verbatim: bool,
    /// The value is too large to be shown.
    pub is_omitted: bool,
}

impl FieldError {
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Fault::Required, field, Value::Null, detail)
    }

    pub fn invalid(
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(Fault::Invalid, field, value, detail)
    }

    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Fault::Forbidden, field, Value::Null, detail)
    }

    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(Fault::Duplicate, field, value, "")
    }

    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(Fault::NotFound, field, value, "")
    }

    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let detail = format!("may not be more than {limit} bytes");
        Self::new(Fault::TooLong, field, Value::Null, detail)
    }

    pub fn too_many(field: impl Into<String>, count: usize, limit: usize) -> Self {
        let items = if limit == 1 { "item" } else { "items" };
        let detail = format!("must have at most {limit} {items}");
        Self::new(Fault::TooMany, field, count, detail)
    }

    /// `supported` in the order in which upstream lists them (sorted).
    pub fn not_supported(
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> Self {
        let all: Vec<String> = supported.iter().map(|it| format!("\"{it}\"")).collect();
        let detail = format!("supported values: {}", all.join(", "));
        Self::new(Fault::NotSupported, field, value, detail)
    }

    fn new(
        fault: Fault,
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        let (field, value, detail) = (field.into(), value.into(), detail.into());
        Self { fault, field, value, detail, is_verbatim: false, is_omitted: false }
    }

    /// The message without the field.
    fn body(&self) -> String {
        let name = match self.fault {
            Fault::Required => "Required value",
            Fault::Invalid | Fault::TypeInvalid => "Invalid value",
            Fault::NotSupported => "Unsupported value",
            Fault::Duplicate => "Duplicate value",
            Fault::Forbidden => "Forbidden",
            Fault::NotFound => "Not found",
            Fault::TooLong => "Too long",
            Fault::TooMany => "Too many",
        };
        let shows_value = matches!(
            self.fault,
            Fault::Invalid
                | Fault::TypeInvalid
                | Fault::NotSupported
                | Fault::Duplicate
                | Fault::NotFound
                | Fault::TooMany
        );
        let mut body = name.to_owned();
        if shows_value && !self.is_omitted {
            body.push_str(": ");
            match &self.value {
                Value::String(text) if self.is_verbatim => body.push_str(text),
                value => body.push_str(&value.to_string()),
            }
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }

    fn cause(&self) -> Value {
        let reason = match self.fault {
            Fault::Required => "FieldValueRequired",
            Fault::Invalid => "FieldValueInvalid",
            Fault::NotSupported => "FieldValueNotSupported",
            Fault::Duplicate => "FieldValueDuplicate",
            Fault::Forbidden => "FieldValueForbidden",
            Fault::NotFound => "FieldValueNotFound",
            Fault::TooLong => "FieldValueTooLong",
            Fault::TooMany => "FieldValueTooMany",
            Fault::TypeInvalid => "FieldValueTypeInvalid",
        };
        json!({ "reason": reason, "message": self.body(), "field": self.field })
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_is_named_alone_and_several_in_brackets() {
        let a = FieldError::required("spec.containers", "");
        let b = FieldError::invalid("metadata.name", "A_b", "must be lower case");
        let one = Status::invalid("Pod", "p", std::slice::from_ref(&a));
        assert_eq!(one.message, "Pod \"p\" is invalid: spec.containers: Required value");
        let two = Status::invalid("Deployment.apps", "d", &[a, b]);
        assert_eq!(
            two.message,
            "Deployment.apps \"d\" is invalid: [spec.containers: Required value, metadata.name: \
             Invalid value: \"A_b\": must be lower case]"
        );
        assert_eq!(two.details["group"], "apps");
        assert_eq!(two.details["kind"], "Deployment");
        assert_eq!(two.details["causes"][1]["reason"], "FieldValueInvalid");
    }

    #[test]
    fn a_missing_object_is_named_with_its_group() {
        let status = Status::not_found("deployments.apps", "web");
        assert_eq!(status.message, "deployments.apps \"web\" not found");
        assert_eq!(status.to_json()["details"]["kind"], "deployments");
    }
}
