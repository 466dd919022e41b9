//! Server-side apply.
//!
//! The applied configuration is laid over the live object; what its owner applied before and does
//! not apply any more goes, unless another owner has it too; and a field that another owner set to
//! another value is a conflict, unless the request forces it.
//!
//! Upstream: KEP-555 and sigs.k8s.io/structured-merge-diff/merge.

pub(crate) mod field_set;
pub(crate) mod typed;

use api_kube::annotations::LAST_APPLIED;
use http::{StatusCode, header};
use serde_json::Value;

use self::{
    field_set::{FieldSet, shown},
    typed::Kind,
};
use crate::{
    convert, decode, managed_fields,
    render::Answer,
    resources::meta,
    server::Call,
    status::{FieldError, Status},
    strategy::Part,
    verbs::{create, latest, modify, namespace, write},
};

const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// One conflict: whose it is, and where.
#[derive(Debug, PartialEq)]
struct Conflict {
    owner: String,
    path: Vec<String>,
}

pub(crate) async fn apply(call: &mut Call) -> Result<Answer, Status> {
    let manager = call.parameter("fieldManager").map(str::to_owned).ok_or_else(|| {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        Status::invalid("PatchOptions.meta.k8s.io", "", &[error])
    })?;
    let applied = read(call)?;
    let (name, part) = (call.name().to_owned(), Part::of(&call.info.subresource));
    let key = call.resource.key(namespace(call), &name);
    if latest::found(call, &key).await?.is_none() {
        return create(call, &manager, applied, part).await;
    }
    let is_forced = call.is_set("force");
    let kind = managed_fields::kind(call);
    let resource = call.resource.clone();
    let wanted = managed_fields::within(owned(&applied, &kind), &resource, part);
    let own = managed_fields::entry(call, &manager, "Apply", &wanted);
    let bytes = modify::modify(call, &name, part, |live| {
        let mut shown = live.clone();
        convert::from_storage(&resource, &mut shown);
        let mut object = plan(&shown, &applied, &own, &kind, is_forced)?;
        convert::to_storage(&resource, &mut object);
        Ok(object)
    })
    .await?;
    Ok(Answer::Object(StatusCode::OK, bytes))
}

