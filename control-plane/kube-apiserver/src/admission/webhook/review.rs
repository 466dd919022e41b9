//! `AdmissionReview`: what is asked, and what an answer has to be.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Round, client::CallError, configuration::Webhook, matching::word};
use crate::{
    admission::Operation,
    authz::{items, text},
    convert,
    resources::Resource,
    server::Call,
    status::Status,
};

/// What a webhook said.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) warnings: Vec<String>,
    pub(super) refusal: Option<Status>,
    pub(super) patch: Option<json_patch::Patch>,
}

/// The `request` of a review. Its objects are in the version of `resource`.
pub(super) fn request(round: &Round<'_>, resource: &Arc<Resource>, object: &Value) -> Value {
    let (info, user) = (round.attributes.info, round.attributes.user);
    let shown = |object: &Value, resource: &Resource| {
        let mut object = object.clone();
        // What a subresource takes is an object of its own kind.
        if info.subresource != "eviction" {
            convert::from_storage(resource, &mut object);
        }
        object
    };
    let is_deleted = round.attributes.operation == Operation::Delete;
    let old = round.attributes.old.map_or(Value::Null, |it| shown(it, resource));
    let new = if is_deleted { Value::Null } else { shown(object, resource) };
    let shape = if is_deleted { &old } else { &new };
    let place =
        |it: &Resource| json!({"group": it.group, "version": it.version, "resource": it.plural});
    let asked_kind = kind(&shown(object, round.resource));
    let mut request = json!({
        "uid": entropy::uuid(),
        "kind": kind(shape),
        "resource": place(resource),
        "requestKind": asked_kind,
        "requestResource": place(round.resource),
        "name": match info.name.as_str() {
            "" => text(shape, "/metadata/name"),
            name => name,
        },
        "operation": word(round.attributes.operation),
        "userInfo": user_info(user),
        "object": new,
        "oldObject": old,
        "dryRun": round.is_dry_run,
        "options": round.options,
    });
    if resource.namespaced || resource.is("", "namespaces") {
        let name = if resource.namespaced { &info.namespace } else { &info.name };
        if !name.is_empty() {
            request["namespace"] = name.as_str().into();
        }
    }
    if !info.subresource.is_empty() {
        request["subResource"] = info.subresource.as_str().into();
        request["requestSubResource"] = info.subresource.as_str().into();
    }
    request
}

fn kind(object: &Value) -> Value {
    let api_version = text(object, "/apiVersion");
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    json!({"group": group, "version": version, "kind": text(object, "/kind")})
}

fn user_info(user: &crate::request::UserInfo) -> Value {
    let mut info = json!({"username": user.username, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// `CreateOptions` and the like, as far as the request gave any.
pub(super) fn options(call: &Call, operation: Operation) -> Value {
    let is_patch = call.info.verb == "patch";
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update if is_patch => "PatchOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
    };
    let mut options = json!({"apiVersion": "meta.k8s.io/v1", "kind": kind});
    for parameter in ["fieldManager", "fieldValidation"] {
        if let Some(value) = call.parameter(parameter) {
            options[parameter] = value.into();
        }
    }
    if let Some(dry_run) = call.parameter("dryRun") {
        options["dryRun"] = json!([dry_run]);
    }
    options
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
