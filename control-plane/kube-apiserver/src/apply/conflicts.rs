//! Fields that an apply would change and others own.
//!
//! Upstream: `conflict.go` of k8s.io/apimachinery/pkg/util/managedfields/internal.

use http::StatusCode;
use serde_json::Value;

use super::field_set::{FieldSet, shown};
use crate::{managed_fields::entries::text, status::Status};

/// One conflict: whose it is, and where.
#[derive(Debug, PartialEq)]
pub(crate) struct Conflict {
    owner: String,
    pub(crate) path: Vec<String>,
}

/// What these entries own of what changes.
pub(crate) fn find(entries: &[Value], changed: &FieldSet) -> Vec<Conflict> {
    let mut found = Vec::new();
    for entry in entries.iter().filter(|it| changed.meets(&it["fieldsV1"])) {
        let owner = owner_name(entry);
        let paths = FieldSet::of_entry(entry).within(changed).members();
        found.extend(paths.into_iter().map(|path| Conflict { owner: owner.clone(), path }));
    }
    found
}

fn owner_name(entry: &Value) -> String {
    let manager = text(entry, "manager");
    let subresource = match text(entry, "subresource") {
        "" => String::new(),
        name => format!(" with subresource \"{name}\""),
    };
    match text(entry, "operation") {
        "Update" => format!("\"{manager}\"{subresource} using {}", text(entry, "apiVersion")),
        _ => format!("\"{manager}\"{subresource}"),
    }
}

pub(crate) fn refuse(conflicts: &[Conflict]) -> Result<(), Status> {
    let message = match conflicts {
        [] => return Ok(()),
        [one] => format!("1 conflict: conflict with {}: {}", one.owner, shown(&one.path)),
        many => format!("{} conflicts: {}", many.len(), by_owner(many)),
    };
    let message = format!("Apply failed with {message}");
    let status = Status::new(StatusCode::CONFLICT, "Conflict", message);
    Err(conflicts.iter().fold(status, |status, it| {
        let message = format!("conflict with {}", it.owner);
        status.cause("FieldManagerConflict", &message, &shown(&it.path))
    }))
}

fn by_owner(conflicts: &[Conflict]) -> String {
    let mut owners: Vec<&String> = conflicts.iter().map(|it| &it.owner).collect();
    owners.sort();
    owners.dedup();
    let part = |owner: &String| {
        let paths = conflicts.iter().filter(|it| it.owner == *owner);
        let paths: Vec<String> = paths.map(|it| format!("- {}", shown(&it.path))).collect();
        format!("conflicts with {owner}:\n{}", paths.join("\n"))
    };
    owners.into_iter().map(part).collect::<Vec<_>>().join("\n")
}
