//! `AdmissionReview`: what an answer has to be.

use http::StatusCode;
use serde_json::{Map, Value};

use super::{client::CallError, configuration::Webhook};
use crate::{
    authz::{items, text},
    status::Status,
};

/// A JSON patch that may not be one yet: that shows when it is applied.
pub(super) type Operations = Vec<Map<String, Value>>;

/// What a webhook said.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) warnings: Vec<String>,
    pub(super) refusal: Option<Status>,
    pub(super) patch: Option<Operations>,
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
    let is_allowed = response["allowed"] == true;
    let patch = match patch.filter(|_| is_allowed) {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| CallError::Patch { why: error.to_string() })?,
        None => None,
    };
    let warnings = items(response, "/warnings").iter().filter_map(Value::as_str);
    Ok(Reply {
        warnings: warnings.map(str::to_owned).collect(),
        refusal: (!is_allowed).then(|| refusal(&webhook.name, &response["status"])),
        patch,
    })
}

fn patch(webhook: &Webhook, response: &Value) -> Result<Option<Vec<u8>>, String> {
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
    bytes.map(Some).map_err(|error| error.to_string())
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
    let code = code.unwrap_or(StatusCode::BAD_REQUEST);
    let mut refused = Status::new(code, reason.to_owned(), message);
    refused.details = status["details"].clone();
    refused
}
