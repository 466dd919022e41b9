//! `patch`: JSON patch, merge patch, strategic merge patch, server-side apply.
//!
//! Upstream: the patch handler of k8s.io/apiserver.

use http::{StatusCode, header};
use serde_json::Value;

use crate::{
    apply, convert, decode, go, json_patches,
    render::Answer,
    resources::{Resource, meta},
    schema,
    server::Call,
    status::{FieldError, Status},
    strategic,
    strategy::Part,
    verbs::{modify, write},
};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch that was read but not yet applied.
enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

pub(crate) async fn patch(call: &mut Call) -> Result<Answer, Status> {
    let media = call.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    if media == APPLY || media == "application/apply-patch+json" {
        return apply::apply(call).await;
    }
    let (patch, faults) = parse(media, call)?;
    let bytes = apply_patch(call, patch, faults).await?;
    Ok(Answer::Object(StatusCode::OK, bytes))
}

/// The patch, and the faults of its text.
fn parse(media: &str, call: &Call) -> Result<(Patch, Vec<String>), Status> {
    let value = || decode::json(&call.body).map(|it| (it.value, it.twice.warnings()));
    match media {
        JSON => {
            let patch = json_patches::read(&call.body, value().ok().map(|it| it.0))?;
            Ok((Patch::Json(patch), decode::strict::of_json_patch(&call.body)))
        }
        MERGE => value().map(|(it, faults)| (Patch::Merge(it), faults)),
        STRATEGIC if call.resource.custom.is_none() => {
            value().map(|(it, faults)| (Patch::Strategic(it), faults))
        }
        _ => {
            let accepted = match call.resource.custom {
                None => format!("{JSON}, {MERGE}, {STRATEGIC}, {APPLY}"),
                Some(_) => format!("{JSON}, {MERGE}, {APPLY}"),
            };
            Err(Status::unsupported_media_type(&accepted))
        }
    }
}

async fn apply_patch(
    call: &mut Call,
    patch: Patch,
    faults: Vec<String>,
) -> Result<bytes::Bytes, Status> {
    let resource = call.resource.clone();
    let validation = write::field_validation(call)?;
    let name = call.name().to_owned();
    let part = Part::of(&call.info.subresource);
    let warnings = parking_lot::Mutex::new(Vec::new());
    let bytes = modify::modify(call, &name, part, |current| {
        let mut shown = current.clone();
        convert::from_storage(&resource, &mut shown);
        patched(&resource, &patch, &mut shown)?;
        check_identity(&resource, current, &shown)?;
        if let Some(shape) = decode::shape(&resource) {
            let found = decode::patched(&resource, &shape, &mut shown, faults.clone(), validation);
            *warnings.lock() = found.map_err(|why| {
                let mut made = current.clone();
                convert::from_storage(&resource, &mut made);
                let _was_applied = patched(&resource, &patch, &mut made);
                unfit(&patch, &made, &why)
            })?;
        }
        convert::to_storage(&resource, &mut shown);
        Ok(shown)
    })
    .await?;
    call.warnings.extend(warnings.into_inner());
    Ok(bytes)
}

fn patched(resource: &Resource, patch: &Patch, object: &mut Value) -> Result<(), Status> {
    match patch {
        Patch::Json(patch) => json_patches::apply(object, patch).map_err(Status::from),
        Patch::Merge(patch) => {
            json_patch::merge(object, patch);
            Ok(())
        }
        Patch::Strategic(patch) => {
            let shape = schema::find(&resource.schema);
            strategic::apply(object, patch, shape.as_ref())
                .map_err(|error| Status::bad_request(error.to_string()))
        }
    }
}

/// Upstream shows a strategic patch as Go does, and of the others what they make.
fn unfit(patch: &Patch, made: &Value, why: &str) -> Status {
    let shown = match patch {
        Patch::Strategic(patch) => go::shown(patch),
        Patch::Json(_) | Patch::Merge(_) => made.to_string(),
    };
    Status::invalid("", "", &[FieldError::invalid("patch", shown, why)])
}

/// A patch must not make the object another one.
fn check_identity(resource: &Resource, old: &Value, new: &Value) -> Result<(), Status> {
    if !new.is_object() || !new["metadata"].is_object() {
        return Err(Status::bad_request("the patched object has no metadata"));
    }
    for (field, wanted) in [("apiVersion", resource.api_version()), ("kind", resource.kind.clone())]
    {
        if new[field] != wanted.as_str() {
            return Err(Status::bad_request(format!(
                "the {field} in the data ({}) does not match the expected {field} ({wanted})",
                new[field].as_str().unwrap_or_default()
            )));
        }
    }
    if meta(new, "name") != meta(old, "name") {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            meta(new, "name"),
            meta(old, "name")
        )));
    }
    if meta(new, "namespace") != meta(old, "namespace") {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
