//! What a request's query asks for, checked before anything else; a watch has its own checks.
//!
//! Upstream: `ValidateCreateOptions` and its kin in k8s.io/apimachinery/pkg/apis/meta/v1/validation,
//! `ValidateListOptions` in internalversion/validation.

use serde_json::json;

use crate::{
    managed_fields,
    server::Call,
    status::{FieldError, Status},
};

const VALIDATIONS: [&str; 4] = ["", "Ignore", "Strict", "Warn"];

pub(crate) fn check(call: &Call) -> Result<(), Status> {
    let kind = match call.info.verb.as_str() {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        "delete" => return refused("DeleteOptions", &dry_run(call)),
        "deletecollection" => {
            refused("DeleteOptions", &dry_run(call))?;
            return refused("ListOptions", &list(call));
        }
        "list" => return refused("ListOptions", &list(call)),
        _ => return Ok(()),
    };
    let mut errors = Vec::new();
    if kind == "PatchOptions" {
        let is_apply = managed_fields::is_apply(call);
        if is_apply && call.parameter("fieldManager").is_none() {
            errors.push(FieldError::required("fieldManager", "is required for apply patch"));
        } else if !is_apply && call.parameter("force").is_some() {
            let why = "may not be specified for non-apply patch";
            errors.push(FieldError::forbidden("force", why));
        }
    }
    let manager = call.parameter("fieldManager").unwrap_or_default();
    if manager.len() > managed_fields::NAME_LIMIT {
        errors.push(FieldError::too_long("fieldManager", managed_fields::NAME_LIMIT));
    }
    for (at, it) in manager.char_indices().filter(|(_, it)| it.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(it));
        errors.push(FieldError::invalid("fieldManager", manager, why));
    }
    errors.extend(dry_run(call));
    let validation = call.parameter("fieldValidation").unwrap_or_default();
    if !VALIDATIONS.contains(&validation) {
        errors.push(FieldError::not_supported("fieldValidation", validation, &VALIDATIONS));
    }
    refused(kind, &errors)
}

fn refused(kind: &str, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&format!("{kind}.meta.k8s.io"), "", errors))
}

fn dry_run(call: &Call) -> Vec<FieldError> {
    let stage = call.parameter("dryRun").filter(|it| *it != "All");
    let refused = |it| FieldError::not_supported("dryRun", json!([it]), &["All"]);
    stage.map(refused).into_iter().collect()
}

fn list(call: &Call) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(matching) = call.parameter("resourceVersionMatch") {
        const FIELD: &str = "resourceVersionMatch";
        let version = call.parameter("resourceVersion");
        let mut forbid = |why: &str| errors.push(FieldError::forbidden(FIELD, why));
        if version.is_none() {
            forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if call.parameter("continue").is_some() {
            forbid("resourceVersionMatch is forbidden when continue is provided");
        }
        if matching == "Exact" && version == Some("0") {
            forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            let known = ["Exact", "NotOlderThan", ""];
            errors.push(FieldError::not_supported(FIELD, matching, &known));
        }
    }
    if call.parameter("sendInitialEvents").is_some() {
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", why));
    }
    errors
}
