//! Server-side apply.
//!
//! What comes in is read here; [`plan`] says what becomes of the object.
//!
//! Upstream: KEP-555 and sigs.k8s.io/structured-merge-diff/merge.

mod conflicts;
mod empty;
pub(crate) mod field_set;
mod last_applied;
pub(crate) mod plan;
pub(crate) mod typed;

use std::sync::Arc;

use http::{StatusCode, header};
use serde_json::Value;

use self::{field_set::FieldSet, typed::Kind};
use crate::{
    convert,
    decode::{self, Decoded},
    managed_fields::{
        self,
        entries::{self, Owner},
    },
    render::Answer,
    resources::{Resource, meta},
    server::Call,
    status::Status,
    strategy::Part,
    verbs::{create, latest, modify, namespace, write},
};

pub(crate) async fn apply(call: &mut Call) -> Result<Answer, Status> {
    let manager = managed_fields::manager(call);
    let applied = read(call)?;
    let (name, part) = (call.name().to_owned(), Part::of(&call.info.subresource));
    let request = Request::of(call, manager, applied, part);
    let key = call.resource.key(namespace(call), &name);
    if latest::found(call, &key).await?.is_none() {
        return create(call, request).await;
    }
    let resource = call.resource.clone();
    let bytes = modify::modify(call, &name, part, |live| {
        let mut shown = live.clone();
        convert::from_storage(&resource, &mut shown);
        let mut object = plan::plan(&shown, &request)?;
        convert::to_storage(&resource, &mut object);
        Ok(object)
    })
    .await?;
    Ok(Answer::Object(StatusCode::OK, bytes))
}

/// One configuration, and who applies it.
pub(crate) struct Request {
    owner: Owner,
    applied: Value,
    resource: Arc<Resource>,
    part: Part,
    kind: Kind,
    now: String,
    is_forced: bool,
}

impl Request {
    pub(crate) fn of(call: &Call, manager: String, applied: Value, part: Part) -> Self {
        let owner = Owner {
            manager,
            operation: "Apply",
            api_version: call.resource.api_version(),
            subresource: call.info.subresource.clone(),
        };
        Self {
            owner,
            applied,
            resource: call.resource.clone(),
            part,
            kind: managed_fields::kind(call),
            now: call.now(),
            is_forced: call.is_set("force"),
        }
    }

    /// All that the configuration names and this request may change.
    fn wanted(&self) -> FieldSet {
        let set = typed::fields_of(&self.applied, &self.kind);
        managed_fields::within(set, &self.resource, self.part)
    }

    /// The owner's entry, unless it owns nothing.
    fn entry(&self, wanted: FieldSet) -> Option<Value> {
        let owned = managed_fields::owned(wanted);
        (!owned.is_empty()).then(|| self.owner.entry(&owned, &self.now))
    }
}

fn read(call: &mut Call) -> Result<Value, Status> {
    let validation = write::field_validation(call)?;
    let media = call.header(header::CONTENT_TYPE);
    let media = if media.contains("json") { "application/json" } else { "application/yaml" };
    let Decoded { value, twice } = decode::body(media, &call.body)?;
    let warnings = decode::applied_twice(twice, validation)?;
    for field in ["apiVersion", "kind"] {
        if value[field].as_str().unwrap_or_default().is_empty() {
            return Err(Status::bad_request(format!("{field} must be set in an apply patch")));
        }
    }
    check_type(call, &value)?;
    let mut applied = decode::applied(&call.resource, value, validation)?;
    call.warnings.extend(warnings);
    if !entries::of(&applied).is_empty() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    create::set_namespace(call, &mut applied)?;
    match meta(&applied, "name") {
        "" => applied["metadata"]["name"] = call.name().into(),
        name if name != call.name() => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.name()
            )));
        }
        _ => {}
    }
    if let Some(fields) = applied["metadata"].as_object_mut() {
        fields.remove("creationTimestamp");
        fields.remove("managedFields");
    }
    Ok(applied)
}

/// Refuses what the type does not have, and lists whose elements cannot be told apart.
fn check_type(call: &Call, applied: &Value) -> Result<(), Status> {
    let wrong = typed::check(applied, &managed_fields::kind(call));
    let what = match &*wrong {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let place = match meta(applied, "namespace") {
        "" => format!("/{}", meta(applied, "name")),
        space => format!("{space}/{}", meta(applied, "name")),
    };
    let text = |field: &str| applied[field].as_str().unwrap_or_default().to_owned();
    let message = format!(
        "failed to create typed patch object ({place}; {}, Kind={}): {what}",
        text("apiVersion"),
        text("kind")
    );
    Err(Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message))
}

async fn create(call: &mut Call, request: Request) -> Result<Answer, Status> {
    if request.part != Part::Main {
        return Err(Status::not_found(&call.resource.qualified(), call.name()));
    }
    let entry = request.entry(request.wanted());
    let mut applied = request.applied;
    if !meta(&applied, "uid").is_empty() {
        let why = "Precondition failed: UID in precondition, but the object does not exist";
        return Err(Status::conflict(&call.resource.qualified(), call.name(), why));
    }
    entries::set(&mut applied, entry.into_iter().collect());
    empty::leave_out(&mut applied, &call.resource);
    convert::to_storage(&call.resource, &mut applied);
    let bytes = create::create_object(call, applied).await?;
    Ok(Answer::Object(StatusCode::CREATED, bytes))
}

#[cfg(test)]
mod tests;
