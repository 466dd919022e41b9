//! Answers and refusals of the registry.

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};
use transport::Body;

use crate::{Digest, names::RepositoryId};

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No password, or none of ours.
    Unauthenticated,
    Error {
        status: StatusCode,
        code: &'static str,
        message: String,
    },
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::Error { status, code, message: message.into() }
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    pub(super) fn read_only(registry: &str) -> Self {
        Self::denied(format!("images of {registry} are loaded with `nodestead image load`"))
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "there is nothing at this path")
    }

    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported")
    }

    pub(super) fn bad_name(name: &str) -> Self {
        let message = format!("`{name}` is not a repository name");
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message)
    }

    pub(super) fn no_repository(id: &RepositoryId) -> Self {
        let registry = id.account().map_or(id.registry.as_str(), |(account, _)| account);
        let message = format!(
            "The repository with name '{}' does not exist in the registry with id '{registry}'",
            id.name
        );
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
    }

    pub(super) fn no_manifest(reference: &str) -> Self {
        let message = format!("Requested image not found: {reference}");
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    }

    pub(super) fn no_blob(digest: &str) -> Self {
        let message = format!("blob unknown to registry: {digest}");
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message)
    }

    pub(super) fn no_upload() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
    }

    pub(super) fn bad_digest(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "the registry failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry failed")
    }

    pub(super) fn render(&self, registry: &str) -> Response<Body> {
        let Self::Error { status, code, message } = self else {
            let mut response = with_status(StatusCode::UNAUTHORIZED, "Not Authorized\n".into());
            let realm =
                format!("Basic realm=\"https://{registry}/\",service=\"ecr.amazonaws.com\"");
            if let Ok(realm) = HeaderValue::from_str(&realm) {
                response.headers_mut().insert(WWW_AUTHENTICATE, realm);
            }
            return response;
        };
        let body = json!({"errors": [{"code": code, "message": message}]});
        let mut response = json(&body);
        *response.status_mut() = *status;
        response
    }
}

pub(super) fn ok() -> Response<Body> {
    json(&json!({}))
}

pub(super) fn json(value: &Value) -> Response<Body> {
    let mut response = with_status(StatusCode::OK, value.to_string());
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

pub(super) fn with_status(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    let version = HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert("docker-distribution-api-version", version);
    response
}

pub(super) fn set(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

pub(super) fn set_digest(response: &mut Response<Body>, digest: &Digest) {
    set(response, "docker-content-digest", digest.as_str());
}