fn read(call: &mut Call) -> Result<Value, Status> {
    let validation = write::field_validation(call)?;
    let media = call.header(header::CONTENT_TYPE);
    let media = if media.contains("json") { "application/json" } else { "application/yaml" };
    let decoded = decode::body(media, &call.body)?;
    for field in ["apiVersion", "kind"] {
        if decoded.value[field].as_str().unwrap_or_default().is_empty() {
            return Err(Status::bad_request(format!("{field} must be set in an apply patch")));
        }
    }
    let (mut applied, warnings) = decode::object(&call.resource, decoded, validation)?;
    call.warnings.extend(warnings);
    if !managed_fields::entries(&applied).is_empty() {
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

async fn create(
    call: &mut Call,
    manager: &str,
    mut applied: Value,
    part: Part,
) -> Result<Answer, Status> {
    if part != Part::Main {
        return Err(Status::not_found(&call.resource.qualified(), call.name()));
    }
    if !meta(&applied, "uid").is_empty() {
        let why = "Precondition failed: UID in precondition, but the object does not exist";
        return Err(Status::conflict(&call.resource.qualified(), call.name(), why));
    }
    let kind = managed_fields::kind(call);
    let wanted = managed_fields::within(owned(&applied, &kind), &call.resource, part);
    let own = managed_fields::entry(call, manager, "Apply", &wanted);
    managed_fields::set_entries(&mut applied, vec![own]);
    convert::to_storage(&call.resource, &mut applied);
    let bytes = create::create_object(call, applied).await?;
    Ok(Answer::Object(StatusCode::CREATED, bytes))
}

/// What a configuration claims.
fn owned(applied: &Value, kind: &Kind) -> FieldSet {
    managed_fields::without_unowned(typed::fields_of(applied, kind))
}

/// The object that an apply makes of the live one.
fn plan(
    live: &Value,
    applied: &Value,
    own: &Value,
    kind: &Kind,
    is_forced: bool,
) -> Result<Value, Status> {
    let mut entries = managed_fields::entries(live);
    if entries.is_empty() {
        entries.extend(before_first_apply(live, own, kind));
    }
    let wanted = FieldSet::of_entry(own);
    let conflicts = conflicts(live, applied, &entries, own, &wanted);
    if !conflicts.is_empty() && !is_forced {
        return Err(refusal(&conflicts));
    }
    let previous = entries.iter().find(|it| managed_fields::is_same_owner(it, own));
    let previous = previous.map(FieldSet::of_entry).unwrap_or_default();
    let mut object = live.clone();
    typed::merge(&mut object, applied, kind);
    remove_abandoned(&mut object, &previous, &wanted, &entries, own);
    let contested = contested(&conflicts);
    let mut left = Vec::new();
    let mut is_known = false;
    for mut entry in entries {
        if managed_fields::is_same_owner(&entry, own) {
            is_known = true;
            // The time moves only when the claim does, or nothing could ever be unchanged.
            left.push(if entry["fieldsV1"] == own["fieldsV1"] { entry } else { own.clone() });
            continue;
        }
        let set = FieldSet::of_entry(&entry).without(&contested);
        if !set.is_empty() {
            entry["fieldsV1"] = set.to_json();
            left.push(entry);
        }
    }
    if !is_known {
        left.push(own.clone());
    }
    managed_fields::set_entries(&mut object, left);
    Ok(object)
}

/// Fields that the owner claimed before, does not claim now, and that nobody else claims, go.
fn remove_abandoned(
    object: &mut Value,
    previous: &FieldSet,
    wanted: &FieldSet,
    entries: &[Value],
    own: &Value,
) {
    let mut abandoned = previous.without(wanted);
    for entry in entries.iter().filter(|it| !managed_fields::is_same_owner(it, own)) {
        abandoned = abandoned.without(&FieldSet::of_entry(entry));
    }
    typed::remove(object, &abandoned);
}

/// The owner of everything that was there before anything was tracked.
fn before_first_apply(live: &Value, own: &Value, kind: &Kind) -> Option<Value> {
    // What `kubectl apply` wrote client-side goes over to `kubectl apply --server-side`.
    let was_applied = live["metadata"]["annotations"][LAST_APPLIED].is_string();
    if was_applied && own["manager"] == "kubectl" {
        return None;
    }
    let set = owned(live, kind);
    if set.is_empty() {
        return None;
    }
    let mut entry = own.clone();
    entry["manager"] = BEFORE_FIRST_APPLY.into();
    entry["operation"] = "Update".into();
    entry["time"] = live["metadata"]["creationTimestamp"].clone();
    entry["fieldsV1"] = set.to_json();
    Some(entry)
}

fn conflicts(
    live: &Value,
    applied: &Value,
    entries: &[Value],
    own: &Value,
    wanted: &FieldSet,
) -> Vec<Conflict> {
    let mut found = Vec::new();
    for entry in entries.iter().filter(|it| !managed_fields::is_same_owner(it, own)) {
        let owner = owner_name(entry);
        for path in FieldSet::of_entry(entry).within(wanted).members() {
            let (now, then) = (typed::find(live, &path), typed::find(applied, &path));
            let is_element = path.last().is_some_and(|it| it.starts_with("k:"));
            // An element that both own may differ inside; its fields are compared by themselves.
            if now != then && !is_element {
                found.push(Conflict { owner: owner.clone(), path });
            }
        }
    }
    found
}

fn owner_name(entry: &Value) -> String {
    let text = |field: &str| entry[field].as_str().unwrap_or_default();
    let subresource = match text("subresource") {
        "" => String::new(),
        name => format!(" with subresource \"{name}\""),
    };
    format!("\"{}\"{subresource} using {}", text("manager"), text("apiVersion"))
}

fn contested(conflicts: &[Conflict]) -> FieldSet {
    let mut set = FieldSet::default();
    for conflict in conflicts {
        let mut node = &mut set;
        for element in &conflict.path {
            node = node.at(element);
        }
        node.is_member = true;
    }
    set
}

fn refusal(conflicts: &[Conflict]) -> Status {
    let count = conflicts.len();
    let message = match conflicts {
        [one] => format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.owner,
            shown(&one.path)
        ),
        many => {
            let mut owners: Vec<&String> = many.iter().map(|it| &it.owner).collect();
            owners.sort();
            owners.dedup();
            let parts: Vec<String> = owners
                .into_iter()
                .map(|owner| {
                    let paths = many.iter().filter(|it| it.owner == *owner);
                    let paths: Vec<String> =
                        paths.map(|it| format!("- {}", shown(&it.path))).collect();
                    format!("conflicts with {owner}:\n{}", paths.join("\n"))
                })
                .collect();
            format!("Apply failed with {count} conflicts: {}", parts.join("\n"))
        }
    };
    let status = Status::new(StatusCode::CONFLICT, "Conflict", message);
    conflicts.iter().fold(status, |status, it| {
        let message = format!("conflict with {}", it.owner);
        status.cause("FieldManagerConflict", &message, &shown(&it.path))
    })
}

#[cfg(test)]
mod tests;
