//! What a write's query asks for, checked before anything else.
//!
//! Upstream: `ValidateCreateOptions` and its kin in k8s.io/apimachinery/pkg/apis/meta/v1/validation.

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
    if let Some(stage) = call.parameter("dryRun").filter(|it| *it != "All") {
        errors.push(FieldError::not_supported("dryRun", json!([stage]), &["All"]));
    }
    let validation = call.parameter("fieldValidation").unwrap_or_default();
    if !VALIDATIONS.contains(&validation) {
        errors.push(FieldError::not_supported("fieldValidation", validation, &VALIDATIONS));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&format!("{kind}.meta.k8s.io"), "", &errors))
}
