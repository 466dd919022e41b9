//! `AdmissionReview`: what an answer has to be.

use http::StatusCode;
use serde_json::Value;

use super::{client::CallError, configuration::Webhook};
use crate::{
    authz::{items, text},
    status::Status,
};

/// What a webhook said.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) warnings: Vec<String>,
    pub(super) refusal: Option<Status>,
    pub(super) patch: Option<json_patch::Patch>,
}

/// Reads an answer. Upstream: `VerifyAdmissionResponse`.
pub(super) fn read(webhook: &Webhook, uid: &str, review: &Value) -> Result<Reply, CallError> {
    let invalid = |why: String| Err(CallError::Invalid { why });
    if webhook.version == "v1" {
        let found = (text(review, "/apiVersion"), text(review, "/kind"));
        if found != ("admission.k8s.io/v1", "AdmissionReview") {
            return invalid(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, \
                 Kind={}",
                found.0, found.1
            ));
        }
    }
    let response = &review["response"];
    if !response.is_object() {
        return invalid("webhook response was absent".to_owned());
    }
    let answered = text(response, "/uid");
    if webhook.version == "v1" && answered != uid {
        return invalid(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let patch = match patch(webhook, response) {
        Ok(patch) => patch,
        Err(why) => return invalid(why),
    };
    let warnings = items(response, "/warnings").iter().filter_map(Value::as_str);
    let is_allowed = response["allowed"] == true;
    Ok(Reply {
        warnings: warnings.map(str::to_owned).collect(),
        refusal: (!is_allowed).then(|| refusal(&webhook.name, &response["status"])),
        patch: patch.filter(|_| is_allowed),
    })
}

fn patch(webhook: &Webhook, response: &Value) -> Result<Option<json_patch::Patch>, String> {
    use base64::Engine;
    let (encoded, kind) = (text(response, "/patch"), text(response, "/patchType"));
    if !webhook.is_mutating {
        return match (encoded, kind) {
            ("", "") => Ok(None),
            ("", _) => Err("validating webhook may not return response.patchType".to_owned()),
            _ => Err("validating webhook may not return response.patch".to_owned()),
        };
    }
    match (encoded, kind) {
        ("", "") => return Ok(None),
        ("", _) => {
            return Err("webhook returned response.patchType but not response.patch".to_owned());
        }
        (_, "") if webhook.version == "v1" => {
            return Err("webhook returned response.patch but not response.patchType".to_owned());
        }
        (_, "" | "JSONPatch") => {}
        (_, other) => {
            return Err(format!("webhook returned invalid response.patchType of {other:?}"));
        }
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
    let bytes = bytes.map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string())
}

/// A refusal in the webhook's words. Upstream: `ToStatusErr`.
fn refusal(name: &str, status: &Value) -> Status {
    let denied = format!("admission webhook \"{name}\" denied the request");
    let (message, reason) = (text(status, "/message"), text(status, "/reason"));
    let message = match (message, reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = status["code"].as_u64().and_then(|it| u16::try_from(it).ok());
    let code = code.filter(|it| *it >= 400).and_then(|it| StatusCode::from_u16(it).ok());
    let mut refused =
        Status::new(code.unwrap_or(StatusCode::BAD_REQUEST), known_reason(reason), message);
    refused.details = status["details"].clone();
    refused
}

/// The reasons that the API has.
fn known_reason(reason: &str) -> &'static str {
    const REASONS: [&str; 18] = [
        "Unauthorized",
        "Forbidden",
        "NotFound",
        "AlreadyExists",
        "Conflict",
        "Gone",
        "Invalid",
        "ServerTimeout",
        "Timeout",
        "TooManyRequests",
        "BadRequest",
        "MethodNotAllowed",
        "NotAcceptable",
        "RequestEntityTooLarge",
        "UnsupportedMediaType",
        "InternalError",
        "Expired",
        "ServiceUnavailable",
    ];
    REASONS.into_iter().find(|it| *it == reason).unwrap_or_default()
}
